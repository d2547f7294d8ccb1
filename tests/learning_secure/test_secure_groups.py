"""Groups: their sizes and draw, and a rule across their means, which stands few liars and not many."""

from __future__ import annotations

import numpy as np
import pytest

from openmg.hashing import keccak256, word
from openmg.learning.rules.outcome import Settings
from openmg.learning.secure.groups import across_groups, group_mean, groups
from openmg.learning.secure.terms import SecureError

DEVICES = [keccak256(word(place))[:20] for place in range(100)]
SETTINGS = Settings(8, 1, 1)


@pytest.mark.parametrize(("devices", "size", "sizes"), [(100, 5, {5}), (23, 5, {5, 6}), (9, 5, {9}), (14, 7, {7})])
def test_every_device_is_in_one_group_of_the_size_or_more(devices: int, size: int, sizes: set[int]) -> None:
    drawn = groups(DEVICES[:devices], bytes(32), 1, size)
    assert {len(group) for group in drawn} == sizes
    assert sorted(device for group in drawn for device in group) == sorted(DEVICES[:devices])
    assert drawn == groups(reversed(DEVICES[:devices]), bytes(32), 1, size)
    if len(drawn) > 1:
        assert drawn != groups(DEVICES[:devices], bytes(32), 2, size)
        assert drawn != groups(DEVICES[:devices], word(1), 1, size)


def test_too_small_groups_are_refused() -> None:
    for devices, size in ((100, 4), (4, 5)):
        with pytest.raises(SecureError, match="groups have 5 members or more"):
            groups(DEVICES[:devices], bytes(32), 1, size)
    with pytest.raises(SecureError, match="no group was opened"):
        across_groups({}, "median", 1, SETTINGS)


def test_mean_of_a_group_is_rounded_half_up() -> None:
    assert group_mean(np.array([7, -7, 5, -5]), 2).tolist() == [4, -3, 3, -2]


@pytest.mark.parametrize("rule", ["median", "trimmed_mean", "nnm_trimmed_mean"])
def test_rule_across_groups_withstands_a_lying_group_and_not_a_majority(rule: str) -> None:
    random = np.random.default_rng(1)
    honest = {number: (random.integers(90, 111, 20) * 5, 5) for number in range(9)}
    lying = {number: (np.full(20, -100_000), 5) for number in (1, 4)}
    step = across_groups({**honest, **lying}, rule, 2, SETTINGS).step
    assert np.all((step >= 90) & (step <= 110))
    most = {number: (np.full(20, -100_000), 5) for number in range(5)}
    assert np.all(across_groups({**honest, **most}, rule, 4, SETTINGS).step < 90)
