"""The households of a wide CSV file, as histories for learners: which are taken, and which are not and why.

Rules: times in the file are taken as they stand (as UTC; the calendar's offset is then nought). Rows are added up to the
forecaster's resolution; a step with an empty row is unknown. Homes under MIN_COMPLETE of known rows or MIN_KWH_PER_YEAR
are left out and named.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firmware_sim.dataset import EMPTY, DatasetError, Table, read_table
from openmg.forecast.spec import HOURS_PER_DAY, RESOLUTIONS_MINUTES

I64 = NDArray[np.int64]

MIN_COMPLETE = 0.9
MIN_KWH_PER_YEAR = 100.0
SECONDS_PER_HOUR = 3600
HOURS_PER_YEAR = 365 * HOURS_PER_DAY


@dataclass(frozen=True)
class Household:
    """One home: energy in Wh of every step from `start_step` on, None where unknown."""

    name: str
    resolution_minutes: int
    start_step: int
    energy_wh: tuple[int | None, ...]

    def history(self, resolution_minutes: int) -> tuple[int, tuple[int | None, ...]]:
        """`openmg.member.spans.EnergyHistory` of this home."""
        if resolution_minutes != self.resolution_minutes:
            raise ValueError(f"households: {self.name} was read in steps of {self.resolution_minutes} minutes")
        return self.start_step, self.energy_wh


@dataclass(frozen=True)
class Excluded:
    """A column that takes no part, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Households:
    """The homes of a file and its span in whole hours since 1970."""

    homes: tuple[Household, ...]
    excluded: tuple[Excluded, ...]
    start_hour: int
    end_hour: int

    def hour_of(self, day: date) -> int:
        """The hour in which a day of the file begins. DatasetError when it is not within the file."""
        hour = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) // SECONDS_PER_HOUR
        if not self.start_hour < hour < self.end_hour:
            first, last = (datetime.fromtimestamp(h * SECONDS_PER_HOUR, UTC).date() for h in (self.start_hour, self.end_hour))
            raise DatasetError(f"split date {day} is not within the data, {first} to {last}; give a day between them")
        return hour


def load_households(path: Path, resolution_minutes: int) -> Households:
    """The file's homes at that resolution. Raises DatasetError."""
    table = read_table(path)
    rows_per_step, rest = divmod(resolution_minutes * 60, table.row_seconds)
    if rest or not rows_per_step or resolution_minutes not in RESOLUTIONS_MINUTES:
        raise DatasetError(
            f"{path}: rows of {table.row_seconds // 60} minutes do not make steps of {resolution_minutes}; choose another"
            " --resolution"
        )
    skip = -(table.first // table.row_seconds) % (SECONDS_PER_HOUR // min(SECONDS_PER_HOUR, table.row_seconds))
    first = table.first + skip * table.row_seconds
    steps = (len(table.cells[0]) - skip) // rows_per_step
    homes, excluded = [], []
    for name, column in zip(table.names, table.cells, strict=True):
        reason = _unfit(np.array(column, dtype=np.int64), table)
        if reason:
            excluded.append(Excluded(name, reason))
            continue
        values = _steps(np.array(column, dtype=np.int64)[skip : skip + steps * rows_per_step], rows_per_step)
        homes.append(Household(name, resolution_minutes, first // (resolution_minutes * 60), values))
    hours = steps * resolution_minutes // 60
    return Households(tuple(homes), tuple(excluded), first // SECONDS_PER_HOUR, first // SECONDS_PER_HOUR + hours)


def _unfit(column: I64, table: Table) -> str:
    """Why a home is left out; empty when it is not."""
    known = column != EMPTY
    complete = float(known.mean())
    if complete < MIN_COMPLETE:
        return f"{complete:.0%} of its rows are known, under {MIN_COMPLETE:.0%}"
    hours = known.sum() * table.row_seconds / SECONDS_PER_HOUR
    kwh_per_year = float(column[known].sum()) / 1000 * HOURS_PER_YEAR / hours
    if kwh_per_year < MIN_KWH_PER_YEAR:
        return f"{kwh_per_year:.0f} kWh a year, under {MIN_KWH_PER_YEAR:.0f}"
    return ""


def _steps(column: I64, rows_per_step: int) -> tuple[int | None, ...]:
    grouped = column.reshape(-1, rows_per_step)
    known = (grouped != EMPTY).all(1)
    return tuple(int(value) if whole else None for value, whole in zip(grouped.sum(1), known, strict=True))
