"""The forecaster in plain numpy: reference for every other back end, and fallback where no interpreter exists.

Backpropagation and Adam are written out, float32 throughout. Not here: anything another module would want to change.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.loss import loss_and_slope
from openmg.forecast.model import unpack
from openmg.forecast.spec import ForecastSpec
from openmg.forecast.trainer import BETA_1, BETA_2, EPSILON, AdamState

F32 = NDArray[np.float32]


def forward(spec: ForecastSpec, weights: F32, inputs: F32) -> tuple[F32, F32, F32]:
    """Activations of both hidden layers and the output [n, 4H], for inputs [n, F]."""
    w1, b1, w2, b2, w3, b3 = unpack(spec, weights)
    hidden_1 = np.maximum(inputs @ w1 + b1, np.float32(0))
    hidden_2 = np.maximum(hidden_1 @ w2 + b2, np.float32(0))
    return hidden_1, hidden_2, hidden_2 @ w3 + b3


def loss_and_gradient(spec: ForecastSpec, weights: F32, inputs: F32, residual: F32) -> tuple[float, F32]:
    """The loss of `openmg.forecast.loss` over a batch and its gradient as one flat vector."""
    _, _, w2, _, w3, _ = unpack(spec, weights)
    hidden_1, hidden_2, output = forward(spec, weights, inputs)
    loss, d_output = loss_and_slope(output, residual)
    d_hidden_2 = (d_output @ w3.T) * (hidden_2 > 0)
    d_hidden_1 = (d_hidden_2 @ w2.T) * (hidden_1 > 0)
    gradient = np.concatenate(
        [
            (inputs.T @ d_hidden_1).ravel(),
            d_hidden_1.sum(0),
            (hidden_1.T @ d_hidden_2).ravel(),
            d_hidden_2.sum(0),
            (hidden_2.T @ d_output).ravel(),
            d_output.sum(0),
        ]
    )
    return loss, gradient.astype(np.float32, copy=False)


class NumpyTrainer:
    """`openmg.forecast.trainer.Trainer` without any dependency but numpy."""

    name = "numpy"

    def __init__(self, spec: ForecastSpec) -> None:
        self.spec = spec

    def step(
        self, state: AdamState, inputs: F32, residual: F32, *, anchor: F32, learning_rate: float, prox: float
    ) -> tuple[AdamState, float]:
        loss, gradient = loss_and_gradient(self.spec, state.weights, inputs, residual)
        gradient = gradient + np.float32(prox) * (state.weights - anchor)
        steps = state.steps + 1
        first = np.float32(BETA_1) * state.first_moment + np.float32(1 - BETA_1) * gradient
        second = np.float32(BETA_2) * state.second_moment + np.float32(1 - BETA_2) * gradient * gradient
        rate = np.float32(learning_rate * sqrt(1 - BETA_2**steps) / (1 - BETA_1**steps))
        change = rate * first / (np.sqrt(second) + np.float32(EPSILON))
        weights: F32 = (state.weights - change).astype(np.float32, copy=False)
        return AdamState(weights, first, second, steps), loss

    def predict(self, weights: F32, inputs: F32) -> F32:
        return forward(self.spec, weights, inputs)[2]
