"""A clock that is set: told in one line, counted, and said as it then comes to pass."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from edge_kit import until

from edge_agent.clock_steps import LEAST_WALL_S, MAX_SAID, ClockWatch, Look, effect
from edge_agent.commands.running import _said
from edge_agent.meter import MeterPoller
from edge_agent.modbus.link import ModbusLink
from edge_agent.modbus.reader import MeterReader
from edge_agent.modbus.target import BusTarget
from edge_agent.slots import SET_BACK_S, Baseline, ClosedSlot
from edge_agent.store import RawReading, Store
from firmware_sim.meter import Meter
from firmware_sim.server import MeterServer
from openmg.clock import VirtualClock, slot_of, slot_start
from openmg.profiles.profile import load_profile
from openmg.units import SLOT_SECONDS, SLOTS_PER_DAY

NOW = 2_000_000
YEAR_S = 365 * SLOTS_PER_DAY * SLOT_SECONDS
HOUR_S = 3600


def test_a_step_is_what_time_that_passed_does_not_explain() -> None:
    watch = ClockWatch(1.0, None)
    shown = [(0, 0), (100, 100), (700, 130), (710, 140), (650, 141), (-2950, 142), (500_000, 503_092)]
    steps = [watch.look(Look(10**9 + sim_s, passed_s)) for sim_s, passed_s in shown]
    assert steps == [None, None, 570, None, -61, -3601, None], "hours without a poll are none"
    assert (watch.set_back, watch.set_ahead, watch.steps) == (2, 1, 3)


@pytest.mark.parametrize(("speed", "least"), [(1.0, SET_BACK_S), (900.0, 900 * LEAST_WALL_S)])
def test_small_steps_are_none(speed: float, least: float) -> None:
    """Those that `slots` does not see either, and a process that was kept waiting under a fast clock."""
    for step, counts in ((least, False), (-least, False), (least + 1, True), (-least - 1, True)):
        watch = ClockWatch(speed, None)
        watch.look(Look(10**9, 50))
        assert (watch.look(Look(10**9 + speed * 10 + step, 60)) is not None) == counts


def test_while_the_agent_was_off_only_a_step_back_can_be_told() -> None:
    assert ClockWatch(1.0, 10**9).look(Look(10**9 - HOUR_S, 5)) == -HOUR_S
    assert ClockWatch(1.0, 10**9).look(Look(10**9 + YEAR_S, 5)) is None


@dataclass(frozen=True)
class SetClock(VirtualClock):
    """The agent's clock, which somebody sets: `off` holds the seconds that it is ahead."""

    off: tuple[list[float], ...] = ()

    def at(self, wall_seconds: float) -> float:
        return super().at(wall_seconds) + self.off[0][0]


class Street:
    """A meter on a socket, whose own time nobody sets, and an agent's poller with a clock that is set."""

    def __init__(self, folder: Path, port: int) -> None:
        self.store, self.closed, self._port = Store(folder / "store.sqlite"), [], port
        self._off = [0.0]
        right = VirtualClock(slot_start(NOW) + 180, time.time(), 1.0)
        self.clock = SetClock(right.t0 - 2 * YEAR_S, right.w0 - 2 * YEAR_S, 1.0, (self._off,))
        self._server = MeterServer(Meter(lambda _: 3600, right.t0, seed=3), load_profile("sdm630"), right, "127.0.0.1", port)

    async def start(self) -> None:
        await self._server.start()
        self._link = ModbusLink(BusTarget("127.0.0.1", self._port))
        reader = MeterReader(self._link.unit(1), load_profile("sdm630"))
        self._link.open()

        async def on_slot(slot: ClosedSlot) -> None:
            self.closed.append(slot)

        self.poller = MeterPoller(reader, self.store, self.clock, 0.02, on_slot, lambda _reading: None)
        self._polling = asyncio.create_task(self.poller.run())
        await self.polls()

    async def polls(self) -> None:
        before = self.poller.polls
        await until(lambda: self.poller.polls > before + 1)

    async def set_to(self, slot: int) -> None:
        """Sets the clock to three minutes after the slot's beginning."""
        self._off[0] += slot_start(slot) + 180 - self.clock.now()
        await self.polls()

    async def stop(self) -> None:
        self._polling.cancel()
        await asyncio.wait([self._polling])
        await self._link.close()
        await self._server.stop()
        self.store.close()


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "the clock was set" in record.getMessage()]


async def test_the_agent_says_what_it_does_about_each_step(
    tmp_path: Path, free_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    """Ahead, back by an hour, back by a year, and right; what it says of slots is what it then does with them."""
    caplog.set_level(logging.WARNING)
    street = Street(tmp_path, free_port())
    await street.start()
    try:
        assert told(caplog) == [] and street.poller.clock_watch.steps == 0
        await street.set_to(NOW + 8)
        assert [slot.slot for slot in street.closed] == [NOW + 7]
        assert re.fullmatch(
            rf"the clock was set ahead by 7[12]\d\d s, into slot {NOW + 8}: slot {NOW + 7} takes all energy since the last one"
            " that was closed; reports are numbered on",
            told(caplog)[-1],
        )
        await street.set_to(NOW + 4)
        assert len(street.closed) == 1 and street.store.newest_slot() == NOW + 7
        waiting = f"no slot is closed again, all energy goes to slot {NOW + 8}, or to the slot a day from now"
        assert "the clock was set back by 36" in told(caplog)[-1] and waiting in told(caplog)[-1]
        await street.set_to(NOW - 300 * SLOTS_PER_DAY)
        assert waiting in told(caplog)[-1] and len(street.closed) == 1
        await street.set_to(NOW + 9)
        assert [slot.slot for slot in street.closed] == [NOW + 7, NOW + 8], "as it had said"
        assert f"slot {NOW + 8} takes all energy" in told(caplog)[-1]
        watch = street.poller.clock_watch
        assert len(told(caplog)) == watch.steps == 4 and (watch.set_back, watch.set_ahead) == (2, 2)
        assert watch.last_effect == told(caplog)[-1]
    finally:
        await street.stop()


async def test_a_step_back_while_the_agent_was_off_is_told_at_the_first_reading(
    tmp_path: Path, free_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    street = Street(tmp_path, free_port())
    street.store.add_readings([RawReading(1, int(street.clock.now()) + YEAR_S, 0, 0, 0)], 1, 0)
    street.store.move_baseline(Baseline(NOW + slot_of(YEAR_S), 0, 0), ClosedSlot(NOW + slot_of(YEAR_S) - 1, 1, 0, 0))
    await street.start()
    try:
        assert len(told(caplog)) == 1 and f"all energy goes to slot {NOW + slot_of(YEAR_S)}" in told(caplog)[0]
    finally:
        await street.stop()


async def test_a_clock_that_jumps_on_and_on_does_not_fill_the_log(
    tmp_path: Path, free_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    street = Street(tmp_path, free_port())
    await street.start()
    try:
        for number in range(MAX_SAID + 3):
            await street.set_to(NOW + 4 * (number % 2))
        assert len(told(caplog)) == MAX_SAID and "(more are only counted)" in told(caplog)[-1]
        assert street.poller.clock_watch.steps > MAX_SAID
    finally:
        await street.stop()


def test_a_step_within_a_slot_moves_nothing() -> None:
    baseline = Baseline(NOW, 0, 0)
    text = effect(120, slot_start(NOW) + 400, baseline, baseline, None, NOW - 1)
    assert text == f"the clock was set ahead by 120 s, into slot {NOW}: slots go on; reports are numbered on"
    assert "slots go on" in effect(-YEAR_S, 5, None, baseline, None, None)
    back = Baseline(NOW - 9, 0, 0, carried=True)
    assert f"slot {NOW - 9} takes all" in effect(-9 * SLOT_SECONDS, slot_start(NOW - 9), baseline, back, None, None)


def test_status_shows_a_clock_that_was_set_and_nothing_of_one_that_was_not() -> None:
    said = {
        "last_reading": None,
        "bus": {"bus": "b", "problem": "", "connects": 1, "units": {}},
        "broker": {"url": "u", "connected": True, "problem": ""},
        "has_roster": True,
    }
    assert "clock" not in dict(_said(said, 1.0)), "an agent of an older version does not say"
    clock = {"set_back": 1, "set_ahead": 0, "last": ""}
    assert "clock" not in dict(_said(said | {"clock": clock}, 1.0))
    shown = dict(_said(said | {"clock": clock | {"last": "the clock was set back"}}, 1.0))
    assert shown["clock"] == "set back 1 times, ahead 0 times; last: the clock was set back"
