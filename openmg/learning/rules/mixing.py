"""Adaptive clipping, nearest-neighbour mixing and the trimmed mean, the default rule.

The longest rows are first shortened to the next one's norm (`norms.shorten_longest`). Each row becomes the sum of its
n - f nearest rows, a row equal to itself among them; then the trimmed mean, undivided until the end so that nothing is
rounded twice. A row is found far off when fewer than half of the n neighbourhoods hold it as it was sent (shortened, one
that turned and stretched its update lies among the others), a neighbourhood reaching to REACH_SQUARED times the squared
distance of its furthest neighbour. Without that reach the f rows that are a hair longer than the others would be found
far off in each round of honest homes, because in many dimensions all distances are nearly equal.
Bounds: REACH_SQUARED times a squared distance stays below 2^50.7; mixed sums of n <= 2^12 values stay below 2^27, their
sums over n rows below 2^39.
Sources: Allouah et al. 2023 (mixing) and 2025 (clipping).
"""

from __future__ import annotations

import numpy as np

from openmg.forecast.fixedpoint import divide_round
from openmg.learning.rules.distances import squared_distances
from openmg.learning.rules.norms import shorten_longest
from openmg.learning.rules.outcome import I64, Outcome, Reason, Settings

COLUMNS_AT_ONCE = 1024
"""Mixing and sorting go by blocks of columns: 8 KiB a row, and never another [n, P] beside the shortened rows."""
REACH_SQUARED = 2
"""In rounds of four weeks of twelve to thirty homes, 5/4 still named honest homes, 3/2 none, and 3 all that flip signs.
"""


def nnm_trimmed_mean(rows: I64, hostile: int, settings: Settings) -> Outcome:
    count, width = rows.shape
    far_off = _seldom_a_neighbour(squared_distances(rows), hostile)
    rows = shorten_longest(rows, hostile)
    order = np.argsort(squared_distances(rows), axis=1, kind="stable")
    far = order[:, count - hostile :]
    step = np.empty(width, dtype=np.int64)
    for column in range(0, width, COLUMNS_AT_ONCE):
        part = np.ascontiguousarray(rows[:, column : column + COLUMNS_AT_ONCE])
        step[column : column + COLUMNS_AT_ONCE] = _mixed_and_trimmed(part, far)
    return Outcome.of(step, far_off, Reason.FEW_NEIGHBOURS)


def _mixed_and_trimmed(part: I64, far: I64) -> I64:
    """The step of some columns; `far` [n, f] names the rows that are not among each row's neighbours."""
    count, hostile = far.shape
    total, mixed = part.sum(0), np.empty_like(part)
    for index in range(count):
        # Fewer than half of the rows are far, so their sum is the shorter way to that of the near ones.
        mixed[index] = total - part[far[index]].sum(0)
    mixed.sort(axis=0)
    middle = mixed[hostile : count - hostile]
    return divide_round(middle.sum(0), (count - hostile) * len(middle))


def _seldom_a_neighbour(distances: I64, hostile: int) -> list[int]:
    count = len(distances)
    furthest = np.sort(distances, axis=1)[:, count - hostile - 1]
    neighbourhoods = (distances <= REACH_SQUARED * furthest[:, None]).sum(0)
    return [index for index, times in enumerate(neighbourhoods) if 2 * int(times) < count]
