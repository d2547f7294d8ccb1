"""How the forecasts of one series follow it: offsets of both heads, learnt from the errors of its own past forecasts.

An agreed model is that of many homes and of the seasons it was trained on. What a home has besides (a median far below
its mean, a colder month than any before) is first of all an offset, for each step of the horizon and each head. Forecasts
of one time of day are a row, a day apart; after each the offset takes one gradient step on the loss that is trained on: the
mean head's is then the exponential mean of its errors, a quantile's moves until as many values lie below it as should
(Gibbs and Candes 2021). So widths are corrected too; in terms of the network, the last layer's bias is what changes.
The mean head serves sums, in which what a home does by chance vanishes and what all do, in the weather of a day, stays: it also
echoes the last error, for one forecast. (A sum of homes' echoes is the echo of their sum.)
Rules: strictly as-of. A forecast is learnt from when its last step is past, in the form in which it was given but for its echo.
An unknown error moves nothing. It is computed where the series is, and nothing of it is told: what replicas agree on (a model's
hash, evaluation losses, vouched answers in `fixedpoint`) is without it.
Bounds: a day moves a quantile by less than QUANTILE_RATE, no offset passes OFFSET_LIMIT, with its echo or without, both in
deviations of the series.
Not here: weights (`edge_agent.learning.personal` fits the last layer to a home), how windows are made (`features`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.spec import HOURS_PER_DAY, QUANTILES_MILLI, ForecastSpec

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

MEAN_RATE = np.float32(0.03)
"""Of a day's error: half of what the mean's offset says is younger than 23 days."""
QUANTILE_RATE = np.float32(0.02)
"""Deviations a day. Both rates were chosen on London homes, in September and October and in winter (docs/LEARNING.md)."""
LEVEL_ECHO = np.float32(0.2)
"""Of the mean error of the last forecast that is past, once."""
STEP_ECHO = np.float32(0.05)
"""Of each step's error, besides. Both were chosen on the same two windows, for the sum of the homes."""
FOLLOWED_DAYS = 120
"""So many days before the first forecast are worth computing: in the mean's offset, what is older has a weight of 3 %."""
OFFSET_LIMIT = np.float32(4.0)
_LEVELS = (np.array(QUANTILES_MILLI, dtype=np.float32) / np.float32(1000))[:, None]


def corrected(spec: ForecastSpec, origins: I64, output: F32, residual: F32) -> F32:
    """Outputs [n, 4H] of forecasts from `origins` (steps, ascending) plus what those before each have taught.

    residual [n, H]: what the mean and the quantiles should have been, NaN where unknown, as of a forecast whose steps lie
    ahead. The first forecast of each time of day is as the network made it. Raises ValueError for origins that do not
    ascend, or arrays of other lengths.
    """
    rows, steps = len(origins), spec.horizon_steps
    if output.shape != (rows, spec.outputs) or residual.shape != (rows, steps) or (np.diff(origins) <= 0).any():
        raise ValueError("drift: give ascending origins, and for each a row of outputs and one of residuals")
    if not rows:
        return output
    day_of, time_of_day = np.divmod(origins, spec.steps_per_day)
    days, last = _rows_by_day(day_of - day_of[0]), int(day_of[-1] - day_of[0])
    offsets = np.zeros((spec.steps_per_day, spec.outputs), dtype=np.float32)
    followed, result, wait = output.copy(), output.copy(), spec.horizon_hours // HOURS_PER_DAY
    for day in range(last + 1):
        echo = np.zeros((spec.steps_per_day, spec.outputs), dtype=np.float32)
        past = days.get(day - wait)
        if past is not None:
            now = time_of_day[past]
            offsets[now] = _learnt(offsets[now], followed[past], residual[past])
            echo[now, :steps] = _echo(followed[past, :steps], residual[past])
        made = days.get(day)
        if made is not None:
            at = time_of_day[made]
            followed[made] += offsets[at]
            result[made] += np.clip(offsets[at] + echo[at], -OFFSET_LIMIT, OFFSET_LIMIT)
    return result


def _rows_by_day(day_of: I64) -> dict[int, slice]:
    """The rows of each day that has any; days ascend."""
    days, first = np.unique(day_of, return_index=True)
    ends = [*first[1:].tolist(), len(day_of)]
    return {int(day): slice(int(start), end) for day, start, end in zip(days, first, ends, strict=True)}


def _learnt(offsets: F32, given: F32, residual: F32) -> F32:
    """Offsets [n, 4H] after one step against the loss of forecasts [n, 4H] as they were given."""
    rows, steps = residual.shape
    mean, quantiles = given[:, :steps], given[:, steps:].reshape(rows, len(QUANTILES_MILLI), steps)
    known = ~np.isnan(residual)
    short = np.where(known, residual - mean, np.float32(0))
    below = (residual[:, None] <= quantiles).astype(np.float32)
    moved = np.where(known[:, None], _LEVELS - below, np.float32(0))
    step = np.concatenate([MEAN_RATE * short, QUANTILE_RATE * moved.reshape(rows, -1)], axis=1)
    learnt: F32 = np.clip(offsets + step, -OFFSET_LIMIT, OFFSET_LIMIT)
    return learnt


def _echo(mean: F32, residual: F32) -> F32:
    """What the next forecasts [n, H] of the mean take over from the errors of these, whose offsets they had."""
    short = np.where(np.isnan(residual), np.float32(0), residual - mean)
    echo: F32 = LEVEL_ECHO * short.mean(axis=1, keepdims=True) + STEP_ECHO * short
    return echo
