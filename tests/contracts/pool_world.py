"""A confidential token on a real chain, its note tree beside it, and real proofs of all that spends its notes.

Rules: the reference tree is rebuilt from the contract's events, so that it follows a chain that is set back between
tests; development keys come from the cache and are opened once in a run. Other contracts' tests prove with `prove` and
spend with `World`. Not here: what the tests check.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from evm_world import ETHER, Chain

from hub.chain.abi import Receipt
from hub.chain.artifacts import load_artifact
from hub.chain.client import Contract, EvmClient
from openmg.hashing import keccak256, words
from openmg.zk.backend import Backend, Prover, get_backend
from openmg.zk.circuits import append, merge, transfer
from openmg.zk.circuits.joinsplit import InputNote, JoinSplitPublics, OutputNote
from openmg.zk.circuits.merge import MergeWitness
from openmg.zk.circuits.transfer import TransferWitness
from openmg.zk.field import R
from openmg.zk.keys import ProvingKeyInfo, ensure_keys
from openmg.zk.proof import Proof
from openmg.zk.r1cs import WitnessBuilder
from openmg.zk.tags import H
from openmg.zk.tree import DEPTH, NoteTree, named_root

AMOUNT = 3 * ETHER
SPENDING_KEY, BLINDING = 111, 222
FRIEND = b"\x0f" * 20
RELAY = b"\x0e" * 20
FEE = 10**15
FOREVER = 2**60
EPOCH_SECONDS = 60
EXIT_WINDOW_SECONDS = 600
DELAY_SECONDS = 601
QUOTA = 1_000
"""Calls without a fee in an epoch that `deploy_pool` gives its client."""
TRANSFER_TAG = keccak256(b"openmg.ext.transfer.v2")
MERGE_TAG = keccak256(b"openmg.ext.merge.v1")
VERIFIERS = ("Transfer", "Merge", "Append", "Mint", "Buy", "Burn", "Exit")
"""In the order of the verifier set's circuit numbers."""

ProofWords = tuple[int, ...]


def partial(spending_key: int = SPENDING_KEY, blinding: int = BLINDING) -> int:
    return H("own", H("pk", spending_key), blinding)


def create(client: EvmClient, name: str, *args: object, libraries: dict[str, bytes] | None = None) -> Contract:
    contract, tx_hash = client.create(load_artifact(name), *args, libraries=libraries)
    client.wait(tx_hash)
    return contract


def deploy_verifiers(client: EvmClient, guardian: bytes) -> Contract:
    """A verifier set with the seven generated verifiers."""
    verifiers = [create(client, f"{name}Verifier").address for name in VERIFIERS]
    return create(client, "VerifierSet", guardian, EXIT_WINDOW_SECONDS, DELAY_SECONDS, verifiers)


def deploy_pool(client: EvmClient, guardian: bytes, epoch_seconds: int = EPOCH_SECONDS) -> tuple[Contract, Contract]:
    """The token and its verifier set. If the client is the guardian, it may also submit without a fee."""
    verifiers = deploy_verifiers(client, guardian)
    libraries = {"PoseidonT4": create(client, "PoseidonT4").address}
    token = create(client, "ConfidentialToken", guardian, verifiers.address, epoch_seconds, libraries=libraries)
    if client.address == guardian:
        client.transact(token, "setRelay", client.address, QUOTA)
    return token, verifiers


@cache
def _prover(circuit: str) -> tuple[Backend, ProvingKeyInfo, Prover]:
    backend = get_backend("auto")
    key = ensure_keys(circuit, backend=backend)
    return backend, key, backend.prover(key.path)


def prove(circuit: ModuleType, witness: Any) -> tuple[ProofWords, Any]:
    """A proof of any circuit of `openmg.zk.circuits` as the verifier's eight words, and the public inputs it states."""
    publics, builder = circuit.publics_of(witness), WitnessBuilder()
    circuit.synthesize(builder, publics, witness)
    backend, key, prover = _prover(circuit.NAME)
    proof = prover.prove(builder.witness, secrets.randbelow(R), secrets.randbelow(R))
    assert backend.verify(key.verifying_key, publics.as_list(), proof)
    return tuple(Proof.from_bytes(proof).words()), publics


def dummy() -> InputNote:
    """An input of value 0, with a nullifier of its own."""
    return InputNote(0, secrets.randbelow(R), 0, (0,) * DEPTH)


@dataclass(frozen=True)
class Ext:
    recipient: bytes = bytes(20)
    relay: bytes = bytes(20)
    fee: int = 0
    valid_until: int = FOREVER
    token: bytes = bytes(20)
    ciphertext1: bytes = b"first note"
    ciphertext2: bytes = b"second note"

    def as_abi(self) -> tuple[Any, ...]:
        head = (self.recipient, self.relay, self.fee, self.valid_until, self.token)
        return *head, self.ciphertext1, self.ciphertext2

    def hash(self, chain_id: int, contract: bytes, circuit_set: bytes, tag: bytes = TRANSFER_TAG) -> int:
        head = (tag, chain_id, contract, circuit_set)
        body = (self.recipient, self.relay, self.fee, self.valid_until, self.token)
        return int.from_bytes(keccak256(words(*head, *body, keccak256(self.ciphertext1), keccak256(self.ciphertext2)))) % R


@dataclass(frozen=True)
class Transfer:
    """A `transact` or `merge` of the pool, ready to send."""

    proof: ProofWords
    publics: JoinSplitPublics
    ext: Ext

    @property
    def function(self) -> str:
        return "merge" if isinstance(self.publics, merge.MergePublics) else "transact"

    def arguments(self, **changed: Any) -> tuple[Any, ...]:
        p = self.publics
        values = {"proof": self.proof, "root": p.root, "nullifiers": p.nullifiers, "commitments": p.commitments}
        if isinstance(p, merge.MergePublics):
            values["return_partial"] = p.return_partial
        values |= {"public_out": p.public_out, "ext": self.ext.as_abi()}
        assert changed.keys() <= values.keys()
        return tuple((values | changed).values())


@dataclass(frozen=True)
class Append:
    """An `append`, ready to send."""

    proof: ProofWords
    publics: append.AppendPublics

    def arguments(self, **changed: Any) -> tuple[Any, ...]:
        values = {"proof": self.proof, "old_root": self.publics.old_root, "new_root": self.publics.new_root}
        assert changed.keys() <= values.keys()
        return tuple((values | changed).values())


@dataclass
class World:
    """The pool as its owner sees it. Notes are spent by SPENDING_KEY; all lie in the first tree."""

    chain: Chain
    owner: EvmClient
    pool: Contract
    verifiers: Contract
    """The verifier set."""
    token: Contract
    receiver: Contract

    def verifier(self, circuit: int) -> Contract:
        """The verifier that counts now."""
        name, address = f"{VERIFIERS[circuit]}Verifier", self.owner.call(self.verifiers, "verifierOf", circuit)
        return Contract(name, bytes.fromhex(address[2:]), load_artifact(name).abi)

    def shield(self, amount: int, blinding: int, token: bytes = bytes(20)) -> None:
        """Queue a note of SPENDING_KEY."""
        value = 0 if any(token) else amount
        self.owner.transact(self.pool, "shield", token, amount, partial(blinding=blinding), b"", value=value)

    def queue(self) -> list[int]:
        """Every leaf ever queued."""
        events = self.owner.events(self.pool, "NoteQueued", 0, self.owner.block_number())
        assert [event.args["index"] for event in events] == list(range(len(events)))
        return [int(event.args["cm"]) for event in events]

    def tree(self) -> NoteTree:
        """The first tree with all batches that the contract took; its root is checked against the contract's."""
        leaves, tree = self.queue(), NoteTree()
        for event in self.owner.events(self.pool, "BatchAppended", 0, self.owner.block_number()):
            start, first, count, root = (int(event.args[name]) for name in ("start", "firstIndex", "count", "root"))
            assert start == len(tree)
            tree.extend([*leaves[first : first + count], *(0,) * (append.LEAVES - count)])
            assert root == named_root(0, tree.root())
        return tree

    def note(self, amount: int, blinding: int, index: int, tree: NoteTree | None = None) -> InputNote:
        """A note of SPENDING_KEY at a leaf of the tree."""
        return InputNote(amount, blinding, index, (tree or self.tree()).path(index))

    def prove_append(self, leaves: Sequence[int] | None = None) -> Append:
        """A proof that appends these leaves (default: what the contract would take) to the tree as it is."""
        if leaves is None:
            pending, count = self.owner.call(self.pool, "pendingLeaves")
            leaves = pending[:count]
        return Append(*prove(append, append.next_batch(0, self.tree(), leaves)))

    def next_epoch(self) -> None:
        """Mine the first block of the next epoch: what a test then does in less than an epoch stays within it."""
        seconds = int(self.owner.call(self.pool, "epochSeconds"))
        self.chain.block_at(seconds - self.owner.block("latest").timestamp % seconds)

    def append(self) -> Receipt:
        """Bring waiting notes into the tree: sixteen, or after the epoch's end those there are."""
        if self.owner.call(self.pool, "pendingLeaves")[1] < append.LEAVES:
            self.next_epoch()
        return self.owner.transact(self.pool, "append", *self.prove_append().arguments())

    def ext_hash(self, ext: Ext, tag: bytes = TRANSFER_TAG) -> int:
        circuit_set = bytes(self.owner.call(self.verifiers, "circuitSet"))
        return ext.hash(self.owner.chain_id(), self.pool.address, circuit_set, tag)

    def witness(
        self, inputs: Sequence[InputNote], out: Sequence[int], public_out: int, ext_hash: int, asset: int = 0
    ) -> TransferWitness | MergeWitness:
        """Up to two notes make a transfer, more a merge; both outputs belong to SPENDING_KEY."""
        pk, many = H("pk", SPENDING_KEY), len(inputs) > transfer.INPUTS
        padded = (*inputs, *(dummy() for _ in range((merge.INPUTS if many else transfer.INPUTS) - len(inputs))))
        outputs = tuple(OutputNote(amount, pk, 1_000 + i) for i, amount in enumerate(out))
        rest = (SPENDING_KEY, asset, 0, self.tree().root(), padded, outputs, 0, public_out, ext_hash)
        return MergeWitness(*rest, secrets.randbelow(R)) if many else TransferWitness(*rest)

    def prove(self, inputs: Sequence[InputNote], out: Sequence[int], public_out: int, ext: Ext, asset: int = 0) -> Transfer:
        """A `transact` of up to two notes of the tree, or a `merge` of three to eight."""
        many = len(inputs) > transfer.INPUTS
        bound = self.ext_hash(ext, MERGE_TAG if many else TRANSFER_TAG)
        proof, publics = prove(merge if many else transfer, self.witness(inputs, out, public_out, bound, asset))
        return Transfer(proof, publics, ext)

    def send(self, transfer: Transfer, **changed: Any) -> Receipt:
        return self.owner.transact(self.pool, transfer.function, *transfer.arguments(**changed))


def new_world(node: Chain) -> World:
    """A pool with three notes in the tree, of AMOUNT and ETHER in PETH and of 500 of a token that misbehaves on demand.

    Their blindings are BLINDING, BLINDING + 1 and BLINDING + 2. The owner is guardian and a relay.
    """
    owner = node.client("note owner")
    node.give(owner.address, 1_000 * ETHER)
    pool, verifiers = deploy_pool(owner, owner.address)
    token, receiver = create(owner, "testing/HostileToken"), create(owner, "testing/HostileReceiver")
    world = World(node, owner, pool, verifiers, token, receiver)
    owner.transact(pool, "allowToken", token.address)
    owner.transact(token, "approve", pool.address, 2**256 - 1)
    world.shield(AMOUNT, BLINDING)
    world.shield(ETHER, BLINDING + 1)
    world.shield(500, BLINDING + 2, token.address)
    world.append()
    return world
