"""From a series of energies or prices to the inputs of a forecaster, in float, for training and forecasting.

Rules: strictly as-of. The inputs of origin `o` (an index into the series) read steps before `o` only; the target is
steps o..o+H-1. Channels are the exception, and said so: their values at the target steps are what somebody forecast
before the origin. A missing step is NaN: profiles average what is known, and a window with any unknown input or target
is left out of training (`gaps` fills what a forecast needs). Energies are signed (import minus export).
Order of the inputs: the latest steps less the week's mean; the 7-day profile of a day from the origin's time on, less
that mean; its spread (mean absolute deviation of the seven days from their profile), by which the median of a home's
ragged hours differs from their mean; the same-weekday profile of the target steps less the week's mean; the channels;
the calendar; the week's mean, or nought where the spec has no level.
Not here: the same inputs in integers (`fixedpoint`), which must follow every change made here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openmg.forecast import calendar
from openmg.forecast.spec import DAYS_PER_WEEK, PROFILE_WEEKS, ForecastSpec

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
    """Mean and deviation of a series in Wh, taken over its training steps only."""

    mean_wh: float
    deviation_wh: float

    @classmethod
    def of(cls, energy_wh: F64, floor: float = MIN_DEVIATION_WH) -> Standard:
        """Over the known values; ValueError when there is none."""
        known = energy_wh[~np.isnan(energy_wh)]
        if known.size == 0:
            raise ValueError("features: no step of the training span is known; import the home's history first")
        return cls(float(known.mean()), max(floor, float(known.std())))

    def apply(self, energy_wh: F64) -> F64:
        return (energy_wh - self.mean_wh) / self.deviation_wh

    def undo(self, values: F64) -> F64:
        return values * self.deviation_wh + self.mean_wh


@dataclass(frozen=True)
class Almanac:
    """The calendar of a site: its public holidays (days since 1970-01-01, local) and its fixed offset from UTC."""

    holiday_days: Collection[int] = ()
    utc_offset_hours: int = calendar.KOREA_UTC_OFFSET_HOURS


@dataclass(frozen=True)
class Series:
    """Standardised values from `start_step` on (steps of the spec's length since 1970, UTC) and the channels beside
    them, [len(values) + H or more, number of channels]; the site's almanac."""

    values: F64
    start_step: int
    almanac: Almanac
    channels: F64 | None = None


@dataclass(frozen=True)
class Windows:
    """Complete windows of a series, one row each: inputs [n, F], base forecast [n, H], target less base [n, H]."""

    origins: I64
    inputs: F32
    base: F32
    residual: F32

    def __len__(self) -> int:
        return len(self.origins)


def series(energy_wh: Sequence[int | None]) -> F64:
    """Wh of each step as an array with NaN for missing steps."""
    return np.array([np.nan if value is None else value for value in energy_wh], dtype=np.float64)


def known_mean(values: F64, axis: int) -> F64:
    """Mean over the known values; NaN where none is known."""
    known = ~np.isnan(values)
    count = known.sum(axis)
    total = np.where(known, values, 0.0).sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def same_weekday_rows(spec: ForecastSpec, values: F64, origins: I64) -> F64:
    """[n, 4, H]: the target steps one to four weeks earlier; NaN for every step of a week that begins before the series.

    A part of a week is left out, as in `fixedpoint`: else the oldest targets had another profile there than here.
    """
    first = origins[:, None, None] - spec.steps_per_week * np.arange(1, PROFILE_WEEKS + 1)[None, :, None]
    index = first + np.arange(spec.horizon_steps)
    return np.where(first >= 0, values[np.maximum(index, 0)], np.nan)


def calendar_rows(spec: ForecastSpec, start_step: int, origins: I64, almanac: Almanac) -> F64:
    """[n, calendar_features] of the origins of a series that begins at `start_step`."""
    rows = np.zeros((len(origins), spec.calendar_features))
    first = start_step + origins + almanac.utc_offset_hours * spec.steps_per_hour
    angle = 2 * np.pi * (first % spec.steps_per_day) / spec.steps_per_day
    rows[:, 0], rows[:, 1] = np.sin(angle), np.cos(angle)
    day = first // spec.steps_per_day
    last_day = (first + spec.horizon_steps - 1) // spec.steps_per_day
    row_numbers, place = np.arange(len(origins)), 2
    for weekday_of in (day, last_day):
        rows[row_numbers, place + calendar.weekday_of(weekday_of)] = 1.0
        place += DAYS_PER_WEEK
    for ahead in range(spec.target_days):
        # The last day of a forecast that starts at midnight is not touched: its flag repeats the day before.
        target = np.minimum(day + ahead, last_day)
        rows[:, place] = np.isin(target, list(almanac.holiday_days))
        place += 1
    if spec.annual:
        rows[:, place], rows[:, place + 1] = calendar.annual_waves(day)
    return rows


def inputs_and_base(spec: ForecastSpec, of: Series, origins: I64) -> tuple[F64, F64]:
    """Inputs [n, F] and base forecast [n, H] of standardised values; NaN where something is unknown.

    Raises ValueError when an origin has less than a week before it or lies past the series' end, or when the channels
    do not reach to the end of the targets.
    """
    values, week_steps = of.values, spec.steps_per_week
    if len(origins) and not spec.min_history_steps <= origins.min() <= origins.max() <= len(values):
        raise ValueError(f"features: an origin is not within {spec.min_history_steps}..{len(values)} steps of the series")
    week = values[origins[:, None] + np.arange(-week_steps, 0)]
    mean = known_mean(week, 1)[:, None]
    lags = week[:, week_steps - spec.lag_steps :] - mean
    days = week.reshape(-1, DAYS_PER_WEEK, spec.steps_per_day)
    daily = known_mean(days, 1)
    spread = known_mean(np.abs(days - daily[:, None]), 1)
    weekly = known_mean(same_weekday_rows(spec, values, origins), 1)
    date = calendar_rows(spec, of.start_step, origins, of.almanac)
    parts = [lags, daily - mean, spread, weekly - mean, *_channel_rows(spec, of, origins), date, mean * spec.level]
    horizon_days = spec.horizon_steps // spec.steps_per_day
    base = (np.tile(daily, horizon_days) + weekly) / 2
    if spec.persistent:
        base = (base + np.tile(days[:, -1], horizon_days)) / 2
    return np.hstack(parts), base


def _channel_rows(spec: ForecastSpec, of: Series, origins: I64) -> list[F64]:
    if not spec.channels:
        return []
    channels = of.channels
    if channels is None or channels.ndim != 2 or channels.shape[1] != len(spec.channels):
        raise ValueError(f"features: the model takes the channels {', '.join(spec.channels)}; give one column for each")
    if len(origins) and origins.max() + spec.horizon_steps > len(channels):
        raise ValueError("features: the channels end before the last target; give their forecast up to it")
    target = origins[:, None] + np.arange(spec.horizon_steps)
    return [channels[:, number][target] for number in range(len(spec.channels))]


def build_windows(spec: ForecastSpec, of: Series, origins: I64) -> Windows:
    """Windows whose inputs and targets are all known; origins need H steps after them (ValueError)."""
    if len(origins) and origins.max() + spec.horizon_steps > len(of.values):
        raise ValueError("features: a window's target lies past the series' end")
    blocks = []
    for start in range(0, max(1, len(origins)), WINDOWS_AT_ONCE):
        block = origins[start : start + WINDOWS_AT_ONCE]
        inputs, base = inputs_and_base(spec, of, block)
        residual = of.values[block[:, None] + np.arange(spec.horizon_steps)] - base
        keep = ~(np.isnan(inputs).any(1) | np.isnan(residual).any(1))
        blocks.append((block[keep], *(part[keep].astype(np.float32) for part in (inputs, base, residual))))
    kept, inputs_32, base_32, residual_32 = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return Windows(kept, inputs_32, base_32, residual_32)
