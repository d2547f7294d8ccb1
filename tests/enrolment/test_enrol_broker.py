"""Certificates, access list and revocation at a real mosquitto over mutual TLS 1.3."""

from __future__ import annotations

import asyncio
import logging

import pytest
from edge_kit import CHAIN_ID, OPERATOR_KEY, until
from enrol_kit import Client, Meter, place_of

from hub.devices.standing import DeviceStanding
from hub.ingest.events import IngestEvents
from hub.ingest.registry import Device, Registry
from hub.ingest.status import IngestSettings
from openmg.clock import VirtualClock
from openmg.enrolment.certificates import SECONDS_PER_DAY
from openmg.messages import topics
from openmg.mqtt import MqttAddress, MqttLink
from openmg.mqtt_tls import TlsFiles

SETTLE_S = 0.4
"""What was not delivered by then, after something that was sent later did arrive, is not delivered."""


@pytest.fixture
async def meters(operator, server, tmp_path):
    made = Meter(tmp_path, "meter-1", 1), Meter(tmp_path, "meter-2", 2)
    for meter in made:
        await meter.enrol(place_of(server), operator)
    return made


async def test_each_device_writes_and_reads_its_own_topics_alone(tls_broker, meters, operator):
    tls_broker.reload()
    one, two = meters
    async with (
        Client(tls_broker, one.files, "meter-1") as first,
        Client(tls_broker, two.files, "meter-2") as second,
        Client(tls_broker, tls_broker.hub_files, "hub-1") as hub,
    ):
        hub.link.subscribe(topics.ALL_FROM_METERS)
        for client in (first, second):
            client.link.subscribe("hub/v1/#")
            client.link.subscribe("grid/v1/#")
            client.link.subscribe(topics.ack("meter-2"))
        await until(lambda: all(client.link.connected for client in (first, second, hub)))
        await asyncio.sleep(SETTLE_S)  # subscriptions
        first.link.publish(topics.from_meter("meter-2", topics.BIRTH), b"forged")
        first.link.publish(topics.ack("meter-2"), b"forged")
        first.link.publish(topics.CHAIN, b"forged")
        first.link.publish(topics.from_meter("meter-1", topics.BIRTH), b"own")
        await until(lambda: hub.heard)
        hub.link.publish(topics.ack("meter-2"), b"for two")
        hub.link.publish(topics.CHAIN, b"for all")
        hub.link.publish(topics.slot_leaves(1, 7), b"leaves")
        hub.link.publish(topics.ack("meter-1"), b"for one")
        await until(lambda: (topics.ack("meter-1"), b"for one") in first.heard)
        await until(lambda: (topics.slot_leaves(1, 7), b"leaves") in second.heard)
        await asyncio.sleep(SETTLE_S)
        assert hub.heard == [(topics.from_meter("meter-1", topics.BIRTH), b"own")]
        told = {(topics.CHAIN, b"for all"), (topics.slot_leaves(1, 7), b"leaves")}
        assert set(first.heard) == told | {(topics.ack("meter-1"), b"for one")}
        assert set(second.heard) == told | {(topics.ack("meter-2"), b"for two")}


async def test_a_revoked_device_is_refused_by_hub_at_once_and_by_the_broker_after_its_reload(tls_broker, meters, operator):
    tls_broker.reload()
    one, two = meters
    standing = DeviceStanding(operator.folder.database, {"meter-1": one.key.address, "meter-2": two.key.address})
    registry = Registry([Device(m.name, m.key.address, 1) for m in meters], standing.reason)
    assert len(registry.homes(1)) == 2
    async with (
        Client(tls_broker, one.files, "meter-1") as first,
        Client(tls_broker, two.files, "meter-2") as second,
        Client(tls_broker, tls_broker.hub_files, "hub-1") as hub,
    ):
        hub.link.subscribe(topics.ALL_FROM_METERS)
        await until(lambda: all(client.link.connected for client in (first, second, hub)))
        operator.desk.revoke("meter-1")
        assert registry.refusal("meter-1") == "the device was revoked" and registry.refusal("meter-2") is None
        assert [device.name for device in registry.homes(1)] == ["meter-2"]
        tls_broker.reload()
        await asyncio.sleep(SETTLE_S)
        first.link.publish(topics.from_meter("meter-1", topics.STATE), b"still there?")  # its old connection lasts
        second.link.publish(topics.from_meter("meter-2", topics.STATE), b"online")
        await until(lambda: hub.heard)
        await asyncio.sleep(SETTLE_S)
        assert hub.heard == [(topics.from_meter("meter-2", topics.STATE), b"online")]
    async with Client(tls_broker, one.files, "meter-1") as refused, Client(tls_broker, two.files, "meter-2") as other:
        await until(lambda: other.link.connected and "was revoked" in refused.link.problem)
        assert not refused.link.connected and refused.link.counts().refused >= 1
    standing.close()


async def test_the_hubs_service_drops_what_a_revoked_device_says_from_the_next_message_on(
    tls_broker, meters, operator, hubs, tmp_path
):
    tls_broker.reload()
    one, two = meters
    standing = DeviceStanding(operator.folder.database, {})
    registry = Registry([Device(m.name, m.key.address, 1) for m in meters], standing.reason)
    settings = IngestSettings(tls_broker.address, "hub-1", CHAIN_ID, OPERATOR_KEY, tls=tls_broker.hub_files)
    hub = hubs.make(settings, registry, tmp_path / "hub.sqlite", VirtualClock.real(), IngestEvents(), [m.key for m in meters])
    await hub.start()
    async with Client(tls_broker, one.files, "meter-1") as first, Client(tls_broker, two.files, "meter-2") as second:
        await until(lambda: first.link.connected and second.link.connected and hub.connected)
        first.link.publish(topics.from_meter("meter-1", topics.STATE), b"online")
        await until(lambda: hub.devices()[0].online)
        operator.desk.revoke("meter-1")  # the broker knows nothing of it yet
        first.link.publish(topics.from_meter("meter-1", topics.STATE), b"offline")
        await asyncio.sleep(SETTLE_S)
        second.link.publish(topics.from_meter("meter-2", topics.STATE), b"online")
        await until(lambda: hub.devices()[1].online)
        assert hub.devices()[0].online and hub.stats().malformed == 1
    standing.close()


async def test_a_client_without_a_certificate_is_told_why_it_gets_nowhere(tls_broker, meters, tmp_path, caplog):
    """With TLS 1.3 it connects, and is then hung up on: the reason is said once, with a count."""

    class NoCertificate(TlsFiles):
        def load_into(self, context):
            context.load_verify_locations(self.ca)

    caplog.set_level(logging.WARNING)
    files = NoCertificate(tls_broker.hub_files.ca, tmp_path / "none", tmp_path / "none")
    async with Client(tls_broker, files, "nobody") as client:
        await until(lambda: client.link.counts().refused >= 3)
        assert client.link.counts().connects == 0
        assert "wants a client certificate and got none" in client.link.problem and "times so far" in client.link.problem
    assert sum("wants a client certificate" in record.message for record in caplog.records) == 1


async def test_an_expired_certificate_and_a_broker_of_another_authority_are_named(
    tls_broker, operator, server, tmp_path, free_port
):
    operator.clock.offset_s = -200 * SECONDS_PER_DAY
    old = Meter(tmp_path, "meter-9", 9)
    await old.enrol(place_of(server), operator)
    operator.clock.offset_s = 0.0
    tls_broker.reload()
    other = tmp_path / "other-ca.crt"
    (tmp_path / "elsewhere").mkdir()
    other.write_bytes(type(operator)(tmp_path / "elsewhere").folder.authority_certificate.read_bytes())
    hub = tls_broker.hub_files
    async with (
        Client(tls_broker, old.files, "meter-9") as expired,
        Client(tls_broker, TlsFiles(other, hub.certificate, hub.key), "hub-1") as astray,
    ):
        await until(lambda: "it has expired" in expired.link.problem)
        await until(lambda: "ca_file does not vouch for" in astray.link.problem)
        assert astray.link.counts().refused >= 1
        assert not expired.link.connected and not astray.link.connected


async def test_a_device_cannot_end_anothers_connection_by_taking_its_client_id(tls_broker, meters):
    tls_broker.reload()
    one, two = meters
    async with Client(tls_broker, one.files, "meter-1") as first:
        await until(lambda: first.link.connected)
        async with Client(tls_broker, two.files, "meter-1") as second:
            await until(lambda: second.link.connected)
            await asyncio.sleep(SETTLE_S)
            assert first.link.connected and first.link.counts().connects == 1


async def test_the_brokers_name_counts(tls_broker, meters):
    """A certificate for other hosts is none for this one: 127.1 reaches the broker, but is not in its certificate."""
    address = MqttAddress("127.1", tls_broker.port, tls=True)
    link = MqttLink(address, "meter-1", lambda _t, _p: None, lambda: None, tls=meters[0].files)
    link.start()
    await until(lambda: link.connected or "ca_file does not vouch for" in link.problem)
    assert not link.connected and link.counts().refused >= 1
    await link.stop()


async def test_missing_files_are_said_and_taken_up_when_they_come(tls_broker, operator, server, tmp_path):
    late = Meter(tmp_path, "meter-7", 7)
    async with Client(tls_broker, late.files, "meter-7") as client:
        assert "is missing; enrol this device" in client.link.problem
        await late.enrol(place_of(server), operator)
        client.link.reload_tls()
        await until(lambda: client.link.connected)


def test_the_access_list_covers_every_topic_that_hubs_tell():
    """A topic that is added to the tree must be readable by meters, or lie in the branch of one device."""
    import inspect

    from paho.mqtt.client import topic_matches_sub

    from hub.devices.access import readable

    told = []
    for name, call in inspect.getmembers(topics, inspect.isfunction):
        parameters = inspect.signature(call, eval_str=True).parameters
        if name.startswith(("is_", "parse_", "from_", "to_")) or call.__module__ != topics.__name__:
            continue
        examples = {int: 1, str: "meter-1", bytes: b"\x01\x02"}
        told.append(call(*(examples[item.annotation] for item in parameters.values())).replace("+", "1"))
    assert len(told) >= 10
    for topic in [*told, topics.CHAIN, topics.REGISTRY]:
        assert any(topic_matches_sub(item, topic) for item in readable("meter-1")), topic
        if "/device/" in topic:
            assert not any(topic_matches_sub(item, topic) for item in readable("meter-2")), topic
