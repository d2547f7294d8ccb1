"""Masked reports, the rosters they need, acknowledgements that count, and services that cannot hurt."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from edge_kit import CHAIN_ID, OPERATOR_KEY, T0, Broker, agent_toml
from slot_reports import ReportOpener, answered

from edge_agent import reporting
from edge_agent.agent import Agent, load_device_key
from edge_agent.config import AgentConfig, SlotProofSection, WalletSection
from edge_agent.publisher import REFUSALS, Publisher
from edge_agent.reporting import Reporter
from edge_agent.services import MAX_EVENTS, AgentContext, ServiceRunner
from edge_agent.slot_prover import SlotProver, slot_prover
from edge_agent.slots import Baseline, ClosedSlot
from edge_agent.store import Store
from openmg.clock import VirtualClock, slot_of
from openmg.config import ConfigError, load_toml
from openmg.hashing import keccak256
from openmg.identity import DeviceKey
from openmg.masking import Masker, make_roster, roster_id
from openmg.masking.opening import MaskedReport, open_sums
from openmg.messages import base, topics
from openmg.messages.feeder import FEEDER, FeederReport
from openmg.messages.slot_opening import OpeningNotice, SlotDelivery, SlotOpening
from openmg.messages.telemetry import Ack, Refusal, Roster, RosterMember, SlotReport
from openmg.mqtt import MqttLink
from openmg.zk.babyjub import SUBGROUP_ORDER
from openmg.zk.circuits.commit import CommitWitness
from openmg.zk.slot_openings import export_opening, import_opening

SLOT = slot_of(T0)
PEERS = tuple(DeviceKey(bytes([i]) * 32) for i in range(1, 5))


class Home:
    """A reporter with its store, and the keys of its four neighbours."""

    def __init__(self, folder: Path, role: str = "home") -> None:
        self.config = load_toml(agent_toml(folder, 1502, "mqtt://127.0.0.1:1883", role=role), AgentConfig)
        self.key = load_device_key(self.config)
        self.store = Store(self.config.store_path, first_seq=1)
        self.reporter = Reporter(self.config, self.key, self.store, slot_prover(self.config))

    def members(self) -> list[RosterMember]:
        keys = (self.key, *PEERS)
        return [RosterMember(f"home-{i}", k.address, k.mask_public, 0, bytes(32)) for i, k in enumerate(keys, 1)]

    def roster(self, from_slot: int = SLOT) -> Roster:
        return make_roster(1, from_slot, self.members())

    def close(self, slot: int, import_wh: int, export_wh: int) -> None:
        self.store.move_baseline(Baseline(slot + 1, 0, 0), ClosedSlot(slot, import_wh, export_wh, 0))

    def payloads(self) -> list[bytes]:
        return [row.payload for row in self.store.pending(0, 100)]

    def report(self, place: int) -> base.Signed[SlotReport]:
        """What the delivery at this place of the outbox holds."""
        delivery = base.decode(SlotDelivery, self.payloads()[place])
        signed = base.open_signed(SlotReport, delivery.report, CHAIN_ID)
        assert signed.message.shares_hash == keccak256(delivery.shares)
        return signed


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
    opened = home.report(0)
    report = opened.message
    assert opened.signer == home.key.address
    assert (report.device, report.seq, report.slot, report.health.outbox_rows) == ("home-1", 1, SLOT, 1)
    assert max(report.masked) > 2**40  # nothing of 123 or 45 is to be seen
    blindings = export_opening(home.key, SLOT, 45).blinding, import_opening(home.key, SLOT, 123).blinding
    shares = base.decode(SlotDelivery, home.payloads()[0]).shares
    masked = {key.address: Masker(key, roster).mask(SLOT, (10, 1, 2, 3)) for key in PEERS}
    reports = {address: MaskedReport(*item) for address, item in masked.items()}
    reports[home.key.address] = MaskedReport(report.masked, report.self_commitment, shares)
    order = sorted(reports)
    notice = OpeningNotice(roster_id(roster), SLOT, tuple(order), tuple(reports[a].self_commitment for a in order))
    mine = home.reporter.openings.answer(base.sign(notice, CHAIN_ID, OPERATOR_KEY))
    assert mine is not None
    keys = {home.key.address: base.open_signed(SlotOpening, mine, CHAIN_ID).message.keys}
    for key in PEERS:
        payload = answered(key, roster, reports[key.address].self_commitment, notice, CHAIN_ID)
        keys[key.address] = base.open_signed(SlotOpening, payload, CHAIN_ID).message.keys
    sums = open_sums(roster, SLOT, reports, keys)
    assert sums == (123 + 40, 45 + 4, (blindings[0] + 8) % SUBGROUP_ORDER, (blindings[1] + 12) % SUBGROUP_ORDER)


def test_a_report_proves_what_it_commits_to(home: Home) -> None:
    home.reporter.accept_roster(signed(home.roster()))
    home.close(SLOT, 123, 45)
    home.reporter.report_due()
    report = home.report(0).message
    points = export_opening(home.key, SLOT, 45).point, import_opening(home.key, SLOT, 123).point
    assert ReportOpener([home.key], CHAIN_ID)(home.key.address, report) == points


def test_a_slot_without_a_proof_stays_and_is_reported_when_there_is_one(
    home: Home, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = home.reporter._prover
    home.reporter._prover = SlotProver(SlotProofSection(key_file=tmp_path / "missing.pk", key_sha256="0" * 64))
    home.reporter.accept_roster(signed(home.roster()))
    for slot in (SLOT, SLOT + 1):
        home.close(slot, 1, 1)
    assert home.reporter.report_due() == 0 and home.reporter.report_due() == 0 and home.payloads() == []
    assert caplog.text.count("cannot be proved") == 1 and "fetch it from the ceremony" in caplog.text
    home.reporter._prover = good
    assert home.reporter.report_due() == 2 and len(home.payloads()) == 2


def test_a_backlog_is_proved_in_parts(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that an agent which ends does not wait for a day of proofs."""
    monkeypatch.setattr(reporting, "PROVED_AT_ONCE", 2)
    home.reporter.accept_roster(signed(home.roster()))
    for slot in range(SLOT, SLOT + 3):
        home.close(slot, 1, 1)
    assert [home.reporter.report_due() for _ in range(3)] == [2, 1, 0]


def test_proving_holds_up_neither_the_store_nor_a_roster(home: Home) -> None:
    proving, goes_on = threading.Event(), threading.Event()

    class Slow(SlotProver):
        def prove(self, witness: CommitWitness) -> bytes:
            proving.set()
            assert goes_on.wait(10)
            return super().prove(witness)

    home.reporter._prover = Slow(SlotProofSection(demo=True))
    home.reporter.accept_roster(signed(home.roster()))
    home.close(SLOT, 1, 1)
    worker = threading.Thread(target=home.reporter.report_due)
    worker.start()
    assert proving.wait(10)
    began = time.monotonic()
    home.close(SLOT + 1, 2, 2)  # the metering writes
    assert home.reporter.accept_roster(signed(home.roster(SLOT + 5))) and not home.reporter.lacks_roster()
    assert time.monotonic() - began < 5.0
    goes_on.set()
    worker.join(10)
    assert len(home.payloads()) == 1


async def test_proving_holds_up_no_metering(tmp_path: Path) -> None:
    """The poller waits for `_on_slot`; with a backlog, that would be for minutes."""
    agent = Agent(load_toml(agent_toml(tmp_path, 9, "mqtt://127.0.0.1:1"), AgentConfig))
    proving, goes_on = threading.Event(), threading.Event()

    class Slow(SlotProver):
        def prove(self, witness: CommitWitness) -> bytes:
            proving.set()
            assert goes_on.wait(10)
            return super().prove(witness)

    agent.reporter._prover = Slow(SlotProofSection(demo=True))
    keys = (agent.key, *PEERS)
    members = [RosterMember(f"home-{i}", k.address, k.mask_public, 0, bytes(32)) for i, k in enumerate(keys, 1)]
    agent.reporter.accept_roster(signed(make_roster(1, SLOT, members)))
    agent.store.move_baseline(Baseline(SLOT + 1, 0, 0), ClosedSlot(SLOT, 1, 1, 0))
    try:
        await asyncio.wait_for(agent._on_slot(ClosedSlot(SLOT, 1, 1, 0)), 1.0)
        assert await asyncio.to_thread(proving.wait, 10) and not agent.store.totals().outbox_rows
    finally:
        goes_on.set()
        await asyncio.wait(agent._tasks)
    assert agent.store.totals().outbox_rows == 1
    agent.store.close()
    agent._lock.close()


def test_a_home_without_a_key_for_its_proofs_does_not_start(home: Home, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"add \[slot_proof\]"):
        slot_prover(dataclasses.replace(home.config, slot_proof=None))
    wallet = WalletSection(tmp_path / "seed", demo=True, prover="portable")
    stands_in = dataclasses.replace(home.config, slot_proof=None, wallet=wallet)
    assert stands_in.slot_keys == SlotProofSection("portable", demo=True)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({}, "key_file is"),
        ({"key_file": Path("a"), "demo": True}, "key_file is"),
        ({"key_file": Path("a")}, "key_sha256 is"),
        ({"demo": True, "prover": "x"}, "prover is"),
    ],
)
def test_a_section_that_names_no_key_or_two_is_refused(section: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SlotProofSection(**section)


def test_slots_closed_before_the_roster_came_are_reported_afterwards(home: Home) -> None:
    for slot in (SLOT - 1, SLOT, SLOT + 1):
        home.close(slot, 1, 1)
    assert home.reporter.report_due() == 0
    home.reporter.accept_roster(signed(home.roster()))
    assert home.reporter.report_due() == 2
    slots = [home.report(i).message.slot for i in range(len(home.payloads()))]
    assert slots == [SLOT, SLOT + 1]


def test_each_slot_uses_the_latest_roster_that_covers_it(home: Home) -> None:
    first, second = home.roster(SLOT), home.roster(SLOT + 2)
    for roster in (second, first):
        home.reporter.accept_roster(signed(roster))
    for slot in range(SLOT, SLOT + 4):
        home.close(slot, 1, 1)
    home.reporter.report_due()
    used = [home.report(i).message.roster_id for i in range(len(home.payloads()))]
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
        (lambda h: signed(dataclasses.replace(h.roster(), members=h.roster().members[::-1])), "canonical order"),
        (lambda h: signed(_without_one_neighbour(h)), "5 to 192 members"),
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


def test_the_roster_of_another_group_is_nothing_to_this_home(home: Home) -> None:
    home.close(SLOT, 1, 1)
    assert not home.reporter.accept_roster(signed(make_roster(1, SLOT, [*home.members()[1:], _stranger()])))
    assert home.reporter.report_due() == 0 and not home.reporter.has_roster


def _stranger() -> RosterMember:
    key = DeviceKey(bytes([9]) * 32)
    return RosterMember("home-9", key.address, key.mask_public, 0, bytes(32))


def _without_one_neighbour(home: Home) -> Roster:
    roster = home.roster()
    return dataclasses.replace(roster, members=tuple(member for member in roster.members if member.address != PEERS[0].address))


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
        await publisher.on_answer(topics.ack("home-1"), payload)
    assert publisher.malformed.count == 5 and len(feeder.payloads()) == 1
    await publisher.on_answer(topics.ack("home-1"), base.sign(Ack("home-1", 1), CHAIN_ID, OPERATOR_KEY))
    assert feeder.payloads() == [] and feeder.store.totals().acked == 1


async def test_only_the_operators_refusal_for_this_device_sets_a_report_aside(tmp_path: Path) -> None:
    feeder = Home(tmp_path, role="feeder")
    for slot in range(SLOT, SLOT + 3):
        feeder.close(slot, 1, 1)
    feeder.reporter.report_due()
    link = MqttLink(feeder.config.mqtt.address, "test", lambda _topic, _payload: None, lambda: None)
    publisher = Publisher(feeder.config, feeder.store, link)
    first, second, _third = feeder.payloads()

    async def say(message: Ack | Refusal, key: bytes = OPERATOR_KEY, times: int = 1) -> None:
        for _ in range(times):
            await publisher.on_answer(topics.ack("home-1"), base.sign(message, CHAIN_ID, key))

    refusal = Refusal("home-1", keccak256(second), "of an older form")
    await say(refusal, bytes(31) + b"\x01", 5)
    await say(dataclasses.replace(refusal, device="home-2"), times=5)
    await say(dataclasses.replace(refusal, report=keccak256(b"another")), times=5)
    assert publisher.malformed.count == 10 and len(feeder.payloads()) == 3
    await say(refusal, times=REFUSALS - 1)
    assert feeder.store.totals().refused == 0  # the hub's own mistake may be over soon
    await say(refusal)
    assert feeder.store.totals().refused == 1 and second not in feeder.payloads()
    # Refused because its number was used for another: the acknowledgement that counts the number in removes nothing unheard.
    await say(Refusal("home-1", keccak256(first), "seq 1 was used for another report"))
    await say(Ack("home-1", 3))
    totals = feeder.store.totals()
    assert (totals.acked, totals.refused_rows, totals.outbox_rows) == (1, 2, 0)
    assert feeder.store.retry_refused() == 2 and len(feeder.store.unreported(0, 9)) == 2


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
    assert runner.wants("hub/v1/model") and not runner.wants("hub/v1/roster/1/0")
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
