"""The meter as the agent sees it: polls at the wished rhythm and at every slot boundary, slots closed from
counters.

Rules: polls keep their place in the rhythm (`phase`), so that those of many meters stay spread; another one falls on each
boundary, as near after it as the clock allows, so that a slot's energy is the slot's. An unreachable meter or a full disk
costs resolution and never energy, because counters go on and the baseline moves only with its commit, also when another
meter's counters go on. Nothing ends the polling but its cancellation. Raw readings are committed in batches, a closed slot at
once. Not here: Modbus (`edge_agent.modbus`), what happens to a closed slot (`agent`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from edge_agent.clock_steps import MAX_SAID, ClockWatch, Look, effect
from edge_agent.modbus.errors import LinkDown, LinkError
from edge_agent.modbus.reader import Reader, Reading
from edge_agent.shared import Shared
from edge_agent.slots import Baseline, ClosedSlot, Counters, carry, observe, rebase
from edge_agent.store import RawReading, Store, StoreError
from openmg.clock import VirtualClock, slot_of, slot_start

log = logging.getLogger(__name__)
MAX_BATCH = 512
MAX_HELD = 4096
"""Readings kept in memory while the disk takes none: an hour at one poll a second, 1 MB."""
RETRY_AT_BOUNDARY_S = 0.25
"""How soon a failed poll is repeated while a slot waits to be closed."""
SAME_BEAT = 0.05
"""A poll that began this part of the rhythm before its beat is that beat's: timers may be early, a boundary just before."""
OnSlot = Callable[[ClosedSlot], Awaitable[None]]
OnReading = Callable[[RawReading], None]


class MeterPoller:
    """Polls one meter until stopped; `on_slot` is awaited after each closed slot is stored."""

    def __init__(
        self,
        reader: Reader,
        store: Store,
        clock: VirtualClock,
        poll_seconds: float,
        on_slot: OnSlot,
        on_reading: OnReading,
        shared: Shared | None = None,
    ) -> None:
        self._reader, self._store, self._clock = reader, store, clock
        self._poll_seconds = poll_seconds
        shared = shared or Shared()
        self._phase, self._flush_seconds = shared.next_phase(), shared.flush_seconds
        self._on_slot, self._on_reading = on_slot, on_reading
        self._baseline = store.baseline()
        last = store.last_reading()
        self._counters = _counters(last)
        self.clock_watch = ClockWatch(clock.speed, None if last is None else last.sim_time)
        self._step_s = 0.0
        """By how much the clock was set since slots were looked after; 0 when it was not."""
        self._replaced = store.expects_replacement()
        self._batch: list[RawReading] = []
        self._polled = self._errors = 0
        self._unflushed_since = time.monotonic()
        self._max_power_w = reader.max_power_w
        self._said_wrong = False
        self.rounds = 0
        """Times that the loop went round, whatever came of it."""
        self.polls = 0
        self.poll_errors = 0
        self.last_reading: RawReading | None = None

    async def run(self) -> None:
        """Polls until cancelled."""
        try:
            while True:
                began = time.monotonic()
                self.rounds += 1
                try:
                    ok = await self.poll()
                except StoreError:  # the store has said so; the next poll tries again
                    ok = False
                except Exception:
                    log.exception("a poll failed; metering goes on")
                    ok = False
                await asyncio.sleep(self._pause(began, ok))
        finally:
            with contextlib.suppress(StoreError):
                self.flush()

    async def poll(self) -> bool:
        """One poll; False when the meter gave nothing."""
        try:
            reading = await self._reader.read_group("fast")
            raw = self._raw(reading)
        except LinkError as error:
            self._errors += 1
            self.poll_errors += 1
            self._say_wrong(error)
            return False
        self._said_wrong = False
        self._polled += 1
        self.polls += 1
        self.last_reading = raw
        self._batch.append(raw)
        self._on_reading(raw)
        passed_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._step_s += self.clock_watch.look(Look(raw.sim_time, passed_s)) or 0.0
        before = self._baseline
        await self._follow_counters(raw)
        closed = await self._close_slot(raw)
        if closed is not None:
            log.debug("slot %d closed", closed.slot)
            await self._on_slot(closed)
        if self._step_s:
            await self._tell_step(raw, before, closed)
        if len(self._batch) >= MAX_BATCH or time.monotonic() - self._unflushed_since >= self._flush_seconds:
            await asyncio.to_thread(self.flush)
        return True

    async def _follow_counters(self, raw: RawReading) -> None:
        """Moves the baseline along when the counters leapt, in one commit with the reading that shows it."""
        before, self._counters = self._counters, _counters(raw)
        now = self._counters
        if before is None or now is None or self._baseline is None or raw.sim_time < self._clock.t0:
            return
        rebased = rebase(self._baseline, before, now, self._max_power_w, self._replaced, self._clock.speed)
        if rebased is None:
            return
        log.warning(
            "the meter's counters leapt from import %d and export %d Wh to %d and %d (another meter, a reset, a roll-over);"
            " what both showed is kept",
            before.import_total_wh, before.export_total_wh, now.import_total_wh, now.export_total_wh,
        )  # fmt: skip
        try:
            await asyncio.to_thread(self.flush, rebased)
        except StoreError:
            self._counters = before  # the next reading shows it again
            self._batch.remove(raw)
            raise
        self._baseline, self._replaced = rebased, False

    def flush(self, rebased: Baseline | None = None) -> None:
        """Commits the readings and counts that are still in memory, with a baseline that the last of them moved."""
        batch, polled, errors = self._batch, self._polled, self._errors
        self._batch, self._polled, self._errors = [], 0, 0
        self._unflushed_since = time.monotonic()
        if not (polled or errors):
            return
        try:
            self._store.add_readings(batch, polled, errors, rebased)
        except StoreError:
            self._batch = (batch + self._batch)[-MAX_HELD:]
            self._polled, self._errors = self._polled + polled, self._errors + errors
            raise

    def _say_wrong(self, error: LinkError) -> None:
        """Says once what is wrong with the answers; that nobody answers, the link says itself."""
        if not self._said_wrong and not isinstance(error, LinkDown):
            self._said_wrong = True
            log.warning("%s (the reading is dropped; said once)", error)

    def _raw(self, reading: Reading) -> RawReading:
        return RawReading(
            wall_ms=time.time_ns() // 1_000_000,
            sim_time=int(self._clock.now()),
            power_w=round(reading.number("power_total_w")),
            import_total_wh=round(reading.number("energy_import_kwh") * 1000),
            export_total_wh=round(reading.number("energy_export_kwh") * 1000),
        )

    async def _tell_step(self, raw: RawReading, before: Baseline | None, closed: ClosedSlot | None) -> None:
        """Says what the clock's step did, once slots are stored accordingly."""
        watch, newest = self.clock_watch, await asyncio.to_thread(self._store.newest_slot)
        slot = None if closed is None else closed.slot
        watch.last_effect = effect(self._step_s, raw.sim_time, before, self._baseline, slot, newest)
        self._step_s = 0.0
        if watch.steps <= MAX_SAID:
            log.warning("%s%s", watch.last_effect, " (more are only counted)" if watch.steps == MAX_SAID else "")

    async def _close_slot(self, raw: RawReading) -> ClosedSlot | None:
        """Stores the slot that the reading closed, if any, and where the next one is measured from."""
        if raw.sim_time < self._clock.t0:
            return None  # the virtual clock has not begun; this is no clock that was set back
        before = self._baseline
        newest = await asyncio.to_thread(self._store.newest_slot) if before is not None and before.carried else None
        totals = raw.import_total_wh, raw.export_total_wh
        baseline, closed = observe(before, raw.sim_time, *totals, self._max_power_w, newest)
        if baseline == before:
            return None
        if not await asyncio.to_thread(self._store.move_baseline, baseline, closed) and before is not None:
            log.warning("slot %d was closed before (the clock was set back); its energy goes to the next", baseline.slot - 1)
            baseline, closed = carry(before, baseline), None
            await asyncio.to_thread(self._store.move_baseline, baseline, None)
        self._baseline = baseline
        return closed

    def _pause(self, began: float, ok: bool) -> float:
        """Wall seconds until the next poll: the rhythm, or the slot's end when that comes first.

        0 when the poll that began then took longer than the rhythm: a bus that cannot keep up sets its own.
        """
        now = self._clock.now()
        beat = next_beat(began + SAME_BEAT * self._poll_seconds, self._poll_seconds, self._phase)
        rhythm = max(0.0, beat - time.monotonic())
        overdue = self._baseline is not None and slot_of(now) > self._baseline.slot
        if overdue and not ok:
            return min(rhythm, RETRY_AT_BOUNDARY_S) or RETRY_AT_BOUNDARY_S
        boundary = self._clock.wall_until(slot_start(slot_of(now) + 1))
        return min(rhythm, boundary + 0.001)  # a little late is in the next slot, a little early is not


def next_beat(now: float, period: float, phase: float) -> float:
    """The first moment from now on (monotonic seconds) at the phase, 0 to 1, of its period."""
    return now + (phase * period - now) % period


def _counters(reading: RawReading | None) -> Counters | None:
    return None if reading is None else Counters(reading.sim_time, reading.import_total_wh, reading.export_total_wh)
