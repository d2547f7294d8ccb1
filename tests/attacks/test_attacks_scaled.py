"""Sign flips, huge values, spikes: direction, length, place."""

from __future__ import annotations

import dataclasses

import numpy as np
from attack_views import CLIP_UNITS, HOSTILE, cosine, norm, read, view

from openmg.learning.quantise import INT16_LIMIT
from workbench.attacks.scaled import OVERLONG, HugeValues, SignFlip, Spikes, UnclippedSignFlip


def test_a_sign_flip_is_minus_three_times_the_update_where_that_is_short_enough() -> None:
    sight = view()
    for device, data in SignFlip().updates(sight).items():
        assert read(data).tolist() == (-3 * sight.own[device].astype(int)).tolist()


def test_a_long_sign_flip_is_shortened_to_the_bound_and_keeps_its_direction() -> None:
    sight = view(clip_units=40_000)
    for device, data in SignFlip().updates(sight).items():
        assert 39_900 < norm(read(data)) <= 40_000
        assert cosine(read(data), sight.own[device]) < -0.999


def test_the_unclipped_flip_is_beyond_the_bound_however_short_the_update() -> None:
    for clip_units in (40_000, CLIP_UNITS):
        sight = view(clip_units=clip_units)
        for device, data in UnclippedSignFlip().updates(sight).items():
            assert norm(read(data)) > max(0.99 * OVERLONG * clip_units, 2.99 * norm(sight.own[device]))
            assert cosine(read(data), sight.own[device]) < -0.99
    idle = dataclasses.replace(view(), own={device: np.zeros(8, np.int16) for device in HOSTILE})
    assert set(UnclippedSignFlip().updates(idle).values()) == {bytes(16)}


def test_huge_values_are_the_largest_everywhere_and_against_the_update() -> None:
    sight = view()
    for device, data in HugeValues().updates(sight).items():
        assert (np.abs(read(data)) == INT16_LIMIT).all()
        assert cosine(read(data), sight.own[device]) < -0.5


def test_spikes_spend_the_bound_on_the_largest_weights() -> None:
    sight = view()
    for device, data in Spikes().updates(sight).items():
        spikes, own = read(data), sight.own[device].astype(int)
        places = np.flatnonzero(spikes)
        assert len(places) == 64 and (np.abs(spikes[places]) == INT16_LIMIT).all()
        assert 0.99 * CLIP_UNITS < norm(spikes) <= CLIP_UNITS
        assert np.abs(own[places]).min() >= np.sort(np.abs(own))[-64]
        assert (np.sign(spikes[places]) == -np.sign(own[places])).all()
    short = Spikes().updates(view(clip_units=900))
    assert all(np.abs(read(data)).max() == norm(read(data)) == 900 for data in short.values())
