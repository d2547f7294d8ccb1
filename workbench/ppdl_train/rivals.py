"""What the federated model is compared with: pooled data, one home alone, and forecasts without a model.

Rules: the same network, loss and optimiser as the federated model; the pooled one sees all honest homes' windows, which is
what promise two forbids and the measure of what keeping data at home costs. Floats, because none of these is agreed on.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.features import Windows
from openmg.forecast.metrics import Forecast
from openmg.forecast.model import initial_master, to_float
from openmg.forecast.trainer import BATCH_ROWS, AdamState, Trainer
from openmg.forecast.trainer_numpy import NumpyTrainer
from openmg.learning.plan import LearningPlan
from workbench.ppdl_train.homes import Fleet, Home
from workbench.ppdl_train.households import Household

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

POOLED_BATCH_ROWS = 512
POOLED_STEPS = 6_000
POOLED_RATE = 2e-3
LOCAL_STEPS = 400
LOCAL_RATE = 1e-3
REPORT_EVERY = 200


def centralised(fleet: Fleet, plan: LearningPlan, seed: int, progress: Callable[[str], None]) -> F32:
    """One model on the pooled windows of the honest homes."""
    inputs = np.concatenate([home.spans.train.inputs for home in fleet.honest])
    residual = np.concatenate([home.spans.train.residual for home in fleet.honest])
    trainer = NumpyTrainer(plan.spec)
    random = np.random.default_rng([seed, 4])
    state = AdamState.start(to_float(initial_master(plan.spec, plan.seed)))
    for number in range(POOLED_STEPS):
        if number % REPORT_EVERY == 0:
            progress(f"pooled data, step {number} of {POOLED_STEPS}")
        rows = random.integers(0, len(inputs), POOLED_BATCH_ROWS)
        state = _step(trainer, state, inputs[rows], residual[rows], _rate(POOLED_RATE, number / POOLED_STEPS))
    return state.weights


def local_only(home: Home, trainer: Trainer, plan: LearningPlan, seed: int) -> F32:
    """One home's model from its own windows."""
    windows: Windows = home.spans.train
    random = np.random.default_rng([seed, 5, int.from_bytes(home.device[:4], "big")])
    state = AdamState.start(to_float(initial_master(plan.spec, plan.seed)))
    for number in range(LOCAL_STEPS):
        rows = random.integers(0, len(windows), BATCH_ROWS)
        rate = _rate(LOCAL_RATE, number / LOCAL_STEPS)
        state = _step(trainer, state, windows.inputs[rows], windows.residual[rows], rate)
    return state.weights


def _step(trainer: Trainer, state: AdamState, inputs: F32, residual: F32, rate: float) -> AdamState:
    return trainer.step(state, inputs, residual, anchor=state.weights, learning_rate=rate, prox=0.0)[0]


def _rate(first: float, done: float) -> float:
    """Falls to a hundredth on a cosine, so that the last steps settle (Loshchilov and Hutter 2017)."""
    return first * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * done))))


def seasonal_naive(home: Home, household: Household, plan: LearningPlan) -> Forecast:
    """As a day before the origin, day after day."""
    values, rows = _past(home, household, plan)
    day = plan.spec.steps_per_day
    steps = np.arange(plan.spec.horizon_steps)
    return Forecast(values[rows[:, None] - day + steps % day])


def mean_of_7_days(home: Home, household: Household, plan: LearningPlan) -> Forecast:
    """The mean profile of the seven days before the origin."""
    values, rows = _past(home, household, plan)
    day = plan.spec.steps_per_day
    back = rows[:, None, None] - day * np.arange(1, 8)[None, :, None] + np.arange(day)
    profile = np.nanmean(values[back], axis=1)
    return Forecast(np.tile(profile, plan.spec.horizon_steps // day))


def _past(home: Home, household: Household, plan: LearningPlan) -> tuple[F64, NDArray[np.int64]]:
    """The home's series and the index of each test origin in it."""
    spec = plan.spec
    start, energy = household.history(spec.resolution_minutes)
    values = np.array([np.nan if value is None else value for value in energy], dtype=np.float64)
    first = max(0, (plan.evaluation_start_hour - plan.train_hours) * spec.steps_per_hour - start)
    return values, home.spans.held_out.origins + first
