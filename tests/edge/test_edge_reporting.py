"""Masked reports, the rosters they need, acknowledgements that count, and services that cannot hurt."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from edge_kit import CHAIN_ID, OPERATOR_KEY, T0, Broker, agent_toml

from edge_agent.agent import Agent, load_device_key
from edge_agent.config import AgentConfig
from edge_agent.publisher import Publisher
from edge_agent.reporting import Reporter
from edge_agent.services import MAX_EVENTS, AgentContext, ServiceRunner
from edge_agent.slots import Baseline, ClosedSlot
from edge_agent.store import Store
from openmg.clock import VirtualClock, slot_of
from openmg.config import load_toml
from openmg.identity import DeviceKey
from openmg.masking import Masker, make_roster, open_sum
from openmg.messages import base, topics
from openmg.messages.feeder import FEEDER, FeederReport
from openmg.messages.telemetry import Ack, Roster, RosterMember, SlotReport
from openmg.mqtt import MqttLink

SLOT = slot_of(T0)
PEERS = tuple(DeviceKey(bytes([i]) * 32) for i in range(1, 5))


class Home:
    """A reporter with its store, and the keys of its four neighbours."""

    def __init__(self, folder: Path, role: str = "home") -> None:
        self.config = load_toml(agent_toml(folder, 1502, "mqtt://127.0.0.1:1883", role=role), AgentConfig)
        self.key = load_device_key(self.config)
        self.store = Store(self.config.store_path, first_seq=1)
        self.reporter = Reporter(self.config, self.key, self.store)

    def members(self) -> list[RosterMember]:
        keys = (self.key, *PEERS)
        return [RosterMember(f"home-{i}", k.address, k.mask_public, 0, bytes(32)) for i, k in enumerate(keys, 1)]

    def roster(self, from_slot: int = SLOT) -> Roster:
        return make_roster(1, from_slot, self.members())

    def close(self, slot: int, import_wh: int, export_wh: int) -> None:
        self.store.move_baseline(Baseline(slot + 1, 0, 0), ClosedSlot(slot, import_wh, export_wh, 0))

    def payloads(self) -> list[bytes]:
        return [row.payload for row in self.store.pending(0, 100)]


def signed(roster: Roster, key: bytes = OPERATOR_KEY) -> bytes:
    return base.sign(roster, CHAIN_ID, key)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_a_masked_report_opens_only_together_with_all_others(home: Home) -> None:
    roster = home.roster()
    assert home.reporter.accept_roster(signed(roster))
    home.close(SLOT, 123, 45)
    assert home.reporter.report_due() == 1 and home.reporter.report_due() == 0
    opened = base.open_signed(SlotReport, home.payloads()[0], CHAIN_ID)
    report = opened.message
    assert opened.signer == home.key.address
    assert (report.device, report.seq, report.slot, report.health.outbox_rows) == ("home-1", 1, SLOT, 1)
    assert max(report.masked) > 2**40  # nothing of 123 or 45 is to be seen
    masked = {key.address: Masker(key, roster).mask(SLOT, (10, 1)) for key in PEERS}
    assert open_sum(roster, {**masked, home.key.address: report.masked}) == (123 + 40, 45 + 4)


def test_slots_closed_before_the_roster_came_are_reported_afterwards(home: Home) -> None:
    for slot in (SLOT - 1, SLOT, SLOT + 1):
        home.close(slot, 1, 1)
    assert home.reporter.report_due() == 0
    home.reporter.accept_roster(signed(home.roster()))
    assert home.reporter.report_due() == 2
    slots = [base.open_signed(SlotReport, payload, CHAIN_ID).message.slot for payload in home.payloads()]
    assert slots == [SLOT, SLOT + 1]


def test_each_slot_uses_the_latest_roster_that_covers_it(home: Home) -> None:
    first, second = home.roster(SLOT), home.roster(SLOT + 2)
    for roster in (second, first):
        home.reporter.accept_roster(signed(roster))
    for slot in range(SLOT, SLOT + 4):
        home.close(slot, 1, 1)
    home.reporter.report_due()
    used = [base.open_signed(SlotReport, payload, CHAIN_ID).message.roster_id for payload in home.payloads()]
    ids = [Masker(home.key, roster).roster_id for roster in (first, second)]
    assert used == [ids[0], ids[0], ids[1], ids[1]]


def test_a_known_roster_is_no_news(home: Home) -> None:
    assert home.reporter.accept_roster(signed(home.roster()))
    assert not home.reporter.accept_roster(signed(home.roster()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h: signed(h.roster(), bytes(31) + b"\x01"), "not by the operator"),
        (lambda h: signed(dataclasses.replace(h.roster(), microgrid=2)), "microgrid 2"),
        (lambda h: signed(make_roster(1, SLOT, [*h.members()[1:], _stranger()])), "does not hold this meter"),
        (lambda h: signed(dataclasses.replace(h.roster(), members=h.roster().members[::-1])), "canonical order"),
        (lambda h: signed(dataclasses.replace(h.roster(), members=h.roster().members[:4])), "5 to 256 members"),
        (lambda h: signed(_with_foreign_mask_key(h)), "its own mask key"),
        (lambda h: signed(h.roster())[:-1], "Roster"),
        (lambda h: b"", "Roster"),
    ],
)
def test_a_roster_that_could_unmask_the_home_is_refused(home: Home, change: Callable[[Home], bytes], words: str) -> None:
    home.close(SLOT, 1, 1)
    with pytest.raises(base.InvalidMessage, match=words):
        home.reporter.accept_roster(change(home))
    assert home.reporter.report_due() == 0 and home.payloads() == []


def _stranger() -> RosterMember:
    key = DeviceKey(bytes([9]) * 32)
    return RosterMember("home-9", key.address, key.mask_public, 0, bytes(32))


def _with_foreign_mask_key(home: Home) -> Roster:
    members = home.members()
    members[0] = dataclasses.replace(members[0], mask_public=PEERS[0].mask_public)
    return make_roster(1, SLOT, members)


def test_a_feeder_reports_in_clear_and_needs_no_roster(tmp_path: Path) -> None:
    feeder = Home(tmp_path, role="feeder")
    feeder.close(SLOT, 700, 30)
    assert feeder.reporter.leaf == FEEDER and feeder.reporter.report_due() == 1
    report = base.open_signed(FeederReport, feeder.payloads()[0], CHAIN_ID).message
    assert (report.slot, report.import_wh, report.export_wh) == (SLOT, 700, 30)


async def test_only_the_operators_acknowledgement_for_this_device_empties_the_outbox(tmp_path: Path) -> None:
    feeder = Home(tmp_path, role="feeder")
    feeder.close(SLOT, 1, 1)
    feeder.reporter.report_due()
    link = MqttLink(feeder.config.mqtt.address, "test", lambda _topic, _payload: None, lambda: None)
    publisher = Publisher(feeder.config, feeder.store, link)
    forged = base.sign(Ack("home-1", 99), CHAIN_ID, bytes(31) + b"\x01")
    others = base.sign(Ack("home-2", 99), CHAIN_ID, OPERATOR_KEY)
    for payload in (forged, others, b"", b"\xff\xff", base.sign(Ack("home-1", 99), CHAIN_ID + 1, OPERATOR_KEY)):
        await publisher.on_ack(topics.ack("home-1"), payload)
    assert publisher.malformed.count == 5 and len(feeder.payloads()) == 1
    await publisher.on_ack(topics.ack("home-1"), base.sign(Ack("home-1", 1), CHAIN_ID, OPERATOR_KEY))
    assert feeder.payloads() == [] and feeder.store.totals().acked == 1


class Recorder:
    """A service that remembers its events, fails at the first, and may be slow."""

    name = "recorder"

    def __init__(self, topic: str = "hub/v1/model", pause_s: float = 0.0) -> None:
        self.events: list[object] = []
        self.topic, self.pause_s = topic, pause_s

    async def start(self, context: AgentContext) -> None:
        context.subscribe(self.topic)
        self.events.append("start")

    async def on_message(self, topic: str, payload: bytes) -> None:
        await asyncio.sleep(self.pause_s)
        self.events.append((topic, payload))
        if payload == b"bad":
            raise RuntimeError("cannot read this")

    async def on_slot(self, slot: int, import_wh: int, export_wh: int) -> None:
        self.events.append((slot, import_wh, export_wh))

    async def stop(self) -> None:
        self.events.append("stop")


def context_for(runner: ServiceRunner, home: Home) -> AgentContext:
    def publish(_topic: str, _payload: bytes, *, qos: int = 1, retain: bool = False) -> bool:
        return False

    return AgentContext(home.config, home.key, home.store, VirtualClock.real(), publish, runner.filters.append)


async def test_a_failing_service_goes_on_with_the_next_event(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    service = Recorder("hub/v1/+")
    runner = ServiceRunner(service)
    runner.start(context_for(runner, home))
    await asyncio.sleep(0.01)
    assert runner.wants("hub/v1/model") and not runner.wants("hub/v1/roster/1")
    for event in (("hub/v1/model", b"bad"), ClosedSlot(5, 6, 7, 0), ("hub/v1/model", b"good")):
        runner.offer(event)
    await asyncio.sleep(0.05)
    await runner.stop()
    assert service.events == ["start", ("hub/v1/model", b"bad"), (5, 6, 7), ("hub/v1/model", b"good"), "stop"]
    assert "cannot read this" in caplog.text


async def test_a_slow_service_has_a_bounded_queue(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    runner = ServiceRunner(Recorder(pause_s=5.0))
    runner.start(context_for(runner, home))
    await asyncio.sleep(0.01)
    for i in range(MAX_EVENTS + 250):
        runner.offer(("hub/v1/model", b"%d" % i))
    assert runner.dropped >= 249
    assert caplog.text.count("is behind") == 3
    await asyncio.wait_for(runner.stop(), 1.0)


@pytest.mark.parametrize("broker", ["amqtt"], indirect=True)
async def test_services_in_a_running_agent_hear_messages_and_slots(broker: Broker, tmp_path: Path) -> None:
    path = agent_toml(tmp_path, 9, broker.url, w0=time.time(), speed=1.0)
    config = load_toml(path, AgentConfig)
    service, stop = Recorder(), asyncio.Event()
    agent = Agent(config, [service])
    running = asyncio.create_task(agent.run(stop))
    deadline = time.monotonic() + 10
    hub = MqttLink(config.mqtt.address, "hub", lambda _topic, _payload: None, lambda: None)
    hub.start()
    while ("hub/v1/model", b"model") not in service.events:
        assert time.monotonic() < deadline
        hub.publish("hub/v1/model", b"model")
        await asyncio.sleep(0.1)
    await agent._on_slot(ClosedSlot(7, 8, 9, 0))
    await asyncio.sleep(0.05)
    stop.set()
    await asyncio.wait_for(running, 10)
    await hub.stop()
    assert (7, 8, 9) in service.events and service.events[-1] == "stop"
