"""The note purse over leaves that a test makes up: finding notes, setting them aside, and all that must not happen."""

from __future__ import annotations

import secrets

import pytest
from purse_kit import CIRCUIT_SET, CONTRACT, SOON, entry, published, whole

from edge_agent.wallet.journal import DueShielding
from edge_agent.wallet.note_store import EXPIRY_MARGIN_SECONDS
from edge_agent.wallet.notes import MAX_SMALL_NOTES
from openmg.messages.market import NoteEntry
from openmg.zk.field import R
from openmg.zk.spend import SpendError
from openmg.zk.tree import NoteTree

# ---- finding notes ----------------------------------------------------------------------------------------------


def test_a_note_is_found_by_its_owner_only(alice, bob):
    notes = whole(entry(alice.keys, 70), entry(bob.keys, 30), NoteEntry(5, b"no ciphertext"), entry(alice.keys, 10, asset=4))
    for wallet, balance in ((alice, 70), (bob, 30)):
        assert wallet.purse.learn(0, notes) == 16
        assert wallet.purse.balance_wei() == balance
        assert wallet.store.leaves() == [note.commitment for note in notes]


def test_a_ciphertext_that_does_not_open_the_leaf_is_no_note(alice):
    alice.hear(NoteEntry(entry(alice.keys, 1).commitment, entry(alice.keys, 10**6).ciphertext))
    assert alice.purse.balance_wei() == 0


def test_batches_may_come_again_and_overlap_but_not_leave_a_gap(alice):
    notes = [entry(alice.keys, 1 << i) for i in range(48)]
    assert alice.purse.learn(32, notes[32:]) == 0
    assert (alice.purse.balance_wei(), alice.store.leaves()) == (0, [])
    assert alice.purse.learn(0, notes[:16]) == 16
    assert alice.purse.learn(0, notes[:16]) == 0
    assert alice.purse.learn(32, notes[32:]) == 0
    assert alice.purse.learn(0, notes) == 32
    assert alice.purse.balance_wei() == 2**48 - 1
    assert alice.store.leaves() == [note.commitment for note in notes]


def test_only_whole_batches_are_taken(alice, bob):
    """A root between two batches exists on no chain, so a proof against it would be worthless."""
    notes = [entry(alice.keys, 1) for _ in range(20)]
    assert alice.purse.learn(0, notes[:15]) == 0
    assert alice.purse.learn(0, notes) == 16 and alice.purse.balance_wei() == 16
    payment = alice.purse.begin_payment("rent", bob.address, 2, SOON)
    assert payment.witness.tree_root == NoteTree(note.commitment for note in notes[:16]).root()
    assert alice.purse.learn(0, whole(*notes)) == 16 and alice.store.leaf_count() == 32


@pytest.mark.parametrize("commitment", [-1, 2**254, 2**256])
def test_an_impossible_leaf_is_refused_and_takes_nothing(alice, commitment):
    with pytest.raises(ValueError):
        alice.purse.learn(0, whole(NoteEntry(commitment, b"")))
    assert alice.hear(entry(alice.keys, 5)) == 0
    with pytest.raises(ValueError):  # neither does it take back what is known
        alice.purse.learn(0, whole(entry(alice.keys, 6), NoteEntry(commitment, b"")))
    assert alice.free() == [5]


def test_a_bad_leaf_takes_its_whole_message_along(alice):
    with pytest.raises(ValueError):
        alice.purse.learn(0, [*whole(entry(alice.keys, 5)), *whole(NoteEntry(R, b""))])
    assert (alice.store.leaves(), alice.purse.balance_wei()) == ([], 0)


@pytest.mark.parametrize("length", [0, 1, 65, 113, 114, 115, 512])
def test_hostile_ciphertexts_are_no_notes_and_hide_none(alice, length):
    """Zeros and ones make X25519 points of small order; random bytes, lengths and cuts are no ciphertexts either."""
    good = entry(alice.keys, 7)
    contents = [bytes(length), b"\x01" + bytes(length), b"\xff" * length, secrets.token_bytes(length)]
    contents += [good.ciphertext[:length], good.ciphertext[:length] + b"\0", good.ciphertext[:-1] + b"\0"]
    alice.hear(*(NoteEntry(good.commitment, content) for content in contents if content != good.ciphertext), good)
    assert alice.purse.balance_wei() == 7


def test_a_garbage_ciphertext_pays_nobody_and_the_sender_pays_anew(alice, bob):
    """Only a sender can make one, since the proof binds it: the receiver goes on, and the change is the sender's as ever."""
    alice.hear(entry(alice.keys, 50))
    spoiled, change = published(alice.purse.begin_payment("rent", bob.address, 20, SOON))
    for wallet in (alice, bob):
        wallet.hear(NoteEntry(spoiled.commitment, secrets.token_bytes(len(spoiled.ciphertext))), change)
    assert (alice.purse.balance_wei(), bob.purse.balance_wei()) == (30, 0)
    again = published(alice.purse.begin_payment("rent again", bob.address, 20, SOON))
    for wallet in (alice, bob):
        wallet.hear(*again)
    assert (alice.purse.balance_wei(), bob.purse.balance_wei()) == (10, 20)


def test_the_same_note_twice_in_the_tree_is_two_notes(alice, bob):
    """Two leaves with one commitment have two nullifiers, so both can be spent, together too."""
    twice = entry(alice.keys, 7)
    alice.hear(twice, twice)
    assert alice.purse.balance_wei() == 14
    payment = alice.purse.begin_payment("both", bob.address, 14, SOON)
    assert len({item.index for item in payment.witness.inputs}) == 2
    assert len(set(payment.publics.nullifiers)) == 2


# ---- setting aside ----------------------------------------------------------------------------------------------


def test_the_fewest_and_largest_notes_are_set_aside(alice, bob):
    alice.hear(*(entry(alice.keys, amount) for amount in (30, 50, 40)))
    first = alice.purse.begin_payment("one", bob.address, 45, SOON)
    assert [item.amount for item in first.witness.inputs] == [50, 0]
    assert [item.amount for item in first.witness.outputs] == [45, 5]
    second = alice.purse.begin_payment("two", bob.address, 60, SOON)
    assert [item.amount for item in second.witness.inputs] == [40, 30]
    assert alice.purse.balance_wei() == 0
    assert alice.purse.begin_payment("three", bob.address, 1, SOON) is None


def test_more_than_two_notes_are_merged(alice, bob):
    alice.hear(*(entry(alice.keys, 10) for _ in range(9)))
    payment = alice.purse.begin_payment("much", bob.address, 75, SOON)
    assert payment.circuit == "merge" and [item.amount for item in payment.witness.inputs] == [10] * 8
    assert [item.amount for item in payment.witness.outputs] == [75, 5]
    assert len(set(payment.publics.nullifiers)) == 8 and alice.purse.balance_wei() == 10
    three = alice.purse.begin_payment("little", bob.address, 5, SOON)
    assert three.circuit == "transfer"


def test_a_payment_that_eight_notes_cannot_make_gathers_first(alice, bob):
    alice.hear(*(entry(alice.keys, 10) for _ in range(9)))
    assert alice.purse.begin_payment("much", bob.address, 85, SOON) is None
    assert not alice.store.payment_under_way() and alice.purse.balance_wei() == 90
    assert alice.purse.begin_gathering(SOON, amount_wei=91) is None and alice.purse.begin_gathering(SOON, amount_wei=80) is None
    gathering = alice.purse.begin_gathering(SOON, amount_wei=85)
    assert [item.amount for item in gathering.witness.outputs] == [0, 80]
    alice.hear(*published(gathering))
    payment = alice.purse.begin_payment("much", bob.address, 85, SOON)
    assert [item.amount for item in payment.witness.inputs] == [80, 10]


def test_small_notes_are_gathered_only_when_there_are_many(alice):
    alice.hear(*(entry(alice.keys, 1 + i) for i in range(MAX_SMALL_NOTES)))
    assert alice.purse.begin_gathering(SOON) is None
    alice.hear(entry(alice.keys, 100), entry(alice.keys, 5, asset=4))
    gathering = alice.purse.begin_gathering(SOON)
    assert sorted(item.amount for item in gathering.witness.inputs) == list(range(1, 9)) and gathering.circuit == "merge"
    assert alice.purse.begin_gathering(SOON) is None
    alice.hear(*published(gathering))
    assert alice.free() == [100, 36, 12, 11, 10, 9]


def test_a_purpose_is_paid_once(alice, bob):
    alice.hear(entry(alice.keys, 10), entry(alice.keys, 10))
    assert alice.purse.begin_payment("rent", bob.address, 5, SOON) is not None
    assert alice.purse.begin_payment("rent", bob.address, 5, SOON) is None
    assert alice.purse.balance_wei() == 10


def test_an_impossible_amount_sets_nothing_aside(alice, bob):
    alice.hear(entry(alice.keys, 10))
    with pytest.raises((ValueError, SpendError)):
        alice.purse.begin_payment("negative", bob.address, -1, SOON)
    assert alice.purse.balance_wei() == 10 and not alice.store.has_payment("negative")


def test_inputs_stay_aside_over_a_restart_and_are_free_after_expiry(alice, bob):
    alice.hear(entry(alice.keys, 10))
    alice.purse.begin_payment("rent", bob.address, 5, valid_until=1_000)
    alice.restart()
    assert alice.purse.balance_wei() == 0
    assert alice.purse.begin_payment("food", bob.address, 5, SOON) is None
    alice.store.expire(1_000 + EXPIRY_MARGIN_SECONDS)
    assert alice.purse.balance_wei() == 0
    alice.store.expire(1_001 + EXPIRY_MARGIN_SECONDS)
    assert alice.purse.balance_wei() == 10
    assert alice.purse.begin_payment("rent", bob.address, 5, SOON) is not None


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_an_expired_payment_is_tried_again_with_the_same_notes_only(alice, bob, count):
    """The first attempt may have been mined unseen: other notes would pay the receiver twice."""
    alice.hear(*(entry(alice.keys, 10) for _ in range(count)), *(entry(alice.keys, 9) for _ in range(8)))
    first = alice.purse.begin_payment("rent", bob.address, 10 * count, valid_until=1_000)
    alice.store.expire(1_001 + EXPIRY_MARGIN_SECONDS)
    alice.restart()
    other = alice.purse.begin_payment("food", bob.address, 10 * count, 2_000)
    assert alice.purse.begin_payment("rent", bob.address, 10 * count, SOON) is None, "its notes are set aside for the food"
    alice.store.expire(2_001 + EXPIRY_MARGIN_SECONDS)
    alice.hear(entry(alice.keys, 1_000))  # which would be chosen if the choice were free
    again = alice.purse.begin_payment("rent", bob.address, 10 * count, SOON)
    nullifiers = [set(payment.publics.nullifiers[:count]) for payment in (first, other, again)]
    assert nullifiers[0] == nullifiers[1] == nullifiers[2]


def test_only_the_change_completes_a_payment(alice, bob):
    """The receiver knows his own note's opening and could make it himself; the change's blinding nobody knows."""
    alice.hear(entry(alice.keys, 10))
    payment = alice.purse.begin_payment("rent", bob.address, 4, SOON)
    paid, change = published(payment)
    alice.hear(paid)
    assert alice.store.payment_under_way()
    alice.hear(paid, change)
    assert not alice.store.payment_under_way() and alice.purse.balance_wei() == 6


def test_shielding_the_same_item_again_makes_the_same_note(alice):
    """An envelope that is sent again after a crash must not make a note whose blinding the wallet forgot."""
    first, again, other = (alice.purse.shield_call(DueShielding(number, 9)) for number in (1, 1, 2))
    partial = slice(4 + 2 * 32, 4 + 3 * 32)
    assert first.data[partial] == again.data[partial] != other.data[partial]
    assert first.value_wei == 9 and first.to == CONTRACT


def test_another_circuit_set_is_proved_for_the_same_notes(alice, bob):
    """The guardian changed a verifier: what was bound to the old ones no longer counts, and may not count twice."""
    alice.hear(*(entry(alice.keys, 10) for _ in range(4)))
    for spend in (
        alice.purse.begin_payment("one", bob.address, 5, SOON),
        alice.purse.begin_payment("three", bob.address, 25, SOON),
    ):
        again = spend.bound_to(b"\x77" * 32)
        old, new = spend.publics, again.publics
        assert (old.nullifiers, old.commitments, old.root) == (new.nullifiers, new.commitments, new.root)
        assert old.ext != new.ext and again.ciphertexts == spend.ciphertexts
        assert again.bound_to(CIRCUIT_SET) == spend
