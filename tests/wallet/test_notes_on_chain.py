"""The note purse on a real confidential token with real proofs: transfers, merges, and several wallets at once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contracts"))

from evm_world import ETHER, Chain, refused  # noqa: E402
from pool_world import World, deploy_pool  # noqa: E402
from purse_kit import AMOUNT, CHAIN_ID, PAID, SOON, Wallet  # noqa: E402

from edge_agent.wallet.journal import DueShielding  # noqa: E402
from edge_agent.wallet.note_store import NoteStore  # noqa: E402
from edge_agent.wallet.notes import PETH, NotePurse  # noqa: E402
from edge_agent.wallet.orders import Call  # noqa: E402
from edge_agent.wallet.spends import MERGE_TAG, TRANSFER_TAG, Spend, ext_hash  # noqa: E402
from hub.chain.anvil import AnvilError, AnvilOptions, anvil_binary, start_anvil  # noqa: E402
from openmg.keys.audit import AuditError, ChainNote, Disclosure, SeenNote, notes_seen  # noqa: E402
from openmg.messages.market import PADDING, NoteEntry  # noqa: E402
from openmg.zk.notes import Note  # noqa: E402
from openmg.zk.prover import ProofRequest, prove_in_child  # noqa: E402


class Pool(World):
    """The token as meters hear of it; the deployer is its relay."""

    def entries(self) -> list[NoteEntry]:
        """All leaves by position."""
        events = self.owner.events(self.pool, "NoteQueued", 0, self.owner.block_number())
        queued = [NoteEntry(int(event.args["cm"]), bytes(event.args["ciphertext"])) for event in events]
        leaves: list[NoteEntry] = []
        for event in self.owner.events(self.pool, "BatchAppended", 0, self.owner.block_number()):
            first, count = int(event.args["firstIndex"]), int(event.args["count"])
            leaves += [*queued[first : first + count], *(PADDING,) * (16 - count)]
        return leaves

    def nullifiers(self) -> list[int]:
        events = self.owner.events(self.pool, "NullifierSpent", 0, self.owner.block_number())
        return [int(event.args["nullifier"]) for event in events]

    def leaves(self) -> list[ChainNote]:
        return [ChainNote(place, item.commitment, item.ciphertext) for place, item in enumerate(self.entries())]

    def send(self, call: Call, name: str = "") -> None:
        client = self.chain.client(name) if name else self.owner
        client.wait(client.send_raw_call(call.to, call.data, value=call.value_wei))

    def wallet(self, name: str, folder: Path) -> Wallet:
        circuit_set = bytes(self.owner.call(self.verifiers, "circuitSet"))
        return Wallet(name, folder, self.pool.address, circuit_set)

    def tell(self, *wallets: Wallet) -> None:
        for wallet in wallets:
            wallet.purse.learn(0, self.entries())
            assert wallet.purse.learn_nullifiers(0, self.nullifiers()) == []


@pytest.fixture(scope="module")
def pool(free_port: Callable[[], int]) -> Iterator[Pool]:
    try:
        anvil_binary()
    except AnvilError as error:
        pytest.skip(str(error))
    with start_anvil(AnvilOptions(CHAIN_ID, free_port(), 0)) as node:
        chain = Chain(node.url)
        chain.give(chain.client("alice").address, ETHER)
        owner = chain.client("deployer")
        contract, verifiers = deploy_pool(owner, owner.address)
        yield Pool(chain, owner, contract, verifiers, contract, contract)


def test_ext_hashes_are_the_contracts(pool):
    circuit_set = bytes(pool.owner.call(pool.verifiers, "circuitSet"))
    for valid_until, ciphertexts in ((0, (b"", b"x")), (2**64 - 1, (b"\1" * 137, b"\2" * 137))):
        ext = (bytes(20), bytes(20), 0, valid_until, bytes(20), *ciphertexts)
        for tag, name in ((TRANSFER_TAG, "transferExt"), (MERGE_TAG, "mergeExt")):
            found = ext_hash(tag, CHAIN_ID, pool.pool.address, circuit_set, valid_until, ciphertexts)
            assert found == pool.owner.call(pool.pool, name, ext)


def proved(wallet: Wallet, spend: Spend) -> Call:
    proof = asyncio.run(prove_in_child(ProofRequest(spend.circuit, spend.witness, demo=True)))
    return wallet.purse.payment_call(spend, proof)


@dataclass
class Paid:
    """Alice shielded and paid Bob; `call` is what the relay submitted."""

    alice: Wallet
    bob: Wallet
    call: Call


@pytest.fixture(scope="module")
def paid(pool: Pool, tmp_path_factory) -> Iterator[Paid]:
    folder = tmp_path_factory.mktemp("wallets")
    alice, bob = (pool.wallet(name, folder) for name in ("alice", "bob"))
    pool.send(alice.purse.shield_call(DueShielding(1, AMOUNT)), "alice")
    pool.tell(alice)
    assert alice.purse.balance_wei() == 0, "a note that is queued cannot be spent yet"
    pool.append()
    pool.tell(alice)
    assert alice.purse.balance_wei() == AMOUNT
    call = proved(alice, alice.purse.begin_payment("rent", bob.address, PAID, SOON))
    assert call.to == pool.pool.address and alice.purse.balance_wei() == 0
    with refused("NotRelay"):
        pool.chain.client("a stranger").simulate(call.to, call.data)
    pool.send(call)
    yield Paid(alice, bob, call)
    alice.store.close()
    bob.store.close()


def test_a_payment_reaches_its_receiver_and_the_change_its_sender(pool, paid):
    assert pool.owner.call(pool.pool, "transactCount") == 1
    pool.tell(paid.alice, paid.bob)
    assert paid.alice.store.payment_under_way() and paid.alice.purse.is_landed(1), "the nullifier comes before the change"
    pool.append()
    pool.tell(paid.alice, paid.bob)
    assert (paid.alice.purse.balance_wei(), paid.bob.purse.balance_wei()) == (AMOUNT - PAID, PAID)
    assert not paid.alice.store.payment_under_way() and paid.alice.store.has_payment("rent")


def test_the_paid_purses_survive_a_restart_and_never_spend_again(pool, paid):
    for wallet in (paid.alice, paid.bob):
        wallet.store.expire(2 * SOON)
        wallet.restart()
    assert (paid.alice.purse.balance_wei(), paid.bob.purse.balance_wei()) == (AMOUNT - PAID, PAID)
    assert paid.alice.purse.begin_payment("rent", paid.bob.address, 1, SOON) is None


def test_the_chain_refuses_the_same_payment_twice(pool, paid):
    with refused("AlreadySpent"):
        pool.owner.simulate(pool.pool.address, paid.call.data)


def test_the_chain_alone_restores_a_wallet(pool, paid, tmp_path):
    """The real contract's leaves, real proofs: a new database under the same seed holds what the old one holds."""
    keys, path = paid.alice.keys, tmp_path / "restored.sqlite"
    store = NoteStore(path)
    purse = NotePurse(keys, store, CHAIN_ID, pool.pool.address, paid.alice.circuit_set)
    assert purse.learn(0, pool.entries()) == 32
    purse.learn_nullifiers(0, pool.nullifiers())
    assert store.spendable(PETH) == paid.alice.store.spendable(PETH) and purse.balance_wei() == AMOUNT - PAID
    assert store.has_payment("rent") and purse.was_shielded(1)
    assert purse.begin_payment("rent", paid.bob.address, 1, SOON) is None
    store.close()


def test_viewing_keys_see_the_chain_and_nothing_more(pool, paid):
    alice, leaves, spent = paid.alice.keys.spending_key, pool.leaves(), set(pool.nullifiers())
    full = notes_seen(alice.viewing_key, leaves, spent)
    assert [(seen.position, seen.note.amount, seen.spent) for seen in full] == [(0, AMOUNT, True), (17, AMOUNT - PAID, False)]
    incoming = notes_seen(alice.viewing_key.incoming, leaves, spent)
    assert [(seen.position, seen.note.amount, seen.spent) for seen in incoming] == [
        (0, AMOUNT, None),
        (17, AMOUNT - PAID, None),
    ]
    bob = notes_seen(paid.bob.keys.spending_key.viewing_key, leaves, spent)
    assert [(seen.position, seen.note.amount, seen.spent) for seen in bob] == [(16, PAID, False)]


def test_a_disclosure_is_checked_against_the_chain(pool, paid):
    key, leaves, spent = paid.alice.keys.spending_key, pool.leaves(), set(pool.nullifiers())
    commitments = {leaf.position: leaf.commitment for leaf in leaves}
    mine = notes_seen(key.viewing_key, leaves, spent)
    nullifiers = {seen.position: seen.nullifier(key.nullifier_key) for seen in mine if seen.spent}
    good = Disclosure("test", key.address, 0, 17, tuple(mine), nullifiers)
    read = Disclosure.from_json(good.to_json(), "test")
    assert read == good
    read.check(commitments, spent)
    richer = Note(PETH, AMOUNT + 1, key.public_key, mine[0].note.blinding)
    for bad, why in (
        (Disclosure("test", key.address, 0, 17, (SeenNote(0, richer),)), "does not open the leaf"),
        (Disclosure("test", key.address, 0, 17, (SeenNote(1, mine[0].note),)), "does not open the leaf"),
        (Disclosure("test", key.address, 1, 17, (mine[0],)), "outside the range"),
        (Disclosure("test", key.address, 0, 17, (mine[0], mine[0])), "a position twice"),
        (Disclosure("test", key.address, 0, 17, (mine[0],), {0: 12345}), "not on chain"),
    ):
        with pytest.raises(AuditError, match=why):
            bad.check(commitments, spent)


@pytest.mark.slow
def test_wallets_that_race_for_a_root_all_count(pool, paid, tmp_path_factory):
    """Two wallets prove against one root, a third's payment lands and its batch makes another root: both still count.

    Alice pays from five notes at once, by a real merge.
    """
    folder = tmp_path_factory.mktemp("racing")
    carol = pool.wallet("carol", folder)
    for number in range(2, 6):
        pool.send(paid.alice.purse.shield_call(DueShielding(number, 100)), "alice")
    pool.send(carol.purse.shield_call(DueShielding(1, 100)), "alice")
    pool.append()
    wallets = (paid.alice, paid.bob, carol)
    pool.tell(*wallets)
    everything = AMOUNT - PAID + 400
    assert paid.alice.purse.balance_wei() == everything
    first = paid.alice.purse.begin_payment("all of it", carol.address, everything, SOON)
    second = paid.bob.purse.begin_payment("back", carol.address, PAID - 1, SOON)
    assert first.circuit == "merge" and first.publics.root == second.publics.root
    racing = [proved(paid.alice, first), proved(paid.bob, second)]
    pool.send(proved(carol, carol.purse.begin_payment("third", paid.bob.address, 30, SOON)))
    pool.append()
    assert pool.owner.call(pool.pool, "currentRoot") != first.publics.root
    for call in racing:
        pool.send(call)
    pool.append()
    pool.tell(*wallets)
    assert [wallet.purse.balance_wei() for wallet in wallets] == [0, 31, everything + PAID - 1 + 70]
    assert not any(wallet.store.payment_under_way() for wallet in wallets)
    carol.store.close()
