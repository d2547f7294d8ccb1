"""Hub and home over a real broker: a member is missing, the others' sum is opened once, whatever restarts in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from edge_kit import CHAIN_ID, OPERATOR_KEY, T0, Broker, Hubs, agent_beyond_a_slot, until
from masking_kit import KEYS
from slot_reports import answered, delivered, slot_report

from edge_agent.agent import Agent
from hub.ingest.events import IngestEvents
from hub.ingest.groups import GroupSum
from hub.ingest.joining import OpenedSlot
from hub.ingest.registry import Device, Registry
from hub.ingest.service import IngestService
from hub.ingest.status import IngestSettings
from openmg.clock import VirtualClock, slot_of
from openmg.identity import DeviceKey
from openmg.masking import roster_id
from openmg.messages import base, topics
from openmg.messages.slot_opening import OpeningNotice
from openmg.messages.telemetry import Birth, Roster
from openmg.mqtt import MqttAddress, MqttLink

SLOT = slot_of(T0)
SPEED = 1800.0
"""A slot lasts half a second."""
PEERS = KEYS[:6]


class Heard(IngestEvents):
    """Sums, and what was said of groups that are too small."""

    def __init__(self) -> None:
        self.groups: list[GroupSum] = []
        self.small: list[tuple[int, int, int]] = []

    async def on_slot(self, slot: OpenedSlot) -> None:
        self.groups.extend(slot.groups)

    def on_small_group(self, microgrid: int, present: int, needed: int) -> None:
        self.small.append((microgrid, present, needed))


class Peers:
    """Six homes behind one MQTT client; `quiet`: they answer nothing."""

    def __init__(self, broker: Broker) -> None:
        self.roster: Roster | None = None
        self.notices: list[OpeningNotice] = []
        self.quiet = False
        self._said: dict[bytes, bytes] = {}
        self.link = MqttLink(MqttAddress.parse(broker.url), "peers", self._hear, lambda: None)
        self.link.subscribe("hub/v1/#")

    def _hear(self, topic: str, payload: bytes) -> None:
        if topic == topics.roster(1, 0):
            self.roster = base.open_signed(Roster, payload, CHAIN_ID).message
        elif topic == topics.opening(1):
            notice = base.open_signed(OpeningNotice, payload, CHAIN_ID).message
            self.notices.append(notice)
            self.answer(notice)

    def answer(self, notice: OpeningNotice) -> None:
        assert self.roster is not None and roster_id(self.roster) == notice.roster_id
        for i, key in enumerate(PEERS, 1):
            if key.address in notice.survivors and not self.quiet:
                payload = answered(key, self.roster, self._said[key.address], notice, CHAIN_ID)
                self.link.publish(topics.from_meter(f"home-{i}", topics.OPENING), payload)

    def born(self, count: int = 6) -> None:
        for i, key in enumerate(PEERS[:count], 1):
            birth = Birth(f"home-{i}", 1, "eastron_sdm630", key.mask_public, bytes(20), 0, bytes(32))
            self.link.publish(topics.from_meter(f"home-{i}", topics.BIRTH), base.sign(birth, CHAIN_ID, key.signing_key))

    def report(self, *places: int) -> None:
        assert self.roster is not None
        for place in places:
            key, name = PEERS[place], f"home-{place + 1}"
            message = slot_report(key, name, self.roster, SLOT, (10, 1), CHAIN_ID)
            self._said[key.address] = message.self_commitment
            self.link.publish(topics.from_meter(name, topics.SLOT), delivered(message, CHAIN_ID, key))


@pytest.fixture
async def peers(broker: Broker) -> AsyncIterator[Peers]:
    made = Peers(broker)
    made.link.start()
    await until(lambda: made.link.connected)
    await asyncio.sleep(0.1)  # its subscription reached the broker
    yield made
    await made.link.stop()


@pytest.fixture
async def agent(broker: Broker, tmp_path: Path) -> AsyncIterator[Agent]:
    async with agent_beyond_a_slot(tmp_path, broker.url, "home-7") as made:
        yield made


async def hub_of(
    hubs: Hubs, broker: Broker, folder: Path, seventh: DeviceKey, heard: Heard, w0: float, roster_wait_s: float = 20.0
) -> IngestService:
    devices = [Device(f"home-{i}", key.address, 1) for i, key in enumerate((*PEERS, seventh), 1)]
    settings = IngestSettings(MqttAddress.parse(broker.url), "hub-1", CHAIN_ID, OPERATOR_KEY, SLOT, roster_wait_s)
    clock = VirtualClock(T0, w0, SPEED)
    hub = hubs.make(settings, Registry(devices), folder / "ingest.sqlite", clock, heard, (*PEERS, seventh))
    await hub.start()
    await until(lambda: hub.connected)
    await asyncio.sleep(0.1)
    return hub


async def test_the_sum_of_those_that_are_there_is_opened_without_the_missing(
    broker: Broker, hubs: Hubs, peers: Peers, agent: Agent, tmp_path: Path
) -> None:
    heard = Heard()
    hub = await hub_of(hubs, broker, tmp_path, agent.key, heard, time.time())
    peers.born()
    await until(lambda: peers.roster is not None and agent.store.totals().acked == 1)
    peers.report(0, 1, 2, 3, 4)
    await until(lambda: heard.groups)
    (group,) = heard.groups
    assert (group.slot, group.import_wh, group.export_wh) == (SLOT, 5 * 10 + 7, 5 + 2)
    assert PEERS[5].address not in group.members and len(group.rows) == 6 and len(group.signatures) >= 5
    peers.report(5)
    await until(lambda: hub.stats().late == 1)
    assert hub.stats().opened_without == hub.stats().groups_opened == 1
    assert agent.reporter.promises.refusals() == {} and len({(n.survivors, n.commitments) for n in peers.notices}) == 1


@pytest.mark.parametrize("broker", ["amqtt"], indirect=True)
async def test_a_hub_that_restarts_asks_for_the_set_it_had_fixed(
    broker: Broker, hubs: Hubs, peers: Peers, agent: Agent, tmp_path: Path
) -> None:
    heard, w0 = Heard(), time.time()
    hub = await hub_of(hubs, broker, tmp_path, agent.key, heard, w0)
    peers.born()
    await until(lambda: peers.roster is not None and agent.store.totals().acked == 1)
    peers.quiet = True
    peers.report(0, 1, 2, 3, 4)
    await until(lambda: peers.notices)
    peers.report(5)  # before the restart, and it was acknowledged: a hub without memory would now name all seven
    await until(lambda: hub.stats().stored == 7)
    await hub.stop()
    hub.store.close()
    peers.quiet, before = False, len(peers.notices)
    again = await hub_of(hubs, broker, tmp_path, agent.key, heard, w0)
    await until(lambda: heard.groups)
    assert len(heard.groups) == 1 and heard.groups[0].import_wh == 57 and len(peers.notices) > before
    assert len({(n.survivors, n.commitments) for n in peers.notices}) == 1
    assert agent.reporter.promises.refusals() == {} and again.stats().opened_without == 1


@pytest.mark.parametrize("broker", ["amqtt"], indirect=True)
async def test_a_group_that_is_too_small_publishes_nothing_and_says_why(
    broker: Broker, hubs: Hubs, peers: Peers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()
    hub = await hub_of(hubs, broker, tmp_path, KEYS[9], heard, time.time(), roster_wait_s=0.0)
    peers.born(4)
    await until(lambda: hub.stats().small_groups == {1: "group too small: 4 of 5 meters"})
    assert heard.small[-1] == (1, 4, 5) and peers.roster is None
    assert "group too small: 4 of 5 meters; nothing of it is published" in caplog.text
    peers.born(5)
    await until(lambda: peers.roster is not None)
    assert hub.stats().small_groups == {}
