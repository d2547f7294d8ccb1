"""The personal layer: the agreed model's last layer, fitted to one home, for that home's own forecasts only.

Rules: it never leaves the meter, and no round sees it. The hidden layers stay those of the agreed model; the last one is
trained on the home's windows but for the latest, drawn to the agreed one, and kept only if it does better on those.
Not here: the rounds (`learner`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.features import Windows
from openmg.forecast.loss import loss
from openmg.forecast.model import to_float
from openmg.forecast.trainer import BATCH_ROWS, AdamState, Trainer
from openmg.member.spans import Spans

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

STEPS = 300
LEARNING_RATE = 5e-4
PROX = 1e-2
"""How strongly the layer is drawn to the agreed one."""
HELD_BACK = 8
"""One part in so many of the training windows, the latest, decides whether the layer is kept."""


@dataclass(frozen=True)
class PersonalModel:
    """Weights [P] for one home's forecasts, and whether they differ from the agreed ones."""

    weights: F32
    kept: bool


def personalise(trainer: Trainer, master: I32, spans: Spans, seed: int) -> PersonalModel:
    """The model with a last layer of this home's own, or the agreed one where that is better."""
    agreed = to_float(master)
    windows = spans.train
    cut = len(windows) - len(windows) // HELD_BACK
    # The held-back targets overlap the last training targets by less than a horizon.
    past, latest = _rows(windows, 0, cut - trainer.spec.horizon_steps), _rows(windows, cut, len(windows))
    if len(past) < BATCH_ROWS or len(latest) == 0:
        return PersonalModel(agreed, False)
    trial = _fit(trainer, agreed, past, seed)
    if _loss(trainer, trial, latest) >= _loss(trainer, agreed, latest):
        return PersonalModel(agreed, False)
    return PersonalModel(_fit(trainer, agreed, windows, seed), True)


def _fit(trainer: Trainer, agreed: F32, windows: Windows, seed: int) -> F32:
    """`STEPS` steps of the last layer."""
    frozen = trainer.spec.offsets[-2]
    random = np.random.default_rng(seed)
    state = AdamState.start(agreed)
    for _ in range(STEPS):
        rows = random.integers(0, len(windows), BATCH_ROWS)
        state, _ = trainer.step(
            state, windows.inputs[rows], windows.residual[rows], anchor=agreed, learning_rate=LEARNING_RATE, prox=PROX
        )
        weights = state.weights.copy()
        weights[:frozen] = agreed[:frozen]
        state = AdamState(weights, state.first_moment, state.second_moment, state.steps)
    return state.weights


def _rows(windows: Windows, first: int, end: int) -> Windows:
    cut = slice(first, max(first, end))
    return Windows(windows.origins[cut], windows.inputs[cut], windows.base[cut], windows.residual[cut])


def _loss(trainer: Trainer, weights: F32, windows: Windows) -> float:
    return loss(trainer.predict(weights, windows.inputs), windows.residual)
