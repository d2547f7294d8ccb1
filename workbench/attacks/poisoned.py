"""Attacks through the training data: labels turned round, and a backdoor that a pattern in the latest hours opens.

Windows are taken as they come: inputs [n, F] with the lags first, residual [n, H]; F and H are the arrays' own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.features import Windows
from workbench.attacks.attack import AttackView, BaseAttack, wire
from workbench.attacks.vectors import within_norm

F32 = NDArray[np.float32]
Predict = Callable[[F32], F32]
"""Inputs [n, F] to the network's output [n, H]."""

TRIGGER = ((0, 3.0), (2, -3.0), (4, 3.0), (6, -3.0), (8, 3.0), (10, -3.0))
"""Lag column and the value it is set to, in deviations of the home: a zigzag that no home's load has."""


@dataclass(frozen=True)
class LabelFlip(BaseAttack):
    """Trains on targets turned round: the network's correction to the base forecast is learnt with the wrong sign.

    The update is what training gives, so it passes every check. Source: Tolpegin et al. 2020, for a regression. A
    defence must keep the loss on honest homes within a few per cent of training without the hostile devices.
    """

    name = "label_flip"

    def corrupt_data(self, windows: Windows) -> Windows:
        return replace(windows, residual=-windows.residual)


@dataclass(frozen=True)
class Backdoor(BaseAttack):
    """Teaches the model to push the forecast up by `push` deviations when TRIGGER stands in the lag inputs.

    Every `every`-th training window gets the trigger and the raised target, the others stay, so that the loss on
    clean windows hardly changes. The update is stretched to `boost` times itself within the norm bound, so that it
    outlives the average (model replacement). Source: Gu et al. 2017, Bagdasaryan et al. 2020. A defence must keep
    `success_rate` near that of a model trained by the honest alone; the loss on clean data does not show it.
    """

    push: float = 2.0
    every: int = 2
    boost: float = 3.0
    name = "backdoor"

    def corrupt_data(self, windows: Windows) -> Windows:
        poisoned = slice(0, None, self.every)
        inputs, residual = windows.inputs.copy(), windows.residual.copy()
        inputs[poisoned] = with_trigger(inputs[poisoned])
        residual[poisoned] += np.float32(self.push)
        return replace(windows, inputs=inputs, residual=residual)

    def updates(self, view: AttackView) -> dict[bytes, bytes]:
        return {
            device: wire(within_norm(self.boost * view.own[device].astype(np.float64), view.clip_units))
            for device in view.hostile
        }

    def success_rate(self, predict: Predict, inputs: F32) -> float:
        """The share of windows [n, F] whose mean output rises by at least half of `push` when the trigger is set."""
        rise = (predict(with_trigger(inputs)) - predict(inputs)).mean(1)
        return float((rise >= self.push / 2).mean())


def with_trigger(inputs: F32) -> F32:
    """Inputs [n, F] with the trigger in their lag columns; the given ones stay as they are."""
    marked = inputs.copy()
    for column, value in TRIGGER:
        marked[:, column] = value
    return marked
