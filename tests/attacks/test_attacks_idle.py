"""Free riders, copycats, stale and repeated messages: whose bytes they are, and which round they name."""

from __future__ import annotations

import dataclasses

import numpy as np
from attack_views import HOSTILE, cosine, read, view

from workbench.attacks.attack import wire
from workbench.attacks.idle import Copycat, FreeRiderReplay, FreeRiderZeros, ReplayedMessage, StaleRound


def test_the_idle_rider_sends_noughts() -> None:
    assert set(FreeRiderZeros().updates(view(width=30)).values()) == {bytes(60)}


def test_the_replaying_rider_sends_the_last_step_in_disguise() -> None:
    sight = view()
    assert sight.global_step is not None
    sent = FreeRiderReplay().updates(sight)
    assert len(set(sent.values())) == len(HOSTILE)
    assert all(0.97 < cosine(read(data), sight.global_step) < 0.9999 for data in sent.values())
    bare = FreeRiderReplay(noise=0.0).updates(sight)
    assert all((read(data) == sight.global_step).all() for data in bare.values())


def test_without_the_step_it_takes_the_mean_of_what_was_sent_and_in_the_first_round_noughts() -> None:
    sight = dataclasses.replace(view(), global_step=None)
    mean = np.mean([read(data) for data in sight.previous.values()], axis=0)
    sent = FreeRiderReplay(noise=0.0).updates(sight)
    assert all(np.abs(read(data) - mean).max() <= 0.51 for data in sent.values())
    # Bytes that are no update are passed over.
    odd = dataclasses.replace(sight, previous={**sight.previous, b"odd": b"\x01"})
    assert FreeRiderReplay(noise=0.0).updates(odd) == sent
    assert not any(read(data).any() for data in FreeRiderReplay().updates(view(number=0)).values())


def test_a_copycat_sends_an_honest_update_of_the_same_round_and_chance_picks_whose() -> None:
    honest = {wire(update) for update in view().honest.values()}
    sent = [Copycat().updates(dataclasses.replace(view(), generator=np.random.default_rng(seed))) for seed in range(6)]
    assert all(set(one.values()) <= honest for one in sent)
    assert len({tuple(one.values()) for one in sent}) > 1


def test_a_stale_update_is_the_last_rounds_under_this_rounds_number() -> None:
    sight = view()
    assert StaleRound().updates(sight) == {device: sight.previous[device] for device in HOSTILE}
    assert StaleRound().named_round(sight) == sight.round
    first = view(number=0)
    assert StaleRound().updates(first) == {device: wire(first.own[device]) for device in HOSTILE}


def test_a_replayed_message_is_the_last_rounds_and_says_so() -> None:
    sight = view()
    assert ReplayedMessage().updates(sight) == {device: sight.previous[device] for device in HOSTILE}
    assert ReplayedMessage().named_round(sight) == sight.round - 1
    assert ReplayedMessage().updates(view(number=0)) == {}
