"""The forecaster in 64-bit integers: features, network and answer, the same bits on every machine.

Replicas compute a vouched forecast with this module, so there is no float and no BLAS in it. Values and activations are
int64 in units of 2^-16, weights are the int32 master in units of 2^-20, every division rounds half up.
Bounds: inputs and activations are clipped to 2^24 (256.0); a product is below 2^24 * 2^31 = 2^55, a sum of at most 115
of them plus a bias below 2^62, so nothing wraps.
Follows `features` and `trainer_numpy.forward` term by term; tests hold the two together.
Not here: training, and gaps: the caller's history is complete (`hub.ppdl.app.inference` fills it by rule).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from openmg.forecast import calendar
from openmg.forecast.spec import (
    CALENDAR_FEATURES,
    FEATURES,
    HORIZON_HOURS,
    HOURS_PER_DAY,
    HOURS_PER_WEEK,
    LAG_HOURS,
    MASTER_SCALE_BITS,
    MIN_HISTORY_HOURS,
    OFFSETS,
    PROFILE_WEEKS,
    SHAPES,
    SIZES,
)

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

VALUE_BITS = 16
ONE = 1 << VALUE_BITS
VALUE_LIMIT = 1 << 24
MAX_ENERGY_WH = 1 << 40
"""Largest hourly energy in size, a thousand times a city's; shifted by VALUE_BITS it stays below 2^57."""
STATISTICS_HOURS = 4 * HOURS_PER_WEEK
"""Mean and deviation are taken over the last four weeks before the origin, as many as there are."""

# round(2^16 * sin(2 pi k / 24)) for k = 0..23, written out so that no library's sine decides an agreed value.
SIN_24 = (0, 16962, 32768, 46341, 56756, 63303, 65536, 63303, 56756, 46341, 32768, 16962) + (
    0, -16962, -32768, -46341, -56756, -63303, -65536, -63303, -56756, -46341, -32768, -16962
)  # fmt: skip


def divide_round(numerator: I64, denominator: int) -> I64:
    """numerator / denominator rounded half up, for a positive denominator."""
    return np.asarray(np.floor_divide(2 * numerator + denominator, 2 * denominator), dtype=np.int64)


def clip(values: I64) -> I64:
    return np.clip(values, -VALUE_LIMIT, VALUE_LIMIT)


@dataclass(frozen=True)
class IntegerStandard:
    """Mean and deviation of a series in whole Wh; the deviation is at least 1."""

    mean_wh: int
    deviation_wh: int

    @classmethod
    def of(cls, energy_wh: Sequence[int]) -> IntegerStandard:
        """Population statistics with integer square root; ValueError for an empty series."""
        count = len(energy_wh)
        if count == 0:
            raise ValueError("fixedpoint: a series without values has no mean; give at least one week")
        mean = (2 * sum(energy_wh) + count) // (2 * count)
        variance = sum((value - mean) ** 2 for value in energy_wh) // count
        return cls(mean, max(1, isqrt(variance)))

    def apply(self, energy_wh: I64) -> I64:
        return clip(divide_round((energy_wh - self.mean_wh) << VALUE_BITS, self.deviation_wh))

    def undo(self, value: I64) -> tuple[int, ...]:
        """Whole Wh; computed in Python integers because a wide deviation could exceed 63 bits."""
        half = 1 << (VALUE_BITS - 1)
        return tuple(self.mean_wh + ((int(v) * self.deviation_wh + half) >> VALUE_BITS) for v in value)


def calendar_row(origin_hour: int, holiday_days: Collection[int], utc_offset_hours: int) -> I64:
    """The 18 calendar inputs of a forecast that starts at `origin_hour` (hours since 1970, UTC)."""
    row = np.zeros(CALENDAR_FEATURES, dtype=np.int64)
    hour = calendar.local_hour_of_day(origin_hour, utc_offset_hours)
    row[0], row[1] = SIN_24[hour], SIN_24[(hour + 6) % HOURS_PER_DAY]
    for place, target in enumerate((origin_hour, origin_hour + HORIZON_HOURS - 1)):
        day = calendar.local_day(target, utc_offset_hours)
        row[2 + 7 * place + calendar.weekday(day)] = ONE
        row[16 + place] = ONE if day in holiday_days else 0
    return row


def inputs_and_base(
    values: I64, origin_hour: int, holiday_days: Collection[int], utc_offset_hours: int
) -> tuple[I64, I64]:
    """Inputs [115] and base forecast [24] of the hour after the last of the standardised values."""
    week = values[-HOURS_PER_WEEK:]
    mean = divide_round(np.asarray(week.sum(), dtype=np.int64), HOURS_PER_WEEK)
    daily = divide_round(week.reshape(7, HOURS_PER_DAY).sum(0), 7)
    weeks = min(PROFILE_WEEKS, len(values) // HOURS_PER_WEEK)
    starts = [len(values) - HOURS_PER_WEEK * week_number for week_number in range(1, weeks + 1)]
    weekly = divide_round(np.stack([values[s : s + HORIZON_HOURS] for s in starts]).sum(0), weeks)
    date = calendar_row(origin_hour, holiday_days, utc_offset_hours)
    inputs = np.concatenate([week[-LAG_HOURS:] - mean, daily - mean, weekly - mean, date, mean[None]])
    assert inputs.shape == (FEATURES,)
    return clip(inputs), divide_round(daily + weekly, 2)


def forward(master: I32, inputs: I64) -> I64:
    """Network output [24] in units of 2^-16 for inputs [115] in the same units."""
    weights = master.astype(np.int64)
    layers = [weights[o : o + n].reshape(s) for o, n, s in zip(OFFSETS, SIZES, SHAPES, strict=True)]
    half = np.int64(1 << (MASTER_SCALE_BITS - 1))
    activation = clip(inputs)
    for index in range(0, len(layers), 2):
        total = activation @ layers[index] + (layers[index + 1] << VALUE_BITS) + half
        activation = clip(total >> MASTER_SCALE_BITS)
        if index + 2 < len(layers):
            activation = np.maximum(activation, 0)
    return activation


def forecast_wh(
    master: I32,
    energy_wh: Sequence[int],
    origin_hour: int,
    holiday_days: Collection[int],
    utc_offset_hours: int = calendar.KOREA_UTC_OFFSET_HOURS,
) -> tuple[int, ...]:
    """Energy in Wh of the 24 hours from `origin_hour`, given the hourly energies up to it, oldest first, no gaps.

    Raises ValueError for less than a week of history or an energy beyond MAX_ENERGY_WH.
    """
    if len(energy_wh) < MIN_HISTORY_HOURS:
        raise ValueError(f"fixedpoint: {len(energy_wh)} hours of history; at least {MIN_HISTORY_HOURS} are needed")
    if any(abs(value) > MAX_ENERGY_WH for value in energy_wh):
        raise ValueError(f"fixedpoint: an hourly energy exceeds {MAX_ENERGY_WH} Wh")
    standard = IntegerStandard.of(energy_wh[-STATISTICS_HOURS:])
    values = standard.apply(np.array(energy_wh, dtype=np.int64))
    inputs, base = inputs_and_base(values, origin_hour, holiday_days, utc_offset_hours)
    return standard.undo(base + forward(master, inputs))
