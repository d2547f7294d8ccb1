"""A spend that was begun: its witness, what its proof binds, and the call of a private payment.

`ext` of a payment is keccak256 over one word each of tag, chain id, token contract, circuit set, recipient, relay, fee,
validUntil, token and the hashes of both ciphertexts, modulo the circuit field (`ConfidentialToken.transferExt`, `mergeExt`).
Pure. Not here: which notes are spent (`edge_agent.wallet.notes`), orders of the market (`edge_agent.market`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from openmg.evm.abi import encode_call
from openmg.hashing import keccak256, words
from openmg.zk.circuits import merge, transfer
from openmg.zk.circuits.joinsplit import InputNote, JoinSplitPublics
from openmg.zk.circuits.merge import MergePublics, MergeWitness
from openmg.zk.circuits.transfer import TransferWitness
from openmg.zk.field import R
from openmg.zk.notes import ShieldedAddress
from openmg.zk.prover import ProofResult

TRANSFER_TAG = keccak256(b"openmg.ext.transfer.v2")
MERGE_TAG = keccak256(b"openmg.ext.merge.v1")
NOBODY = bytes(20)
_EXT = "(address,address,uint96,uint64,address,bytes,bytes)"
_TRANSACT = f"transact(uint256[8],uint256,uint256[2],uint256[2],uint96,{_EXT})"
_MERGE = f"merge(uint256[8],uint256,uint256[8],uint256[2],uint256,uint96,{_EXT})"

Ciphertexts = tuple[bytes, bytes]
ExtBuilder = Callable[[bytes, JoinSplitPublics, Ciphertexts], int]
"""The public input `ext` from the circuit set, the other public inputs and the ciphertexts of both new notes."""


@dataclass(frozen=True)
class Output:
    """A new note for somebody, of the asset that is spent."""

    receiver: ShieldedAddress
    amount: int


@dataclass(frozen=True)
class Spend:
    """A spend whose inputs are set aside: what to prove, and the rest of its call. The second new note is the change."""

    number: int
    purpose: str
    witness: TransferWitness | MergeWitness
    ciphertexts: Ciphertexts
    valid_until: int
    circuit_set: bytes
    ext: ExtBuilder = field(repr=False, compare=False)

    @property
    def circuit(self) -> str:
        """Name of the circuit that proves it."""
        return merge.NAME if isinstance(self.witness, MergeWitness) else transfer.NAME

    @property
    def publics(self) -> JoinSplitPublics:
        """The public inputs; of a merge they are `MergePublics`."""
        if isinstance(self.witness, MergeWitness):
            return merge.publics_of(self.witness)
        return transfer.publics_of(self.witness)

    def bound_to(self, circuit_set: bytes) -> Spend:
        """The same notes in and out for another set of circuits: whichever is proved, the chain takes one of them."""
        ext = self.ext(circuit_set, self.publics, self.ciphertexts)
        return replace(self, witness=replace(self.witness, ext=ext), circuit_set=circuit_set)


@dataclass(frozen=True)
class Consumption:
    """Notes that are set aside to be burned: the inputs of the proof, which makes no note."""

    number: int
    tree_number: int
    tree_root: int
    inputs: tuple[InputNote, ...]
    valid_until: int


def ext_hash(tag: bytes, chain_id: int, contract: bytes, circuit_set: bytes, valid_until: int, ciphertexts: Ciphertexts) -> int:
    """`ext` of a private payment, which pays nothing out and no fee."""
    first, second = (keccak256(item) for item in ciphertexts)
    fields = (tag, chain_id, contract, circuit_set, NOBODY, NOBODY, 0, valid_until, NOBODY, first, second)
    return int.from_bytes(keccak256(words(*fields)), "big") % R


def private_ext(chain_id: int, contract: bytes, valid_until: int) -> ExtBuilder:
    """What binds a payment that nobody is paid for submitting."""

    def build(circuit_set: bytes, publics: JoinSplitPublics, ciphertexts: Ciphertexts) -> int:
        tag = MERGE_TAG if isinstance(publics, MergePublics) else TRANSFER_TAG
        return ext_hash(tag, chain_id, contract, circuit_set, valid_until, ciphertexts)

    return build


def payment_data(spend: Spend, proof: ProofResult) -> bytes:
    """Call data of a private payment with its proof."""
    publics = spend.publics
    if list(proof.publics) != publics.as_list():
        raise ValueError(f"the proof for {spend.purpose!r} states something else")
    ext = (NOBODY, NOBODY, 0, spend.valid_until, NOBODY, *spend.ciphertexts)
    head = (list(proof.words), publics.root, list(publics.nullifiers), list(publics.commitments))
    if isinstance(publics, MergePublics):
        return encode_call(_MERGE, *head, publics.return_partial, publics.public_out, ext)
    return encode_call(_TRANSACT, *head, publics.public_out, ext)
