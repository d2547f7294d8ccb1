"""Attacks of an omniscient adversary that hides among the honest updates: ALIE, inner product, min-max.

All hostile devices send the same update, reckoned from the honest ones of the same round.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from workbench.attacks.attack import AttackView, BaseAttack, wire
from workbench.attacks.vectors import F64, honest_rows, within_norm

BISECTIONS = 40
"""Halvings of the interval in which min-max seeks its factor: below one part in 2^40."""
LARGEST_FACTOR = 1e4


class _SameForAll(BaseAttack, ABC):
    @abstractmethod
    def vector(self, view: AttackView, rows: F64) -> F64:
        """What each hostile device sends, before it is shortened and rounded, from the honest rows [n, P]."""

    def updates(self, view: AttackView) -> dict[bytes, bytes]:
        sent = wire(within_norm(self.vector(view, honest_rows(view)), view.clip_units))
        return dict.fromkeys(view.hostile, sent)


@dataclass(frozen=True)
class Alie(_SameForAll):
    """A Little Is Enough: mean less z deviations in each weight, z so small that enough honest devices lie further out.

    z is the quantile of (n - m - s) / (n - m) with s = n // 2 + 1 - m supporters among the n - m honest, as in the
    paper, unless it is given. Source: Baruch et al. 2019. A defence must bound what such a shift adds up to over
    rounds; it cannot name the devices, which lie among the honest by construction.
    """

    z: float | None = None
    name = "alie"

    def vector(self, view: AttackView, rows: F64) -> F64:
        z = quantile(len(view.hostile) + len(view.honest), len(view.hostile)) if self.z is None else self.z
        return np.asarray(rows.mean(0) - z * rows.std(0))


def quantile(devices: int, hostile: int) -> float:
    """ALIE's z, nought where the quantile lies below the middle, as with one or two hostile devices."""
    honest = devices - hostile
    supporters = devices // 2 + 1 - hostile
    share = (honest - supporters) / honest if honest else 0.5
    return max(0.0, NormalDist().inv_cdf(min(max(share, 0.5), 1 - 1e-6)))


@dataclass(frozen=True)
class InnerProduct(_SameForAll):
    """Inner-product manipulation: minus the honest mean, so that the aggregate points away from the descent.

    With `norm_matched` it is as long as the median honest update, which no norm cap touches; else it is -epsilon
    times the mean. Source: Xie et al. 2020. A defence must give a step whose inner product with the honest mean is
    positive.
    """

    epsilon: float = 1.0
    norm_matched: bool = True
    name = "inner_product"

    def vector(self, view: AttackView, rows: F64) -> F64:
        mean = rows.mean(0)
        length = float(np.linalg.norm(mean))
        if not self.norm_matched or not length:
            return np.asarray(-self.epsilon * mean)
        return np.asarray(-mean * (float(np.median(np.linalg.norm(rows, axis=1))) / length))


@dataclass(frozen=True)
class MinMax(_SameForAll):
    """Min-max: as far from the honest mean as keeps it no further from any honest update than two of them are apart.

    The direction is minus the deviation of each weight, the strongest of the paper's three. Source: Shejwalkar and
    Houmansadr 2021. A defence must bound the damage; distances alone cannot tell such an update from an honest one.
    """

    name = "min_max"

    def vector(self, view: AttackView, rows: F64) -> F64:
        mean, direction = rows.mean(0), -rows.std(0)
        allowed = widest(rows)
        low, high = 0.0, LARGEST_FACTOR
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            furthest = float(np.linalg.norm(rows - (mean + middle * direction), axis=1).max())
            low, high = (middle, high) if furthest <= allowed else (low, middle)
        return np.asarray(mean + low * direction)


def widest(rows: F64) -> float:
    """The largest distance between two rows."""
    return max(float(np.linalg.norm(rows - row, axis=1).max()) for row in rows)
