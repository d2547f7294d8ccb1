"""Membership: certain in clear, likely in small sums, and below what noise allows at most."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from leakage_homes import MASTER, PLAN, SPEC, Sent, private, sent

from openmg.forecast.features import Windows
from openmg.forecast.loss import loss
from openmg.forecast.model import to_float
from openmg.forecast.trainer_numpy import forward
from openmg.hashing import keccak256, word
from openmg.learning.plan import LearningPlan
from workbench.attacks.presence import HomePresence, ModelPresence, WindowPresence, window_losses
from workbench.attacks.revealed import reveal
from workbench.attacks.roc import FALSE_ALARMS, Roc, area, best_area, best_hits, roc

SHADOWS, CANDIDATES, DRAWS = 80, 24, 16


@cache
def shadows() -> np.ndarray:
    return np.stack([sent(1000 + number).update for number in range(SHADOWS)]).astype(np.float64)


@cache
def candidates() -> tuple[Sent, ...]:
    return tuple(sent(number) for number in range(CANDIDATES))


def homes_found(plan: LearningPlan, members: int) -> Roc:
    attack, inside, outside = HomePresence(shadows()), [], []
    for draw in range(DRAWS):
        order = np.random.default_rng(draw).permutation(CANDIDATES)
        drawn = [candidates()[index].update for index in order]
        seen = reveal(plan, drawn[:members], keccak256(word(draw)))[0]
        scores = attack.scores(np.stack(drawn).astype(np.float64), seen)
        inside.append(scores[:members])
        outside.append(scores[members:])
    return roc(inside, outside, np.random.default_rng(0))


def windows_found(plan: LearningPlan, members: int) -> tuple[Roc, Roc]:
    """By gradient and by loss: windows of the training span against later ones of the same home."""
    attack = WindowPresence(SPEC, MASTER, shadows()[:40])
    scores: list[tuple[list[np.ndarray], list[np.ndarray]]] = [([], []), ([], [])]
    for number, home in enumerate(candidates()[:12]):
        others = [candidates()[(number + 1 + step) % CANDIDATES].update for step in range(members - 1)]
        seen = reveal(plan, [home.update, *others], keccak256(word(number)))[0]
        for side, windows in enumerate((home.learner.spans.train, home.learner.spans.held_out)):
            scores[0][side].append(attack.by_gradient(windows, seen))
            scores[1][side].append(attack.by_loss(windows, seen))
    first, second = (roc(inside, outside, np.random.default_rng(0)) for inside, outside in scores)
    return first, second


def test_a_home_is_found_in_clear_and_in_a_small_sum() -> None:
    assert homes_found(PLAN, 1).area == 1
    summed = homes_found(private(), 5)
    assert summed.area > 0.95 and summed.hits > 0.5, summed


def test_noise_hides_a_home_as_far_as_it_promises() -> None:
    strong, weak = homes_found(private(3.0), 5), homes_found(private(0.2), 5)
    assert strong.low < best_area(3.0) and abs(strong.area - 0.5) < 0.1, strong
    assert weak.low < best_area(0.2) and weak.area > strong.area + 0.1, (weak, strong)


def test_windows_are_found_in_clear_and_not_in_noise() -> None:
    for clear, noisy in zip(windows_found(PLAN, 1), windows_found(private(1.0), 5), strict=True):
        assert clear.area > 0.6 and clear.low > 0.5, clear
        assert noisy.low < 0.5 < noisy.high or abs(noisy.area - 0.5) < 0.08, noisy


def test_windows_have_the_loss_that_training_has() -> None:
    windows, weights = candidates()[0].learner.spans.train, to_float(MASTER)
    whole = loss(forward(SPEC, weights, windows.inputs)[2], windows.residual)
    assert window_losses(SPEC, weights, windows).mean() == pytest.approx(whole, rel=1e-6)
    one = Windows(windows.origins[:1], windows.inputs[:1], windows.base[:1], windows.residual[:1])
    assert window_losses(SPEC, weights, one)[0] == window_losses(SPEC, weights, windows)[0]


@pytest.mark.parametrize(("gain", "low", "high"), [(0.0, 0.4, 0.6), (1.0, 0.7, 0.9)])
def test_models_tell_of_a_home_when_training_on_it_lowers_its_loss(gain: float, low: float, high: float) -> None:
    """Losses of 400 homes with deviation 1 under 20 models; taking part lowers the mean by `gain`."""
    random, homes = np.random.default_rng(5), 400
    level = random.normal(scale=5, size=(homes, 1))
    absent = level + random.normal(size=(homes, 20))
    attack = ModelPresence(absent - gain + random.normal(scale=0.1, size=absent.shape), absent)
    member = attack.scores(level[:, 0] - gain + random.normal(size=homes))
    other = attack.scores(level[:, 0] + random.normal(size=homes))
    assert low < area(member, other) < high


def test_the_area_under_a_curve_is_the_chance_of_the_right_order() -> None:
    assert area(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 1
    assert area(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == 0
    assert area(np.array([1.0, 1.0]), np.array([1.0])) == 0.5
    assert area(np.array([1.0, 3.0]), np.array([2.0, 2.0])) == 0.5


def test_bounds_of_noise_are_those_of_two_normal_densities() -> None:
    random = np.random.default_rng(6)
    for z in (0.5, 1.0, 3.0):
        other, member = random.normal(scale=z, size=200_000), 1 + random.normal(scale=z, size=200_000)
        assert area(member, other) == pytest.approx(best_area(z), abs=0.004)
        hits = float((member > np.quantile(other, 1 - FALSE_ALARMS)).mean())
        assert hits == pytest.approx(best_hits(z), abs=0.01)


def test_an_interval_is_over_groups() -> None:
    groups = [np.full(50, float(shift)) for shift in (0, 0, 2, 2)]
    found = roc(groups, [np.ones(50)] * 4, np.random.default_rng(7))
    assert found.area == 0.5 and found.low == 0.0 and found.high == 1.0
