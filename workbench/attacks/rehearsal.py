"""The hub rehearses a meter's training: from a guess of a home's readings to the update that the home would have sent.

Plan, model and round are public. A meter draws the order of its windows and the noise on its inputs from chance that it tells
nobody; a hub that knew it, or tries it out with chance of its own, is played here. With the right chance, whoever guesses the
readings right gets the update to the bit.
Rules: order, noise, rate and pull are the meter's own code (`openmg.member.learner`), which trains here with another
trainer behind it; the guess has no gaps, as a home with gaps leaves windows out.
Not here: how readings are guessed (`inversion`).
"""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.features import Almanac, Series, Standard, Windows, build_windows
from openmg.forecast.loss import QUANTILES, heads
from openmg.forecast.model import to_float, unpack
from openmg.forecast.spec import ForecastSpec
from openmg.forecast.trainer import BETA_1, BETA_2, EPSILON, AdamState
from openmg.forecast.trainer_numpy import forward
from openmg.learning.plan import UPDATE_SCALE_BITS, LearningPlan
from openmg.learning.quantise import update_from_bytes
from openmg.member.learner import LocalLearner
from openmg.member.spans import Spans

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I16 = NDArray[np.int16]
I32 = NDArray[np.int32]

_UNIT = Standard(0.0, 1.0)
"""Guesses are in units of the home's own deviation already."""


class SoftTrainer:
    """`openmg.forecast.trainer.Trainer` whose pinball loss has a corner rounded off over 2 * `softness` deviations.

    The true slope of that loss jumps where a reading passes a quantile, so an update is no smooth function of the
    readings; a rounded one has a derivative to follow. With softness 0 it is the numpy trainer. It keeps the weights of
    its last step, before anything is clipped or rounded.
    """

    name = "soft"

    def __init__(self, spec: ForecastSpec, softness: float = 0.0) -> None:
        self.spec, self.softness = spec, softness
        self.last = np.zeros(spec.parameters, np.float32)

    def step(
        self, state: AdamState, inputs: F32, residual: F32, *, anchor: F32, learning_rate: float, prox: float
    ) -> tuple[AdamState, float]:
        gradient = self._gradient(state.weights, inputs, residual) + np.float32(prox) * (state.weights - anchor)
        steps = state.steps + 1
        first = np.float32(BETA_1) * state.first_moment + np.float32(1 - BETA_1) * gradient
        second = np.float32(BETA_2) * state.second_moment + np.float32(1 - BETA_2) * gradient * gradient
        rate = np.float32(learning_rate * sqrt(1 - BETA_2**steps) / (1 - BETA_1**steps))
        self.last = state.weights - rate * first / (np.sqrt(second) + np.float32(EPSILON))
        return AdamState(self.last, first, second, steps), 0.0

    def predict(self, weights: F32, inputs: F32) -> F32:
        return forward(self.spec, weights, inputs)[2]

    def _gradient(self, weights: F32, inputs: F32, residual: F32) -> F32:
        _, _, w2, _, w3, _ = unpack(self.spec, weights)
        hidden_1, hidden_2, output = forward(self.spec, weights, inputs)
        mean, quantiles = heads(output)
        over = quantiles - residual[:, None, :]
        above = np.clip(0.5 + over / (2 * self.softness), 0, 1) if self.softness else over > 0
        slope_mean = (mean - residual) * np.float32(2.0 / residual.size)
        slope_quantiles = (above - QUANTILES) * np.float32(1.0 / quantiles.size)
        d_output = np.concatenate([slope_mean, slope_quantiles.reshape(len(output), -1)], axis=1)
        d_hidden_2 = (d_output @ w3.T) * (hidden_2 > 0)
        d_hidden_1 = (d_hidden_2 @ w2.T) * (hidden_1 > 0)
        weights_and_biases = [
            (inputs.T @ d_hidden_1, d_hidden_1.sum(0)),
            (hidden_1.T @ d_hidden_2, d_hidden_2.sum(0)),
            (hidden_2.T @ d_output, d_output.sum(0)),
        ]
        flat = np.concatenate([part.ravel() for layer in weights_and_biases for part in layer])
        return np.asarray(flat, dtype=np.float32)


class Rehearsal:
    """One meter's training in one round, as the hub can repeat it."""

    def __init__(self, plan: LearningPlan, master: I32, round_number: int, chance: bytes) -> None:
        self.plan, self.master, self.round, self.chance = plan, master, round_number, chance
        self.hours = plan.train_hours
        spec = plan.spec
        self._start = to_float(master)
        self._origins = np.arange(spec.min_history_steps, self.steps - spec.horizon_steps + 1, dtype=np.int64)

    @property
    def steps(self) -> int:
        """Readings of the training span."""
        return self.hours * self.plan.spec.steps_per_hour

    def windows(self, values: F64) -> Windows:
        """The training windows of standardised readings [steps]."""
        almanac = Almanac(frozenset(self.plan.holiday_days), self.plan.utc_offset_hours)
        start = (self.plan.evaluation_start_hour - self.hours) * self.plan.spec.steps_per_hour
        return build_windows(self.plan.spec, Series(values, start, almanac), self._origins)

    def sent(self, values: F64) -> I16:
        """What the meter would send, in units of 2^-18."""
        data, _ = self._trained(values, 0.0)
        return update_from_bytes(self.plan.spec, data)

    def update(self, values: F64, softness: float = 0.0) -> F32:
        """The same before it is rounded, so that it follows small changes of the readings. Rounding may then shorten it by a
        thousandth (`openmg.learning.quantise`)."""
        _, weights = self._trained(values, softness)
        difference = (weights - self._start) * np.float32(2.0**UPDATE_SCALE_BITS)
        norm = float(np.linalg.norm(difference))
        return np.asarray(difference * np.float32(min(1.0, self.plan.clip_units / norm) if norm else 1.0))

    def _trained(self, values: F64, softness: float) -> tuple[bytes, F32]:
        windows, trainer = self.windows(values), SoftTrainer(self.plan.spec, softness)
        one = Windows(windows.origins[:1], windows.inputs[:1], windows.base[:1], windows.residual[:1])
        learner = LocalLearner.of_spans(self.chance, self.plan, Spans(_UNIT, windows, one), trainer)
        return learner.train(self.master, self.round).update_int16, trainer.last
