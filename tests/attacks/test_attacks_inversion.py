"""Readings from updates: an update in clear gives them away to a hub that can repeat the training, a sum or noise does not."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from leakage_homes import MASTER, PLAN, SPEC, TRAINER, Sent, private, sent

from openmg.forecast.trainer import AdamState
from openmg.learning.plan import LearningPlan
from workbench.attacks.inversion import LearnedInversion, Prior, Recovery, RehearsedInversion, day_profile
from workbench.attacks.rehearsal import Rehearsal, SoftTrainer
from workbench.attacks.revealed import Revealed, reveal
from workbench.ppdl_train.homes import device_of

SHADOWS, VICTIMS = 120, 24
SOFTNESS = (0.5, 0.5, 0.5, 0.3, 0.2, 0.1)


@cache
def shadows() -> tuple[Sent, ...]:
    return tuple(sent(1000 + number) for number in range(SHADOWS))


@cache
def victims() -> tuple[Sent, ...]:
    return tuple(sent(number) for number in range(VICTIMS))


@cache
def prior() -> Prior:
    return Prior.of(np.stack([home.values for home in shadows()]))


def rehearsed(round_number: int, seen: Revealed, softness: tuple[float, ...] = SOFTNESS) -> Recovery:
    home = victims()[1]
    rehearsal = Rehearsal(PLAN, MASTER, round_number, home.learner.chance)
    (guess,) = RehearsedInversion(prior(), softness).guess([rehearsal], seen, np.random.default_rng(0))
    return Recovery.of(guess, home.values, prior().mean)


def learned(plan: LearningPlan, members: int) -> float:
    """The median error of guessed days, as a share of the error of the population's mean day."""
    noise = reveal(plan, [home.update for home in victims()[:members]])[0].noise_variance
    attack = LearnedInversion(
        np.stack([home.update for home in shadows()]).astype(np.float64),
        day_profile(np.stack([home.values for home in shadows()])),
        np.arange(SHADOWS),
        members,
        noise,
        np.random.default_rng(1),
    )
    ratios = []
    for number, home in enumerate(victims()):
        others = [victims()[(number + 1 + step) % VICTIMS].update for step in range(members - 1)]
        seen = reveal(plan, [home.update, *others], bytes([number]) * 32)[0]
        ratios.append(Recovery.of(attack.guess(seen), day_profile(home.values), day_profile(prior().mean)).ratio)
    return float(np.median(ratios))


def test_a_rehearsal_of_the_true_readings_is_the_update_itself() -> None:
    """Why chance is a secret of the meter: who knows it can try readings until they fit."""
    home = victims()[1]
    same = Rehearsal(PLAN, MASTER, 0, home.learner.chance)
    assert np.array_equal(same.sent(home.values), home.update)
    assert np.linalg.norm(same.update(home.values) - home.update) < 0.002 * np.linalg.norm(home.update.astype(float))
    for other in (Rehearsal(PLAN, MASTER, 1, home.learner.chance), Rehearsal(PLAN, MASTER, 0, device_of(77))):
        assert np.linalg.norm(other.update(home.values) - home.update) > 0.3 * np.linalg.norm(home.update.astype(float))


@pytest.mark.slow
def test_an_update_in_clear_gives_the_readings_to_a_hub_that_rehearses_and_other_chance_does_not() -> None:
    (seen,) = reveal(PLAN, [victims()[1].update])
    known, unknown = rehearsed(0, seen), rehearsed(1, seen, SOFTNESS[4:])
    assert known.ratio < 0.92 and known.correlation > 0.5, known
    assert unknown.ratio > 0.95 and unknown.correlation < 0.3, unknown


def test_noise_leaves_a_hub_that_rehearses_with_the_population() -> None:
    (seen,) = reveal(private(1.0), [home.update for home in victims()[:5]], bytes(32))
    assert rehearsed(0, seen, SOFTNESS[:1]).ratio > 0.98


def test_shadow_homes_alone_teach_something_of_an_update_in_clear_and_nothing_of_one_in_noise() -> None:
    assert learned(PLAN, 1) < 0.9
    assert 0.97 < learned(private(1.0), 5) < 1.05
    assert learned(private(), 20) > learned(PLAN, 1) + 0.08


def test_the_soft_trainer_without_softness_is_the_numpy_trainer() -> None:
    train = victims()[0].learner.spans.train
    start = AdamState.start(np.random.default_rng(2).normal(scale=0.1, size=SPEC.parameters).astype(np.float32))
    options = {"anchor": start.weights, "learning_rate": 1e-3, "prox": 1e-3}
    states = [item.step(start, train.inputs[:32], train.residual[:32], **options)[0] for item in (TRAINER, SoftTrainer(SPEC))]
    assert np.array_equal(states[0].weights, states[1].weights)
    soft = SoftTrainer(SPEC, 0.5).step(start, train.inputs[:32], train.residual[:32], **options)[0]
    assert not np.array_equal(states[0].first_moment, soft.first_moment)


def test_a_hub_sees_what_the_mode_says() -> None:
    updates = [home.update for home in victims()[:6]]
    total = np.sum(updates, axis=0, dtype=np.int64)
    assert [item.members for item in reveal(PLAN, updates)] == [1] * 6
    (summed,) = reveal(private(), updates)
    assert np.array_equal(summed.total, total) and np.allclose(summed.mean * 6, total) and summed.noise_variance == 0
    (noisy,) = reveal(private(0.5), updates, bytes(32))
    deviation = 0.5 * PLAN.clip_units * np.sqrt(6 / 5)  # five of six would do for the full noise
    assert np.std(noisy.total - total) == pytest.approx(deviation, rel=0.03)
    assert noisy.noise_variance == pytest.approx(deviation**2, rel=1e-6)
    with pytest.raises(ValueError, match="no sum of 4 updates is opened; give 5 or more"):
        reveal(private(), updates[:4])


def test_a_recovery_measures_against_the_prior() -> None:
    truth, mean = np.array([1.0, 2.0, 4.0]), np.array([1.0, 1.0, 1.0])
    assert Recovery.of(truth, truth, mean).ratio == 0 and Recovery.of(truth, truth, mean).correlation == pytest.approx(1)
    assert Recovery.of(mean, truth, mean).ratio == 1 and Recovery.of(mean, truth, mean).correlation == 0
    assert Recovery.of(2 * mean - truth, truth, mean).correlation == pytest.approx(-1)
