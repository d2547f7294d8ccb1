"""The opening of a slot whoever drops out at whichever step, and the masks it rests on."""

from __future__ import annotations

import dataclasses
import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masking_kit import CHAIN_ID, KEYS, SLOT, Group

from openmg.masking import Masker, make_roster, threshold
from openmg.masking.masks import add, pair_mask, self_mask
from openmg.masking.opening import CannotOpen, MaskedReport, NotYet, open_sums
from openmg.masking.survivors import RefusedSet, require_set, set_of
from openmg.messages.slot_opening import DEALT_BYTES, KEY_BYTES
from openmg.messages.telemetry import MASK_MODULI
from openmg.pairwise import mask_sign
from openmg.shamir import combine
from openmg.survivors import count_signed
from openmg.zk.babyjub import SUBGROUP_ORDER

SIZES = st.integers(5, 12)


@functools.cache
def group(count: int) -> Group:
    return Group(count)


def fresh(count: int) -> Group:
    """The same group before anything was promised; masks are made once."""
    made = group(count)
    again = Group.__new__(Group)
    again.__dict__.update(made.__dict__)
    again.promises = [dataclasses.replace(promise, survivors=b"") for promise in made.promises]
    return again


@st.composite
def drop_outs(draw: st.DrawFn) -> tuple[int, frozenset[int], frozenset[int], frozenset[int]]:
    """(members, who reported, of them who signed, of those who gave keys)."""
    count = draw(SIZES)
    reported = draw(st.frozensets(st.sampled_from(range(count)), min_size=1))
    signed = draw(st.frozensets(st.sampled_from(sorted(reported))))
    return count, reported, signed, draw(st.frozensets(st.sampled_from(sorted(signed)))) if signed else frozenset()


@settings(deadline=None, max_examples=120)
@given(drop_outs())
def test_whoever_drops_out_when_the_sum_of_the_survivors_opens_or_nothing(
    case: tuple[int, frozenset[int], frozenset[int], frozenset[int]],
) -> None:
    count, reported, signed, gave = case
    made, enough = fresh(count), threshold(count)
    keys: dict[bytes, bytes] = {}
    if len(reported) == count:
        keys = {made.addresses[i]: made.ask(i, made.notice(reported)).keys for i in gave}
    elif len(reported) < enough:
        for i in signed:
            with pytest.raises(RefusedSet, match=f"{enough} are needed"):
                made.ask(i, made.notice(reported))
    else:
        openings = {i: made.ask(i, made.notice(reported)) for i in signed}
        assert not any(opening.keys for opening in openings.values())
        notice = made.notice(reported, {i: opening.signature for i, opening in openings.items()})
        keys = {made.addresses[i]: made.ask(i, notice).keys for i in gave}
        if len(signed) < enough:
            assert not any(keys.values())
    can = len(gave) >= enough if len(reported) == count else reported == gave and len(reported) >= enough
    if not can:
        with pytest.raises(NotYet):
            open_sums(made.roster, SLOT, made.masked(reported), keys)
        return
    sums = open_sums(made.roster, SLOT, made.masked(reported), keys)
    total = made.total(reported)
    assert sums == (*total[:2], *(value % SUBGROUP_ORDER for value in total[2:]))


def test_masks_are_what_the_paper_says() -> None:
    """The report less self mask and pair masks, added up by hand, is the value."""
    made = Group(6)
    for place, masker in enumerate(made.maskers):
        shares = {
            holder: bytes(
                a ^ b
                for a, b in zip(
                    made.reports[place].shares[holder * DEALT_BYTES :][:32],
                    made.maskers[holder].pad(masker.address, SLOT, made.reports[place].self_commitment),
                    strict=True,
                )
            )
            for holder in range(6)
        }
        seed = combine(shares, threshold(6))
        assert seed == combine(dict(list(shares.items())[1:]), threshold(6))  # any threshold of them
        value = add(made.reports[place].masked, self_mask(made.id, SLOT, seed), -1)
        for peer in made.addresses:
            if peer != masker.address:
                value = add(value, pair_mask(masker.pair_key(peer, SLOT)), -mask_sign(masker.address, peer))
        assert value == made.value(place)


def test_another_value_of_a_slot_has_another_self_mask() -> None:
    """So a meter that was restored and reports again does not show the difference of its two readings."""
    masker = Group(5).maskers[0]
    once, again, other = (masker.mask(SLOT, (value, 1, 2, 3)) for value in (10, 10, 11))
    assert once == again and once.self_commitment != other.self_commitment
    difference = (other.masked[0] - once.masked[0]) % MASK_MODULI[0]
    assert difference > 2**32 and MASK_MODULI[0] - difference > 2**32


def test_equal_values_look_unrelated_under_masks() -> None:
    made = Group(7)
    masked = [masker.mask(SLOT, (100, 100, 100, 100)).masked for masker in made.maskers]
    assert len({value for row in masked for value in row}) == 28
    assert all(row[2] > 2**200 and row[3] > 2**200 for row in masked)


def test_values_that_no_slot_has_are_not_masked() -> None:
    for values in ((1, 2), (-1, 0, 0, 0), (0, 2**32, 0, 0), (0, 0, SUBGROUP_ORDER, 0), (0, 0, 0, -1)):
        with pytest.raises(ValueError, match="two energies"):
            Group(5).maskers[0].mask(SLOT, values)


def test_roster_needs_five_different_members() -> None:
    members = Group(7).roster.members
    with pytest.raises(ValueError, match="5 to"):
        make_roster(1, 0, members[:4])
    with pytest.raises(ValueError, match="twice"):
        make_roster(1, 0, [*members, members[0]])
    with pytest.raises(ValueError, match="not in the roster"):
        Masker(KEYS[20], Group(7).roster)


def test_two_sets_need_more_than_a_third_of_the_members_in_both() -> None:
    for count in range(5, 193):
        enough = threshold(count)
        assert 5 <= enough <= count and 3 * (2 * enough - count) > count and 2 * enough > count


def test_a_wrong_share_is_passed_over_and_a_wrong_dealer_named() -> None:
    made = Group(8)
    notice = made.notice(range(8))
    keys = {made.addresses[i]: made.ask(i, notice).keys for i in range(8)}
    liar = made.addresses[3]
    wrong = {**keys, liar: bytes(len(keys[liar])), made.addresses[5]: keys[made.addresses[5]][:-1]}
    assert open_sums(made.roster, SLOT, made.masked(range(8)), wrong)[0] == made.total(range(8))[0]
    with pytest.raises(NotYet, match="5 good shares"):
        open_sums(made.roster, SLOT, made.masked(range(8)), dict(list(keys.items())[:5]))
    other = made.maskers[2].mask(SLOT, (1, 1, 1, 1))
    dealt = {**made.masked(range(8)), made.addresses[2]: MaskedReport(other.masked, other.self_commitment, other.shares)}
    with pytest.raises(NotYet):  # pads are of the report that the set names
        open_sums(made.roster, SLOT, dealt, keys)
    forged = _with_another_seed(made, 2)
    keys = {made.addresses[i]: made.ask(i, notice).keys for i in range(8)}
    with pytest.raises(CannotOpen, match="dealt shares of another self mask"):
        open_sums(made.roster, SLOT, {**made.masked(range(8)), made.addresses[2]: forged}, keys)


def _with_another_seed(made: Group, place: int) -> MaskedReport:
    """A report whose dealt shares are right by their digests and give another seed than it is bound to."""
    from openmg.masking.masks import share_digest, xor
    from openmg.shamir import split

    commitment, shares = made.reports[place].self_commitment, b""
    for holder, share in enumerate(split(12345, [1] * (threshold(8) - 1), 8)):
        pad = made.maskers[holder].pad(made.addresses[place], SLOT, commitment)
        shares += xor(share, pad) + share_digest(commitment, made.addresses[holder], share)
    return MaskedReport(made.reports[place].masked, commitment, shares)


def test_the_feeder_rule() -> None:
    made = Group(20, clear_feeder=True)
    for away, allowed in ((0, True), (1, False), (4, False), (5, True), (6, True)):
        if allowed:
            require_set(made.roster, made.addresses[away:])
        else:
            with pytest.raises(RefusedSet, match="clear feeder"):
                require_set(made.roster, made.addresses[away:])


def test_a_signature_counts_for_one_set_of_one_slot() -> None:
    made = Group(8)
    notice = made.notice(range(7))
    signatures = {made.addresses[i]: made.ask(i, notice).signature for i in range(7)}
    assert count_signed(set_of(notice), CHAIN_ID, signatures, 8) == 7
    for changed in (
        dataclasses.replace(notice, slot=SLOT + 1),
        dataclasses.replace(notice, roster_id=bytes(32)),
        dataclasses.replace(notice, commitments=(bytes(32), *notice.commitments[1:])),
        dataclasses.replace(notice, survivors=notice.survivors[:6], commitments=notice.commitments[:6]),
    ):
        assert count_signed(set_of(changed), CHAIN_ID, signatures, 8) == 0
    assert count_signed(set_of(notice), CHAIN_ID + 1, signatures, 8) == 0
    assert len(made.ask(0, made.notice(range(7), dict(enumerate(signatures.values())))).keys) == 8 * KEY_BYTES
