"""The personal layer: it helps a home that differs, is dropped where it does not help, and leaves the hidden layers alone."""

from __future__ import annotations

import numpy as np
import pytest
from learning_homes import START_HOUR, synthetic_homes

from edge_agent.learning import personal
from openmg.forecast.features import Windows
from openmg.forecast.loss import loss
from openmg.forecast.model import initial_master, to_float
from openmg.forecast.spec import NET_ENERGY
from openmg.forecast.trainer_numpy import NumpyTrainer
from openmg.learning.plan import LearningPlan
from openmg.member.spans import Spans, spans_of

PLAN = LearningPlan(evaluation_start_hour=START_HOUR + 672)
MASTER = initial_master(NET_ENERGY, PLAN.seed)
TRAINER = NumpyTrainer(NET_ENERGY)


@pytest.fixture(scope="module")
def spans() -> Spans:
    home = synthetic_homes(3, seed=2)[2]
    return spans_of(PLAN, lambda minutes: (START_HOUR, home))


def shifted(windows: Windows, by: float) -> Windows:
    return Windows(windows.origins, windows.inputs, windows.base, windows.residual + np.float32(by))


def test_a_home_with_a_habit_of_its_own_gets_a_layer_that_fits_it(spans: Spans) -> None:
    own = Spans(spans.standard, shifted(spans.train, 0.8), shifted(spans.held_out, 0.8))
    model = personal.personalise(TRAINER, MASTER, own, seed=1)
    assert model.kept
    before, after = (
        loss(TRAINER.predict(weights, own.held_out.inputs), own.held_out.residual)
        for weights in (to_float(MASTER), model.weights)
    )
    assert after < 0.9 * before


def test_only_the_last_layer_is_personal(spans: Spans) -> None:
    own = Spans(spans.standard, shifted(spans.train, 0.8), spans.held_out)
    model = personal.personalise(TRAINER, MASTER, own, seed=1)
    frozen = NET_ENERGY.offsets[-2]
    assert np.array_equal(model.weights[:frozen], to_float(MASTER)[:frozen])
    assert not np.array_equal(model.weights[frozen:], to_float(MASTER)[frozen:])


def test_a_layer_that_does_worse_on_the_latest_days_is_dropped(spans: Spans) -> None:
    windows = spans.train
    turned = windows.residual.copy()
    turned[: len(turned) * 3 // 4] += 2.0  # a habit that has ended
    model = personal.personalise(
        TRAINER, MASTER, Spans(spans.standard, Windows(windows.origins, windows.inputs, windows.base, turned), windows), 1
    )
    assert not model.kept and np.array_equal(model.weights, to_float(MASTER))


def test_too_few_windows_leave_the_agreed_model(spans: Spans) -> None:
    few = Windows(spans.train.origins[:40], spans.train.inputs[:40], spans.train.base[:40], spans.train.residual[:40])
    assert not personal.personalise(TRAINER, MASTER, Spans(spans.standard, few, few), 1).kept
