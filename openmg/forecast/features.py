"""From hourly energy to the 115 inputs of the forecaster, in float, for training and forecasting on the meter.

Rules: strictly as-of. The inputs of origin `o` (an index into the series) read hours before `o` only; the target is
hours o..o+23. A missing hour is NaN: profiles average what is known, and a window with any unknown input or target is
left out. Sums of energy are signed (import minus export), so a home with panels has negative hours.
Order of the inputs: 48 latest hours less the week's mean; 24 of the 7-day profile and 24 of the same-weekday profile
of the target hours, both less that mean; 18 calendar; the week's mean. Source: the residual forecaster of this project.
Not here: the same inputs in integers (`fixedpoint`), which must follow every change made here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openmg.forecast import calendar
from openmg.forecast.spec import (
    CALENDAR_FEATURES,
    HORIZON_HOURS,
    HOURS_PER_DAY,
    HOURS_PER_WEEK,
    LAG_HOURS,
    MIN_HISTORY_HOURS,
    PROFILE_WEEKS,
)

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

MIN_DEVIATION_WH = 50.0
"""What an empty home is divided by. Its own deviation is nought or a few Wh of standby: measured in that, one evening
of somebody coming back would be thousands of deviations and outweigh the losses of all other homes."""
WINDOWS_AT_ONCE = 512
"""Windows are built in blocks of this many, so that a year of them costs little more than their float32 result."""


@dataclass(frozen=True)
class Standard:
    """Mean and deviation of a series in Wh, taken over its training hours only."""

    mean_wh: float
    deviation_wh: float

    @classmethod
    def of(cls, energy_wh: F64) -> Standard:
        """Over the known values; ValueError when there is none."""
        known = energy_wh[~np.isnan(energy_wh)]
        if known.size == 0:
            raise ValueError("features: no hour of the training span is known; import the home's history first")
        return cls(float(known.mean()), max(MIN_DEVIATION_WH, float(known.std())))

    def apply(self, energy_wh: F64) -> F64:
        return (energy_wh - self.mean_wh) / self.deviation_wh


@dataclass(frozen=True)
class Windows:
    """Complete windows of a series, one row each: inputs [n, 115], base forecast [n, 24], target less base [n, 24]."""

    origins: I64
    inputs: F32
    base: F32
    residual: F32

    def __len__(self) -> int:
        return len(self.origins)


def series(energy_wh: Sequence[int | None]) -> F64:
    """Hourly Wh as an array with NaN for missing hours."""
    return np.array([np.nan if value is None else value for value in energy_wh], dtype=np.float64)


def known_mean(values: F64, axis: int) -> F64:
    """Mean over the known values; NaN where none is known."""
    known = ~np.isnan(values)
    count = known.sum(axis)
    total = np.where(known, values, 0.0).sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def same_weekday_rows(values: F64, origins: I64) -> F64:
    """[n, 4, 24]: the target hours one to four weeks earlier; NaN before the series begins."""
    weeks = HOURS_PER_WEEK * np.arange(1, PROFILE_WEEKS + 1)
    index = origins[:, None, None] - weeks[None, :, None] + np.arange(HORIZON_HOURS)
    return np.where(index >= 0, values[np.maximum(index, 0)], np.nan)


def calendar_rows(start_hour: int, origins: I64, holiday_days: Collection[int], utc_offset_hours: int) -> F64:
    """[n, 18] calendar inputs of the origins of a series that begins at `start_hour`."""
    rows = np.zeros((len(origins), CALENDAR_FEATURES))
    first = start_hour + origins + utc_offset_hours
    angle = 2 * np.pi * (first % HOURS_PER_DAY) / HOURS_PER_DAY
    rows[:, 0], rows[:, 1] = np.sin(angle), np.cos(angle)
    row_numbers = np.arange(len(origins))
    for place, hour in enumerate((first, first + HORIZON_HOURS - 1)):
        day = hour // HOURS_PER_DAY
        weekday = np.array([calendar.weekday(int(d)) for d in day], dtype=np.int64)
        rows[row_numbers, 2 + 7 * place + weekday] = 1.0
        rows[:, 16 + place] = [float(int(d) in holiday_days) for d in day]
    return rows


def inputs_and_base(
    values: F64,
    start_hour: int,
    origins: I64,
    holiday_days: Collection[int],
    utc_offset_hours: int = calendar.KOREA_UTC_OFFSET_HOURS,
) -> tuple[F64, F64]:
    """Inputs [n, 115] and base forecast [n, 24] of standardised values; NaN where something is unknown.

    Raises ValueError when an origin has less than a week before it or lies past the series' end.
    """
    if len(origins) and not MIN_HISTORY_HOURS <= origins.min() <= origins.max() <= len(values):
        raise ValueError(f"features: an origin is not within {MIN_HISTORY_HOURS}..{len(values)} hours of the series")
    week = values[origins[:, None] + np.arange(-HOURS_PER_WEEK, 0)]
    mean = known_mean(week, 1)[:, None]
    lags = week[:, -LAG_HOURS:] - mean
    daily = known_mean(week.reshape(-1, 7, HOURS_PER_DAY), 1)
    weekly = known_mean(same_weekday_rows(values, origins), 1)
    date = calendar_rows(start_hour, origins, holiday_days, utc_offset_hours)
    return np.hstack([lags, daily - mean, weekly - mean, date, mean]), (daily + weekly) / 2


def build_windows(
    values: F64,
    start_hour: int,
    origins: I64,
    holiday_days: Collection[int],
    utc_offset_hours: int = calendar.KOREA_UTC_OFFSET_HOURS,
) -> Windows:
    """Windows of standardised values whose inputs and targets are all known; origins need 24 hours after them."""
    if len(origins) and origins.max() + HORIZON_HOURS > len(values):
        raise ValueError("features: a window's target lies past the series' end")
    blocks = []
    for start in range(0, max(1, len(origins)), WINDOWS_AT_ONCE):
        block = origins[start : start + WINDOWS_AT_ONCE]
        inputs, base = inputs_and_base(values, start_hour, block, holiday_days, utc_offset_hours)
        residual = values[block[:, None] + np.arange(HORIZON_HOURS)] - base
        keep = ~(np.isnan(inputs).any(1) | np.isnan(residual).any(1))
        blocks.append((block[keep], *(part[keep].astype(np.float32) for part in (inputs, base, residual))))
    kept, inputs_32, base_32, residual_32 = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return Windows(kept, inputs_32, base_32, residual_32)
