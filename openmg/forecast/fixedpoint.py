"""The forecaster in 64-bit integers: features, network and answer, the same bits on every machine.

Replicas compute a vouched forecast with this module, so there is no float and no BLAS in it. Values and activations are
int64 in units of 2^-16, weights are the int32 master in units of 2^-20, every division rounds half up.
Bounds: inputs and activations are clipped to 2^24 (256.0), weights to 2^27 (128.0); a product is at most 2^51, a sum of
at most MAX_FEATURES = 2^11 of them 2^62, a bias adds 2^43 and rounding 2^19, so nothing wraps.
Follows `features` and `trainer_numpy.forward` term by term; tests hold the two together.
Not here: training; gaps, because the caller's history is complete (`hub.ppdl.app.inference` fills it by rule); models
with a yearly course or channels, for which a chain has no agreed values.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from openmg.forecast import calendar
from openmg.forecast.spec import DAYS_PER_WEEK, MASTER_SCALE_BITS, PROFILE_WEEKS, QUANTILES_MILLI, ForecastSpec

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

VALUE_BITS = 16
ONE = 1 << VALUE_BITS
VALUE_LIMIT = 1 << 24
WEIGHT_LIMIT = 1 << 27
MAX_ENERGY_WH = 1 << 40
"""Largest energy of a step in size, a thousand times a city's hour; shifted by VALUE_BITS it stays below 2^57."""
STATISTICS_WEEKS = 4
"""Mean and deviation are taken over this many weeks before the origin, as many as there are."""

# round(2^16 * sin(pi/2 * k / 72)) for k = 0..72: a quarter of a day in steps of five minutes, written out so that no
# library's sine decides an agreed value.
SIN_QUARTER = (
    0, 1430, 2859, 4286, 5712, 7135, 8554, 9970, 11380, 12785, 14185, 15577, 16962, 18339, 19707, 21066, 22415, 23753,
    25080, 26394, 27697, 28986, 30261, 31522, 32768, 33998, 35212, 36410, 37590, 38752, 39896, 41021, 42126, 43211,
    44275, 45319, 46341, 47341, 48318, 49273, 50203, 51111, 51993, 52851, 53684, 54491, 55273, 56028, 56756, 57457,
    58131, 58777, 59396, 59986, 60547, 61080, 61584, 62058, 62503, 62918, 63303, 63658, 63983, 64277, 64540, 64773,
    64975, 65146, 65287, 65396, 65474, 65520, 65536,
)  # fmt: skip


def divide_round(numerator: I64, denominator: int) -> I64:
    """numerator / denominator rounded half up, for a positive denominator."""
    return np.asarray(np.floor_divide(2 * numerator + denominator, 2 * denominator), dtype=np.int64)


def clip(values: I64) -> I64:
    return np.clip(values, -VALUE_LIMIT, VALUE_LIMIT)


def sine(minutes: int) -> int:
    """sin of the time of day in units of 2^-16, for whole multiples of five minutes."""
    place = minutes // 5 % 288
    quarter, rest = divmod(place, 72)
    size = SIN_QUARTER[72 - rest if quarter % 2 else rest]
    return -size if quarter >= 2 else size


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


@dataclass(frozen=True)
class IntegerForecast:
    """Energies of the H steps from the origin in Wh: their mean, and P10, P50, P90, which do not cross."""

    mean_wh: tuple[int, ...]
    quantiles_wh: tuple[tuple[int, ...], ...]


def calendar_row(spec: ForecastSpec, origin_step: int, holiday_days: Collection[int], utc_offset_hours: int) -> I64:
    """The calendar inputs of a forecast that starts at `origin_step` (steps since 1970, UTC)."""
    row = np.zeros(spec.calendar_features, dtype=np.int64)
    first = origin_step + utc_offset_hours * spec.steps_per_hour
    last = first + spec.horizon_steps - 1
    minutes = first % spec.steps_per_day * spec.resolution_minutes
    row[0], row[1] = sine(minutes), sine(minutes + 6 * 60)
    day, last_day = first // spec.steps_per_day, last // spec.steps_per_day
    row[2 + calendar.weekday(day)] = ONE
    row[2 + DAYS_PER_WEEK + calendar.weekday(last_day)] = ONE
    for ahead in range(spec.target_days):
        row[2 + 2 * DAYS_PER_WEEK + ahead] = ONE if min(day + ahead, last_day) in holiday_days else 0
    return row


def inputs_and_base(
    spec: ForecastSpec, values: I64, origin_step: int, holiday_days: Collection[int], utc_offset_hours: int
) -> tuple[I64, I64]:
    """Inputs [F] and base forecast [H] of the step after the last of the standardised values."""
    week_steps, horizon = spec.steps_per_week, spec.horizon_steps
    week = values[-week_steps:]
    mean = divide_round(np.asarray(week.sum(), dtype=np.int64), week_steps)
    days = week.reshape(DAYS_PER_WEEK, spec.steps_per_day)
    daily = divide_round(days.sum(0), DAYS_PER_WEEK)
    spread = divide_round(np.abs(days - daily).sum(0), DAYS_PER_WEEK)
    weeks = min(PROFILE_WEEKS, len(values) // week_steps)
    starts = [len(values) - week_steps * number for number in range(1, weeks + 1)]
    weekly = divide_round(np.stack([values[s : s + horizon] for s in starts]).sum(0), weeks)
    date = calendar_row(spec, origin_step, holiday_days, utc_offset_hours)
    inputs = np.concatenate(
        [week[-spec.lag_steps :] - mean, daily - mean, spread, weekly - mean, date, mean[None] * int(spec.level)]
    )
    assert inputs.shape == (spec.features,)
    return clip(inputs), divide_round(np.tile(daily, horizon // spec.steps_per_day) + weekly, 2)


def forward(spec: ForecastSpec, master: I32, inputs: I64) -> I64:
    """Network output [4H] in units of 2^-16 for inputs [F] in the same units."""
    weights = np.clip(master.astype(np.int64), -WEIGHT_LIMIT, WEIGHT_LIMIT)
    layers = [weights[o : o + n].reshape(s) for o, n, s in zip(spec.offsets, spec.sizes, spec.shapes, strict=True)]
    half = np.int64(1 << (MASTER_SCALE_BITS - 1))
    activation = clip(inputs)
    for index in range(0, len(layers), 2):
        total = activation @ layers[index] + (layers[index + 1] << VALUE_BITS) + half
        activation = clip(total >> MASTER_SCALE_BITS)
        if index + 2 < len(layers):
            activation = np.maximum(activation, 0)
    return activation


def require_vouchable(spec: ForecastSpec) -> None:
    """ValueError for a model with inputs that a chain does not record, or with a base forecast that is not made here."""
    if spec.annual or spec.channels or spec.persistent:
        raise ValueError(f"fixedpoint: {spec.model_id} takes more than energies and the calendar; vouch for a plain model")


def forecast_wh(
    spec: ForecastSpec,
    master: I32,
    energy_wh: Sequence[int],
    origin_step: int,
    holiday_days: Collection[int],
    utc_offset_hours: int = calendar.KOREA_UTC_OFFSET_HOURS,
) -> IntegerForecast:
    """Energies of the steps from `origin_step`, given those up to it, oldest first, no gaps.

    Raises ValueError for less than a week of history, an energy beyond MAX_ENERGY_WH, or a model that cannot be vouched
    for.
    """
    require_vouchable(spec)
    if len(energy_wh) < spec.min_history_steps:
        raise ValueError(f"fixedpoint: {len(energy_wh)} steps of history; at least {spec.min_history_steps} are needed")
    if any(abs(value) > MAX_ENERGY_WH for value in energy_wh):
        raise ValueError(f"fixedpoint: an energy exceeds {MAX_ENERGY_WH} Wh")
    standard = IntegerStandard.of(energy_wh[-STATISTICS_WEEKS * spec.steps_per_week :])
    values = standard.apply(np.array(energy_wh, dtype=np.int64))
    inputs, base = inputs_and_base(spec, values, origin_step, holiday_days, utc_offset_hours)
    output = forward(spec, master, inputs).reshape(-1, spec.horizon_steps)
    quantiles = np.sort(output[1:], axis=0)
    assert len(quantiles) == len(QUANTILES_MILLI)
    return IntegerForecast(standard.undo(base + output[0]), tuple(standard.undo(base + row) for row in quantiles))
