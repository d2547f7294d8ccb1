"""Hubs and members that cheat: two survivor sets, replayed steps, restarts, changed shares and false dealers."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest
from secure_world import World

from openmg.hashing import keccak256
from openmg.learning.secure import device
from openmg.learning.secure.hub import Phase
from openmg.learning.secure.round_secrets import Sealer
from openmg.learning.secure.survivors import sign_set
from openmg.learning.secure.terms import SecureError
from openmg.messages.base import decode, encode
from openmg.messages.secure import PAIR_DIGEST_BYTES, SHARE_BYTES, RevealedShare, ShareDealing, SurvivorSet, Unmasking


def masked_world(members: int = 7) -> tuple[World, SurvivorSet]:
    world = World(members)
    world.deal()
    return world, world.mask()


def smaller(survivors: SurvivorSet) -> SurvivorSet:
    return replace(survivors, survivors=survivors.survivors[1:])


def test_member_signs_one_survivor_set_a_round() -> None:
    world, survivors = masked_world()
    own = world.addresses[-1]
    memory, signature = device.sign(world.keys[own], world.terms, world.memories[own], survivors)
    assert device.sign(world.keys[own], world.terms, memory, survivors) == (memory, signature)
    with pytest.raises(SecureError, match="another survivor set of round 3 was already signed"):
        device.sign(world.keys[own], world.terms, memory, smaller(survivors))


def test_hub_that_shows_two_sets_opens_neither_with_the_rest() -> None:
    """Of seven members four see one set and three the other: no set gets the five signatures, so nobody reveals a share."""
    world, survivors = masked_world()
    shown = {address: survivors if place < 4 else smaller(survivors) for place, address in enumerate(world.addresses)}
    signatures = {}
    for address, seen in shown.items():
        world.memories[address], signatures[address] = device.sign(
            world.keys[address], world.terms, world.memories[address], seen
        )
    for address, seen in shown.items():
        with pytest.raises(SecureError, match="[34] survivors signed the set; round 3 takes 5"):
            device.unmask(world.keys[address], world.terms, world.memories[address], seen, signatures)


def test_shares_need_the_signed_set_and_its_quorum() -> None:
    world, survivors = masked_world()
    signatures = world.sign(survivors)
    own, quorum = world.addresses[3], world.terms.threshold
    ask = (world.keys[own], world.terms, world.memories[own])
    device.unmask(*ask, survivors, dict(list(signatures.items())[:quorum]))
    few = dict(list(signatures.items())[: quorum - 1])
    stranger = World(8).addresses
    outsider = next(address for address in stranger if address not in world.keys)
    forged = {**few, outsider: sign_set(world.terms, survivors, World(8).keys[outsider].signing_key)}
    borrowed = {**few, world.addresses[-1]: few[world.addresses[0]]}
    broken = {**few, world.addresses[-1]: bytes(65)}
    for given in (few, forged, borrowed, broken):
        with pytest.raises(SecureError, match="4 survivors signed the set; round 3 takes 5"):
            device.unmask(*ask, survivors, given)
    with pytest.raises(SecureError, match="did not sign that survivor set"):
        device.unmask(*ask, smaller(survivors), signatures)
    with pytest.raises(SecureError, match="did not sign that survivor set"):
        device.unmask(*ask[:2], replace(ask[2], survivors=b""), survivors, signatures)


def test_no_set_below_the_threshold_and_none_without_oneself() -> None:
    world, survivors = masked_world()
    few = replace(survivors, survivors=survivors.survivors[:4])
    with pytest.raises(SecureError, match="4 members are left; round 3 opens nothing below 5"):
        device.sign(world.keys[world.addresses[0]], world.terms, world.memories[world.addresses[0]], few)
    with pytest.raises(SecureError, match="signs no survivor set"):
        device.sign(world.keys[world.addresses[0]], world.terms, world.memories[world.addresses[0]], smaller(survivors))
    other = replace(survivors, round_id=bytes(32))
    with pytest.raises(SecureError, match="not one of members of round 3"):
        device.sign(world.keys[world.addresses[0]], world.terms, world.memories[world.addresses[0]], other)


def test_memory_survives_a_restart_and_still_binds() -> None:
    world, survivors = masked_world()
    own = world.addresses[1]
    ask = (world.keys[own], world.terms)
    memory, signature = device.sign(*ask, world.memories[own], survivors)
    again = decode(device.DeviceMemory, encode(memory))
    assert again == memory
    with pytest.raises(SecureError, match="already signed"):
        device.sign(*ask, again, smaller(survivors))
    repeated = device.mask(*ask, again, world.deliveries[own], world.updates[own])[1]
    assert keccak256(repeated.values) == memory.masked
    changed = world.updates[own].copy()
    changed[5] += 1
    with pytest.raises(SecureError, match="another update was already masked"):
        device.mask(*ask, again, world.deliveries[own], changed)
    with pytest.raises(SecureError, match="another update was already masked"):
        device.mask(*ask, again, world.deliveries[own][1:], world.updates[own])
    assert device.noise_seed(world.terms, again) == device.noise_seed(world.terms, world.memories[own])


def test_each_member_gets_one_share_revealed_of_one_kind() -> None:
    """The kind follows from the set; a message cannot even hold two shares of one owner."""
    world = World(7)
    world.deal()
    gone = world.addresses[2]
    survivors = world.mask([gone])
    signatures = world.sign(survivors)
    own = world.addresses[4]
    unmasking = device.unmask(world.keys[own], world.terms, world.memories[own], survivors, signatures)
    held = {item.dealer: item for item in world.memories[own].held}
    assert {item.owner for item in unmasking.shares} == set(held)
    for item in unmasking.shares:
        revealed, kept = held[item.owner].self_share, held[item.owner].pair_share
        if item.owner == gone:
            revealed, kept = kept, revealed
        assert item.share == revealed
        assert kept not in encode(unmasking)
    both = (RevealedShare(own, held[own].self_share), RevealedShare(own, held[own].pair_share))
    with pytest.raises(ValueError, match="one share for each owner"):
        Unmasking(world.terms.round_id, both)
    assert {field.name for field in dataclasses.fields(RevealedShare)} == {"owner", "share"}


def tamper(unmasking: Unmasking, place: int) -> Unmasking:
    shares = list(unmasking.shares)
    shares[place] = replace(
        shares[place], share=bytes([shares[place].share[0], shares[place].share[1] ^ 1]) + shares[place].share[2:]
    )
    return replace(unmasking, shares=tuple(shares))


@pytest.mark.parametrize("liars", [1, 2, 3])
def test_changed_shares_are_seen_and_the_sum_is_right_or_not_opened(liars: int) -> None:
    world, survivors = masked_world()
    signatures = world.sign(survivors)
    for place, address in enumerate(world.addresses):
        unmasking = device.unmask(world.keys[address], world.terms, world.memories[address], survivors, signatures)
        world.hub.take_unmasking(address, tamper(unmasking, 6) if place < liars else unmasking)
    if liars <= 2:
        opened = world.hub.open()
        assert list(opened.tampered) == world.addresses[:liars]
        assert opened.total.tolist() == world.plain_sum(world.addresses).tolist()
    else:
        with pytest.raises(SecureError, match="4 good shares of .* opens nothing below 5"):
            world.hub.open()
        assert world.hub.phase is Phase.VOID


@pytest.mark.parametrize("part", ["round_public", "self_commitment", "digests", "sealed"])
def test_changed_delivery_is_refused(part: str) -> None:
    world = World(5)
    world.deal()
    own = world.addresses[0]
    first, *rest = world.deliveries[own]
    value = getattr(first, part)
    changed = replace(first, **{part: value[:-1] + bytes([value[-1] ^ 1])})
    ask = (world.keys[own], world.terms, world.memories[own])
    device.mask(*ask, [first, *rest], world.updates[own])
    with pytest.raises(SecureError, match="were changed on the way"):
        device.mask(*ask, [changed, *rest], world.updates[own])
    with pytest.raises(SecureError, match="dealt twice"):
        device.mask(*ask, [first, first, *rest], world.updates[own])
    with pytest.raises(SecureError, match="3 of 5 holders dealt; fewer than 4"):
        device.mask(*ask, rest[:2], world.updates[own])


@pytest.mark.parametrize(
    ("part", "stays", "problem"), [("self_commitment", True, "another self mask"), ("round_public", False, "another key")]
)
def test_dealer_whose_shares_do_not_give_its_secret_is_named(part: str, stays: bool, problem: str) -> None:
    """A commitment and a key of other secrets than the shared ones: the first shows for a survivor, the second for one gone."""
    world = World(5)
    cheat = world.addresses[0]
    world.deal()
    survivors = world.mask([] if stays else [cheat])
    world.unmask(survivors, world.sign(survivors))
    false = device.deal(world.keys[cheat], world.terms, keccak256(b"other"))[1]
    world.hub._dealings[cheat] = replace(world.hub._dealings[cheat], **{part: getattr(false, part)})
    with pytest.raises(SecureError, match=f"0x{cheat.hex()} dealt shares of {problem}"):
        world.hub.open()
    assert world.hub.phase is Phase.VOID


def test_dealer_whose_digests_are_not_those_of_its_shares_is_named() -> None:
    """Sealed and authentic, so only the holder can see that the share would be refused when it reveals it."""
    world = World(5)
    world.deal()
    holder, dealer = world.addresses[:2]
    honest = next(item for item in world.deliveries[holder] if item.dealer == dealer)
    sealer = Sealer(world.keys[dealer].mask_key, world.keys[holder].mask_public, world.terms.round_id)
    digests = bytes(PAIR_DIGEST_BYTES)
    parts = honest.round_public, honest.self_commitment, digests, bytes(2 * SHARE_BYTES)
    false = replace(honest, digests=digests, sealed=sealer.seal(dealer, holder, *parts))
    deliveries = [false if item.dealer == dealer else item for item in world.deliveries[holder]]
    with pytest.raises(SecureError, match=f"0x{dealer.hex()} dealt shares that its digests do not name"):
        device.mask(world.keys[holder], world.terms, world.memories[holder], deliveries, world.updates[holder])


def test_member_that_did_not_deal_cannot_send_a_masked_update() -> None:
    world = World(6)
    silent = world.addresses[0]
    world.deal([silent])
    other = world.addresses[1]
    masked = device.mask(world.keys[other], world.terms, world.memories[other], world.deliveries[other], world.updates[other])[
        1
    ]
    with pytest.raises(SecureError, match=f"0x{silent.hex()} has no such answer to give"):
        world.hub.take_masked(silent, masked)
    world.hub.take_masked(other, masked)


def test_hub_refuses_strangers_second_answers_and_wrong_forms() -> None:
    world = World(5)
    own = world.addresses[0]
    dealing = device.deal(world.keys[own], world.terms, keccak256(b"a"))[1]
    world.hub.take_dealing(own, dealing)
    world.hub.take_dealing(own, dealing)
    with pytest.raises(SecureError, match="two different answers"):
        world.hub.take_dealing(own, device.deal(world.keys[own], world.terms, keccak256(b"b"))[1])
    with pytest.raises(SecureError, match="has no such answer to give"):
        world.hub.take_dealing(bytes(20), dealing)
    short = ShareDealing(
        dealing.round_id, dealing.round_public, dealing.self_commitment, dealing.digests[32:], dealing.sealed[1:]
    )
    with pytest.raises(SecureError, match="not one for each neighbour"):
        world.hub.take_dealing(world.addresses[1], short)
    with pytest.raises(SecureError, match="memory is of another round"):
        device.noise_seed(World(5, number=4).terms, device.DeviceMemory(world.terms.round_id, bytes(32)))
