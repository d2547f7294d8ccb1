"""The note purse on a real confidential token: shielding, one payment with a real proof, and all that must not happen."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contracts"))

from evm_world import ETHER, Chain, refused  # noqa: E402
from pool_world import deploy_pool  # noqa: E402
from purse_kit import AMOUNT, CHAIN_ID, CONTRACT, PAID, SOON, Wallet, entry  # noqa: E402

from edge_agent.wallet.journal import DueShielding  # noqa: E402
from edge_agent.wallet.note_store import EXPIRY_MARGIN_SECONDS, NoteStore  # noqa: E402
from edge_agent.wallet.notes import PETH, NotePurse, ext_hash  # noqa: E402
from hub.chain.anvil import AnvilError, AnvilOptions, anvil_binary, start_anvil  # noqa: E402
from hub.chain.client import Contract  # noqa: E402
from openmg.keys.audit import AuditError, ChainNote, Disclosure, SeenNote, notes_seen  # noqa: E402
from openmg.messages.market import NoteEntry  # noqa: E402
from openmg.zk.circuits.transfer import publics_of  # noqa: E402
from openmg.zk.field import R  # noqa: E402
from openmg.zk.notes import Note  # noqa: E402
from openmg.zk.prover import ProofResult, TransferRequest, prove_in_child  # noqa: E402
from openmg.zk.spend import SpendError  # noqa: E402

# ---- finding notes ----------------------------------------------------------------------------------------------


def test_a_note_is_found_by_its_owner_only(alice, bob):
    notes = [entry(alice.keys, 70), entry(bob.keys, 30), NoteEntry(5, b"no ciphertext"), entry(alice.keys, 10, asset=4)]
    for wallet, balance in ((alice, 70), (bob, 30)):
        assert wallet.purse.learn(0, notes) == 4
        assert wallet.purse.balance_wei() == balance
        assert wallet.store.leaves() == [note.commitment for note in notes]


def test_a_ciphertext_that_does_not_open_the_leaf_is_no_note(alice):
    lie = NoteEntry(entry(alice.keys, 1).commitment, entry(alice.keys, 10**6).ciphertext)
    alice.purse.learn(0, [lie])
    assert alice.purse.balance_wei() == 0


def test_batches_may_come_again_and_overlap_but_not_leave_a_gap(alice):
    notes = [entry(alice.keys, 1 << i) for i in range(5)]
    assert alice.purse.learn(2, notes[2:]) == 0
    assert (alice.purse.balance_wei(), alice.store.leaves()) == (0, [])
    assert alice.purse.learn(0, notes[:3]) == 3
    assert alice.purse.learn(0, notes[:3]) == 0
    assert alice.purse.learn(4, notes[4:]) == 0
    assert alice.purse.learn(0, notes) == 2
    assert alice.purse.balance_wei() == 31
    assert alice.store.leaves() == [note.commitment for note in notes]


@pytest.mark.parametrize("commitment", [-1, 2**254, 2**256])
def test_an_impossible_leaf_is_refused_and_takes_nothing(alice, commitment):
    with pytest.raises(ValueError):
        alice.purse.learn(0, [NoteEntry(commitment, b"")])
    good = [entry(alice.keys, 5)]
    assert alice.purse.learn(0, good) == 1
    assert alice.store.leaves() == [good[0].commitment]


def test_a_bad_leaf_takes_its_whole_batch_along(alice):
    with pytest.raises(ValueError):
        alice.purse.learn(0, [entry(alice.keys, 5), NoteEntry(R, b"")])
    assert (alice.store.leaves(), alice.purse.balance_wei()) == ([], 0)


def test_a_leaf_that_contradicts_an_earlier_one_is_said_and_takes_nothing(alice):
    """Another chain under the same address, or a hub that lies: a wallet must not build on both."""
    notes = [entry(alice.keys, 1), entry(alice.keys, 2)]
    alice.purse.learn(0, notes)
    with pytest.raises(ValueError, match="note 1 is not the one heard before"):
        alice.purse.learn(0, [notes[0], entry(alice.keys, 2), entry(alice.keys, 4)])
    assert alice.purse.balance_wei() == 3 and len(alice.store.leaves()) == 2


@pytest.mark.parametrize("length", [0, 1, 113, 114, 115, 512])
def test_hostile_ciphertexts_are_no_notes_and_hide_none(alice, length):
    """Zeros and ones make X25519 points of small order; random bytes, lengths and cuts are no ciphertexts either."""
    good = entry(alice.keys, 7)
    contents = [bytes(length), b"\x01" + bytes(length), b"\xff" * length, secrets.token_bytes(length)]
    contents += [good.ciphertext[:length], good.ciphertext[:length] + b"\0", good.ciphertext[:-1] + b"\0"]
    bad = [NoteEntry(good.commitment, content) for content in contents if content != good.ciphertext]
    assert alice.purse.learn(0, [*bad, good]) == len(bad) + 1
    assert alice.purse.balance_wei() == 7


def test_the_same_note_twice_in_the_tree_is_two_notes(alice, bob):
    """Two leaves with one commitment have two nullifiers, so both can be spent, together too."""
    twice = entry(alice.keys, 7)
    alice.purse.learn(0, [twice, twice])
    assert alice.purse.balance_wei() == 14
    payment = alice.purse.begin_payment("both", bob.address, 14, SOON)
    assert len({item.index for item in payment.witness.inputs}) == 2
    assert len(set(publics_of(payment.witness).nullifiers)) == 2


# ---- setting aside ----------------------------------------------------------------------------------------------


def test_the_fewest_and_largest_notes_are_set_aside(alice, bob):
    alice.purse.learn(0, [entry(alice.keys, amount) for amount in (30, 50, 40)])
    first = alice.purse.begin_payment("one", bob.address, 45, SOON)
    assert [item.amount for item in first.witness.inputs] == [50, 0]
    assert [item.amount for item in first.witness.outputs] == [45, 5]
    second = alice.purse.begin_payment("two", bob.address, 60, SOON)
    assert [item.amount for item in second.witness.inputs] == [40, 30]
    assert alice.purse.balance_wei() == 0
    assert alice.purse.begin_payment("three", bob.address, 1, SOON) is None


def test_a_payment_that_two_notes_cannot_make_is_not_begun(alice, bob):
    alice.purse.learn(0, [entry(alice.keys, 10) for _ in range(3)])
    assert alice.purse.begin_payment("much", bob.address, 21, SOON) is None
    assert not alice.store.payment_under_way() and alice.purse.balance_wei() == 30


def test_a_purpose_is_paid_once(alice, bob):
    alice.purse.learn(0, [entry(alice.keys, 10), entry(alice.keys, 10)])
    assert alice.purse.begin_payment("rent", bob.address, 5, SOON) is not None
    assert alice.purse.begin_payment("rent", bob.address, 5, SOON) is None
    assert alice.purse.balance_wei() == 10


def test_an_impossible_amount_sets_nothing_aside(alice, bob):
    alice.purse.learn(0, [entry(alice.keys, 10)])
    with pytest.raises((ValueError, SpendError)):
        alice.purse.begin_payment("negative", bob.address, -1, SOON)
    assert alice.purse.balance_wei() == 10 and not alice.store.has_payment("negative")


def test_inputs_stay_aside_over_a_restart_and_are_free_after_expiry(alice, bob):
    alice.purse.learn(0, [entry(alice.keys, 10)])
    alice.purse.begin_payment("rent", bob.address, 5, valid_until=1_000)
    alice.restart()
    assert alice.purse.balance_wei() == 0
    assert alice.purse.begin_payment("food", bob.address, 5, SOON) is None
    alice.store.expire(1_000 + EXPIRY_MARGIN_SECONDS)
    assert alice.purse.balance_wei() == 0
    alice.store.expire(1_001 + EXPIRY_MARGIN_SECONDS)
    assert alice.purse.balance_wei() == 10
    assert alice.purse.begin_payment("rent", bob.address, 5, SOON) is not None


def test_an_expired_payment_is_tried_again_with_the_same_notes_only(alice, bob):
    """The first attempt may have been mined unseen: other notes would pay the receiver twice."""
    alice.purse.learn(0, [entry(alice.keys, 10), entry(alice.keys, 8)])
    first = alice.purse.begin_payment("rent", bob.address, 5, valid_until=1_000)
    alice.store.expire(1_001 + EXPIRY_MARGIN_SECONDS)
    alice.restart()
    other = alice.purse.begin_payment("food", bob.address, 10, SOON)
    assert alice.purse.begin_payment("rent", bob.address, 5, SOON) is None, "its note is set aside for the food"
    alice.store.expire(SOON + EXPIRY_MARGIN_SECONDS + 1)
    again = alice.purse.begin_payment("rent", bob.address, 5, SOON)
    nullifiers = [publics_of(payment.witness).nullifiers[0] for payment in (first, other, again)]
    assert len(set(nullifiers)) == 1


def test_only_the_change_completes_a_payment(alice, bob):
    """The receiver knows his own note's opening and could make it himself; the change's blinding nobody knows."""
    alice.purse.learn(0, [entry(alice.keys, 10)])
    payment = alice.purse.begin_payment("rent", bob.address, 4, SOON)
    paid, change = publics_of(payment.witness).commitments
    alice.purse.learn(1, [NoteEntry(paid, b"")])
    assert alice.store.payment_under_way()
    alice.purse.learn(2, [NoteEntry(paid, payment.ciphertexts[0]), NoteEntry(change, payment.ciphertexts[1])])
    assert not alice.store.payment_under_way() and alice.purse.balance_wei() == 6


def test_shielding_the_same_item_again_makes_the_same_note(alice):
    """An envelope that is sent again after a crash must not make a note whose blinding the wallet forgot."""
    first, again, other = (alice.purse.shield_call(DueShielding(number, 9)) for number in (1, 1, 2))
    partial = slice(4 + 2 * 32, 4 + 3 * 32)
    assert first.data[partial] == again.data[partial] != other.data[partial]
    assert first.value_wei == 9 and first.to == CONTRACT


# ---- on chain ---------------------------------------------------------------------------------------------------


@dataclass
class Pool:
    chain: Chain
    contract: Contract

    def entries(self) -> list[NoteEntry]:
        client = self.chain.client("reader")
        events = client.events(self.contract, "NewNote", 0, client.block_number())
        assert [event.args["position"] for event in events] == list(range(len(events)))
        return [NoteEntry(int(event.args["cm"]), bytes(event.args["ciphertext"])) for event in events]

    def nullifiers(self) -> set[int]:
        client = self.chain.client("reader")
        events = client.events(self.contract, "NullifierSpent", 0, client.block_number())
        return {int(event.args["nullifier"]) for event in events}

    def leaves(self) -> list[ChainNote]:
        return [ChainNote(place, item.commitment, item.ciphertext) for place, item in enumerate(self.entries())]

    def send(self, name: str, data: bytes, value: int = 0) -> None:
        client = self.chain.client(name)
        client.wait(client.send_raw_call(self.contract.address, data, value=value))


@pytest.fixture(scope="module")
def pool(free_port: Callable[[], int]) -> Iterator[Pool]:
    try:
        anvil_binary()
    except AnvilError as error:
        pytest.skip(str(error))
    with start_anvil(AnvilOptions(CHAIN_ID, free_port(), 0)) as node:
        chain = Chain(node.url)
        chain.give(chain.client("alice").address, ETHER)
        contract, _ = deploy_pool(chain.client("deployer"), chain.client("deployer").address)
        yield Pool(chain, contract)


def test_ext_hash_is_the_contracts(pool):
    for valid_until, ciphertexts in ((0, (b"", b"x")), (2**64 - 1, (b"\1" * 137, b"\2" * 137))):
        ext = (bytes(20), bytes(20), 0, valid_until, bytes(20), *ciphertexts)
        expected = pool.chain.client("reader").call(pool.contract, "extHash", ext)
        assert ext_hash(CHAIN_ID, pool.contract.address, valid_until, ciphertexts) == expected


@dataclass
class Paid:
    """Alice shielded and paid Bob; `call` is what the relay submitted."""

    alice: Wallet
    bob: Wallet
    data: bytes
    proof: ProofResult


@pytest.fixture(scope="module")
def paid(pool: Pool, tmp_path_factory) -> Iterator[Paid]:
    folder, contract = tmp_path_factory.mktemp("wallets"), pool.contract.address
    alice, bob = (Wallet(name, folder, contract) for name in ("alice", "bob"))
    shield = alice.purse.shield_call(DueShielding(1, AMOUNT))
    pool.send("alice", shield.data, shield.value_wei)
    assert alice.purse.learn(0, pool.entries()) == 1 and alice.purse.balance_wei() == AMOUNT
    payment = alice.purse.begin_payment("rent", bob.address, PAID, SOON)
    proof = asyncio.run(prove_in_child(TransferRequest(payment.witness, demo=True)))
    call = alice.purse.payment_call(payment, proof)
    assert call.to == contract and alice.purse.balance_wei() == 0
    pool.send("any relay", call.data)
    yield Paid(alice, bob, call.data, proof)
    alice.store.close()
    bob.store.close()


def test_a_payment_reaches_its_receiver_and_the_change_its_sender(pool, paid):
    assert pool.chain.client("reader").call(pool.contract, "transactCount") == 1
    assert paid.bob.purse.learn(0, pool.entries()) == 3
    assert paid.bob.purse.balance_wei() == PAID
    assert paid.alice.store.payment_under_way()
    assert paid.alice.purse.learn(0, pool.entries()) == 2
    assert paid.alice.purse.balance_wei() == AMOUNT - PAID
    assert not paid.alice.store.payment_under_way() and paid.alice.store.has_payment("rent")


def test_the_paid_purses_survive_a_restart_and_never_spend_again(pool, paid):
    for wallet in (paid.alice, paid.bob):
        wallet.purse.learn(0, pool.entries())
        wallet.store.expire(2 * SOON)
        wallet.restart()
    assert (paid.alice.purse.balance_wei(), paid.bob.purse.balance_wei()) == (AMOUNT - PAID, PAID)
    assert paid.alice.purse.begin_payment("rent", paid.bob.address, 1, SOON) is None
    again = paid.bob.purse.begin_payment("back", paid.alice.address, PAID, SOON)
    assert again.witness.tree_root and [item.amount for item in again.witness.outputs] == [PAID, 0]


def test_the_chain_refuses_the_same_payment_twice(pool, paid):
    client = pool.chain.client("another relay")
    with refused("AlreadySpent"):
        client.simulate(pool.contract.address, paid.data)


def test_the_chain_alone_restores_a_wallet(pool, paid, tmp_path):
    """The real contract's leaves, real proofs: a new database under the same seed holds what the old one holds."""
    paid.alice.purse.learn(0, pool.entries())
    keys, path = paid.alice.keys, tmp_path / "restored.sqlite"
    store = NoteStore(path)
    purse = NotePurse(keys, store, CHAIN_ID, pool.contract.address)
    assert purse.learn(0, pool.entries()) == 3
    assert store.spendable(PETH) == paid.alice.store.spendable(PETH) and purse.balance_wei() == AMOUNT - PAID
    assert store.has_payment("rent") and purse.was_shielded(1)
    assert purse.begin_payment("rent", paid.bob.address, 1, SOON) is None
    store.close()


def test_viewing_keys_see_the_chain_and_nothing_more(pool, paid):
    alice, leaves, spent = paid.alice.keys.spending_key, pool.leaves(), pool.nullifiers()
    full = notes_seen(alice.viewing_key, leaves, spent)
    assert [(seen.position, seen.note.amount, seen.spent) for seen in full] == [(0, AMOUNT, True), (2, AMOUNT - PAID, False)]
    incoming = notes_seen(alice.viewing_key.incoming, leaves, spent)
    assert [(seen.position, seen.note.amount, seen.spent) for seen in incoming] == [(0, AMOUNT, None), (2, AMOUNT - PAID, None)]
    bob = notes_seen(paid.bob.keys.spending_key.viewing_key, leaves, spent)
    assert [(seen.position, seen.note.amount, seen.spent) for seen in bob] == [(1, PAID, False)]


def test_a_disclosure_is_checked_against_the_chain(pool, paid):
    key, leaves, spent = paid.alice.keys.spending_key, pool.leaves(), pool.nullifiers()
    commitments = {leaf.position: leaf.commitment for leaf in leaves}
    mine = notes_seen(key.viewing_key, leaves, spent)
    nullifiers = {seen.position: seen.nullifier(key.nullifier_key) for seen in mine if seen.spent}
    good = Disclosure("test", key.address, 0, 2, tuple(mine), nullifiers)
    read = Disclosure.from_json(good.to_json(), "test")
    assert read == good
    read.check(commitments, spent)
    richer = Note(PETH, AMOUNT + 1, key.public_key, mine[0].note.blinding)
    for bad, why in (
        (Disclosure("test", key.address, 0, 2, (SeenNote(0, richer),)), "does not open the leaf"),
        (Disclosure("test", key.address, 0, 2, (SeenNote(1, mine[0].note),)), "does not open the leaf"),
        (Disclosure("test", key.address, 1, 2, (mine[0],)), "outside the range"),
        (Disclosure("test", key.address, 0, 2, (mine[0], mine[0])), "a position twice"),
        (Disclosure("test", key.address, 0, 2, (mine[0],), {0: 12345}), "not on chain"),
    ):
        with pytest.raises(AuditError, match=why):
            bad.check(commitments, spent)
