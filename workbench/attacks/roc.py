"""How well scores tell members from others: area under the curve, and hits at a small rate of false alarms.

Rules: higher scores mean "member"; the interval of an area comes from drawing whole groups anew (homes, rounds), since scores
of one group go together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

FALSE_ALARMS = 0.01
RESAMPLES = 200
INTERVAL = (2.5, 97.5)
"""Per cent."""
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Roc:
    """The area with its 95 % interval, and the share of members found at FALSE_ALARMS."""

    area: float
    low: float
    high: float
    hits: float


def roc(members: Sequence[F64], others: Sequence[F64], generator: np.random.Generator) -> Roc:
    """From the scores of members and of others, group by group; there are as many groups of both."""
    areas = []
    for _ in range(RESAMPLES):
        drawn = generator.integers(len(members), size=len(members))
        areas.append(area(np.concatenate([members[i] for i in drawn]), np.concatenate([others[i] for i in drawn])))
    low, high = np.percentile(areas, INTERVAL)
    inside, outside = np.concatenate(members), np.concatenate(others)
    hits = float((inside > np.quantile(outside, 1 - FALSE_ALARMS, method="higher")).mean())
    return Roc(area(inside, outside), float(low), float(high), hits)


def area(members: F64, others: F64) -> float:
    """The chance that a member scores above another, ties counting half (Mann and Whitney)."""
    ordered = np.sort(others)
    below, up_to = np.searchsorted(ordered, members, "left"), np.searchsorted(ordered, members, "right")
    return float((below + up_to).mean() / (2 * len(ordered)))


def best_area(noise_multiplier: float) -> float:
    """The largest area that anybody can reach against Gaussian noise of that multiplier, whatever is known: the two
    densities lie 1 / z deviations apart (Dong, Roth, Su 2022, equation 6)."""
    return _NORMAL.cdf(1 / (noise_multiplier * sqrt(2)))


def best_hits(noise_multiplier: float) -> float:
    """The largest share of members found at FALSE_ALARMS, likewise."""
    return _NORMAL.cdf(_NORMAL.inv_cdf(FALSE_ALARMS) + 1 / noise_multiplier)
