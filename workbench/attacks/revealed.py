"""What a curious hub learns of a round in each privacy mode: an update, a sum of updates, or a sum with noise.

Rules: sums and noise are those of the meters' own code (`openmg.learning.secure`); the masks themselves are left out, since
an opened sum equals the plain one (tests/learning_secure). All members add their noise and none drops out: then a sum
carries the most noise that a round can have, and with a third gone or in league with the hub it carries less.
Not here: what the hub makes of it (`inversion`, `presence`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openmg.learning.plan import MIN_PRIVATE_PARTICIPANTS, LearningPlan
from openmg.learning.secure.noise import member_noise, member_variance
from openmg.learning.secure.terms import default_threshold
from workbench.attacks.vectors import stacked

F64 = NDArray[np.float64]
I16 = NDArray[np.int16]


@dataclass(frozen=True)
class Revealed:
    """Values [P] in units of 2^-18, the number of homes whose updates are in them, and the variance of the noise in each."""

    total: F64
    members: int
    noise_variance: float = 0.0

    @property
    def mean(self) -> F64:
        """The update of the average member."""
        return self.total / self.members


def reveal(plan: LearningPlan, updates: Sequence[I16], noise_seed: bytes = bytes(32)) -> tuple[Revealed, ...]:
    """What the hub sees of these updates of one round: each by itself, or their one sum.

    The noise is one draw of the members' variances together; a sum of discrete Gaussians differs from it by less than
    `openmg.learning.secure.noise` counts. Raises ValueError for a sum of too few.
    """
    if plan.privacy == "none":
        return tuple(Revealed(update.astype(np.float64), 1) for update in updates)
    members = len(updates)
    if members < MIN_PRIVATE_PARTICIPANTS:
        raise ValueError(f"revealed: no sum of {members} updates is opened; give {MIN_PRIVATE_PARTICIPANTS} or more")
    total = stacked(updates).sum(0)
    if plan.privacy == "secagg":
        return (Revealed(total, members),)
    variance = members * member_variance(plan.noise_multiplier_milli, plan.clip_units, default_threshold(members))
    return (Revealed(total + member_noise(variance, len(total), noise_seed), members, float(variance)),)
