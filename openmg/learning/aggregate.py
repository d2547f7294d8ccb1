"""Robust aggregation in integers: the same bits from the same updates, on any processor, in any order of arrival.

Updates are int16 rows; they are sorted by device id before anything else. The norm cap comes first: an update longer
than a multiple of the median norm is scaled down to it, which bounds what more than f hostile devices could do. Then
the plan's rule (`openmg.learning.rules`) makes the step, and names the rows it left out or found far off, which all
replicas agree on with it. Server momentum is one integer vector.
Not here: the rules' arithmetic (`rules`), who may take part (`hub.ppdl.app.learning`) and float (`quantise`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.fixedpoint import divide_round
from openmg.forecast.spec import MASTER_SCALE_BITS
from openmg.learning import rules
from openmg.learning.plan import MAX_DEVICES, UPDATE_SCALE_BITS, LearningPlan
from openmg.learning.rules.norms import cap_norms
from openmg.learning.rules.outcome import MAX_PARAMETERS, Reason, Settings

I16 = NDArray[np.int16]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

MASTER_LIMIT = (1 << 31) - 1
_STEP_SHIFT = MASTER_SCALE_BITS - UPDATE_SCALE_BITS


@dataclass(frozen=True)
class Rejection:
    """A device whose update the rule left out or found far off, and why."""

    device: bytes
    reason: Reason


@dataclass(frozen=True)
class Aggregate:
    """The agreed step [P] in units of 2^-18, the f it was robust against, the devices the norm cap shortened, and
    those the rule left out or found far off; both ascending by device id."""

    step: I64
    hostile: int
    capped: tuple[bytes, ...]
    rejected: tuple[Rejection, ...] = ()


@dataclass(frozen=True)
class ServerState:
    """Master model and server momentum, both int32 [P] in units of 2^-20."""

    master: I32
    momentum: I32


def aggregate(updates: Mapping[bytes, I16], plan: LearningPlan, registered: int) -> Aggregate:
    """The step that the updates (device id -> int16 [P]) agree on.

    f is taken from the registered devices, not from those that answered, but never so large that fewer than one value
    per coordinate would remain (n > 2f). Raises ValueError for no update, too many, rows of unequal length or beyond
    MAX_PARAMETERS.
    """
    if not 1 <= len(updates) <= MAX_DEVICES:
        raise ValueError(f"aggregate: {len(updates)} updates; a round has 1 to {MAX_DEVICES}")
    order = sorted(updates)
    rows = np.stack([updates[device].astype(np.int64) for device in order])
    if rows.ndim != 2 or rows.shape[1] > MAX_PARAMETERS:
        raise ValueError(f"aggregate: updates have shape {rows.shape[1:]}; give one row of at most {MAX_PARAMETERS}")
    hostile = min(plan.hostile_devices(registered), (len(rows) - 1) // 2)
    rows, capped = cap_norms(rows, plan.norm_cap_num, plan.norm_cap_den)
    settings = Settings(plan.rule_iterations, plan.radius_num, plan.radius_den)
    outcome = rules.BY_NAME[plan.rule](rows, hostile, settings)
    rejected = () if outcome.reason is None else tuple(Rejection(order[i], outcome.reason) for i in outcome.rejected)
    return Aggregate(outcome.step, hostile, tuple(order[index] for index in capped), rejected)


def apply_step(state: ServerState, step: I64, plan: LearningPlan) -> ServerState:
    """momentum' = momentum * num/den + step; master' = master + momentum' (FedAvgM, Hsu et al. 2019), both clipped
    to int32."""
    kept = divide_round(state.momentum.astype(np.int64) * plan.momentum_num, plan.momentum_den)
    momentum = np.clip(kept + (step << _STEP_SHIFT), -MASTER_LIMIT, MASTER_LIMIT)
    master = np.clip(state.master.astype(np.int64) + momentum, -MASTER_LIMIT, MASTER_LIMIT)
    return ServerState(master.astype(np.int32), momentum.astype(np.int32))
