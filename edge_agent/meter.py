"""The meter as the agent sees it: polls at the wished rhythm and at every slot boundary, slots closed from
counters.

Rules: a poll falls on each boundary, as near after it as the clock allows, so that a slot's energy is the
slot's; an unreachable meter or a full disk costs resolution and never energy, because counters go on and the
baseline moves only with its commit. Nothing ends the polling but its cancellation. Raw readings are committed
in batches, a closed slot at once. Not here: Modbus (`edge_agent.modbus`), what happens to a closed slot
(`agent`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from edge_agent.modbus.errors import LinkDown, LinkError
from edge_agent.modbus.reader import Reader, Reading
from edge_agent.slots import ClosedSlot, carry, observe
from edge_agent.store import RawReading, Store, StoreError
from openmg.clock import VirtualClock, slot_of, slot_start

log = logging.getLogger(__name__)
FLUSH_SECONDS = 10.0
"""Wall time between commits of raw readings: a sixth of the flash writes of one commit a second."""
MAX_BATCH = 512
MAX_HELD = 4096
"""Readings kept in memory while the disk takes none: an hour at one poll a second, 1 MB."""
RETRY_AT_BOUNDARY_S = 0.25
"""How soon a failed poll is repeated while a slot waits to be closed."""
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
    ) -> None:
        self._reader, self._store, self._clock = reader, store, clock
        self._poll_seconds = poll_seconds
        self._on_slot, self._on_reading = on_slot, on_reading
        self._baseline = store.baseline()
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
        await self._close_slot(raw)
        if len(self._batch) >= MAX_BATCH or time.monotonic() - self._unflushed_since >= FLUSH_SECONDS:
            await asyncio.to_thread(self.flush)
        return True

    def flush(self) -> None:
        """Commits the readings and counts that are still in memory."""
        batch, polled, errors = self._batch, self._polled, self._errors
        self._batch, self._polled, self._errors = [], 0, 0
        self._unflushed_since = time.monotonic()
        if not (polled or errors):
            return
        try:
            self._store.add_readings(batch, polled, errors)
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

    async def _close_slot(self, raw: RawReading) -> None:
        if raw.sim_time < self._clock.t0:
            return  # the virtual clock has not begun; this is no clock that was set back
        before = self._baseline
        baseline, closed = observe(before, raw.sim_time, raw.import_total_wh, raw.export_total_wh, self._max_power_w)
        if baseline == before:
            return
        if not await asyncio.to_thread(self._store.move_baseline, baseline, closed) and before is not None:
            log.warning("slot %d was closed before (the clock was set back); its energy goes to the next", baseline.slot - 1)
            baseline, closed = carry(before, baseline), None
            await asyncio.to_thread(self._store.move_baseline, baseline, None)
        self._baseline = baseline
        if closed is not None:
            log.debug("slot %d closed", closed.slot)
            await self._on_slot(closed)

    def _pause(self, began: float, ok: bool) -> float:
        """Wall seconds until the next poll: the rhythm, or the slot's end when that comes first."""
        now = self._clock.now()
        rhythm = max(0.0, began + self._poll_seconds - time.monotonic())
        overdue = self._baseline is not None and slot_of(now) > self._baseline.slot
        if overdue and not ok:
            return min(rhythm, RETRY_AT_BOUNDARY_S) or RETRY_AT_BOUNDARY_S
        boundary = self._clock.wall_until(slot_start(slot_of(now) + 1))
        return min(rhythm, boundary + 0.001)  # a little late is in the next slot, a little early is not
