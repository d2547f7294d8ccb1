"""Centred clipping: walk from the coordinate-wise median towards the mean, with no row pulling further than a radius.

v <- v + mean over rows of (row - v) * min(1, radius / |row - v|), a fixed number of times. The radius is
radius_num/radius_den of the (lower) median of the distances to v, taken anew in each iteration; v starts at the
coordinate-wise median and is rounded half up to whole units after each iteration. It does not start at the last
round's step: what a rule gives then depends on this round's updates alone.
A row is found far off when its last weight is below half the median weight, at the plan's default radius: when it is
more than twice as far from the result as the median row.
Bounds: each new v is a weighted mean of the old v and the rows, so it stays within the rows' range and |row - v| is at
most 2^16 per value; weights are at most 2^WEIGHT_BITS = 2^16, so their products are at most 2^32 and the sums over
n <= 2^12 rows 2^44.
Source: Karimireddy et al. 2021, with the radius from the data.
"""

from __future__ import annotations

import numpy as np

from openmg.forecast.fixedpoint import divide_round
from openmg.learning.rules.coordinatewise import middle_value
from openmg.learning.rules.norms import below_half_of_median, distances_to, lower_median
from openmg.learning.rules.outcome import I64, Outcome, Reason, Settings

WEIGHT_BITS = 16
ONE = 1 << WEIGHT_BITS


def centred_clipping(rows: I64, hostile: int, settings: Settings) -> Outcome:
    count = len(rows)
    centre = middle_value(np.sort(rows, axis=0))
    weights = [ONE] * count
    for _ in range(settings.iterations):
        distances = distances_to(rows, centre)
        radius = lower_median(distances) * settings.radius_num // settings.radius_den
        weights = [ONE if distance <= radius else (radius << WEIGHT_BITS) // distance for distance in distances]
        pull = np.einsum("ij,i->j", rows - centre, np.array(weights, dtype=np.int64))
        centre = centre + divide_round(pull, count << WEIGHT_BITS)
    return Outcome.of(centre, below_half_of_median(weights), Reason.LOW_WEIGHT)
