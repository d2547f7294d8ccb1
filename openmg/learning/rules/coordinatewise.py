"""Rules that look at each coordinate alone: mean, median, trimmed mean.

A row is found far off when it lies among the middle n - 2f values in fewer than half as many coordinates as chance
would put it there, (n - 2f)/n of all. That is a statement about the whole row: in a single coordinate any honest row
may be the largest. Values equal to an end of the middle lie in it, so that equal rows are treated alike.
Bounds: sums over n <= 2^12 rows of |value| <= 2^15 stay below 2^27; counts, below P * n < 2^29.7.
Sources: Yin et al. 2018 (median, trimmed mean).
"""

from __future__ import annotations

import numpy as np

from openmg.forecast.fixedpoint import divide_round
from openmg.learning.rules.outcome import I64, Outcome, Reason, Settings

KEPT_NUM, KEPT_DEN = 1, 2
"""The fraction of the expected coordinates in the middle below which a row is far off."""


def mean(rows: I64, hostile: int, settings: Settings) -> Outcome:
    """The mean, rounded half up. It withstands nobody and finds nobody far off."""
    return Outcome(divide_round(rows.sum(0), len(rows)))


def middle_value(ordered: I64) -> I64:
    """Of rows sorted by coordinate the middle one; of an even count the mean of two, rounded half up."""
    count = len(ordered)
    return divide_round(ordered[(count - 1) // 2] + ordered[count // 2], 2)


def median(rows: I64, hostile: int, settings: Settings) -> Outcome:
    """The median of each coordinate. f matters only to what is found far off."""
    ordered = np.sort(rows, axis=0)
    return Outcome.of(middle_value(ordered), _seldom_in_the_middle(rows, ordered, hostile), Reason.MOSTLY_TRIMMED)


def trimmed_mean(rows: I64, hostile: int, settings: Settings) -> Outcome:
    """Mean of each coordinate without its `hostile` smallest and largest values; needs n > 2 * hostile."""
    ordered = np.sort(rows, axis=0)
    kept = ordered[hostile : len(rows) - hostile]
    step = divide_round(kept.sum(0), len(kept))
    return Outcome.of(step, _seldom_in_the_middle(rows, ordered, hostile), Reason.MOSTLY_TRIMMED)


def _seldom_in_the_middle(rows: I64, ordered: I64, hostile: int) -> list[int]:
    count, width = rows.shape
    low, high = ordered[hostile], ordered[count - 1 - hostile]
    kept = ((rows >= low) & (rows <= high)).sum(1)
    # kept < KEPT_NUM/KEPT_DEN * width * (n - 2f)/n, without a division
    least = KEPT_NUM * width * (count - 2 * hostile)
    return [index for index, times in enumerate(kept) if int(times) * count * KEPT_DEN < least]
