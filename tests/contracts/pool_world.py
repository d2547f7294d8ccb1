"""A confidential pool on a real chain, and transfers with real proofs of its first notes."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from evm_world import ETHER, Chain

from hub.chain.artifacts import load_artifact
from hub.chain.client import Contract, EvmClient
from openmg.hashing import keccak256, words
from openmg.zk.backend import get_backend
from openmg.zk.circuits.transfer import (
    TransferInput,
    TransferOutput,
    TransferPublics,
    TransferWitness,
    publics_of,
    synthesize,
)
from openmg.zk.field import R
from openmg.zk.keys import ensure_keys
from openmg.zk.r1cs import WitnessBuilder
from openmg.zk.tags import H
from openmg.zk.tree import NoteTree

AMOUNT = 3 * ETHER
SPENDING_KEY, BLINDING = 111, 222
FRIEND = b"\x0f" * 20
RELAY = b"\x0e" * 20
FEE = 10**15
FOREVER = 2**60
EXT_TAG = keccak256(b"openmg.ext.transfer.v1")


def partial(spending_key: int = SPENDING_KEY, blinding: int = BLINDING) -> int:
    return H("own", H("pk", spending_key), blinding)


def create(client: EvmClient, name: str, *args: object, libraries: dict[str, bytes] | None = None) -> Contract:
    contract, tx_hash = client.create(load_artifact(name), *args, libraries=libraries)
    client.wait(tx_hash)
    return contract


def deploy_pool(client: EvmClient, guardian: bytes) -> tuple[Contract, Contract]:
    libraries = {name: create(client, name).address for name in ("PoseidonT3", "PoseidonT4")}
    verifier = create(client, "TransferVerifier")
    return create(client, "ConfidentialToken", guardian, verifier.address, libraries=libraries), verifier


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

    def hash(self, chain_id: int, contract: bytes) -> int:
        head = (EXT_TAG, chain_id, contract, self.recipient, self.relay, self.fee, self.valid_until, self.token)
        return int.from_bytes(keccak256(words(*head, keccak256(self.ciphertext1), keccak256(self.ciphertext2)))) % R


@dataclass(frozen=True)
class Transfer:
    """A transaction of the pool, ready to send."""

    proof: tuple[int, ...]
    publics: TransferPublics
    ext: Ext

    def arguments(self, **changed: Any) -> tuple[Any, ...]:
        p = self.publics
        values = {
            "proof": self.proof,
            "root": p.root,
            "nullifiers": p.nullifiers,
            "commitments": p.commitments,
            "public_out": p.public_out,
            "ext": self.ext.as_abi(),
        }
        assert changed.keys() <= values.keys()
        return tuple((values | changed).values())


@dataclass
class World:
    chain: Chain
    owner: EvmClient
    pool: Contract
    verifier: Contract
    token: Contract
    receiver: Contract

    def prove(self, inputs: list[TransferInput], out: list[int], public_out: int, ext: Ext, asset: int = 0) -> Transfer:
        """A transfer of the first tree's notes, spent by SPENDING_KEY, to two notes of its own."""
        pk = H("pk", SPENDING_KEY)
        outputs = tuple(TransferOutput(amount, pk, 1_000 + i) for i, amount in enumerate(out))
        dummy = TransferInput(0, secrets.randbelow(R), 0, (0,) * 20)
        witness = TransferWitness(
            SPENDING_KEY,
            asset,
            0,
            self.tree().root(),
            (inputs[0], inputs[1] if len(inputs) > 1 else dummy),
            (outputs[0], outputs[1]),
            0,
            public_out,
            ext.hash(self.owner.chain_id(), self.pool.address),
        )
        publics, builder = publics_of(witness), WitnessBuilder()
        synthesize(builder, publics, witness)
        backend = get_backend("auto")
        key = ensure_keys("transfer", backend=backend)
        proof = backend.prover(key.path).prove(builder.witness, secrets.randbelow(R), secrets.randbelow(R))
        assert backend.verify(key.verifying_key, publics.as_list(), proof)
        return Transfer(tuple(int.from_bytes(proof[i : i + 32]) for i in range(0, 256, 32)), publics, ext)

    def tree(self) -> NoteTree:
        events = self.owner.events(self.pool, "NewNote", 0, self.owner.block_number())
        assert [event.args["position"] for event in events] == list(range(len(events)))
        return NoteTree(event.args["cm"] for event in events)

    def send(self, transfer: Transfer, **changed: Any) -> None:
        self.owner.transact(self.pool, "transact", *transfer.arguments(**changed))
