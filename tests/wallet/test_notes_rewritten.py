"""A chain that was rewritten, or a hub that says so: no note is lost, and nothing is paid twice."""

from __future__ import annotations

import pytest
from purse_kit import SOON, Wallet, entry, published, whole

from edge_agent.wallet.note_store import EXPIRY_MARGIN_SECONDS
from edge_agent.wallet.notes import MAX_TAKEN_BACK
from openmg.messages.market import NoteEntry
from openmg.zk.tree import NoteTree

LATE = 1_001 + EXPIRY_MARGIN_SECONDS


def test_leaves_that_the_chain_took_back_are_read_anew(alice, bob):
    kept, gone = whole(entry(alice.keys, 1)), whole(entry(alice.keys, 2), entry(alice.keys, 4))
    alice.purse.learn(0, kept + gone)
    alice.purse.begin_payment("hashed in", bob.address, 4, valid_until=1_000)
    alice.store.expire(LATE)
    new = [*whole(entry(bob.keys, 9), gone[1]), *whole(entry(alice.keys, 8))]
    assert alice.purse.learn(0, kept + new) == 32 and alice.purse.taken_back_to == 16
    assert alice.free() == [8, 4, 1]
    payment = alice.purse.begin_payment("rent", bob.address, 13, SOON)
    assert payment.witness.tree_root == NoteTree(leaf.commitment for leaf in kept + new).root()
    alice.restart()
    assert alice.store.leaves() == [leaf.commitment for leaf in kept + new]


def test_another_chain_is_not_believed(alice):
    """Only the newest leaves may change: whoever tells another history from the start would make the wallet forget all."""
    leaves = whole(entry(alice.keys, 5))
    alice.purse.learn(0, leaves)
    alice.purse.learn(16, [NoteEntry(0, b"")] * MAX_TAKEN_BACK)
    with pytest.raises(ValueError, match="note 0 is not the one heard before"):
        alice.purse.learn(0, whole(entry(alice.keys, 6)))
    assert alice.free() == [5] and alice.purse.taken_back_to is None
    alice.purse.learn(16, whole(entry(alice.keys, 7)))
    assert alice.free() == [7, 5] and alice.store.leaf_count() == 32


def test_a_contradiction_in_the_middle_of_a_batch_cuts_the_whole_batch(alice):
    leaves = whole(entry(alice.keys, 1), entry(alice.keys, 2), entry(alice.keys, 4))
    alice.purse.learn(0, leaves)
    with pytest.raises(ValueError, match="told from 0 on"):
        alice.purse.learn(2, [entry(alice.keys, 8)])
    assert alice.free() == [4, 2, 1]


def test_a_payment_that_was_taken_back_is_tried_again_with_the_same_notes_only(alice, bob):
    """A relay, or the new chain, may still bring the first attempt: with other notes both would count."""
    alice.hear(entry(alice.keys, 10), entry(alice.keys, 8))
    rent = alice.purse.begin_payment("rent", bob.address, 7, valid_until=1_000)
    alice.purse.learn_nullifiers(0, rent.publics.nullifiers)
    alice.hear(*published(rent))
    assert alice.free() == [8, 3]
    alice.purse.learn_nullifiers(0, [1, 2])
    alice.purse.learn(16, whole(entry(bob.keys, 1)))
    assert alice.free() == [8] and alice.store.payment_under_way(), "its note is set aside again"
    alice.store.expire(LATE)
    assert alice.free() == [10, 8]
    again = alice.purse.begin_payment("rent", bob.address, 7, SOON)
    assert again.publics.nullifiers[0] == rent.publics.nullifiers[0]
    alice.hear(*published(rent))
    assert alice.store.has_payment("rent") and not alice.store.payment_under_way()


def test_an_input_that_was_taken_back_stays_the_input_of_its_payment(alice, bob):
    """The attack: pay, let the hub take the input's leaf away and give it back, and hope for a payment with other notes."""
    mine, other = whole(entry(alice.keys, 10)), whole(entry(alice.keys, 8))
    alice.purse.learn(0, mine + other)
    rent = alice.purse.begin_payment("rent", bob.address, 7, valid_until=1_000)
    alice.purse.learn(0, [*whole(entry(bob.keys, 1)), *other])
    alice.store.expire(LATE)
    assert alice.free() == [8] and alice.purse.begin_payment("rent", bob.address, 7, SOON) is None
    alice.purse.learn(0, mine + other)
    assert alice.free() == [10, 8]
    again = alice.purse.begin_payment("rent", bob.address, 7, SOON)
    assert again.publics.nullifiers[0] == rent.publics.nullifiers[0]


def test_an_input_that_moved_is_bound_to_its_new_place(alice, bob):
    mine = entry(alice.keys, 10)
    alice.hear(mine, entry(alice.keys, 9))
    rent = alice.purse.begin_payment("rent", bob.address, 7, valid_until=1_000)
    alice.purse.learn(0, whole(entry(alice.keys, 9), entry(alice.keys, 20), mine))
    assert alice.free() == [20, 9], "still set aside for the rent"
    alice.store.expire(LATE)
    again = alice.purse.begin_payment("rent", bob.address, 7, SOON)
    assert [item.index for item in again.witness.inputs if item.amount] == [2]
    assert again.publics.nullifiers[0] != rent.publics.nullifiers[0], "the first counts on no chain that has this place"


def test_what_another_meter_paid_stays_paid(alice, bob):
    """A restored wallet knows it from the change alone, and does not know the notes it would have to be tied to."""
    first = whole(entry(alice.keys, 10), entry(alice.keys, 8))
    alice.purse.learn(0, first)
    rent = alice.purse.begin_payment("rent", bob.address, 7, SOON)
    alice.replace()
    alice.purse.learn(0, first + whole(*published(rent)))
    assert alice.free() == [8, 3]
    alice.purse.learn(16, whole(entry(bob.keys, 1)))
    assert alice.free() == [10, 8] and alice.purse.begin_payment("rent", bob.address, 7, SOON) is None


@pytest.mark.parametrize("twice", [False, True])
def test_lies_back_and_forth_never_free_a_purpose(alice: Wallet, bob: Wallet, twice: bool):
    """Whatever history a hub plays, all attempts at one purpose share a nullifier on the true one."""
    mine = entry(alice.keys, 10)
    truth = whole(mine, *([mine] if twice else []), entry(alice.keys, 6), entry(alice.keys, 5))
    lies = [whole(entry(bob.keys, 1), *truth[1:3]), whole(truth[2], truth[0]), whole(truth[3])]
    alice.purse.learn(0, truth)
    seen = []
    for turn, lie in enumerate([*lies, *lies]):
        spend = alice.purse.begin_payment("rent", bob.address, 4, valid_until=(turn + 1) * 1_000)
        seen.append(set(spend.publics.nullifiers))
        alice.purse.learn(0, lie)
        alice.store.expire((turn + 1) * 1_000 + EXPIRY_MARGIN_SECONDS + 1)
        alice.purse.begin_payment("rent", bob.address, 4, valid_until=(turn + 1) * 1_000)
        alice.purse.learn(0, truth)
        alice.store.expire((turn + 1) * 1_000 + EXPIRY_MARGIN_SECONDS + 1)
        alice.restart()
    assert set.intersection(*seen)
