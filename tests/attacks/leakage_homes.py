"""Seeded homes and their updates to a small network, for tests of what updates tell."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from openmg.forecast.model import initial_master
from openmg.forecast.spec import ForecastSpec
from openmg.forecast.trainer import get_trainer
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import update_from_bytes
from openmg.member.learner import LocalLearner
from openmg.member.spans import of_home
from workbench.attacks.inversion import F64
from workbench.ppdl_train.homes import device_of

START_HOUR = 19_600 * 24
TRAIN_HOURS, EVALUATION_HOURS = 240, 48
SPEC = ForecastSpec(lag_hours=24, hidden=(32, 16))
PLAN = LearningPlan(
    evaluation_start_hour=START_HOUR + TRAIN_HOURS,
    train_hours=TRAIN_HOURS,
    evaluation_hours=EVALUATION_HOURS,
    spec=SPEC,
    utc_offset_hours=0,
    local_steps=10,
    clip_milli=300,
)
MASTER = initial_master(SPEC, b"leakage")
TRAINER = get_trainer(SPEC, "numpy")


def private(multiplier: float = 0.0) -> LearningPlan:
    """The plan that opens sums only, with noise of that multiplier."""
    noise = {"noise_multiplier_milli": round(1000 * multiplier), "epsilon_budget_micro": 10**9} if multiplier else {}
    mode = "secagg_dp" if multiplier else "secagg"
    return replace(PLAN, privacy=mode, rule="mean", min_participants=5, **noise)


def energy_wh(seed: int) -> list[int]:
    """A morning and an evening peak at the home's own hours, ragged, hour by hour from midnight."""
    random = np.random.default_rng(seed)
    hour = np.arange(TRAIN_HOURS + EVALUATION_HOURS) % 24
    evening = np.exp(-((hour - random.uniform(17, 21)) ** 2) / random.uniform(2, 8))
    morning = np.exp(-((hour - random.uniform(6, 9)) ** 2) / 3) * random.uniform(0, 0.8)
    ragged = random.lognormal(sigma=0.4, size=len(hour))
    return [int(value) for value in (80 + 600 * evening + 500 * morning) * ragged]


@dataclass(frozen=True)
class Sent:
    """A home, its readings in deviations, and the update that it sends in round 0."""

    learner: LocalLearner
    values: F64
    update: np.ndarray


def sent(seed: int) -> Sent:
    """The home of that seed."""
    energy = energy_wh(seed)
    learner = LocalLearner(device_of(seed), PLAN, of_home(lambda _: (START_HOUR, energy)), TRAINER)
    update = update_from_bytes(SPEC, learner.train(MASTER, 0).update_int16)
    return Sent(learner, learner.spans.standard.apply(np.array(energy[:TRAIN_HOURS], float)), update)
