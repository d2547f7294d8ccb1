"""The sampler against exact probabilities, its bounds, and each member's share of the noise."""

from __future__ import annotations

from fractions import Fraction
from itertools import count

import numpy as np
import pytest

from openmg.hashing import keccak256, word
from openmg.learning.secure import discrete_gaussian as module
from openmg.learning.secure.discrete_gaussian import MAX_TRIES, MAX_VARIANCE, discrete_gaussian
from openmg.learning.secure.noise import MAX_DEVIATION, MIN_VARIANCE, member_noise, member_variance
from openmg.learning.secure.streams import byte_stream

SAMPLES = 60_000
CHI_SQUARE_999 = {4: 18.47, 8: 26.12, 16: 39.25, 24: 51.18, 32: 62.49}
"""The 99.9 % points by degrees of freedom."""


def chi_square(samples: np.ndarray, variance: float, reach: int) -> float:
    """Against exp(-x^2 / 2 variance), with everything beyond `reach` in the two outer cells."""
    wide = np.arange(-40 * reach, 40 * reach + 1)
    weights = np.exp(-(wide.astype(float) ** 2) / (2 * variance))
    cells = np.clip(wide, -reach, reach)
    expected = np.array([weights[cells == x].sum() for x in range(-reach, reach + 1)]) / weights.sum() * len(samples)
    found = np.array([(np.clip(samples, -reach, reach) == x).sum() for x in range(-reach, reach + 1)])
    return float(((found - expected) ** 2 / expected).sum())


@pytest.mark.parametrize(("variance", "reach"), [(1, 2), (2, 4), (7, 8), (30, 12), (100, 16)])
def test_samples_follow_the_exact_probabilities(variance: int, reach: int) -> None:
    samples = discrete_gaussian(variance, SAMPLES, byte_stream(keccak256(word(variance))))
    assert len(samples) == SAMPLES
    assert chi_square(samples, variance, reach) < CHI_SQUARE_999[2 * reach]
    assert chi_square(samples, variance * 1.2, reach) > CHI_SQUARE_999[2 * reach]


def test_large_variance_has_its_moments_and_uses_every_integer() -> None:
    variance = 2**50
    samples = discrete_gaussian(variance, SAMPLES, byte_stream(keccak256(b"large")))
    scaled = samples / 2**25
    assert abs(scaled.mean()) < 4 / SAMPLES**0.5
    assert abs((scaled**2).mean() - 1) < 4 * (2 / SAMPLES) ** 0.5
    assert abs((scaled**4).mean() - 3) < 4 * (96 / SAMPLES) ** 0.5
    low = np.bincount(samples & 15, minlength=16)
    assert float(((low - SAMPLES / 16) ** 2).sum() / (SAMPLES / 16)) < 37.70


def test_chance_of_exp_is_exact_when_the_digits_tie(monkeypatch: pytest.MonkeyPatch) -> None:
    """With two digits instead of sixty every fourth comparison ties, and the remainders must decide rightly."""
    monkeypatch.setattr(module, "_BITS", 2)
    size, numerator, denominator = 40_000, 5, 7
    draw = byte_stream(keccak256(b"ties"))
    true = module._bernoulli_exp(np.full(size, numerator, object), denominator, draw)
    expected = np.exp(-numerator / denominator)
    assert abs(true.mean() - expected) < 4 * (expected * (1 - expected) / size) ** 0.5
    whole = module._bernoulli_exp(np.full(size, 19, object), denominator, draw)
    expected = np.exp(-19 / denominator)
    assert abs(whole.mean() - expected) < 4 * (expected * (1 - expected) / size) ** 0.5


def test_same_chance_gives_the_same_noise() -> None:
    assert member_noise(999, 50, bytes(32)).tolist() == member_noise(999, 50, bytes(32)).tolist()
    assert member_noise(999, 50, bytes(32)).tolist() != member_noise(999, 50, word(1)).tolist()
    assert discrete_gaussian(5, 0, byte_stream(bytes(32))).tolist() == []


def test_broken_chance_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TRIES", 50)
    assert MAX_TRIES > 50
    with pytest.raises(RuntimeError, match="no sample after 50 tries; the source of chance is broken"):
        discrete_gaussian(5, 3, lambda size: bytes([255]) * size)
    for variance in (0, MAX_VARIANCE + 1):
        with pytest.raises(ValueError, match="is a whole number in 1"):
            discrete_gaussian(variance, 1, byte_stream(bytes(32)))


@pytest.mark.parametrize("honest", [4, 5, 21, 67])
def test_honest_survivors_together_reach_the_target(honest: int) -> None:
    variance, clip = member_variance(700, 78_643, honest), 78_643
    target = Fraction(700, 1000) ** 2 * clip**2
    assert honest * variance >= target > honest * (variance - 1)
    total = np.sum([member_noise(variance, 4000, keccak256(word(place))) for place in range(honest)], axis=0)
    assert abs((total.astype(float) ** 2).mean() / float(target) - 1) < 4 * (2 / 4000) ** 0.5


def test_noise_has_bounds_on_both_sides() -> None:
    clip = next(units for units in count(1) if units**2 >= 5 * MIN_VARIANCE)
    assert member_variance(1000, clip, 5) >= MIN_VARIANCE
    with pytest.raises(ValueError, match="not within 16 units for each"):
        member_variance(1000, clip - 2, 5)
    assert member_variance(1000, MAX_DEVIATION, 5) <= MAX_VARIANCE
    with pytest.raises(ValueError, match="67108864 together"):
        member_variance(1001, MAX_DEVIATION, 5)
