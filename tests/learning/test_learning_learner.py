"""One home's learner: nobody trains on the evaluation span, the same round gives the same update, gaps are told."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from learning_homes import HOURS, START_HOUR, synthetic_homes

from openmg.forecast.model import initial_master
from openmg.forecast.spec import MASTER_SCALE_BITS, NET_ENERGY, ForecastSpec
from openmg.forecast.trainer_numpy import NumpyTrainer
from openmg.learning.plan import UPDATE_SCALE_BITS, LearningPlan
from openmg.learning.quantise import model_hash, norm_units, update_from_bytes
from openmg.member.learner import MAX_LOSS_MICRO, MICRO, LocalLearner
from openmg.member.spans import LearnerNotReady, of_home

PLAN = LearningPlan(evaluation_start_hour=START_HOUR + 672)
MASTER = initial_master(PLAN.spec, PLAN.seed)
HOME = synthetic_homes(3, seed=2)[2]


def learner(history: list[int | None], start_hour: int = START_HOUR, device: int = 1) -> LocalLearner:
    return LocalLearner(bytes([device]) * 20, PLAN, of_home(lambda minutes: (start_hour, history)))


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
    assert result.round == 9 and result.base_hash == model_hash(PLAN.spec, MASTER)
    assert result.n_samples == 672 - 24 - 168 + 1
    assert 0 < norm_units(update_from_bytes(PLAN.spec, result.update_int16)) <= PLAN.clip_units
    assert result.loss_micro == learner(list(HOME)).evaluate(MASTER)


def test_batches_depend_on_device_and_round_only() -> None:
    first = learner(list(HOME)).train(MASTER, 1).update_int16
    assert learner(list(HOME)).train(MASTER, 1).update_int16 == first
    assert learner(list(HOME)).train(MASTER, 2).update_int16 != first
    assert learner(list(HOME), device=2).train(MASTER, 1).update_int16 != first


@pytest.mark.parametrize(("round_number", "micro"), [(0, 1000), (5, 505), (10, 10), (400, 10)])
def test_the_rate_falls_on_a_cosine_to_a_hundredth_and_stays_there(round_number: int, micro: int) -> None:
    def update(plan: LearningPlan) -> bytes:
        return (
            LocalLearner(b"\x01" * 20, plan, of_home(lambda minutes: (START_HOUR, HOME)))
            .train(MASTER, round_number)
            .update_int16
        )

    falling = update(replace(PLAN, rate_decay_rounds=10))
    assert falling == update(replace(PLAN, learning_rate_micro=micro))
    assert (falling == update(PLAN)) == (micro == 1000)


def test_the_first_model_is_the_base_forecast_and_one_round_at_home_betters_it() -> None:
    subject = learner(list(HOME))
    assert subject.evaluate(MASTER) == subject.baseline() > 0
    update = update_from_bytes(PLAN.spec, subject.train(MASTER, 0).update_int16)
    trained = MASTER + (update.astype(np.int32) << MASTER_SCALE_BITS - UPDATE_SCALE_BITS)
    assert subject.evaluate(trained) < 0.97 * subject.baseline()


@pytest.mark.parametrize(("minutes", "horizon"), [(30, 24), (15, 48), (60, 72)])
def test_spans_of_another_forecaster_are_the_same_hours(minutes: int, horizon: int) -> None:
    spec = ForecastSpec(resolution_minutes=minutes, horizon_hours=horizon, hidden=(8, 4))
    plan, per_hour = replace(PLAN, spec=spec), spec.steps_per_hour
    fine = [value // per_hour for value in HOME for _ in range(per_hour)]
    asked = []

    def history(resolution_minutes: int) -> tuple[int, list[int]]:
        asked.append(resolution_minutes)
        return START_HOUR * per_hour, fine

    subject, master = LocalLearner(b"\x01" * 20, plan, of_home(history)), initial_master(spec, plan.seed)
    result = subject.train(master, 0)
    assert asked == [minutes]
    assert result.base_hash == model_hash(spec, master)
    assert result.n_samples == (672 - horizon - 168) * per_hour + 1
    assert 0 < norm_units(update_from_bytes(spec, result.update_int16)) <= plan.clip_units
    longer = [*fine, *[9_999] * 500]
    other = LocalLearner(b"\x01" * 20, plan, of_home(lambda _: (START_HOUR * per_hour, longer))).train(master, 0)
    assert (other.update_int16, other.loss_micro) == (result.update_int16, result.loss_micro)
    with pytest.raises(LearnerNotReady, match=f"holds hours {START_HOUR}..{START_HOUR + 839}, the plan needs"):
        LocalLearner(b"\x01" * 20, plan, of_home(lambda _: (START_HOUR * per_hour, fine[:-1]))).train(master, 0)


@pytest.mark.parametrize(
    ("history", "start_hour", "problem"),
    [
        ([], 0, "import the home's history"),
        (list(HOME[:839]), START_HOUR, "import the home's history"),
        (list(HOME), START_HOUR + 600, "import the home's history"),
        ([None] * HOURS, START_HOUR, "no step of the training span"),
        ([value if i % 20 else None for i, value in enumerate(HOME)], START_HOUR, "gaps"),
    ],
)
def test_what_is_missing_is_told(history: list[int | None], start_hour: int, problem: str) -> None:
    with pytest.raises(LearnerNotReady, match=problem):
        learner(history, start_hour).train(MASTER, 0)


def test_a_refused_home_is_asked_again() -> None:
    history: list[int | None] = []
    subject = learner(history)
    with pytest.raises(LearnerNotReady):
        subject.evaluate(MASTER)
    history.extend(HOME)
    assert subject.evaluate(MASTER) == learner(list(HOME)).evaluate(MASTER)


def test_a_single_gap_is_survived() -> None:
    history: list[int | None] = list(HOME)
    history[500] = None
    result = learner(history).train(MASTER, 0)
    assert 300 < result.n_samples < 481


@pytest.mark.parametrize("trainer", [NumpyTrainer(NET_ENERGY), None], ids=["numpy", "auto"])
def test_an_empty_home_takes_part_with_finite_numbers(trainer: NumpyTrainer | None) -> None:
    empty = LocalLearner(b"\x01" * 20, PLAN, of_home(lambda minutes: (START_HOUR, [0] * HOURS)), trainer)
    result = empty.train(MASTER, 0)
    assert empty.baseline() == result.loss_micro == 0  # the first model is the base forecast, which is right here
    update = update_from_bytes(PLAN.spec, result.update_int16)
    assert 0 < norm_units(update) <= PLAN.clip_units
    trained = MASTER + (update.astype(np.int32) << MASTER_SCALE_BITS - UPDATE_SCALE_BITS)
    assert 0 < empty.evaluate(trained) < MICRO


def test_a_home_that_was_empty_does_not_outweigh_its_neighbours_when_somebody_moves_in() -> None:
    moved_in = [3] * 336 + [5] * 336 + [abs(value) for value in HOME[672:]]
    assert learner(list(moved_in)).evaluate(MASTER) < 1000 * MICRO


@pytest.mark.parametrize("trainer", [NumpyTrainer(NET_ENERGY), None], ids=["numpy", "auto"])
def test_a_model_of_extreme_weights_gives_a_bounded_loss_and_no_invalid_update(trainer: NumpyTrainer | None) -> None:
    extreme = np.random.default_rng(3).choice(np.array([-(2**31), 2**31 - 1]), NET_ENERGY.parameters).astype(np.int32)
    subject = LocalLearner(b"\x01" * 20, PLAN, of_home(lambda minutes: (START_HOUR, HOME)), trainer)
    with np.errstate(all="ignore"):
        assert subject.evaluate(extreme) == MAX_LOSS_MICRO
        try:
            update = update_from_bytes(PLAN.spec, subject.train(extreme, 0).update_int16)
        except ValueError as error:
            assert "diverged" in str(error)
        else:
            assert norm_units(update) <= PLAN.clip_units


def test_a_year_of_windows_takes_little_memory(repo_root: Path) -> None:
    code = """
import resource, sys
import numpy as np
from openmg.member.learner import LocalLearner
from openmg.member.spans import of_home
from openmg.forecast.model import initial_master
from openmg.forecast.trainer_numpy import NumpyTrainer
from openmg.learning.plan import UPDATE_SCALE_BITS, LearningPlan
week = 168
plan = LearningPlan(evaluation_start_hour=490_000 + 50 * week, train_hours=50 * week, evaluation_hours=7 * week)
history = [int(value) for value in np.random.default_rng(0).integers(0, 900, 57 * week)]
learner = LocalLearner(bytes(20), plan, of_home(lambda minutes: (490_000, history)), NumpyTrainer(plan.spec))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert learner.train(initial_master(plan.spec, b"x"), 0).n_samples > 8000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    out = subprocess.run([sys.executable, "-c", code], cwd=repo_root, env=env, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert int(out.stdout) < 24 * 1024, f"{out.stdout} kB more than before"
