"""One interface for training and forecasting on the meter, and the choice of what stands behind it.

A trainer is stateless: weights and Adam's moments go in and come out as flat float32 vectors, so that a back end can be
swapped between any two steps. The back ends agree to 1e-5 per step, not to the bit; nothing agreed on chain may
depend on them. Batches have BATCH_ROWS rows because a TFLite graph is compiled for that shape; there is one graph for
each shape of network in `assets`, and a network without one is trained by numpy.
Not here: which windows and how many steps (`openmg.member.learner`), the loss (`loss`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.spec import ForecastSpec

F32 = NDArray[np.float32]

BATCH_ROWS = 32
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
"""Adam's constants (Kingma and Ba 2015, algorithm 1)."""


@dataclass(frozen=True)
class AdamState:
    """Weights and both moments after `steps` steps; each vector has `spec.parameters` float32 values."""

    weights: F32
    first_moment: F32
    second_moment: F32
    steps: int

    @classmethod
    def start(cls, weights: F32) -> AdamState:
        return cls(weights, np.zeros_like(weights), np.zeros_like(weights), 0)


class TrainerUnavailable(RuntimeError):
    """The named back end cannot run here; the message says what to install."""


class Trainer(Protocol):
    """Trains and evaluates the network of one spec."""

    @property
    def name(self) -> str: ...

    @property
    def spec(self) -> ForecastSpec: ...

    def step(
        self, state: AdamState, inputs: F32, residual: F32, *, anchor: F32, learning_rate: float, prox: float
    ) -> tuple[AdamState, float]:
        """One Adam step on a batch [32, F] / [32, H]: the new state and the batch's loss before it.

        The gradient is that of the loss of both heads (`openmg.forecast.loss`) plus prox * (weights - anchor), the FedProx
        term (Li et al. 2020, equation 2).
        """
        ...

    def predict(self, weights: F32, inputs: F32) -> F32:
        """Outputs [n, 4H] of inputs [n, F], any n: what both heads add to the base forecast."""
        ...


def run_steps(
    trainer: Trainer,
    weights: F32,
    batches: Iterable[tuple[F32, F32]],
    *,
    anchor: F32,
    learning_rate: float,
    prox: float = 0.0,
) -> tuple[F32, list[float]]:
    """Weights after one Adam step per batch, and the losses seen on the way."""
    state, losses = AdamState.start(weights), []
    for inputs, residual in batches:
        state, loss = trainer.step(state, inputs, residual, anchor=anchor, learning_rate=learning_rate, prox=prox)
        losses.append(loss)
    return state.weights, losses


def get_trainer(spec: ForecastSpec, name: str = "auto") -> Trainer:
    """The back end `tflite`, `numpy`, or with `auto` the first of them that runs here.

    Raises TrainerUnavailable when the named one does not, ValueError for an unknown name.
    """
    if name not in ("auto", "numpy", "tflite"):
        raise ValueError(f"trainer: {name!r} is unknown; use auto, tflite or numpy")
    if name != "numpy":
        from openmg.forecast.trainer_tflite import TfliteTrainer

        try:
            return TfliteTrainer(spec)
        except TrainerUnavailable:
            if name == "tflite":
                raise
    from openmg.forecast.trainer_numpy import NumpyTrainer

    return NumpyTrainer(spec)
