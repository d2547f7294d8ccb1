"""Counters that leap: another meter, a reset, a roll-over. What both counters showed is kept, to the Wh."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from edge_kit import T0, agent_toml, run_agent_command, until
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.meter import MeterPoller
from edge_agent.modbus.link import ModbusLink
from edge_agent.modbus.reader import MeterReader
from edge_agent.modbus.target import BusTarget
from edge_agent.slots import RESET, Baseline, ClosedSlot, Counters, observe, rebase
from edge_agent.store import RawReading, Store
from firmware_sim.meter import Meter
from firmware_sim.server import MeterServer
from openmg.clock import VirtualClock
from openmg.profiles.profile import load_profile
from openmg.units import SLOT_SECONDS

MAX_W = 150_000
SPEED = 900 / 0.6


@given(
    st.lists(st.tuples(st.integers(1, 700), st.integers(0, 40), st.integers(0, 40)), min_size=2, max_size=60),
    st.dictionaries(st.integers(1, 50), st.tuples(st.integers(-(10**7), 10**7), st.integers(-(10**7), 10**7)), max_size=4),
)
def test_whatever_leaps_only_what_passed_between_two_readings_is_missing(
    polls: list[tuple[int, int, int]], leaps: dict[int, tuple[int, int]]
) -> None:
    time_s, total, shown = 10 * SLOT_SECONDS, [0, 0], [10**7, 10**7]
    baseline, before = Baseline(10, *shown), Counters(time_s, *shown)
    slots: list[ClosedSlot] = []
    for place, (pause, more_in, more_out) in enumerate(polls):
        leap = leaps.get(place)
        time_s += pause
        shown = [shown[0] + more_in, shown[1] + more_out]
        if leap is None:
            total = [total[0] + more_in, total[1] + more_out]
        else:
            shown = [shown[0] + leap[0], shown[1] + leap[1]]
        now = Counters(time_s, *shown)
        rebased = rebase(baseline, before, now, MAX_W, replaced=leap is not None)
        assert (rebased is not None) == (leap is not None)
        baseline, closed = observe(rebased or baseline, time_s, *shown, MAX_W)
        slots += [closed] if closed else []
        before = now
    rest = shown[0] - baseline.import_total_wh, shown[1] - baseline.export_total_wh
    assert sum(s.import_wh for s in slots) + rest[0] == total[0] and sum(s.export_wh for s in slots) + rest[1] == total[1]


def test_a_leap_is_told_from_a_tremor_and_from_a_long_outage() -> None:
    baseline, before = Baseline(10, 1000, 0), Counters(9000, 1200, 0)
    assert rebase(baseline, before, Counters(9001, 1195, 0), MAX_W) is None  # a rounding
    assert rebase(baseline, before, Counters(9001, 1180, 0), MAX_W) == Baseline(10, 980, 0, reset=True)
    assert rebase(baseline, before, Counters(9001, 1200, 90_000), MAX_W) == Baseline(10, 1000, 90_000, reset=True)
    assert rebase(baseline, before, Counters(9000 + 86_400, 61_200, 0), MAX_W) is None  # a day's energy after a day
    assert rebase(baseline, before, Counters(9000 - 86_400, 1300, 0), MAX_W) is None  # the clock was set back
    # A register of 32 bits that rolls over.
    top = Baseline(10, 2**32 - 500, 0)
    rolled = rebase(top, Counters(9000, 2**32 - 100, 0), Counters(9001, 3, 0), MAX_W)
    assert rolled is not None and observe(rolled, 11 * SLOT_SECONDS, 200, 0, MAX_W)[1] == ClosedSlot(10, 400 + 197, 0, RESET)


def test_a_late_answer_under_a_fast_clock_is_no_leap() -> None:
    """A second of wall time is a quarter of an hour there, and much energy passes before an answer that comes late."""
    baseline, before, now = Baseline(10, 1000, 0), Counters(9000, 1200, 0), Counters(9082, 1200, 6_600)
    assert rebase(baseline, before, now, MAX_W) is not None
    assert rebase(baseline, before, now, MAX_W, speed=900.0) is None


class Bus:
    """One address at which one meter after another answers, and a poller that is stopped and started like an agent."""

    def __init__(self, store: Store, port: int, clock: VirtualClock) -> None:
        self.store, self._port, self._clock = store, port, clock
        self._server: MeterServer | None = None
        self._polling: asyncio.Task[None] | None = None
        self.closed: list[ClosedSlot] = []

    async def connect(self, since: int, power_w: int) -> None:
        """Puts a meter there whose counters began at the simulated time `since`."""
        if self._server is not None:
            await self._server.stop()
        meter = Meter(lambda _step: power_w, since, seed=3)
        self._server = MeterServer(meter, load_profile("sdm630"), self._clock, "127.0.0.1", self._port)
        await self._server.start()

    async def start(self) -> None:
        self._link = ModbusLink(BusTarget("127.0.0.1", self._port))
        reader = MeterReader(self._link.unit(1), load_profile("sdm630"))
        reader.link.open()

        async def on_slot(slot: ClosedSlot) -> None:
            self.closed.append(slot)

        self.poller = MeterPoller(reader, self.store, self._clock, 0.02, on_slot, lambda _reading: None)
        self._polling = asyncio.create_task(self.poller.run())

    async def stop(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.wait([self._polling])
            self._polling = None
            await self._link.close()

    async def end(self) -> None:
        await self.stop()
        if self._server is not None:
            await self._server.stop()


@pytest.fixture
def bus(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Bus]:
    store = Store(tmp_path / "store.sqlite", first_seq=1)
    yield Bus(store, free_port(), VirtualClock(T0, time.time(), SPEED))
    store.close()


@pytest.mark.parametrize("restart", [False, True])
async def test_another_meter_goes_on_where_the_old_one_ended(bus: Bus, restart: bool) -> None:
    await bus.connect(T0 - 400 * SLOT_SECONDS, 1_200)
    await bus.start()
    await until(lambda: len(bus.closed) >= 2)
    begin = bus.store._rows("SELECT import_total_wh FROM readings ORDER BY id LIMIT 1")
    if restart:
        await bus.stop()
    await bus.connect(T0 - SLOT_SECONDS, 6_000)  # a new one, whose counters are nearly at zero
    before = len(bus.closed)
    if restart:
        await bus.start()
    await until(lambda: len(bus.closed) >= before + 3)
    await bus.stop()
    readings = [row[0] for row in bus.store._rows("SELECT import_total_wh FROM readings ORDER BY id")]
    leaps = [after < earlier for earlier, after in zip(readings, readings[1:], strict=False)]
    assert leaps.count(True) == 1
    at = leaps.index(True) + 1
    baseline = bus.store.baseline()
    assert baseline is not None
    if not begin:  # nothing was committed before the first slot closed
        begin = [(readings[0],)]
    # Slots and what is open of the present one: all that both meters showed, and not a Wh more.
    open_wh = readings[-1] - baseline.import_total_wh
    shown = (readings[at - 1] - readings[0]) + (readings[-1] - readings[at])
    assert sum(row.import_wh for row in bus.store.slots()) + open_wh == shown
    assert sum(bool(row.flags & RESET) for row in bus.store.slots()) == 1
    await bus.end()


async def test_a_leap_that_the_disk_refuses_is_followed_later_and_once(bus: Bus) -> None:
    await bus.connect(T0 - 400 * SLOT_SECONDS, 1_200)
    await bus.start()
    await until(lambda: len(bus.closed) >= 1)
    bus.store._rows("PRAGMA query_only=ON")  # SQLite refuses every write
    await bus.connect(T0 - SLOT_SECONDS, 6_000)
    await until(lambda: bus.poller.last_reading is not None and bus.poller.last_reading.power_w == 6_000)
    polls = bus.poller.polls
    await until(lambda: bus.poller.polls > polls + 3)
    bus.store._rows("PRAGMA query_only=OFF")
    before = len(bus.closed)
    await until(lambda: len(bus.closed) >= before + 2)
    await bus.stop()
    readings = [row[0] for row in bus.store._rows("SELECT import_total_wh FROM readings ORDER BY id")]
    leaps = [after < earlier for earlier, after in zip(readings, readings[1:], strict=False)]
    baseline = bus.store.baseline()
    assert leaps.count(True) == 1 and baseline is not None
    at = leaps.index(True) + 1
    shown = (readings[at - 1] - readings[0]) + (readings[-1] - readings[at])
    assert sum(row.import_wh for row in bus.store.slots()) + readings[-1] - baseline.import_total_wh == shown
    await bus.end()


def test_the_owner_says_that_a_meter_with_higher_counters_is_another_one(tmp_path: Path) -> None:
    """A used meter, connected after days, shows what the old one might have reached by then; only its owner knows."""
    config = agent_toml(tmp_path, 9, "mqtt://127.0.0.1:1")
    path = config.parent / "state" / "store.sqlite"
    refused = run_agent_command("replace-meter", config)
    assert refused.returncode == 1 and "no meter was read yet" in refused.stderr
    store = Store(path, first_seq=1)
    store.add_readings([RawReading(1, T0, 500, 40_000, 900)], 1, 0, Baseline(T0 // SLOT_SECONDS, 39_900, 900))
    store.close()
    backwards = run_agent_command("replace-meter", config, "--import-kwh", "39.9", "--export-kwh", "0.9")
    assert backwards.returncode == 1 and "40.000 kWh import" in backwards.stderr
    said = run_agent_command("replace-meter", config, "--import-kwh", "40.25", "--export-kwh", "0.9")
    assert said.returncode == 0 and "goes on from 40.250 kWh" in said.stdout
    store = Store(path)
    last, baseline = store.last_reading(), store.baseline()
    assert store.expects_replacement() and last is not None and baseline is not None and last.import_total_wh == 40_250
    used = Counters(T0 + 5 * 86_400, 90_000, 2_000)
    rebased = rebase(baseline, Counters(last.sim_time, 40_250, 900), used, MAX_W, replaced=True)
    assert rebased == Baseline(baseline.slot, 90_000 - 350, 2_000, reset=True)  # 350 Wh of the old one are still to come
    store.add_readings([RawReading(2, used.sim_time, 1, 90_000, 2_000)], 1, 0, rebased)
    assert not store.expects_replacement() and store.baseline() == rebased
    store.close()
