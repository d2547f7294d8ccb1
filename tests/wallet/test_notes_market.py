"""What the private market needs of the purse: open notes, spends of its own kind, burns, and notes of several trees."""

from __future__ import annotations

import secrets

import pytest
from purse_kit import SOON, entry, published, whole

from edge_agent.wallet import forest
from edge_agent.wallet.note_store import EXPIRY_MARGIN_SECONDS, PaymentState
from edge_agent.wallet.notes import PETH
from edge_agent.wallet.spends import Output
from openmg.messages.market import NoteEntry
from openmg.zk.assets import Kind, energy_asset
from openmg.zk.circuits import burn
from openmg.zk.circuits.merge import MergePublics
from openmg.zk.notes import Note
from openmg.zk.r1cs import WitnessBuilder
from openmg.zk.spend import SpendError
from openmg.zk.tags import H
from openmg.zk.tree import named_root, root_of

SUPPLY = energy_asset(Kind.SUPPLY, 1, 20_000, 2)
DELIVERY = energy_asset(Kind.DELIVERY, 1, 20_000, 2)


def open_entry(wallet, amount: int, blinding: int, asset: int = PETH) -> NoteEntry:
    """A leaf as `ConfidentialToken.createNote` emits it."""
    note = Note(asset, amount, wallet.address.public_key, blinding)
    ciphertext = asset.to_bytes(21, "big") + amount.to_bytes(12, "big") + note.partial.to_bytes(32, "big")
    return NoteEntry(note.commitment, ciphertext)


def partial_of(wallet, blinding: int) -> int:
    return H("own", wallet.address.public_key, blinding)


# ---- open notes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expected_first", [True, False])
def test_an_expected_outcome_is_found_whenever_it_was_expected(alice, bob, expected_first):
    """A restored wallet computes its partials after it has heard of the leaves."""
    leaves = [open_entry(alice, 70, 5), open_entry(bob, 30, 5), open_entry(alice, 500, 6, DELIVERY)]
    if not expected_first:
        alice.hear(*leaves)
        assert alice.free() == []
    for blinding in (5, 6):
        alice.purse.expect_partial(partial_of(alice, blinding), blinding, f"order {blinding}")
    if expected_first:
        alice.restart()
        alice.hear(*leaves)
    assert (alice.free(), alice.free(DELIVERY)) == ([70], [500])
    assert [note.amount for note in alice.purse.received("order 6")] == [500] and alice.purse.received("order 7") == []
    alice.purse.expect_partial(partial_of(alice, 5), 5, "order 5")
    assert alice.free() == [70]


def test_an_open_note_that_lies_about_its_amount_or_asset_is_no_note(alice):
    """The attack: a hub writes another amount beside a real commitment, and the wallet counts money it does not have."""
    alice.purse.expect_partial(partial_of(alice, 5), 5, "order")
    good = open_entry(alice, 70, 5)
    for lie in (open_entry(alice, 71, 5), open_entry(alice, 70, 5, SUPPLY)):
        alice.hear(NoteEntry(good.commitment, lie.ciphertext))
    alice.hear(NoteEntry(open_entry(alice, 9, 6).commitment, open_entry(alice, 8, 6).ciphertext))
    alice.purse.expect_partial(partial_of(alice, 6), 6, "later")
    assert alice.free() == [] and alice.purse.received("order") == [] and alice.purse.received("later") == []
    alice.hear(good)
    assert alice.free() == [70]


def test_a_partial_of_somebody_else_is_refused(alice, bob):
    for partial, blinding in ((partial_of(bob, 5), 5), (partial_of(alice, 5), 6), (partial_of(alice, 5), 2**254)):
        with pytest.raises(ValueError):
            alice.purse.expect_partial(partial, blinding, "order")


# ---- spends -----------------------------------------------------------------------------------------------------


def test_a_sale_binds_what_its_caller_computes_and_pays_its_change_to_the_owner(alice):
    alice.hear(entry(alice.keys, 730, SUPPLY), entry(alice.keys, 0, SUPPLY), entry(alice.keys, 5))
    seen = []

    def ext(circuit_set, publics, ciphertexts):
        seen.append((circuit_set, publics.nullifiers, ciphertexts))
        return 77 + circuit_set[0]

    assert alice.purse.select(SUPPLY, 731) is None
    inputs = alice.purse.select(SUPPLY, 500)
    sale = alice.purse.begin_spend("sell 9", SUPPLY, inputs, [], 500, ext, SOON)
    publics = sale.publics
    assert (publics.asset, publics.public_out, publics.ext) == (SUPPLY, 500, 77 + alice.circuit_set[0])
    assert seen == [(alice.circuit_set, publics.nullifiers, sale.ciphertexts)]
    assert [item.amount for item in sale.witness.outputs] == [0, 230]
    assert {item.public_key for item in sale.witness.outputs} == {alice.address.public_key}
    assert alice.purse.begin_spend("other", SUPPLY, inputs, [], 500, ext, SOON) is None, "the notes are set aside"
    assert alice.purse.state_of("sell 9") is PaymentState.UNDER_WAY and alice.purse.state_of("other") is None
    alice.hear(*published(sale))
    assert alice.purse.state_of("sell 9") is PaymentState.DONE and alice.free(SUPPLY) == [230]


def test_a_merged_sale_has_a_return_partial_of_the_owner(alice):
    alice.hear(*(entry(alice.keys, 100, SUPPLY) for _ in range(5)))
    sale = alice.purse.begin_spend("sell", SUPPLY, alice.purse.select(SUPPLY, 500), [], 500, lambda *_: 5, SOON)
    assert isinstance(sale.publics, MergePublics) and sale.publics.return_partial == partial_of(
        alice, sale.witness.return_blinding
    )


def test_a_spend_that_its_notes_do_not_make_sets_nothing_aside(alice, bob):
    alice.hear(entry(alice.keys, 10), entry(alice.keys, 10, SUPPLY))
    (note,), (energy,) = alice.purse.select(PETH, 1), alice.purse.select(SUPPLY, 1)
    pay = Output(bob.address, 6)
    for inputs, outputs, public_out in (([note], [pay], 5), ([note], [pay, pay], 0), ([note, energy], [pay], 0)):
        with pytest.raises(SpendError):
            alice.purse.begin_spend("bad", PETH, inputs, outputs, public_out, lambda *_: 5, SOON)
    assert alice.free() == [10] and alice.purse.begin_spend("none", PETH, [], [], 0, lambda *_: 5, SOON) is None


def test_an_expired_spend_refuses_other_notes(alice):
    """The caller may choose its notes itself; at one purpose it gets the first ones or none."""
    alice.hear(entry(alice.keys, 300, SUPPLY), entry(alice.keys, 200, SUPPLY))
    first, second = alice.store.spendable(SUPPLY)
    alice.purse.begin_spend("sell", SUPPLY, [first], [], 100, lambda *_: 5, 1_000)
    alice.store.expire(1_001 + EXPIRY_MARGIN_SECONDS)
    for inputs in ([second], [first, second]):
        assert alice.purse.begin_spend("sell", SUPPLY, inputs, [], 100, lambda *_: 5, SOON) is None
    assert alice.purse.select(SUPPLY, 100, purpose="sell") == (first,)
    assert alice.purse.begin_spend("sell", SUPPLY, [first], [], 100, lambda *_: 5, SOON) is not None


def test_notes_are_set_aside_for_a_burn_once(alice):
    alice.hear(*(entry(alice.keys, 100 + i, DELIVERY) for i in range(3)))
    notes = alice.store.spendable(DELIVERY)
    burning = alice.purse.begin_consumption("burn", DELIVERY, notes, 1_000)
    assert [item.amount for item in burning.inputs] == [102, 101, 100, *[0] * 5] and alice.free(DELIVERY) == []
    assert all(root_of(_leaf(alice, item), item.index, item.path) == burning.tree_root for item in burning.inputs[:3])
    assert len(burning.inputs) == burn.INPUTS and len({item.blinding for item in burning.inputs}) == 8
    assert alice.purse.begin_consumption("burn", DELIVERY, notes, 1_000) is None
    alice.store.expire(1_001 + EXPIRY_MARGIN_SECONDS)
    assert alice.purse.begin_consumption("burn", DELIVERY, notes[:2], SOON) is None, "the first may have been taken"
    assert alice.purse.begin_consumption("burn", DELIVERY, notes, SOON) is not None
    alice.purse.learn_nullifiers(0, [note.nullifier for note in notes])
    assert alice.purse.state_of("burn") is PaymentState.DONE


def _leaf(wallet, item) -> int:
    return Note(DELIVERY, item.amount, wallet.address.public_key, item.blinding).commitment


# ---- several trees ----------------------------------------------------------------------------------------------


@pytest.fixture
def small_trees(monkeypatch):
    """Trees that are full after 32 leaves, as far as the wallet is concerned; the circuits' have 2^20."""
    monkeypatch.setattr(forest, "CAPACITY", 32)


def satisfied(spend) -> None:
    """Every constraint of the statement holds."""
    from openmg.zk.circuits.registry import circuit_named

    builder = WitnessBuilder()
    circuit_named(spend.circuit).synthesize(builder, spend.publics, spend.witness)


def test_notes_of_every_tree_can_be_spent(small_trees, alice, bob):
    alice.hear(entry(alice.keys, 10))
    alice.hear(entry(alice.keys, 5))
    alice.hear(entry(alice.keys, 7), entry(alice.keys, 6))
    for amount, tree in ((15, 0), (12, 1)):
        spend = alice.purse.begin_payment(f"pay {amount}", bob.address, amount, SOON)
        leaves = alice.store.leaves(32 * tree, 32)
        assert spend.witness.tree_number == tree and spend.publics.root == named_root(tree, spend.witness.tree_root)
        assert [leaves[item.index] for item in spend.witness.inputs] == [
            Note(PETH, item.amount, alice.address.public_key, item.blinding).commitment for item in spend.witness.inputs
        ]
        satisfied(spend)
    nullifiers = {note.nullifier for note, _ in alice.store.notes_between(0, 99)}
    assert nullifiers >= set(spend.publics.nullifiers) and len(nullifiers) == 4


def test_notes_of_two_trees_are_brought_together_before_they_pay(small_trees, alice, bob):
    alice.hear(entry(alice.keys, 10))
    alice.hear(entry(alice.keys, 5))
    alice.hear(entry(alice.keys, 7))
    assert alice.purse.begin_payment("rent", bob.address, 20, SOON) is None
    moving = alice.purse.begin_gathering(SOON, amount_wei=20)
    assert moving.witness.tree_number == 0 and [item.amount for item in moving.witness.outputs] == [0, 15]
    alice.hear(*published(moving))
    rent = alice.purse.begin_payment("rent", bob.address, 20, SOON)
    assert rent.witness.tree_number == 1 and [item.amount for item in rent.witness.inputs] == [15, 7]
    with pytest.raises(SpendError, match="gather them first"):
        notes = [note for note, _ in alice.store.notes_between(0, 99)]
        alice.purse.begin_spend("mixed", PETH, [notes[0], notes[2]], [], 0, lambda *_: secrets.randbelow(5), SOON)


def test_an_old_tree_is_read_again_after_a_restart(small_trees, alice, bob):
    batches = [whole(entry(alice.keys, 1 << i)) for i in range(7)]
    for batch in batches:
        alice.hear(*batch)
    alice.restart()
    for i in range(7):
        (note,) = [item for item in alice.store.spendable(PETH) if item.amount == 1 << i]
        spend = alice.purse.begin_spend(f"p{i}", PETH, [note], [Output(bob.address, 1)], 0, lambda *_: 5, SOON)
        assert spend.witness.tree_number == i // 2
        satisfied(spend)
    alice.hear(entry(alice.keys, 999))
    assert alice.free() == [999]
