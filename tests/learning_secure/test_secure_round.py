"""A private round: the sum is the plain sum whoever drops out, and nothing is opened below the threshold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from secure_world import World

from openmg.learning.secure import device
from openmg.learning.secure.hub import Phase
from openmg.learning.secure.terms import SecureError, default_threshold


@st.composite
def patterns(draw: st.DrawFn) -> tuple[int, tuple[list[int], ...]]:
    """A number of members, and who leaves at each step, as many as may."""
    members = draw(st.integers(5, 11))
    order = draw(st.permutations(range(members)))
    room = members - default_threshold(members)
    cuts = sorted(draw(st.lists(st.integers(0, room), min_size=4, max_size=4)))
    edges = [0, *cuts]
    return members, tuple(order[low:high] for low, high in zip(edges, edges[1:], strict=False))


@given(patterns())
@settings(max_examples=25, deadline=None)
def test_sum_is_the_plain_sum_for_every_pattern_of_drop_outs(pattern: tuple[int, tuple[list[int], ...]]) -> None:
    members, places = pattern
    world = World(members)
    leave = tuple([world.addresses[place] for place in step] for step in places)
    opened = world.run(leave)
    counted = [address for address in world.addresses if address not in {*leave[0], *leave[1]}]
    assert list(opened.survivors) == counted
    assert opened.total.tolist() == world.plain_sum(counted).tolist()
    assert set(opened.dropped) == {*leave[0], *leave[1]}
    assert opened.tampered == ()
    assert world.hub.phase is Phase.OPENED


@pytest.mark.parametrize("step", range(4))
def test_below_the_threshold_nothing_is_opened(step: int) -> None:
    world = World(6)
    room = 6 - default_threshold(6)
    fits, one_more = world.addresses[:room], world.addresses[: room + 1]
    World(6).run(tuple(fits if step == place else () for place in range(4)))
    with pytest.raises(SecureError, match=r"4 members answered while \w+; round 3 opens nothing below 5"):
        world.run(tuple(one_more if step == place else () for place in range(4)))
    assert world.hub.phase is Phase.VOID
    with pytest.raises(SecureError, match="is void"):
        world.hub.open()


def test_sparse_round_recovers_a_fifth_that_drops_out() -> None:
    world = World(60, parameters=8)
    assert len(world.terms.neighbours(world.addresses[0])) == 40
    leave = (world.addresses[:3], world.addresses[10:15], world.addresses[30:33], ())
    opened = world.run(leave)
    counted = [address for address in world.addresses if address not in {*leave[0], *leave[1]}]
    assert opened.total.tolist() == world.plain_sum(counted).tolist()


def test_noise_is_in_the_sum() -> None:
    world = World(5)
    noise = {address: np.full(40, (-1) ** place * (1 << 24) + place) for place, address in enumerate(world.addresses)}
    world.deal()
    survivors = world.mask(noise=noise)
    world.unmask(survivors, world.sign(survivors))
    expected = world.plain_sum(world.addresses) + np.sum(list(noise.values()), axis=0)
    assert world.hub.open().total.tolist() == expected.tolist()


def test_late_update_is_never_opened() -> None:
    world = World(6)
    late = world.addresses[2]
    world.deal()
    survivors = world.mask([late])
    world.memories[late], masked = device.mask(
        world.keys[late], world.terms, world.memories[late], world.deliveries[late], world.updates[late]
    )
    with pytest.raises(SecureError, match="this is no time for an answer of masking"):
        world.hub.take_masked(late, masked)
    world.unmask(survivors, world.sign(survivors))
    opened = world.hub.open()
    assert late in opened.dropped
    assert opened.total.tolist() == world.plain_sum(survivors.survivors).tolist()


def test_too_long_an_update_is_not_masked() -> None:
    """262144^2 - 64 * 32767^2 lies between 2047^2 and 2048^2."""
    world = World(5, parameters=65)
    world.deal()
    own = world.addresses[0]
    ask = (world.keys[own], world.terms, world.memories[own], world.deliveries[own])
    update = np.full(65, 32_767, np.int16)
    update[64] = 2047
    device.mask(*ask, update)
    update[64] = 2048
    with pytest.raises(SecureError, match="norm of at most 262144 units"):
        device.mask(*ask, update)
    with pytest.raises(SecureError, match="is not 65 values"):
        device.mask(*ask, update[:64])


@pytest.mark.parametrize(("members", "threshold"), [(5, 4), (6, 5), (9, 7), (100, 67)])
def test_default_threshold_leaves_a_third(members: int, threshold: int) -> None:
    assert default_threshold(members) == threshold


@pytest.mark.slow
def test_hundred_members_with_a_whole_model() -> None:
    """14,208 weights, a fifth of the members leaving before and after they sent their updates."""
    world = World(100, parameters=14_208)
    leave = (world.addresses[::20], world.addresses[7::20], world.addresses[11::20], world.addresses[13::20])
    opened = world.run(leave)
    assert len(opened.survivors) == 90
    assert opened.total.tolist() == world.plain_sum(opened.survivors).tolist()
