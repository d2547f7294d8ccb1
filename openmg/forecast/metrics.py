"""How good forecasts were: errors of points and quantiles, in the units of the series, by home and for the sum of homes.

Rules: `truth` and `mean` are [n, H], quantiles [n, 3, H] (P10, P50, P90); n windows of one home. Errors are divided by
the mean load of the same windows, so that homes of any size count alike.
Not here: the loss that is trained on (`loss`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.spec import QUANTILES_MILLI

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_LEVELS = np.array(QUANTILES_MILLI, dtype=np.float64)[None, :, None] / 1000
_MEDIAN = QUANTILES_MILLI.index(500)


@dataclass(frozen=True)
class Forecast:
    """Forecasts of one home's windows: the mean, and quantiles where the method gives any."""

    mean: F64
    quantiles: F64 | None = None

    @property
    def point(self) -> F64:
        """What minimises the absolute error: the median, else the mean."""
        return self.mean if self.quantiles is None else self.quantiles[:, _MEDIAN]


@dataclass(frozen=True)
class Score:
    """Of one home or the mean over homes. nmae: mean absolute error of the point forecast / mean load. mase: the same
    error / that of "as yesterday" in the training span (Hyndman and Koehler 2006). nrmse: root mean squared error of the
    mean / mean load. pinball: mean pinball loss over the three quantiles / mean load. coverage: share of values within
    P10..P90. The last two are None without quantiles.
    """

    nmae: float
    mase: float
    nrmse: float
    pinball: float | None
    coverage: float | None


def score(truth: F64, forecast: Forecast, naive_error: float) -> Score:
    """The score of one home's forecast; `naive_error` is the scale of mase. ValueError when the home's load is nought."""
    load = float(np.abs(truth).mean())
    if load <= 0 or naive_error <= 0:
        raise ValueError("metrics: a home without load has no relative error; leave it out")
    absolute = float(np.abs(forecast.point - truth).mean())
    squared = float(((forecast.mean - truth) ** 2).mean())
    pinball = coverage = None
    if forecast.quantiles is not None:
        short = truth[:, None, :] - forecast.quantiles
        pinball = float(np.maximum(_LEVELS * short, (_LEVELS - 1) * short).mean()) / load
        within = (truth >= forecast.quantiles[:, 0]) & (truth <= forecast.quantiles[:, -1])
        coverage = float(within.mean())
    return Score(absolute / load, absolute / naive_error, squared**0.5 / load, pinball, coverage)


def mean_score(scores: Sequence[Score]) -> Score:
    """The mean over homes. ValueError for none."""
    if not scores:
        raise ValueError("metrics: there is no home to take a mean over")

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if len(known) == len(values) else None

    nmae, mase, nrmse = (float(np.mean([getattr(item, name) for item in scores])) for name in ("nmae", "mase", "nrmse"))
    return Score(nmae, mase, nrmse, mean([s.pinball for s in scores]), mean([s.coverage for s in scores]))


def aggregate_mape(truths: Sequence[F64], means: Sequence[F64], origins: Sequence[I64]) -> float:
    """Mean absolute percentage error of the sum over homes, over the windows that all homes have.

    Each home's windows are named by their origins. ValueError when no window is common to all.
    """
    common = set(origins[0].tolist()).intersection(*(item.tolist() for item in origins))
    if not common:
        raise ValueError("metrics: the homes have no window in common")
    wanted = np.array(sorted(common))
    total, forecast = np.zeros(()), np.zeros(())
    for truth, mean, own in zip(truths, means, origins, strict=True):
        rows = np.searchsorted(own, wanted)
        total, forecast = total + truth[rows], forecast + mean[rows]
    return float(np.mean(np.abs(forecast - total) / np.abs(total)))
