"""One home's learner: nobody trains on the evaluation span, the same round gives the same update, gaps are told."""

from __future__ import annotations

import numpy as np
import pytest
from learning_homes import HOURS, START_HOUR, synthetic_homes

from edge_agent.learning.learner import LearnerNotReady, LocalLearner
from openmg.forecast.fixedpoint import forecast_wh
from openmg.forecast.model import initial_master
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import model_hash, norm_units, update_from_bytes

PLAN = LearningPlan(evaluation_start_hour=START_HOUR + 672)
MASTER = initial_master(PLAN.seed)
HOME = synthetic_homes(3, seed=2)[2]


def learner(history: list[int | None], start_hour: int = START_HOUR, device: int = 1) -> LocalLearner:
    return LocalLearner(bytes([device]) * 20, PLAN, lambda: (start_hour, history))


def test_the_update_does_not_depend_on_the_evaluation_span_and_the_loss_only_on_it_and_the_past() -> None:
    changed = [*HOME[:672], *(value * 3 + 50 for value in HOME[672:])]
    ours, other = learner(list(HOME)).train(MASTER, 4), learner(list(changed)).train(MASTER, 4)
    assert ours.update_int16 == other.update_int16
    assert ours.loss_micro != other.loss_micro


def test_hours_after_the_evaluation_span_change_nothing() -> None:
    longer = [*HOME, *([10_000] * 48)]
    ours, other = learner(list(HOME)).train(MASTER, 0), learner(list(longer)).train(MASTER, 0)
    assert (ours.update_int16, ours.loss_micro) == (other.update_int16, other.loss_micro)


def test_a_history_that_begins_earlier_gives_the_same() -> None:
    earlier = [*([123] * 100), *HOME]
    ours, other = learner(list(HOME)), learner(list(earlier), START_HOUR - 100)
    assert ours.train(MASTER, 0).update_int16 == other.train(MASTER, 0).update_int16


def test_result_names_round_model_and_size() -> None:
    result = learner(list(HOME)).train(MASTER, 9)
    assert result.round == 9 and result.base_hash == model_hash(MASTER)
    assert result.n_samples == 672 - 24 - 168 + 1
    assert 0 < norm_units(update_from_bytes(result.update_int16)) <= PLAN.clip_units
    assert result.loss_micro == learner(list(HOME)).evaluate(MASTER)


def test_batches_depend_on_device_and_round_only() -> None:
    first = learner(list(HOME)).train(MASTER, 1).update_int16
    assert learner(list(HOME)).train(MASTER, 1).update_int16 == first
    assert learner(list(HOME)).train(MASTER, 2).update_int16 != first
    assert learner(list(HOME), device=2).train(MASTER, 1).update_int16 != first


@pytest.mark.parametrize(
    ("history", "start_hour", "problem"),
    [
        ([], 0, "import the home's history"),
        (list(HOME[:839]), START_HOUR, "import the home's history"),
        (list(HOME), START_HOUR + 600, "import the home's history"),
        ([None] * HOURS, START_HOUR, "no hour of the training span"),
        ([value if i % 20 else None for i, value in enumerate(HOME)], START_HOUR, "gaps"),
    ],
)
def test_what_is_missing_is_told(history: list[int | None], start_hour: int, problem: str) -> None:
    subject = learner(history, start_hour)
    assert not subject.ready()
    with pytest.raises(LearnerNotReady, match=problem):
        subject.train(MASTER, 0)


def test_a_refused_home_is_asked_again() -> None:
    history: list[int | None] = []
    subject = learner(history)
    assert not subject.ready()
    history.extend(HOME)
    assert subject.ready()


def test_a_single_gap_is_survived() -> None:
    history: list[int | None] = list(HOME)
    history[500] = None
    result = learner(history).train(MASTER, 0)
    assert 300 < result.n_samples < 481


def test_own_forecast_is_close_to_the_integer_forecast() -> None:
    ours = np.array(learner(list(HOME)).forecast_wh(MASTER))
    vouched = np.array(forecast_wh(MASTER, HOME, START_HOUR + HOURS, (), 9))
    assert ours.shape == (24,)
    # The vouched one standardises by the latest four weeks, the home by its training span.
    assert np.corrcoef(ours, vouched)[0, 1] > 0.99
    with pytest.raises(LearnerNotReady, match="gaps"):
        learner([*HOME, None]).forecast_wh(MASTER)
