"""Attacks that turn or stretch the update: sign flips, and values as large as int16 or the norm bound allow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openmg.learning.quantise import INT16_LIMIT
from workbench.attacks.attack import AttackView, BaseAttack, wire
from workbench.attacks.vectors import saturated, within_norm

OVERLONG = 1.5
"""How far beyond the norm bound an unclipped attack goes at least."""


@dataclass(frozen=True)
class SignFlip(BaseAttack):
    """Sends -factor times its honest update, shortened to the norm bound, so that replicas admit it.

    Source: Li et al. 2019 (RSA), Karimireddy et al. 2021. A defence must keep the model near what the honest alone
    would make, and should name the devices: their updates point the other way.
    """

    factor: float = 3.0
    name = "sign_flip"

    def updates(self, view: AttackView) -> dict[bytes, bytes]:
        return {
            device: wire(within_norm(-self.factor * view.own[device].astype(np.float64), view.clip_units))
            for device in view.hostile
        }


@dataclass(frozen=True)
class UnclippedSignFlip(BaseAttack):
    """Sends -factor times its honest update, or more, until it is OVERLONG times the norm bound.

    An honest update of nothing but noughts stays as it is, and a very short vector of weights cannot be that long in
    int16. A defence must refuse the update before the aggregate.
    """

    factor: float = 3.0
    name = "unclipped_sign_flip"

    def updates(self, view: AttackView) -> dict[bytes, bytes]:
        sent = {}
        for device in view.hostile:
            own = view.own[device].astype(np.float64)
            length = float(np.linalg.norm(own))
            factor = max(self.factor, OVERLONG * view.clip_units / length) if length else 0.0
            sent[device] = wire(saturated(-factor * own))
        return sent


@dataclass(frozen=True)
class HugeValues(BaseAttack):
    """Sends the largest int16 value in each weight, against the sign of its honest update.

    A defence must refuse it: it is far longer than the norm bound.
    """

    name = "huge_values"

    def updates(self, view: AttackView) -> dict[bytes, bytes]:
        own = view.own
        return {device: wire(np.where(own[device] > 0, -INT16_LIMIT, INT16_LIMIT).astype(np.int16)) for device in view.hostile}


@dataclass(frozen=True)
class Spikes(BaseAttack):
    """Spends the whole norm bound on the few weights that its honest update moves most, each as large as int16 allows.

    It passes the norm check, and the norm cap shortens it only where the honest updates are shorter. A defence must
    let no single weight run away: coordinate-wise rules do so, an average does not.
    """

    name = "spikes"

    def updates(self, view: AttackView) -> dict[bytes, bytes]:
        sent = {}
        for device in view.hostile:
            own = view.own[device]
            size = min(INT16_LIMIT, view.clip_units)
            largest = np.argsort(-np.abs(own.astype(np.int64)), kind="stable")[: (view.clip_units // size) ** 2]
            spikes = np.zeros_like(own)
            spikes[largest] = np.where(own[largest] > 0, -size, size)
            sent[device] = wire(spikes)
        return sent
