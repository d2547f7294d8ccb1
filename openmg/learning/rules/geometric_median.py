"""Geometric median: the point with the least sum of distances to the rows, by smoothed Weiszfeld steps.

v <- sum of (row / max(1, |row - v|)) / sum of (1 / max(1, |row - v|)), a fixed number of times; v starts at the
coordinate-wise median and is rounded half up to whole units after each iteration. Weights are integers, in units in
which the nearest row has 2^WEIGHT_BITS; a row 2^24 times as far as the nearest has none.
A row is found far off when its last weight is below half the median weight: when it is more than twice as far from v
as the median row.
Bounds: weights <= 2^24, values <= 2^15, n <= 2^12 rows: sums stay below 2^51 and the divisor below 2^36.
Source: Pillutla et al. 2022 (RFA).
"""

from __future__ import annotations

import numpy as np

from openmg.forecast.fixedpoint import divide_round
from openmg.learning.rules.coordinatewise import middle_value
from openmg.learning.rules.norms import DISTANCE_BITS, below_half_of_median, distances_to
from openmg.learning.rules.outcome import I64, Outcome, Reason, Settings

WEIGHT_BITS = 24
SMOOTHING = 1 << DISTANCE_BITS
"""One unit of a value: rows nearer than that weigh the same, and nothing is divided by nought."""


def geometric_median(rows: I64, hostile: int, settings: Settings) -> Outcome:
    centre = middle_value(np.sort(rows, axis=0))
    weights = [1 << WEIGHT_BITS] * len(rows)
    for _ in range(settings.iterations):
        distances = [max(SMOOTHING, distance) for distance in distances_to(rows, centre)]
        nearest = min(distances)
        weights = [(nearest << WEIGHT_BITS) // distance for distance in distances]
        weighted = np.einsum("ij,i->j", rows, np.array(weights, dtype=np.int64))
        centre = divide_round(weighted, sum(weights))
    return Outcome.of(centre, below_half_of_median(weights), Reason.LOW_WEIGHT)
