"""`openmg ppdl train` in private rounds: the step is the mean of who is left, and the budget ends the rounds."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openmg.forecast.fixedpoint import divide_round
from openmg.forecast.spec import ForecastSpec
from openmg.hashing import keccak256, word
from openmg.learning.plan import LearningPlan
from workbench.ppdl_train.options import OptionError, TrainOptions, default_rule
from workbench.ppdl_train.private_rounds import NO_PRIVACY, PrivateRounds

SPEC = ForecastSpec("demand", 60, 24)
HOMES = [keccak256(word(place))[:20] for place in range(9)]


def plan_of(**changes: Any) -> LearningPlan:
    return LearningPlan(
        **{
            "evaluation_start_hour": 495_000,
            "spec": SPEC,
            "rule": "mean",
            "min_participants": 5,
            "privacy": "secagg",
            **changes,
        }
    )


def updates(size: int = 1) -> dict[bytes, np.ndarray]:
    random = np.random.default_rng(1)
    return {home: random.integers(-90 * size, 91 * size, SPEC.parameters).astype(np.int16) for home in HOMES}


def test_step_is_the_mean_of_all_homes() -> None:
    rounds, sent = PrivateRounds(plan_of(), 1, 0.0), updates()
    step = rounds.step(sent, 0, bytes(32))
    assert step is not None
    total = np.sum([update.astype(np.int64) for update in sent.values()], axis=0)
    assert step.tolist() == divide_round(total, len(HOMES)).tolist()
    assert rounds.report().row() == {**NO_PRIVACY.row(), "mode": "secagg", "rounds_opened": 1}
    assert rounds.bytes_sent > len(HOMES) * 4 * SPEC.parameters


def test_unclipped_update_is_seen_only_when_it_makes_the_sum_too_long() -> None:
    """Nine homes may make a sum of 9 * 2^18 = 2.4 million; 14,208 values of 10,000 are 1.2 long, of 32,767 3.9 million."""
    rounds, sent = PrivateRounds(plan_of(), 1, 0.0), updates()
    sent[HOMES[0]] = np.full(SPEC.parameters, 10_000, np.int16)
    step = rounds.step(sent, 0, bytes(32))
    total = np.sum([update.astype(np.int64) for update in sent.values()], axis=0)
    assert step is not None
    assert step.tolist() == divide_round(total, len(HOMES)).tolist()
    sent[HOMES[0]] = np.full(SPEC.parameters, 32_767, np.int16)
    assert rounds.step(sent, 1, bytes(32)) is None
    assert (rounds.report().rounds_opened, rounds.report().rounds_void) == (1, 1)


def test_round_whose_sum_is_refused_is_charged_all_the_same() -> None:
    plan = plan_of(privacy="secagg_dp", noise_multiplier_milli=1000, epsilon_budget_micro=6_000_000, clip_milli=300)
    rounds, sent = PrivateRounds(plan, 1, 0.0), updates()
    sent[HOMES[0]] = np.full(SPEC.parameters, 32_767, np.int16)
    sent[HOMES[1]] = np.full(SPEC.parameters, 32_767, np.int16)
    sent[HOMES[2]] = np.full(SPEC.parameters, 32_767, np.int16)
    assert rounds.may_open()
    assert rounds.step(sent, 0, bytes(32)) is None
    assert not rounds.may_open()
    assert rounds.report().epsilon == 5.298527


def test_rounds_lose_homes_and_are_void_when_too_many_leave() -> None:
    rounds = PrivateRounds(plan_of(), 3, 0.3)
    opened = [rounds.step(updates(), number, bytes(32)) is not None for number in range(4)]
    report = rounds.report()
    assert (report.rounds_opened, report.rounds_void) == (sum(opened), 4 - sum(opened))
    assert report.dropped_out > 0
    few = PrivateRounds(plan_of(), 1, 0.0)
    assert few.step(dict(list(updates().items())[:4]), 0, bytes(32)) is None
    assert few.report().rounds_void == 1


def test_noise_enters_the_mean_and_the_budget_refuses_the_third_round() -> None:
    """z = 1: 5.30 after one round, 7.79 after two, 9.81 after three."""
    plan = plan_of(privacy="secagg_dp", noise_multiplier_milli=1000, epsilon_budget_micro=8_000_000, clip_milli=300)
    rounds, sent = PrivateRounds(plan, 1, 0.0), updates()
    steps = [rounds.step(sent, number, bytes(32)) for number in range(2) if rounds.may_open()]
    assert not rounds.may_open()
    mean = np.sum([update.astype(np.int64) for update in sent.values()], axis=0) / len(HOMES)
    deviation = plan.clip_units * (9 / 7) ** 0.5 / len(HOMES)  # nine add noise of which seven must suffice
    for step in steps:
        assert step is not None
        assert abs(np.std(step - mean) / deviation - 1) < 0.03
    report = rounds.report()
    assert (report.rounds_opened, report.rounds_refused, report.delta) == (2, 1, 1e-5)
    assert report.epsilon is not None and report.epsilon_library is not None
    assert 7 < report.epsilon_library < report.epsilon < 8
    assert "secagg-dp: epsilon 7.79 at 1e-05, 2 rounds opened" in str(report)


def options(**changes: Any) -> TrainOptions:
    return TrainOptions(Path("homes.csv"), date(2013, 10, 1), **{"rule": "mean", **changes})


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"privacy": "full"}, "--privacy full is unknown"),
        ({"privacy": "secagg", "rule": "krum"}, "hides single updates, which --rule krum looks at"),
        ({"privacy": "secagg", "clients_per_round": 4}, "takes --clients-per-round 5 or more"),
        ({"privacy": "secagg-dp", "noise_multiplier": 1.0}, "go with --privacy secagg-dp, both above 0"),
        ({"privacy": "secagg", "noise_multiplier": 1.0, "epsilon_budget": 1.0}, "go with --privacy secagg-dp"),
        ({"drop_out": 0.1}, "goes with --privacy secagg"),
        ({"privacy": "secagg", "drop_out": 1.0}, "from 0 to below 1"),
        ({"clip": 11.0}, "--clip 11.0 is not within"),
    ],
)
def test_options_are_checked(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(OptionError, match=problem):
        options(**changes)


def test_options_make_the_plan_of_their_mode() -> None:
    hours = (495_000, 495_000 - 5000, 495_000 + 500, ())
    noisy = options(privacy="secagg-dp", noise_multiplier=0.5, epsilon_budget=20.5).plan(*hours)
    assert (noisy.privacy, noisy.noise_multiplier_milli, noisy.epsilon_budget_micro) == ("secagg_dp", 500, 20_500_000)
    assert (noisy.clip_milli, options(clip=1.5).plan(*hours).clip_milli) == (300, 1500)
    assert [default_rule(mode) for mode in ("none", "secagg", "secagg-dp")] == ["nnm-trimmed", "mean", "mean"]
