"""The ingest service behind a real broker: what it accepts, refuses, counts and remembers."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from edge_kit import CHAIN_ID, OPERATOR_KEY, T0, Broker, Hubs, until
from slot_reports import answered, delivered, slot_report

from hub.ingest.events import IngestEvents
from hub.ingest.groups import Gap, GroupSum
from hub.ingest.joining import OpenedSlot
from hub.ingest.registry import Device, Registry
from hub.ingest.service import CHECK_S, IngestService
from hub.ingest.status import IngestSettings
from openmg import codec
from openmg.clock import VirtualClock, slot_of
from openmg.hashing import keccak256
from openmg.identity import DeviceKey
from openmg.masking import make_roster, roster_id
from openmg.messages import base, topics
from openmg.messages.feeder import FEEDER, FEEDER_LIVE, FeederLive, FeederReport
from openmg.messages.learning import Ballot, Evaluation, UpdateCommit, UpdateReveal
from openmg.messages.slot_opening import OpeningNotice, SlotDelivery
from openmg.messages.telemetry import Ack, Birth, Health, Roster
from openmg.mqtt import MqttAddress, MqttLink
from openmg.signing import address_of, domain_digest, sign_digest

KEYS = tuple(DeviceKey(bytes([i]) * 32) for i in range(1, 8))
MODEL = bytes(8)
NAMES = tuple(f"home-{i}" for i in range(1, 6))
FEEDER_KEY = KEYS[5]
SLOT = slot_of(T0)


class Heard(IngestEvents):
    """Everything the service told, in lists; `fail` makes the next group's receiver raise."""

    def __init__(self) -> None:
        self.groups: list[GroupSum] = []
        self.gaps: list[Gap] = []
        self.feeder: list[FeederReport] = []
        self.live: list[FeederLive] = []
        self.evaluations: list[bytes] = []
        self.learning: list[tuple[str, bytes]] = []
        self.fail = 0

    async def on_slot(self, slot: OpenedSlot) -> None:
        if self.fail:
            self.fail -= 1
            raise RuntimeError("the chain is not there")
        self.groups.extend(slot.groups)

    def on_gap(self, gap: Gap) -> None:
        self.gaps.append(gap)

    def on_feeder(self, device: Device, report: FeederReport) -> None:
        self.feeder.append(report)

    def on_feeder_live(self, device: Device, live: FeederLive) -> None:
        self.live.append(live)

    def on_evaluation(self, device: Device, signed: base.Signed[Evaluation], raw: bytes) -> None:
        self.evaluations.append(raw)

    def on_commit(self, device: Device, signed: base.Signed[UpdateCommit], raw: bytes) -> None:
        self.learning.append((device.name, raw))

    def on_reveal(self, device: Device, reveal: UpdateReveal) -> None:
        self.learning.append((device.name, reveal.blob))

    def on_ballot(self, device: Device, signed: base.Signed[Ballot], raw: bytes) -> None:
        self.learning.append((device.name, raw))


class Meters:
    """One raw MQTT client that speaks for all meters of the test."""

    def __init__(self, broker: Broker) -> None:
        self.acks: dict[str, int] = {}
        self.rosters: list[Roster] = []
        self.said: dict[tuple[bytes, int, bytes], bytes] = {}
        """Self commitments of what was reported, by roster, slot and meter."""
        self.notices: list[OpeningNotice] = []
        self.silent: set[bytes] = set()
        """Meters that answer no notice."""
        self.link = MqttLink(MqttAddress.parse(broker.url), "meters", self._on_message, lambda: None)
        self.link.subscribe("hub/v1/#")

    def _on_message(self, topic: str, payload: bytes) -> None:
        if topic.endswith("/ack"):
            ack = base.open_signed(Ack, payload, CHAIN_ID)
            assert ack.signer == address_of(OPERATOR_KEY) and topic == topics.ack(ack.message.device)
            self.acks[ack.message.device] = ack.message.high_water
        elif "/roster/" in topic:
            self.rosters.append(base.open_signed(Roster, payload, CHAIN_ID).message)
        elif "/opening/" in topic:
            self._answer(payload)

    def _answer(self, payload: bytes) -> None:
        """What the meters of a slot answer, those that are not silent."""
        notice = base.open_signed(OpeningNotice, payload, CHAIN_ID).message
        self.notices.append(notice)
        roster = next(item for item in self.rosters if roster_id(item) == notice.roster_id)
        for name, key in zip(NAMES, KEYS, strict=False):
            if key.address in notice.survivors and key.address not in self.silent:
                mine = self.said[notice.roster_id, notice.slot, key.address]
                self.say(name, topics.OPENING, answered(key, roster, mine, notice, CHAIN_ID))

    async def connect(self) -> None:
        self.link.start()
        await until(lambda: self.link.connected)

    def say(self, name: str, leaf: str, payload: bytes) -> None:
        assert self.link.publish(topics.from_meter(name, leaf), payload)

    def birth(self, index: int) -> None:
        key = KEYS[index]
        message = Birth(NAMES[index], 1, "sdm630", key.mask_public, bytes(20), 0, bytes(32))
        self.say(NAMES[index], topics.BIRTH, base.sign(message, CHAIN_ID, key.signing_key))

    def report(self, index: int, seq: int, slot: int, import_wh: int, export_wh: int, waiting: int = 1) -> bytes:
        values, health = (import_wh, export_wh), Health(5, 6, 0, waiting)
        roster = self.rosters[-1]
        message = slot_report(KEYS[index], NAMES[index], roster, slot, values, CHAIN_ID, seq=seq, health=health)
        payload = delivered(message, CHAIN_ID, KEYS[index])
        self.said[roster_id(roster), slot, KEYS[index].address] = message.self_commitment
        self.say(NAMES[index], topics.SLOT, payload)
        return payload


def registry() -> Registry:
    homes = [Device(name, key.address, 1) for name, key in zip(NAMES, KEYS, strict=False)]
    return Registry([*homes, Device("feeder-1", FEEDER_KEY.address, 1, "feeder")])


def service(hubs: Hubs, broker: Broker, folder: Path, heard: Heard, speed: float = 1.0) -> IngestService:
    settings = IngestSettings(MqttAddress.parse(broker.url), "hub-1", CHAIN_ID, OPERATOR_KEY, first_slot=SLOT)
    clock = VirtualClock(T0, time.time(), speed)
    return hubs.make(settings, registry(), folder / "ingest.sqlite", clock, heard, KEYS)


@pytest.fixture
async def meters(broker: Broker) -> AsyncIterator[Meters]:
    made = Meters(broker)
    yield made
    await made.link.stop()


@pytest.fixture
async def world(hubs: Hubs, meters: Meters, broker: Broker, tmp_path: Path) -> tuple[IngestService, Meters, Heard]:
    heard = Heard()
    hub = service(hubs, broker, tmp_path, heard)
    await hub.start()
    await meters.connect()
    await until(lambda: hub.connected)
    await asyncio.sleep(0.1)  # both subscriptions reached the broker
    for index in range(5):
        meters.birth(index)
    await until(lambda: meters.rosters)
    return hub, meters, heard


async def test_reports_are_stored_acknowledged_and_opened(world: tuple[IngestService, Meters, Heard]) -> None:
    hub, meters, heard = world
    assert meters.rosters[0].from_slot == SLOT and len(meters.rosters[0].members) == 5
    raw = [meters.report(i, seq=1, slot=SLOT, import_wh=10 * i, export_wh=i) for i in range(5)]
    await until(lambda: heard.groups and len(meters.acks) == 5)
    group = heard.groups[0]
    assert (group.slot, group.import_wh, group.export_wh) == (SLOT, 100, 10)
    assert set(group.rows) == {base.decode(SlotDelivery, item).report for item in raw} and set(meters.acks.values()) == {1}
    for _ in range(3):
        meters.report(0, seq=1, slot=SLOT, import_wh=0, export_wh=0)
    await until(lambda: hub.stats().duplicates_ignored == 3)
    stats = hub.stats()
    assert (stats.stored, stats.lost, stats.malformed, stats.conflicts, stats.groups_opened) == (5, 0, 0, 0, 1)
    status = {device.name: device for device in hub.devices()}
    assert status["home-3"].last_slot == SLOT and status["home-3"].high_water == 1 and status["home-3"].born


async def test_malformed_messages_are_counted_logged_once_per_sender_and_dropped(
    world: tuple[IngestService, Meters, Heard], caplog: pytest.LogCaptureFixture
) -> None:
    hub, meters, heard = world
    good = meters.report(0, seq=1, slot=SLOT, import_wh=1, export_wh=1)
    await until(lambda: meters.acks.get("home-1") == 1)
    flipped = bytearray(good)
    flipped[20] ^= 1
    bad = [
        ("home-1", topics.SLOT, b""),
        ("home-1", topics.SLOT, b"\xff" * 40),
        ("home-1", topics.SLOT, bytes(flipped)),
        ("home-2", topics.SLOT, good),  # another device's report
        ("home-1", FEEDER, good),
        ("feeder-1", topics.SLOT, good),
        ("home-1", topics.BIRTH, good),
        ("home-1", topics.STATE, b"perhaps"),
        ("home-1", "secret", b"x"),
        ("home-1", topics.ENVELOPE, b"\x00"),
        ("stranger", topics.SLOT, good),
    ]
    for name, leaf, payload in bad * 3:
        meters.say(name, leaf, payload)
    meters.link.publish("grid/v1/UPPER/slot", b"x")
    await until(lambda: hub.stats().malformed == 3 * len(bad) + 1)
    assert hub.stats().stored == 1 and not heard.groups
    warnings = [r.message for r in caplog.records if r.name == "hub.ingest.service" and r.levelno == logging.WARNING]
    assert len(warnings) == len({(name, leaf) for name, leaf, _ in bad}) + 1
    for index in range(1, 5):  # and the service goes on
        meters.report(index, seq=1, slot=SLOT, import_wh=1, export_wh=1)
    await until(lambda: heard.groups)


async def test_a_message_that_cannot_be_handled_is_counted_and_told_once_per_sender(
    world: tuple[IngestService, Meters, Heard], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, meters, heard = world

    def fails(device: Device, online: bool) -> None:
        raise KeyError(device.name)

    monkeypatch.setattr(heard, "on_state", fails)
    for name in ("home-1", "home-2", "home-1"):
        meters.say(name, topics.STATE, b"offline")
    await until(lambda: hub.stats().failed == 3)
    told = [r for r in caplog.records if r.name == "hub.ingest.service" and r.levelno == logging.ERROR]
    assert len(told) == 2 and all(record.exc_info is not None for record in told)  # with where it failed
    assert hub.stats().malformed == 0
    monkeypatch.undo()
    for index in range(5):  # and the service goes on
        meters.report(index, seq=1, slot=SLOT, import_wh=1, export_wh=1)
    await until(lambda: heard.groups)


async def test_a_report_of_another_roster_is_stored_but_enters_no_sum(
    world: tuple[IngestService, Meters, Heard],
) -> None:
    hub, meters, heard = world
    other = make_roster(1, SLOT + 9, meters.rosters[-1].members)
    message = slot_report(KEYS[0], "home-1", other, SLOT, (1, 2), CHAIN_ID)
    meters.say("home-1", topics.SLOT, delivered(message, CHAIN_ID, KEYS[0]))
    await until(lambda: meters.acks.get("home-1") == 1)
    assert hub.stats().malformed == 1 and not heard.groups


async def test_a_report_with_a_bad_proof_holds_up_neither_its_group_nor_the_hub(
    world: tuple[IngestService, Meters, Heard], caplog: pytest.LogCaptureFixture
) -> None:
    hub, meters, heard = world
    roster = meters.rosters[-1]
    good = slot_report(KEYS[0], "home-1", roster, SLOT, (10, 1), CHAIN_ID)
    others = slot_report(KEYS[1], "home-2", roster, SLOT, (10, 1), CHAIN_ID)
    bad = [
        dataclasses.replace(good, proof=others.proof),
        dataclasses.replace(good, commitments=others.commitments, proof=others.proof),
        dataclasses.replace(good, slot=SLOT + 1),
        dataclasses.replace(good, commitments=(bytes(32), good.commitments[1])),
    ]
    for message in bad * 2:
        meters.say("home-1", topics.SLOT, delivered(message, CHAIN_ID, KEYS[0]))
    for index in range(1, 5):
        meters.report(index, seq=1, slot=SLOT, import_wh=10, export_wh=1)
    await until(lambda: hub.stats().malformed == 8 and hub.stats().stored == 4)
    assert "home-1" not in meters.acks and not heard.groups  # its slot is missing
    assert sum("is not proved" in record.message for record in caplog.records) == 1
    meters.report(0, seq=1, slot=SLOT, import_wh=10, export_wh=1)
    await until(lambda: heard.groups and meters.acks.get("home-1") == 1)
    assert heard.groups[0].import_wh == 50


async def test_commitments_that_do_not_open_to_the_sums_close_their_slot_alone(
    world: tuple[IngestService, Meters, Heard],
) -> None:
    _hub, meters, heard = world
    roster = meters.rosters[-1]
    honest = slot_report(KEYS[0], "home-1", roster, SLOT, (10, 1), CHAIN_ID)
    other = slot_report(KEYS[0], "home-1", roster, SLOT, (10, 2), CHAIN_ID)
    cheat = dataclasses.replace(honest, commitments=other.commitments, proof=other.proof)
    meters.said[roster_id(roster), SLOT, KEYS[0].address] = cheat.self_commitment
    meters.say("home-1", topics.SLOT, delivered(cheat, CHAIN_ID, KEYS[0]))
    for index in range(1, 5):
        meters.report(index, seq=1, slot=SLOT, import_wh=10, export_wh=1)
    await until(lambda: heard.gaps)
    assert [(gap.slot, "do not open" in gap.reason) for gap in heard.gaps] == [(SLOT, True)] and not heard.groups
    for index in range(5):
        meters.report(index, seq=2, slot=SLOT + 1, import_wh=10, export_wh=1)
    await until(lambda: heard.groups)
    assert heard.groups[0].slot == SLOT + 1


async def test_a_receiver_that_fails_costs_no_other_report(
    world: tuple[IngestService, Meters, Heard], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _hub, meters, heard = world
    monkeypatch.setattr(heard, "on_feeder", lambda *_: {}[0])
    slot = FeederReport("feeder-1", 1, SLOT, 100, 0, Health(0, 0, 0, 1))
    meters.say("feeder-1", FEEDER, base.sign(slot, CHAIN_ID, FEEDER_KEY.signing_key))
    for index in range(5):
        meters.report(index, seq=1, slot=SLOT, import_wh=1, export_wh=1)
    await until(lambda: heard.groups)
    assert "handing on report 1 of feeder-1 failed" in caplog.text


async def test_numbers_no_database_holds_spoil_no_other_report(world: tuple[IngestService, Meters, Heard]) -> None:
    hub, meters, heard = world
    for seq, slot, waiting in ((2**63, SLOT, 1), (1, 2**63, 1), (1, SLOT, 2**80)):
        health = {"uptime_s": 0, "polls": 0, "poll_errors": 0, "outbox_rows": waiting}
        fields = {
            "device": "home-1", "seq": seq, "slot": slot, "roster_id": bytes(32), "masked": [1, 2, 3, 4],
            "self_commitment": bytes(32), "shares_hash": keccak256(bytes(240)), "commitments": [bytes(32), bytes(32)],
            "proof": bytes(256), "health": health,
        }  # fmt: skip
        body = codec.encode(fields)
        signature = sign_digest(KEYS[0].signing_key, domain_digest("slot", CHAIN_ID, body))
        meters.say("home-1", topics.SLOT, base.encode(SlotDelivery(codec.encode([body, signature]), bytes(240))))
    for index in range(5):
        meters.report(index, seq=1, slot=SLOT, import_wh=1, export_wh=1)
    await until(lambda: heard.groups)
    assert (hub.stats().malformed, hub.stats().stored) == (3, 5)


async def test_a_mask_key_that_would_spoil_the_roster_is_refused(world: tuple[IngestService, Meters, Heard]) -> None:
    hub, meters, _heard = world
    message = Birth("home-1", 1, "sdm630", bytes(32), bytes(20), 0, bytes(32))
    meters.say("home-1", topics.BIRTH, base.sign(message, CHAIN_ID, KEYS[0].signing_key))
    await until(lambda: hub.stats().malformed == 1)
    await asyncio.sleep(2 * CHECK_S)
    assert len(hub.rosters.known(1)) == 1


async def test_births_that_change_all_the_time_make_one_roster_a_look(world: tuple[IngestService, Meters, Heard]) -> None:
    hub, meters, _heard = world
    await asyncio.sleep(2.0)  # the first roster is in force and told
    before = len(meters.rosters)
    began = time.monotonic()
    for payment_key in range(1, 200):
        message = Birth("home-1", 1, "sdm630", KEYS[0].mask_public, bytes(20), payment_key, bytes(32))
        meters.say("home-1", topics.BIRTH, base.sign(message, CHAIN_ID, KEYS[0].signing_key))
    await until(lambda: any(m.payment_key == 199 for m in hub.rosters.known(1)[-1].rosters[0].members))
    looks = (time.monotonic() - began) / CHECK_S + 2
    assert len(hub.rosters.known(1)) == 2 and len(meters.rosters) - before <= 2 * looks


async def test_a_failed_receiver_is_asked_again(
    world: tuple[IngestService, Meters, Heard], caplog: pytest.LogCaptureFixture
) -> None:
    _hub, meters, heard = world
    heard.fail = 1
    for index in range(5):
        meters.report(index, seq=1, slot=SLOT, import_wh=1, export_wh=1)
    await until(lambda: heard.groups)
    assert len(heard.groups) == 1 and "failed; again" in caplog.text


async def test_feeders_and_evaluations_reach_the_hub(world: tuple[IngestService, Meters, Heard]) -> None:
    _hub, meters, heard = world
    slot = FeederReport("feeder-1", 1, SLOT, 100, 0, Health(0, 0, 0, 1))
    meters.say("feeder-1", FEEDER, base.sign(slot, CHAIN_ID, FEEDER_KEY.signing_key))
    live = FeederLive("feeder-1", T0, -1500)
    meters.say("feeder-1", FEEDER_LIVE, base.sign(live, CHAIN_ID, FEEDER_KEY.signing_key))
    signed = base.sign(Evaluation(MODEL, 3, bytes(32), 12_345), CHAIN_ID, KEYS[0].signing_key)
    meters.say("home-1", topics.EVALUATION, signed)
    await until(lambda: heard.feeder and heard.live and heard.evaluations)
    assert (heard.feeder, heard.live, heard.evaluations) == ([slot], [live], [signed])
    await until(lambda: meters.acks.get("feeder-1") == 1)


async def test_commits_blobs_and_ballots_reach_the_hub_and_others_messages_do_not(
    world: tuple[IngestService, Meters, Heard],
) -> None:
    hub, meters, heard = world
    commit = base.sign(UpdateCommit(MODEL, 3, bytes(32), bytes(32)), CHAIN_ID, KEYS[0].signing_key)
    ballot = base.sign(Ballot(MODEL, 3, bytes(32), 5, 6), CHAIN_ID, KEYS[1].signing_key)
    malformed = hub.stats().malformed
    meters.say("home-2", topics.COMMIT, commit)
    meters.say("home-1", topics.BALLOT, ballot)
    meters.say("home-1", topics.REVEAL, b"no blob")
    meters.say("home-1", topics.COMMIT, commit)
    meters.say("home-1", topics.REVEAL, base.encode(UpdateReveal(MODEL, 3, b"blob")))
    meters.say("home-2", topics.BALLOT, ballot)
    await until(lambda: len(heard.learning) == 3)
    assert heard.learning == [("home-1", commit), ("home-1", b"blob"), ("home-2", ballot)]
    assert hub.stats().malformed == malformed + 3


async def test_a_restart_keeps_rosters_and_hands_on_what_was_not_taken(
    hubs: Hubs, meters: Meters, broker: Broker, tmp_path: Path
) -> None:
    heard = Heard()
    hub = service(hubs, broker, tmp_path, heard)
    await hub.start()
    await meters.connect()
    await until(lambda: hub.connected)
    await asyncio.sleep(0.1)
    for index in range(5):
        meters.birth(index)
    await until(lambda: meters.rosters)
    heard.fail = 10**6
    for slot in (SLOT, SLOT + 1):
        for index in range(5 if slot == SLOT else 3):
            meters.report(index, seq=slot - SLOT + 1, slot=slot, import_wh=2, export_wh=1)
    await until(lambda: hub.stats().stored == 8)
    await hub.stop()
    hub.store.close()
    assert heard.groups == []

    again_heard = Heard()
    again = service(hubs, broker, tmp_path, again_heard)
    await again.start()
    await until(lambda: again_heard.groups and again.connected)
    await asyncio.sleep(0.1)
    assert [(g.slot, g.import_wh) for g in again_heard.groups] == [(SLOT, 10)]
    rosters_before = len(meters.rosters)
    for index in range(5):
        meters.birth(index)
    for index in (3, 4):  # the second slot was half collected by the first service
        meters.report(index, seq=2, slot=SLOT + 1, import_wh=2, export_wh=1)
    await until(lambda: len(again_heard.groups) == 2)
    assert again_heard.groups[1].import_wh == 10
    assert len(set(meters.rosters[rosters_before:])) <= 1  # the known roster stays
    await again.stop()
    again.store.close()

    third_heard = Heard()
    third = service(hubs, broker, tmp_path, third_heard)
    await third.start()
    await asyncio.sleep(0.3)
    assert third_heard.groups == []  # everything was taken
    whole = {slot: group.done for (_roster, slot), group in third._groups._groups.items()}
    assert whole == {SLOT: True, SLOT + 1: True}  # so neither is told as a gap


async def test_gaps_are_told_with_the_names_of_the_missing(hubs: Hubs, meters: Meters, broker: Broker, tmp_path: Path) -> None:
    heard = Heard()
    hub = service(hubs, broker, tmp_path, heard, speed=450.0)  # a slot lasts two seconds: time to prove on a busy machine
    await hub.start()
    await meters.connect()
    await until(lambda: hub.connected)
    await asyncio.sleep(0.1)
    for index in range(5):
        meters.birth(index)
    await until(lambda: meters.rosters)
    for index in range(4):
        meters.report(index, seq=1, slot=SLOT, import_wh=1, export_wh=1)
    await until(lambda: any(gap.slot == SLOT for gap in heard.gaps))
    assert [gap.missing for gap in heard.gaps if gap.slot == SLOT] == [("home-5",)]
    assert heard.groups == []
