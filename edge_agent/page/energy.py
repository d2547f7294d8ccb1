"""What the home took and gave: now, today by interval, and day by day. Pure; times are simulated Unix seconds.

Rules: only closed slots count, each with what the meter's counters said; a slot whose counters jumped is unknown, as is a slot
that was never metered. A day with some unknown slots has the sum of the others and says how many they are; a day with none
has no sum. Not here: reading them (`history`), drawing (`drawings`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from edge_agent.page.reasons import Unknown
from edge_agent.slots import PARTIAL, RESET
from edge_agent.store import RawReading, SlotRow
from openmg.clock import slot_of, slot_start

DAYS_BACK = 30
FRESH_SECONDS = 120.0
"""Wall time: polls are stored every ten seconds, and a meter that is tried again answers within this."""


@dataclass(frozen=True)
class Interval:
    """One slot of today; None where its energy is unknown."""

    start: int
    import_wh: int | None
    export_wh: int | None


@dataclass(frozen=True)
class Day:
    """A local day: sums over its known slots (None without any), how many those are and how many there should be."""

    day: date
    import_wh: int | None
    export_wh: int | None
    known: int
    expected: int

    @property
    def is_complete(self) -> bool:
        return self.known == self.expected


@dataclass(frozen=True)
class Now:
    """Power (W, positive is import) and when it was read (wall seconds), or why it is unknown."""

    power_w: int | None
    wall: int | None
    unknown: Unknown | None


def midnight(day: date, zone: ZoneInfo) -> int:
    """The simulated second at which a local day begins."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def local_day(now: float, zone: ZoneInfo) -> date:
    return datetime.fromtimestamp(now, zone).date()


def first_slot(now: float, zone: ZoneInfo, days_back: int = DAYS_BACK) -> int:
    """The first slot that `days` wants to see."""
    return slot_of(midnight(local_day(now, zone) - timedelta(days_back - 1), zone))


def current(reading: RawReading | None, running: bool, wall: float) -> Now:
    """What the last reading says at a wall second."""
    if reading is None:
        return Now(None, None, Unknown("no_reading" if running else "no_agent"))
    age = wall - reading.wall_ms / 1000
    if age > FRESH_SECONDS:
        key = "old_reading" if running else "no_agent"
        return Now(None, reading.wall_ms // 1000, Unknown(key, {"minutes": int(age // 60)}))
    return Now(reading.power_w, reading.wall_ms // 1000, None)


def today(rows: Sequence[SlotRow], now: float, zone: ZoneInfo) -> tuple[Interval, ...]:
    """Every slot of today that has ended, in order."""
    known = {row.slot: row for row in rows if not row.flags & RESET}
    slots = range(slot_of(midnight(local_day(now, zone), zone)), slot_of(now))
    return tuple(
        Interval(slot_start(slot), known[slot].import_wh, known[slot].export_wh)
        if slot in known
        else Interval(slot_start(slot), None, None)
        for slot in slots
    )


def days(rows: Sequence[SlotRow], now: float, zone: ZoneInfo, days_back: int = DAYS_BACK) -> tuple[Day, ...]:
    """The last days with today, oldest first; of today what has ended is expected."""
    last = local_day(now, zone)
    found = []
    for ago in reversed(range(days_back)):
        day = last - timedelta(ago)
        first, end = slot_of(midnight(day, zone)), slot_of(midnight(day + timedelta(1), zone))
        end = min(end, slot_of(now))
        inside = [row for row in rows if first <= row.slot < end and not row.flags & RESET]
        whole = sum(not row.flags & PARTIAL for row in inside)
        imported = sum(row.import_wh for row in inside) if inside else None
        exported = sum(row.export_wh for row in inside) if inside else None
        found.append(Day(day, imported, exported, whole, max(0, end - first)))
    return tuple(found)
