"""Updates: an honest one is always within the clip, the bytes are inverse, the model's name is what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmg.forecast.model import initial_master
from openmg.forecast.spec import NET_ENERGY, ForecastSpec
from openmg.hashing import keccak256
from openmg.learning import quantise
from openmg.learning.plan import LearningPlan

PARAMETERS = NET_ENERGY.parameters
CLIP = LearningPlan(evaluation_start_hour=495_000).clip_units


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-9, 10.0), clip=st.integers(1, 400_000))
def test_every_update_is_within_the_clip(seed: int, scale: float, clip: int) -> None:
    difference = (np.random.default_rng(seed).standard_normal(PARAMETERS) * scale).astype(np.float32)
    update = quantise.quantise(difference, clip)
    assert update.dtype == np.int16
    assert quantise.norm_units(update) <= clip


def test_a_short_difference_is_only_rounded() -> None:
    difference = (np.random.default_rng(1).standard_normal(PARAMETERS) * 0.002).astype(np.float32)
    update = quantise.quantise(difference, CLIP)
    assert np.abs(update / 2**18 - difference).max() <= 2.0**-19


def test_a_long_difference_keeps_its_direction() -> None:
    difference = (np.random.default_rng(1).standard_normal(PARAMETERS) * 0.05).astype(np.float32)
    update = quantise.quantise(difference, CLIP).astype(float)
    cosine = update @ difference / np.linalg.norm(update) / np.linalg.norm(difference)
    assert cosine > 0.9999
    assert 0.98 * CLIP < quantise.norm_units(quantise.quantise(difference, CLIP)) <= CLIP


def test_zero_stays_zero_and_divergence_is_told() -> None:
    assert not quantise.quantise(np.zeros(PARAMETERS, np.float32), CLIP).any()
    broken = np.zeros(PARAMETERS, np.float32)
    for value in (np.nan, np.inf):
        broken[7] = value
        with pytest.raises(ValueError, match="lower the learning rate"):
            quantise.quantise(broken, CLIP)


def test_norm_is_exact_and_rounds_up() -> None:
    update = np.zeros(PARAMETERS, np.int16)
    update[:2] = 3, 4
    assert quantise.norm_units(update) == 5
    update[2] = 1
    assert quantise.norm_units(update) == 6
    assert quantise.norm_units(np.full(PARAMETERS, -32_767, np.int16)) == 3_905_739


def test_bytes_are_inverse_and_checked() -> None:
    update = quantise.quantise((np.random.default_rng(2).standard_normal(PARAMETERS) * 0.01).astype(np.float32), CLIP)
    data = quantise.update_bytes(update)
    assert len(data) == NET_ENERGY.update_bytes == 28_416
    assert np.array_equal(quantise.update_from_bytes(NET_ENERGY, data), update)
    with pytest.raises(ValueError, match="28415 bytes instead of 28416"):
        quantise.update_from_bytes(NET_ENERGY, data[:-1])
    with pytest.raises(ValueError, match="-32768"):
        quantise.update_from_bytes(NET_ENERGY, b"\x00\x80" + data[2:])


def test_the_models_name_is_the_hash_of_its_id_scale_and_weights() -> None:
    master = initial_master(NET_ENERGY, b"x")
    head = NET_ENERGY.model_id.encode() + (20).to_bytes(32, "big")
    packed = b"".join(int(w).to_bytes(4, "little", signed=True) for w in master)
    assert quantise.model_hash(NET_ENERGY, master) == keccak256(head + packed)
    other = master.copy()
    other[-1] += 1
    assert quantise.model_hash(NET_ENERGY, other) != quantise.model_hash(NET_ENERGY, master)
    price = ForecastSpec(quantity="price")
    assert quantise.model_hash(price, master) != quantise.model_hash(NET_ENERGY, master)
