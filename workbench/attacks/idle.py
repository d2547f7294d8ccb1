"""Devices that take the model and train nothing: free riders, copycats, stale and repeated updates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.attacks.attack import AttackView, BaseAttack, wire
from workbench.attacks.vectors import decode, stacked, within_norm


@dataclass(frozen=True)
class FreeRiderZeros(BaseAttack):
    """Sends noughts. Source: Lin et al. 2019.

    A defence must not be slowed more than by the missing share, and must not let noughts set the norm cap.
    """

    name = "free_rider_zeros"

    def updates(self, view: AttackView) -> dict[bytes, bytes]:
        return {device: wire(np.zeros_like(view.own[device])) for device in view.hostile}


@dataclass(frozen=True)
class FreeRiderReplay(BaseAttack):
    """Sends the last agreed step again, as if it had trained to the same end, with `noise` of its own deviation added
    so that no two devices send the same.

    Without the step it takes the mean of the last round's updates, in the first round noughts. Source: Fraboni et al.
    2021. A defence must keep learning; the update looks honest.
    """

    noise: float = 0.1
    name = "free_rider_replay"

    def updates(self, view: AttackView) -> dict[bytes, bytes]:
        sent = {}
        for device in view.hostile:
            step = _last_step(view, len(view.own[device]))
            disguise = self.noise * step.std() * view.generator.standard_normal(len(step))
            sent[device] = wire(within_norm(step + disguise, view.clip_units))
        return sent


def _last_step(view: AttackView, width: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    if view.global_step is not None:
        return view.global_step.astype(np.float64)
    seen = (decode(view.previous[device], width) for device in sorted(view.previous))
    known = [update for update in seen if update is not None]
    return np.asarray(stacked(known).mean(0)) if known else np.zeros(width)


@dataclass(frozen=True)
class Copycat(BaseAttack):
    """Each hostile device sends an honest device's update of the same round as its own, picked by chance.

    Source: the lazy clients of Li et al. 2020 (BLADE-FL). A defence must see to it that updates cannot be read
    before the round closes (commit and reveal), or that equal updates count once; a robust rule does not notice.
    """

    name = "copycat"

    def updates(self, view: AttackView) -> dict[bytes, bytes]:
        victims = sorted(view.honest)
        if not victims:
            return super().updates(view)
        picks = view.generator.integers(len(victims), size=len(view.hostile))
        return {device: wire(view.honest[victims[pick]]) for device, pick in zip(view.hostile, picks, strict=True)}


@dataclass(frozen=True)
class StaleRound(BaseAttack):
    """Sends the update that it made in the round before, under this round's number and model.

    In the first round it sends its honest update. A defence must keep converging with gradients one round old; it
    cannot see from the bytes which model they were trained on.
    """

    name = "stale_round"

    def updates(self, view: AttackView) -> dict[bytes, bytes]:
        return {device: view.previous.get(device, wire(view.own[device])) for device in view.hostile}


@dataclass(frozen=True)
class ReplayedMessage(BaseAttack):
    """Sends last round's message once more as it was, so it names the last round; nothing in the first.

    A defence must refuse it by its round and base model, which the signature covers.
    """

    name = "replayed_message"

    def updates(self, view: AttackView) -> dict[bytes, bytes]:
        return {device: view.previous[device] for device in view.hostile if device in view.previous}

    def named_round(self, view: AttackView) -> int:
        return view.round - 1
