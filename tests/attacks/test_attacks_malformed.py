"""Bytes that are no update: what they decode to, and that the wire form refuses them."""

from __future__ import annotations

import numpy as np
import pytest
from attack_views import read, view

from openmg.forecast.spec import NET_ENERGY
from openmg.learning.quantise import norm_units, update_from_bytes
from workbench.attacks.malformed import FLOAT_BYTES, NotFinite, WrongShape

PARAMETERS = NET_ENERGY.parameters


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", FLOAT_BYTES)
def test_every_weight_is_that_float(value: float, size: int) -> None:
    for data in NotFinite(value, size).updates(view(width=NET_ENERGY.parameters)).values():
        floats = np.frombuffer(data, dtype=f"<f{size}")
        assert np.array_equal(floats, np.full(NET_ENERGY.parameters, value), equal_nan=True)
        if size != 2:
            with pytest.raises(ValueError, match="bytes instead of"):
                update_from_bytes(NET_ENERGY, data)


def test_half_floats_are_the_integers_of_their_bits() -> None:
    sight = view(width=NET_ENERGY.parameters)
    for value, bits, admitted in ((np.nan, 32_256, False), (np.inf, 31_744, False), (-np.inf, -1024, True)):
        for data in NotFinite(value, 2).updates(sight).values():
            update = update_from_bytes(NET_ENERGY, data)
            assert (update == bits).all()
            assert (norm_units(update) <= sight.clip_units) == admitted


@pytest.mark.parametrize("extra", [-(10**9), -2, -1, 1, 2, 4000])
def test_the_wrong_shape_is_the_honest_update_too_short_or_too_long(extra: int) -> None:
    sight = view(width=NET_ENERGY.parameters)
    for device, data in WrongShape(extra).updates(sight).items():
        honest = sight.own[device].astype("<i2").tobytes()
        assert len(data) == max(0, len(honest) + extra)
        assert data[: len(honest)] == honest[: len(data)]
        with pytest.raises(ValueError, match="bytes instead of"):
            update_from_bytes(NET_ENERGY, data)


def test_what_would_be_no_attack_is_refused() -> None:
    for arguments in ((1.0, 4), (np.nan, 3)):
        with pytest.raises(ValueError, match="give NaN or infinity in 2, 4 or 8"):
            NotFinite(*arguments)
    with pytest.raises(ValueError, match="extra_bytes is 0"):
        WrongShape(0)
    assert read(WrongShape(2).updates(view(width=3))[view().hostile[0]])[-1] == 0
