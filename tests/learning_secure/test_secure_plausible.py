"""The norm of an opened sum: what clipped updates can make it, with and without noise, and not a unit more."""

from __future__ import annotations

import numpy as np
import pytest

from openmg.hashing import keccak256, word
from openmg.learning.secure.noise import member_noise
from openmg.learning.secure.plausible import longest_sum, require_plausible
from openmg.learning.secure.terms import SecureError


def test_sum_of_clipped_updates_passes_and_one_unit_more_does_not() -> None:
    assert longest_sum(7, 1000, 64) == 7000
    total = np.zeros(64, np.int64)
    total[3] = -7000
    require_plausible(total, 7000)
    total[4] = 1
    with pytest.raises(SecureError, match="the sum's norm is 7000 units, above the 7000 of clipped updates"):
        require_plausible(total, 7000)


def test_largest_values_do_not_wrap() -> None:
    total = np.full(200_000, -(2**31), np.int64)
    with pytest.raises(SecureError, match="above the 9000000"):
        require_plausible(total, 9_000_000)


def test_noise_has_its_room_and_no_more_than_that() -> None:
    """P = 4000: the noise of seven members has a norm near sqrt(7 v P), and the room is (1 + 10/63) of it."""
    variance, parameters = 10_000**2, 4000
    room = longest_sum(7, 1000, parameters, variance) - 7000
    total = np.sum([member_noise(variance, parameters, keccak256(word(place))) for place in range(7)], axis=0)
    require_plausible(total, room)
    with pytest.raises(SecureError, match="a member did not clip"):
        require_plausible(total * 5 // 4, room)
