"""What holds for every attack of the catalogue."""

from __future__ import annotations

import dataclasses
from math import isqrt

import numpy as np
import pytest
from attack_views import HONEST, HOSTILE, view, windows

from openmg.learning.quantise import norm_units
from workbench.attacks.attack import Attack, BaseAttack
from workbench.attacks.catalogue import ATTACKS, named

NAMES = sorted(ATTACKS)
WITHIN_BOUND = {
    "none", "sign_flip", "label_flip", "alie", "inner_product", "min_max", "free_rider_zeros", "free_rider_replay",
    "spikes", "stale_round", "replayed_message", "copycat", "sybil", "dropping_leader", "backdoor",
}  # fmt: skip
"""Attacks whose bytes replicas admit."""
TRAINS_ON_OTHER_DATA = {"label_flip", "backdoor"}


def test_the_catalogue_is_by_name_and_refuses_others() -> None:
    assert all(attack.name == name and isinstance(attack, Attack) for name, attack in ATTACKS.items())
    assert named("alie") is ATTACKS["alie"]
    with pytest.raises(ValueError, match="attack 'nice' is unknown; use one of none, sign_flip"):
        named("nice")


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bytes_and_the_view_stays_as_it_is(name: str) -> None:
    attack, first, second = named(name), view(4), view(4)
    sent = attack.updates(first)
    assert sent == attack.updates(second)
    assert attack.dropped(first) == attack.dropped(second) <= set(HONEST)
    for field in ("own", "honest"):
        for device, update in getattr(view(4), field).items():
            assert np.array_equal(update, getattr(first, field)[device])
    assert first.previous == view(4).previous
    assert set(HOSTILE) <= set(sent) and all(isinstance(data, bytes) for data in sent.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [500, 14_208])
def test_bytes_pass_the_norm_check_or_not_as_claimed(name: str, width: int) -> None:
    bound = 900 * isqrt(width)  # honest updates have 707 a weight
    for seed in range(4):
        for data in named(name).updates(view(seed, width, clip_units=bound)).values():
            right = len(data) == 2 * width
            passes = right and norm_units(np.frombuffer(data, dtype="<i2").astype(np.int16)) <= bound
            assert passes == (name in WITHIN_BOUND)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_round_and_lonely_adversaries_are_no_trouble(name: str) -> None:
    first = view(number=0)
    assert set(named(name).updates(first)) <= set(HOSTILE) or name == "sybil"
    alone = dataclasses.replace(view(), honest={})
    assert named(name).updates(alone) and named(name).dropped(alone) == frozenset()
    assert named(name).updates(dataclasses.replace(view(), hostile=(), own={})) == {}


@pytest.mark.parametrize("name", NAMES)
def test_only_data_attacks_touch_data_and_they_leave_the_given_windows(name: str) -> None:
    given, kept = windows(), windows()
    changed = named(name).corrupt_data(given)
    assert np.array_equal(given.inputs, kept.inputs) and np.array_equal(given.residual, kept.residual)
    same = np.array_equal(changed.inputs, kept.inputs) and np.array_equal(changed.residual, kept.residual)
    assert same == (name not in TRAINS_ON_OTHER_DATA)
    assert changed.inputs.shape == kept.inputs.shape and changed.residual.dtype == np.float32


def test_an_adversary_that_does_nothing_sends_what_it_trained() -> None:
    sight = view()
    nothing = BaseAttack()
    assert nothing.updates(sight) == {device: sight.own[device].astype("<i2").tobytes() for device in HOSTILE}
    assert nothing.dropped(sight) == frozenset() and nothing.named_round(sight) == 5
