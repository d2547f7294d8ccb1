"""Krum and multi-Krum: choose the rows whose nearest rows are nearest.

A row's score is the sum of its squared distances to its n - f - 2 nearest others, at least one of them. Krum takes the
row with the smallest score as it is, multi-Krum the mean of the n - f rows with the smallest scores.
The proof of Krum needs n > 2f + 2; below that, the rules still answer, and promise nothing.
Bounds: squared distances are below 2^49.7 and a score adds fewer than 2^12 of them: below 2^61.7.
Source: Blanchard et al. 2017.
"""

from __future__ import annotations

import numpy as np

from openmg.forecast.fixedpoint import divide_round
from openmg.learning.rules.distances import squared_distances
from openmg.learning.rules.outcome import I64, Outcome, Reason, Settings


def krum_scores(rows: I64, hostile: int) -> I64:
    """[n]; nought for a single row."""
    nearest = max(1, len(rows) - hostile - 2)
    # The row itself, at distance nought, is the first of its sorted distances.
    ordered = np.sort(squared_distances(rows), axis=1)[:, 1 : 1 + nearest]
    return np.asarray(ordered.sum(1), dtype=np.int64)


def krum(rows: I64, hostile: int, settings: Settings) -> Outcome:
    """The one row with the smallest score."""
    return _mean_of_best(rows, hostile, 1)


def multi_krum(rows: I64, hostile: int, settings: Settings) -> Outcome:
    """The mean, rounded half up, of the n - f rows with the smallest scores."""
    return _mean_of_best(rows, hostile, len(rows) - hostile)


def _mean_of_best(rows: I64, hostile: int, chosen: int) -> Outcome:
    order = np.argsort(krum_scores(rows, hostile), kind="stable")
    step = divide_round(rows[order[:chosen]].sum(0), chosen)
    return Outcome.of(step, sorted(int(index) for index in order[chosen:]), Reason.NOT_SELECTED)
