"""What is lost on the way is asked for again: rosters, births, subscriptions, acknowledgements; and full disks."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest
from edge_kit import CHAIN_ID, OPERATOR_KEY, T0, Broker, Hubs, agent_toml, until
from slot_reports import answered, delivered, slot_report

from edge_agent import publisher as publisher_module
from edge_agent import store as store_module
from edge_agent.agent import Agent
from edge_agent.config import AgentConfig
from edge_agent.meter import MeterPoller
from edge_agent.modbus.link import ModbusLink
from edge_agent.modbus.reader import MeterReader
from edge_agent.modbus.target import BusTarget
from edge_agent.slots import Baseline, ClosedSlot
from edge_agent.store import RawReading, Store, StoreError
from firmware_sim.server import MeterServer
from hub.ingest.events import IngestEvents
from hub.ingest.groups import GroupSum
from hub.ingest.joining import OpenedSlot
from hub.ingest.registry import Device, Registry
from hub.ingest.service import IngestService
from hub.ingest.status import IngestSettings
from openmg.clock import VirtualClock, slot_of
from openmg.config import load_toml
from openmg.identity import DeviceKey
from openmg.masking import make_roster, roster_id
from openmg.messages import base, topics
from openmg.messages.feeder import FEEDER
from openmg.messages.slot_opening import OpeningNotice
from openmg.messages.telemetry import Birth, Roster, RosterMember
from openmg.mqtt import MqttAddress, MqttLink
from openmg.profiles.profile import load_profile

SLOT = slot_of(T0)
PEERS = tuple(DeviceKey(bytes([i]) * 32) for i in range(1, 5))


class Running:
    """Agents in this process that stand on a slot which has closed; ended when the test does."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        self._folder, self._broker = folder, broker
        self._running: list[tuple[asyncio.Event, asyncio.Task[None]]] = []

    def make(self, name: str = "home-5", role: str = "home") -> Agent:
        """An agent without a meter, in a slot that lasts; not started."""
        path = agent_toml(self._folder, 9, self._broker.url, name, w0=time.time(), role=role)
        return Agent(load_toml(path, AgentConfig))

    def start(self, agent: Agent) -> Agent:
        stop = asyncio.Event()
        self._running.append((stop, asyncio.create_task(agent.run(stop))))
        return agent

    async def end(self) -> None:
        for stop, task in self._running:
            stop.set()
            await task


@pytest.fixture
async def running(tmp_path: Path, broker: Broker) -> AsyncIterator[Running]:
    made = Running(tmp_path, broker)
    yield made
    await made.end()


class Wire:
    """A raw MQTT client that hears everything and may say anything; answers for the peers whose reports it sent."""

    def __init__(self, broker: Broker) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.reported: dict[tuple[bytes, int, bytes], tuple[Roster, bytes]] = {}
        """Rosters and self commitments of the peers' reports, by roster id, slot and peer."""
        self.link = MqttLink(MqttAddress.parse(broker.url), "wire", self._hear, lambda: None)
        self.link.subscribe("grid/v1/+/+")
        self.link.subscribe("hub/v1/#")

    def _hear(self, topic: str, payload: bytes) -> None:
        self.heard.append((topic, payload))
        if topic != topics.opening(1):
            return
        notice = base.open_signed(OpeningNotice, payload, CHAIN_ID).message
        for index, key in enumerate(PEERS, 1):
            said = self.reported.get((notice.roster_id, notice.slot, key.address))
            if said is not None:
                payload = answered(key, *said, notice, CHAIN_ID)
                self.link.publish(topics.from_meter(f"home-{index}", topics.OPENING), payload)

    def count(self, topic: str) -> int:
        return sum(heard == topic for heard, _payload in self.heard)

    def birth(self, index: int) -> None:
        key, name = PEERS[index], f"home-{index + 1}"
        birth = Birth(name, 1, "sdm630", key.mask_public, bytes(20), 0, bytes(32))
        self.link.publish(topics.from_meter(name, topics.BIRTH), base.sign(birth, CHAIN_ID, key.signing_key))

    def report(self, index: int, roster: Roster, seq: int, slot: int) -> None:
        key, name = PEERS[index], f"home-{index + 1}"
        message = slot_report(key, name, roster, slot, (10, 1), CHAIN_ID, seq=seq)
        self.reported[roster_id(roster), slot, key.address] = roster, message.self_commitment
        self.link.publish(topics.from_meter(name, topics.SLOT), delivered(message, CHAIN_ID, key))


@pytest.fixture
async def wire(broker: Broker) -> AsyncIterator[Wire]:
    made = Wire(broker)
    made.link.start()
    await until(lambda: made.link.connected)
    await asyncio.sleep(0.1)  # its subscriptions reached the broker
    yield made
    await made.link.stop()


class Sums(IngestEvents):
    def __init__(self) -> None:
        self.groups: dict[int, GroupSum] = {}
        self.states: list[tuple[str, bool]] = []

    async def on_slot(self, slot: OpenedSlot) -> None:
        (self.groups[slot.slot],) = slot.groups

    def on_state(self, device: Device, online: bool) -> None:
        self.states.append((device.name, online))


def hub_for(hubs: Hubs, broker: Broker, folder: Path, last: DeviceKey, events: IngestEvents) -> IngestService:
    """A hub of the four peers and of home-5, or feeder-1, with the given key."""
    devices = [Device(f"home-{i}", key.address, 1) for i, key in enumerate(PEERS, 1)]
    devices += [Device("home-5", last.address, 1), Device("feeder-1", DeviceKey(bytes([8]) * 32).address, 1, "feeder")]
    settings = IngestSettings(MqttAddress.parse(broker.url), "hub-1", CHAIN_ID, OPERATOR_KEY, first_slot=SLOT)
    clock = VirtualClock(T0, time.time(), 1.0)
    return hubs.make(settings, Registry(devices), folder / "ingest.sqlite", clock, events, (*PEERS, last))


def close_slot(agent: Agent, slot: int) -> None:
    agent.store.move_baseline(Baseline(slot + 1, 0, 0), ClosedSlot(slot, 7, 1, 0))


async def test_a_home_whose_roster_was_lost_asks_until_it_has_one(
    broker: Broker, hubs: Hubs, running: Running, wire: Wire, tmp_path: Path
) -> None:
    """The broker forgets what it retained and delivers the roster to nobody: the birth was answered, the answer lost."""
    agent, heard = running.make(), Sums()
    hub = hub_for(hubs, broker, tmp_path, agent.key, heard)
    deliver = agent.link._on_message
    lost: list[str] = []

    def lose_two(topic: str, payload: bytes) -> None:
        if topic == topics.roster(1, 0) and len(lost) < 2:
            lost.append(topic)
        else:
            deliver(topic, payload)

    agent.link._on_message = lose_two
    await hub.start()
    close_slot(agent, SLOT)
    running.start(agent)
    await until(lambda: hub.connected)
    await asyncio.sleep(0.1)
    for index in range(4):
        wire.birth(index)
    await until(lambda: len(lost) == 2)
    wire.link.publish(topics.roster(1, 0), b"", retain=True)  # and nothing is retained any more
    await until(lambda: agent.store.totals().acked == 1)
    ((roster,),) = (grouping.rosters for grouping in hub.rosters.known(1))
    for index in range(4):
        wire.report(index, roster, 1, SLOT)
    await until(lambda: heard.groups)
    assert (heard.groups[SLOT].import_wh, heard.groups[SLOT].export_wh) == (47, 5)
    births = wire.count(topics.from_meter("home-5", topics.BIRTH))
    await asyncio.sleep(1.2)
    assert wire.count(topics.from_meter("home-5", topics.BIRTH)) == births  # who has a roster is quiet


async def test_a_birth_that_was_lost_is_told_again(
    broker: Broker, hubs: Hubs, running: Running, wire: Wire, tmp_path: Path
) -> None:
    agent, heard = running.make(), Sums()
    hub = hub_for(hubs, broker, tmp_path, agent.key, heard)
    hear, lost = hub._link._on_message, []

    def deaf_once(topic: str, payload: bytes) -> None:
        if topic == topics.from_meter("home-5", topics.BIRTH) and not lost:
            lost.append(payload)
        else:
            hear(topic, payload)

    hub._link._on_message = deaf_once
    await hub.start()
    await until(lambda: hub.connected)
    running.start(agent)
    await until(lambda: lost)
    wire.link.publish(topics.from_meter("home-5", topics.BIRTH), b"", retain=True)
    await until(lambda: hub.rosters.born("home-5"))


async def test_a_feeder_tells_its_birth_with_each_slot(running: Running, wire: Wire) -> None:
    agent = running.start(running.make("feeder-1", "feeder"))
    topic = topics.from_meter("feeder-1", topics.BIRTH)
    await until(lambda: wire.count(topic) == 1)
    await agent._on_slot(ClosedSlot(7, 8, 9, 0))
    await until(lambda: wire.count(topic) == 2)


async def test_an_agent_at_rest_repeats_what_the_store_refused_when_a_slot_closed(running: Running, wire: Wire) -> None:
    agent = running.start(running.make("feeder-1", "feeder"))
    await until(lambda: agent.link.connected)
    await asyncio.sleep(1.5)  # everything has looked once
    asked = agent.store.operations
    await asyncio.sleep(1.2)
    assert agent.store.operations == asked, "nothing is due, so the store is left alone"
    close_slot(agent, SLOT)
    with closing(sqlite3.connect(agent.store.path)) as other:
        other.execute("ALTER TABLE outbox RENAME TO elsewhere")
        await agent._on_slot(ClosedSlot(SLOT, 7, 1, 0))
        await asyncio.sleep(0.8)
        assert agent.store.operations > asked
        other.execute("ALTER TABLE elsewhere RENAME TO outbox")
    await until(lambda: wire.count(topics.from_meter("feeder-1", FEEDER)))


async def test_a_lost_subscription_is_made_again(broker: Broker, hubs: Hubs, running: Running, tmp_path: Path) -> None:
    """The broker drops what a connected agent subscribed, as amqtt may at a takeover of a client id."""
    agent = running.make()
    hub = hub_for(hubs, broker, tmp_path, agent.key, Sums())
    running.start(agent)
    await until(lambda: agent.link.connected)
    await asyncio.sleep(0.1)
    assert agent.link._client is not None
    for topic_filter in agent.link._filters:
        agent.link._client.unsubscribe(topic_filter)
    await hub.start()
    peers = Wire(broker)
    peers.link.start()
    await until(lambda: hub.connected and peers.link.connected)
    await asyncio.sleep(0.1)
    for index in range(4):
        peers.birth(index)
    await until(lambda: agent.reporter.has_roster)
    for topic_filter in agent.link._filters:
        agent.link._client.unsubscribe(topic_filter)
    await asyncio.sleep(0.1)
    close_slot(agent, SLOT)
    await until(lambda: agent.store.totals().acked == 1)  # so the acknowledgement came as well
    await peers.link.stop()


async def test_a_report_under_an_unknown_roster_brings_the_right_one(
    broker: Broker, hubs: Hubs, wire: Wire, tmp_path: Path
) -> None:
    last = DeviceKey(bytes([9]) * 32)
    hub = hub_for(hubs, broker, tmp_path, last, Sums())
    await hub.start()
    await until(lambda: hub.connected)
    await asyncio.sleep(0.1)
    for index in range(4):
        wire.birth(index)
    birth = Birth("home-5", 1, "sdm630", last.mask_public, bytes(20), 0, bytes(32))
    wire.link.publish(topics.from_meter("home-5", topics.BIRTH), base.sign(birth, CHAIN_ID, last.signing_key))
    await until(lambda: wire.count(topics.roster(1, 0)) >= 2)  # once at once, once more until it is in force
    await asyncio.sleep(0.6)
    before = wire.count(topics.roster(1, 0))
    ((right,),) = (grouping.rosters for grouping in hub.rosters.known(1))
    wrong = make_roster(1, SLOT + 1, right.members)
    for seq in range(1, 40):
        wire.report(0, wrong, seq, SLOT + 1)
    await until(lambda: hub.stats().stored == 39)
    await until(lambda: wire.count(topics.roster(1, 0)) > before)
    await asyncio.sleep(0.6)
    assert wire.count(topics.roster(1, 0)) - before <= 4  # asked 39 times, answered at the pace of the watch loop


async def test_the_rosters_of_open_slots_come_newest_first(broker: Broker, hubs: Hubs, wire: Wire, tmp_path: Path) -> None:
    """Who knows only the older one would mask later slots under it, and they would enter no sum."""
    last = DeviceKey(bytes([9]) * 32)
    hub = hub_for(hubs, broker, tmp_path, last, Sums())
    members = [RosterMember(f"home-{i}", k.address, k.mask_public, 0, bytes(32)) for i, k in enumerate((*PEERS, last), 1)]
    for from_slot in (SLOT - 3, SLOT - 1):
        payload = base.sign(make_roster(1, from_slot, members), CHAIN_ID, OPERATOR_KEY)
        hub.store.save_grouping(1, from_slot, [payload])
    await hub.start()
    await until(lambda: wire.count(topics.roster(1, 0)) >= 2)
    heard = [base.open_signed(Roster, payload, CHAIN_ID).message for topic, payload in wire.heard if "roster" in topic]
    assert [roster.from_slot for roster in heard[:2]] == [SLOT - 1, SLOT - 3]
    late = Wire(broker)
    late.link.start()
    await until(lambda: late.count(topics.roster(1, 0)))
    retained = base.open_signed(Roster, late.heard[0][1], CHAIN_ID).message
    assert retained.from_slot == SLOT - 1
    await late.link.stop()


async def test_a_device_whose_state_was_lost_is_online_when_it_reports(
    broker: Broker, hubs: Hubs, wire: Wire, tmp_path: Path
) -> None:
    last, heard = DeviceKey(bytes([9]) * 32), Sums()
    hub = hub_for(hubs, broker, tmp_path, last, heard)
    await hub.start()
    await until(lambda: hub.connected)
    await asyncio.sleep(0.1)
    roster = make_roster(1, SLOT, [RosterMember(f"home-{i}", k.address, k.mask_public, 0, bytes(32))
                                   for i, k in enumerate((*PEERS, last), 1)])  # fmt: skip
    wire.report(0, roster, 1, SLOT)
    await until(lambda: heard.states == [("home-1", True)])
    wire.report(0, roster, 2, SLOT)
    wire.link.publish(topics.from_meter("home-1", topics.STATE), b"offline")  # it left after it had sent that
    await until(lambda: hub.stats().stored == 2 and len(heard.states) >= 2)
    await asyncio.sleep(0.2)
    assert heard.states == [("home-1", True), ("home-1", False)]
    assert not hub.devices()[1].online and hub.devices()[1].name == "home-1"


@pytest.mark.parametrize("broker", ["amqtt"], indirect=True)
async def test_an_outbox_that_overflowed_empties_again(
    broker: Broker, hubs: Hubs, running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub must not wait for the reports that were given up while it was away."""
    monkeypatch.setattr(store_module, "MAX_OUTBOX", 12)
    monkeypatch.setattr(publisher_module, "WINDOW", 4)
    agent = running.make("feeder-1", "feeder")
    for slot in range(SLOT - 30, SLOT):
        close_slot(agent, slot)
    settings = IngestSettings(MqttAddress.parse(broker.url), "hub-1", CHAIN_ID, OPERATOR_KEY)
    registry = Registry([Device("feeder-1", agent.key.address, 1, "feeder")])
    hub = hubs.make(settings, registry, tmp_path / "i.sqlite", VirtualClock(T0, time.time(), 1.0), IngestEvents(), ())
    await agent._report()
    assert agent.store.totals().lost == 18 and agent.store.totals().outbox_rows == 12
    running.start(agent)
    await until(lambda: agent.link.connected)
    await hub.start()
    await until(lambda: agent.store.totals().outbox_rows == 0)
    assert (agent.store.totals().acked, hub.stats().stored, hub.stats().lost) == (12, 12, 0)


# Threads and disks


def test_reports_asked_for_by_several_threads_are_made_once(tmp_path: Path) -> None:
    """A roster that arrives while a slot closes: both once reported the same slot, and the loser ended the metering."""
    config = load_toml(agent_toml(tmp_path, 9, "mqtt://127.0.0.1:1", role="feeder"), AgentConfig)
    agent = Agent(config)
    failures: list[BaseException] = []
    for slot in range(60):
        close_slot(agent, slot)
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        try:
            while agent.reporter.report_due():
                pass
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and agent.store.totals().stored == 60
    agent.store.close()
    agent._lock.close()


async def test_a_full_disk_stops_neither_metering_nor_energy(
    make_meter: Callable[..., MeterServer], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = VirtualClock(T0, time.time(), 900 / 0.4)  # a slot lasts 0.4 s
    server = make_meter(clock=clock)
    await server.start()
    store = Store(tmp_path / "store.sqlite", first_seq=1)
    closed: list[ClosedSlot] = []

    async def on_slot(slot: ClosedSlot) -> None:
        closed.append(slot)
        store.report(slot.slot, "slot", lambda seq, rows: b"")

    reader = MeterReader(ModbusLink(BusTarget("127.0.0.1", server.port)).unit(1), load_profile("sdm630"))
    reader.link.open()
    poller = MeterPoller(reader, store, clock, 0.05, on_slot, lambda _reading: None)
    polling = asyncio.create_task(poller.run())
    await until(store.baseline)
    begin = store.baseline()
    await until(lambda: len(closed) >= 2)
    store._rows("PRAGMA query_only=ON")  # from now on SQLite refuses every write
    await asyncio.sleep(0.1)
    before, polls = len(closed), poller.polls
    await until(lambda: poller.polls > polls + 20)
    assert len(closed) == before and not polling.done()
    store._rows("PRAGMA query_only=OFF")
    await until(lambda: len(closed) >= before + 2)
    polling.cancel()
    await asyncio.wait([polling])
    await reader.link.close()
    await server.stop()
    rows, end = store.slots(), store.baseline()
    assert begin is not None and end is not None
    assert sum(row.import_wh for row in rows) == end.import_total_wh - begin.import_total_wh
    assert store.totals().polled == poller.polls
    assert caplog.text.count("trying again") == 1 and "metering goes on" not in caplog.text
    store.close()


async def test_nothing_is_metered_before_the_clock_begins(make_meter: Callable[..., MeterServer], tmp_path: Path) -> None:
    """An agent that is up before its virtual clock's first slot must not take that for a clock that was set back."""
    clock = VirtualClock(T0, time.time() + 1.0, 900 / 0.4)  # begins in a second; a slot lasts 0.4 s
    server = make_meter(clock=clock)
    await server.start()
    store = Store(tmp_path / "store.sqlite", first_seq=1)
    past = [ClosedSlot(SLOT - 2, 7, 0, 0), ClosedSlot(SLOT - 1, 8, 0, 0)]
    store.import_slots(past, Baseline(SLOT, 15, 0))
    closed: list[ClosedSlot] = []

    async def on_slot(slot: ClosedSlot) -> None:
        closed.append(slot)

    reader = MeterReader(ModbusLink(BusTarget("127.0.0.1", server.port)).unit(1), load_profile("sdm630"))
    reader.link.open()
    poller = MeterPoller(reader, store, clock, 0.05, on_slot, lambda _reading: None)
    polling = asyncio.create_task(poller.run())
    await until(lambda: len(closed) >= 2)
    polling.cancel()
    await asyncio.wait([polling])
    await reader.link.close()
    await server.stop()
    assert [item.slot for item in closed[:2]] == [SLOT, SLOT + 1] and not any(item.flags for item in closed[:2])
    assert [(row.slot, row.import_wh) for row in store.slots(last=SLOT - 1)] == [(SLOT - 2, 7), (SLOT - 1, 8)]
    store.close()


def test_readings_that_the_disk_refused_are_kept_and_counted(tmp_path: Path, make_meter: Callable[..., MeterServer]) -> None:
    store = Store(tmp_path / "store.sqlite", first_seq=1)
    reader = MeterReader(ModbusLink(BusTarget("127.0.0.1", 9)).unit(1), load_profile("sdm630"))

    async def on_slot(_slot: ClosedSlot) -> None:
        raise AssertionError("no slot closes here")

    poller = MeterPoller(reader, store, VirtualClock.real(), 1.0, on_slot, lambda _reading: None)
    pages = store._rows("PRAGMA page_count")[0][0]
    store._rows(f"PRAGMA max_page_count={pages}")
    poller._batch, poller._polled = [RawReading(i, i, 0, 0, 0) for i in range(3000)], 3000
    for _ in range(3):
        with pytest.raises(StoreError):
            poller.flush()
    store._rows("PRAGMA max_page_count=100000")
    poller.flush()
    assert store.totals().polled == 3000 == store._rows("SELECT count(*) FROM readings")[0][0]
    store.close()
