"""The note purse on an empty database: what a wallet that was restored from words learns from the public tree alone."""

from __future__ import annotations

import random
import secrets

import pytest
from purse_kit import SOON, Wallet, entry, published, whole

from edge_agent.wallet.journal import DueShielding
from edge_agent.wallet.note_store import EXPIRY_MARGIN_SECONDS
from edge_agent.wallet.notes import PETH
from edge_agent.wallet.spends import Spend
from openmg.messages.market import NoteEntry
from openmg.zk.notes import Note, encrypt_note


class Tree:
    """The public leaves, from the first on, which a wallet hears again and again."""

    def __init__(self, *wallets: Wallet) -> None:
        self.leaves: list[NoteEntry] = []
        self.nullifiers: list[int] = []
        self.tells_nullifiers = True
        self.wallets = wallets

    def add(self, *leaves: NoteEntry) -> None:
        self.leaves += whole(*leaves)
        self.tell()

    def mine(self, spend: Spend) -> None:
        """The chain takes a spend: its nullifiers at once, its leaves with the next batch."""
        self.nullifiers += spend.publics.nullifiers
        self.add(*published(spend))

    def tell(self) -> None:
        for wallet in self.wallets:
            wallet.purse.learn(0, self.leaves)
            if self.tells_nullifiers:
                wallet.purse.learn_nullifiers(0, self.nullifiers)


@pytest.mark.parametrize("tells_nullifiers", [False, True])
def test_a_restored_wallet_knows_from_the_tree_alone_what_was_spent(alice, bob, tells_nullifiers):
    """Payments of one and of two notes, one without change, one of a change, and notes that others sent."""
    tree = Tree(alice, bob)
    tree.tells_nullifiers = tells_nullifiers
    tree.add(*(entry(alice.keys, amount) for amount in (30, 50, 40)), entry(bob.keys, 9), entry(alice.keys, 7, asset=4))
    for purpose, amount in (("one", 45), ("two", 60), ("three", 10), ("all of it", 3)):
        payment = alice.purse.begin_payment(purpose, bob.address, amount, SOON)
        tree.mine(payment)
    tree.add(entry(alice.keys, 100))
    before = [alice.store.spendable(asset) for asset in (PETH, 4)]
    assert alice.purse.balance_wei() == 30 + 50 + 40 - 45 - 60 - 10 - 3 + 100
    alice.replace()
    assert alice.purse.balance_wei() == 0
    tree.tell()
    assert [alice.store.spendable(asset) for asset in (PETH, 4)] == before
    assert all(alice.store.has_payment(purpose) for purpose in ("one", "two", "three", "all of it"))
    assert alice.purse.begin_payment("one", bob.address, 45, SOON) is None
    bob.replace()
    tree.tell()
    assert bob.purse.balance_wei() == 9 + 45 + 60 + 10 + 3


def test_a_payment_under_way_while_the_meter_is_replaced_is_not_made_twice(alice, bob):
    tree = Tree(alice, bob)
    tree.add(entry(alice.keys, 10), entry(alice.keys, 8))
    rent = alice.purse.begin_payment("rent", bob.address, 4, SOON)
    alice.replace()
    tree.tell()
    food = alice.purse.begin_payment("food", bob.address, 9, SOON)
    assert set(food.publics.nullifiers) & set(rent.publics.nullifiers), "the chain takes one of them"
    tree.mine(rent)
    assert alice.store.has_payment("rent") and not alice.store.payment_under_way(), "the food can no longer be paid so"
    assert alice.purse.balance_wei() == 8 + 6
    again = alice.purse.begin_payment("food", bob.address, 9, SOON)
    assert not set(again.publics.nullifiers) & set(rent.publics.nullifiers)
    tree.mine(again)
    assert (alice.purse.balance_wei(), bob.purse.balance_wei()) == (5, 13)


def test_the_very_same_payment_of_the_old_meter_completes_that_of_the_new(alice, bob):
    tree = Tree(alice)
    tree.add(entry(alice.keys, 10))
    old = alice.purse.begin_payment("rent", bob.address, 4, SOON)
    alice.replace()
    tree.tell()
    new = alice.purse.begin_payment("rent", bob.address, 4, SOON)
    assert old.publics.commitments[1] == new.publics.commitments[1]
    tree.mine(old)
    assert alice.store.has_payment("rent") and not alice.store.payment_under_way() and alice.purse.balance_wei() == 6


def test_another_attempt_has_another_change(alice, bob):
    """Two attempts with one change commitment could not be told apart, and one database row each would not do."""
    alice.hear(entry(alice.keys, 10))
    changes = set()
    for attempt in range(1, 5):
        payment = alice.purse.begin_payment("rent", bob.address, 4, valid_until=attempt * 1_000)
        changes.add(payment.publics.commitments[1])
        alice.store.expire(attempt * 1_000 + EXPIRY_MARGIN_SECONDS + 1)
    assert len(changes) == 4


def test_a_blinding_put_into_another_note_marks_nothing_as_spent(alice, bob):
    """Whoever has the incoming viewing key sees a change's blinding and can send the owner a note with it."""
    tree = Tree(alice)
    tree.add(entry(alice.keys, 10))
    payment = alice.purse.begin_payment("rent", bob.address, 4, valid_until=1_000)
    alice.store.expire(1_001 + EXPIRY_MARGIN_SECONDS)
    blinding = payment.witness.outputs[1].blinding
    for amount in (0, 5, 7):
        note = Note(PETH, amount, alice.address.public_key, blinding)
        tree.add(NoteEntry(note.commitment, encrypt_note(note, alice.address, secrets.token_bytes(32))))
    assert alice.purse.balance_wei() == 10 + 12 and not alice.store.has_payment("rent")


def test_a_restored_wallet_knows_what_a_merge_spent(alice, bob):
    """Its change names the purpose and no positions; the chain's nullifiers name the notes."""
    tree = Tree(alice, bob)
    tree.add(*(entry(alice.keys, 10) for _ in range(6)))
    rent = alice.purse.begin_payment("rent", bob.address, 45, SOON)
    assert rent.circuit == "merge"
    tree.mine(rent)
    before = alice.store.spendable(PETH)
    alice.replace()
    tree.tell()
    assert alice.store.spendable(PETH) == before and alice.free() == [10, 5]
    assert alice.purse.begin_payment("rent", bob.address, 1, SOON) is None


def test_a_second_wallet_with_the_seed_is_noticed(alice, bob, wallet_of):
    tree = Tree(alice)
    tree.add(entry(alice.keys, 10), entry(alice.keys, 9))
    own = alice.purse.begin_payment("rent", bob.address, 9, SOON)
    assert alice.purse.learn_nullifiers(0, own.publics.nullifiers) == []
    thief = wallet_of("alice-copy")
    thief.keys = alice.keys
    thief.restart()
    thief.purse.learn(0, tree.leaves)
    stolen = thief.purse.begin_payment("shopping", bob.address, 19, SOON)
    strange = alice.purse.learn_nullifiers(2, stolen.publics.nullifiers)
    assert [note.amount for note in strange] == [9]
    assert alice.purse.learn_nullifiers(2, stolen.publics.nullifiers) == [] and alice.purse.balance_wei() == 0


@pytest.mark.parametrize("seed", range(3))
def test_any_history_is_restored(alice, bob, seed):
    """Random payments, of which some are mined, some late and some never, and gifts in between."""
    chance, tree, now = random.Random(seed), Tree(alice), 1_000
    tree.add(*(entry(alice.keys, chance.randrange(1, 100)) for _ in range(12)))
    late = []
    for number in range(12):
        payment = alice.purse.begin_payment(f"pay {number}", bob.address, chance.choice((20, 60, 300)), now)
        if payment is None:
            tree.add(entry(alice.keys, chance.randrange(1, 100)))
            continue
        match chance.randrange(3):
            case 0:
                tree.mine(payment)
            case 1:
                late.append(payment)
        if chance.random() < 0.5:
            now += 1_000
            alice.store.expire(now)
    for payment in late:
        if not any(is_spent(alice, item.index) for item in payment.witness.inputs if item.amount):  # the chain's own rule
            tree.mine(payment)
    alice.store.expire(SOON * 2)
    before = alice.store.spendable(PETH)
    alice.replace()
    tree.tell()
    assert alice.store.spendable(PETH) == before


def is_spent(wallet: Wallet, position: int) -> bool:
    (found,) = wallet.store.notes_between(position, position)
    return found[1]


def test_a_shielding_is_found_again(alice):
    call = alice.purse.shield_call(DueShielding(1, 9))
    note = Note(PETH, 9, alice.address.public_key, alice.purse._shield_blinding(1))
    assert call.data[4 + 64 : 4 + 96] == note.partial.to_bytes(32, "big")
    assert not alice.purse.was_shielded(1)
    alice.hear(NoteEntry(note.commitment, encrypt_note(note, alice.address, secrets.token_bytes(32))))
    assert alice.purse.was_shielded(1) and not alice.purse.was_shielded(2)
