"""The privacy budget: exact integers, never below the truth nor the library's figure, and rounds past it refused."""

from __future__ import annotations

from fractions import Fraction
from math import log, sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.learning_privacy.accountant import spent_micro
from openmg.learning.budget import BudgetSpent, PrivacyBudget, epsilon_micro, round_rho
from openmg.learning.plan import LearningPlan
from openmg.learning.secure.noise import MIN_VARIANCE, member_variance

HOUR = 495_000


@given(st.integers(50, 100_000), st.integers(1, 100_000), st.integers(1, 30))
@settings(max_examples=200, deadline=None)
def test_bound_is_the_closed_formula_rounded_up(z_milli: int, rounds: int, exponent: int) -> None:
    rho = Fraction(rounds * 10**6, 2 * z_milli**2)
    units = rounds * round_rho(z_milli)
    assert rho <= Fraction(units, 2**40) <= rho + Fraction(2 * rounds, 2**40)
    exact = float(rho) + 2 * sqrt(float(rho) * exponent * log(10))
    found = epsilon_micro(units, exponent) / 1e6
    assert exact * (1 - 1e-9) <= found <= exact * (1 + 1e-4) + 2e-5


def test_bound_of_one_round_by_hand() -> None:
    """z = 1, delta = 1e-5: 1/2 + 2 sqrt(ln(1e5) / 2) = 5.298526...; nothing spent is nothing."""
    assert epsilon_micro(round_rho(1000), 5) == 5_298_527
    assert epsilon_micro(0, 5) == 0
    with pytest.raises(ValueError, match="without noise has no bound"):
        round_rho(0)


@pytest.mark.parametrize("z_milli", [100, 300, 1000, 5000, 50_000])
@pytest.mark.parametrize("exponent", [5, 9])
def test_library_is_tighter_and_not_by_much(z_milli: int, exponent: int) -> None:
    for rounds in (1, 20, 1000):
        bound = epsilon_micro(rounds * round_rho(z_milli), exponent)
        assert 0.6 * bound < spent_micro(rounds, z_milli, exponent) <= bound


def test_library_counts_from_nothing_and_checks_what_it_is_given() -> None:
    assert spent_micro(0, 1000, 5) == 0
    assert spent_micro(1, 1000, 5) < spent_micro(2, 1000, 5)
    for rounds, z_milli, exponent in ((-1, 1, 1), (1, 0, 1), (1, 1, 0)):
        with pytest.raises(ValueError, match="are not negative|at least 1"):
            spent_micro(rounds, z_milli, exponent)


def test_budget_opens_what_fits_and_not_one_more() -> None:
    exact = epsilon_micro(20 * round_rho(1000), 5)
    for spare, rounds in ((0, 20), (-1, 19)):
        budget = PrivacyBudget(1000, 5, exact + spare)
        for _ in range(rounds):
            assert budget.may_open()
            budget = budget.charged()
        assert budget.rounds == rounds
        assert budget.spent_micro <= exact + spare
        assert not budget.may_open()
        with pytest.raises(BudgetSpent, match=f"after {rounds} rounds; one more would pass the budget of {exact + spare}"):
            budget.charged()


def private_plan(**changes: object) -> LearningPlan:
    fields = {
        "evaluation_start_hour": HOUR,
        "rule": "mean",
        "min_participants": 5,
        "privacy": "secagg_dp",
        "noise_multiplier_milli": 1000,
        "epsilon_budget_micro": 8_000_000,
    }
    return LearningPlan(**{**fields, **changes})  # type: ignore[arg-type]


def test_plan_carries_the_privacy_mode() -> None:
    for plan in (private_plan(), private_plan(privacy="secagg", noise_multiplier_milli=0, epsilon_budget_micro=0)):
        assert LearningPlan.decode(plan.encode()) == plan


def test_noise_of_a_plan_is_what_every_size_of_round_can_draw() -> None:
    """clip 4 is 2^20 units: z = 64 reaches 2^26 units; clip 0.001 is 262 units: z = 4 reaches 2^10."""
    for clip_milli, fits, fails in ((4000, 64_000, 64_001), (1, 3909, 3908)):
        plan = private_plan(clip_milli=clip_milli, noise_multiplier_milli=fits)
        for honest in (4, 2731):
            assert member_variance(fits, plan.clip_units, honest) >= MIN_VARIANCE
        with pytest.raises(ValueError, match="units is not within 1024..67108864; change noise_multiplier_milli"):
            private_plan(clip_milli=clip_milli, noise_multiplier_milli=fails)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"privacy": "local"}, "privacy 'local' is unknown; use one of none, secagg, secagg_dp"),
        ({"rule": "krum"}, "rule 'krum' looks at single updates, which secagg_dp hides"),
        ({"min_participants": 4}, "min_participants is 4"),
        ({"noise_multiplier_milli": 0}, "noise_multiplier_milli is 0"),
        ({"epsilon_budget_micro": 0}, "epsilon_budget_micro is 0"),
        ({"delta_exponent": 0}, "delta_exponent is 0"),
        ({"delta_exponent": 31}, "delta_exponent is 31"),
        ({"privacy": "secagg", "epsilon_budget_micro": 0}, "noise_multiplier_milli is 1000"),
        ({"privacy": "none", "noise_multiplier_milli": 0}, "epsilon_budget_micro is 8000000"),
    ],
)
def test_plan_checks_what_a_mode_takes(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        private_plan(**changes)
