"""Robust aggregation in integers: the same bits from the same updates, on any processor, in any order of arrival.

Updates are int16 rows; they are sorted by device id before anything else, ties between equal distances are broken by
that order, every division is an integer division rounding half up. The norm cap comes first: an update longer than a
multiple of the median norm is scaled down to it, which bounds what more than f hostile devices could do.
Rules offered: mean; coordinate-wise trimmed mean (Yin et al. 2018); nearest-neighbour mixing followed by trimmed mean
(Allouah et al. 2023), the default. Server momentum is one integer vector.
Bounds: rows n <= MAX_DEVICES = 2^12, |value| <= 2^15, so mixed sums stay below 2^27, their sums over n below 2^39, and
squared distances below 2^32 * P < 2^45.
Not here: who may take part (`hub.ppdl.app.learning`) and float (`quantise`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.fixedpoint import divide_round
from openmg.forecast.spec import MASTER_SCALE_BITS
from openmg.learning.plan import MAX_DEVICES, UPDATE_SCALE_BITS, LearningPlan

I16 = NDArray[np.int16]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

MASTER_LIMIT = (1 << 31) - 1
_STEP_SHIFT = MASTER_SCALE_BITS - UPDATE_SCALE_BITS


@dataclass(frozen=True)
class Aggregate:
    """The agreed step [P] in units of 2^-18, the f it was robust against, and the devices the norm cap shortened."""

    step: I64
    hostile: int
    capped: tuple[bytes, ...]


@dataclass(frozen=True)
class ServerState:
    """Master model and server momentum, both int32 [P] in units of 2^-20."""

    master: I32
    momentum: I32


def cap_norms(rows: I64, cap_num: int, cap_den: int) -> tuple[I64, list[int]]:
    """Rows shortened to cap_num/cap_den of the (lower) median norm, and the indices of the shortened ones."""
    norms = [isqrt(int(square)) for square in (rows * rows).sum(1)]
    cap = sorted(norms)[(len(norms) - 1) // 2] * cap_num // cap_den
    capped = [index for index, norm in enumerate(norms) if norm > cap]
    result = rows.copy()
    for index in capped:
        # Rounding towards zero keeps the shortened row at or below the cap.
        magnitude = np.floor_divide(np.abs(rows[index]) * cap, norms[index])
        result[index] = np.sign(rows[index]) * magnitude
    return result, capped


def mean(rows: I64) -> I64:
    return divide_round(rows.sum(0), len(rows))


def trimmed_mean(rows: I64, hostile: int) -> I64:
    """Mean of each coordinate without its `hostile` smallest and largest values; needs n > 2 * hostile."""
    kept = np.sort(rows, axis=0)[hostile : len(rows) - hostile]
    return divide_round(kept.sum(0), len(kept))


def squared_distances(rows: I64) -> I64:
    """Symmetric [n, n]; exact."""
    result = np.zeros((len(rows), len(rows)), dtype=np.int64)
    for index in range(len(rows) - 1):
        difference = rows[index + 1 :] - rows[index]
        result[index, index + 1 :] = result[index + 1 :, index] = (difference * difference).sum(1)
    return result


def nnm_trimmed_mean(rows: I64, hostile: int) -> I64:
    """Each row becomes the sum of its n - f nearest rows (itself among them); then the trimmed mean, undivided till
    the end so that nothing is rounded twice."""
    count, kept = len(rows), len(rows) - hostile
    distances = squared_distances(rows)
    mixed = np.empty_like(rows)
    for index in range(count):
        nearest = np.lexsort((np.arange(count), distances[index]))[:kept]
        mixed[index] = rows[nearest].sum(0)
    middle = np.sort(mixed, axis=0)[hostile : count - hostile]
    return divide_round(middle.sum(0), kept * len(middle))


def aggregate(updates: Mapping[bytes, I16], plan: LearningPlan, registered: int) -> Aggregate:
    """The step that the updates (device id -> int16 [P]) agree on.

    f is taken from the registered devices, not from those that answered, but never so large that fewer than one value
    per coordinate would remain (n > 2f). Raises ValueError for no update, too many, or rows of unequal length.
    """
    if not 1 <= len(updates) <= MAX_DEVICES:
        raise ValueError(f"aggregate: {len(updates)} updates; a round has 1 to {MAX_DEVICES}")
    order = sorted(updates)
    rows = np.stack([updates[device].astype(np.int64) for device in order])
    hostile = min(plan.hostile_devices(registered), (len(rows) - 1) // 2)
    rows, capped = cap_norms(rows, plan.norm_cap_num, plan.norm_cap_den)
    if plan.rule == "mean":
        step = mean(rows)
    elif plan.rule == "trimmed_mean":
        step = trimmed_mean(rows, hostile)
    else:
        step = nnm_trimmed_mean(rows, hostile)
    return Aggregate(step, hostile, tuple(order[index] for index in capped))


def apply_step(state: ServerState, step: I64, plan: LearningPlan) -> ServerState:
    """momentum' = momentum * num/den + step; master' = master + momentum' (FedAvgM, Hsu et al. 2019), both clipped
    to int32."""
    kept = divide_round(state.momentum.astype(np.int64) * plan.momentum_num, plan.momentum_den)
    momentum = np.clip(kept + (step << _STEP_SHIFT), -MASTER_LIMIT, MASTER_LIMIT)
    master = np.clip(state.master.astype(np.int64) + momentum, -MASTER_LIMIT, MASTER_LIMIT)
    return ServerState(master.astype(np.int32), momentum.astype(np.int32))
