"""A checkpoint of the plasma chain: what validators sign and the root chain stores.

Rules: pure values; the digest is EIP-712 over the root chain's id and the `PlasmaRoot` contract, so that a signature
counts for one deployment only. Signatures are merged in ascending order of their signers, as the contract wants them.
Not here: where the values come from (`hub.plasma.view`), who exchanges signatures (`hub.plasma.signer`, `hub.plasma.operator`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass

from openmg.evm.eip712 import domain_separator, typed_digest
from openmg.hashing import keccak256, words
from openmg.signing import InvalidSignature, recover, sign_digest

CHECKPOINT_TYPE = (
    "Checkpoint(uint64 epoch,uint64 firstBlock,uint64 lastBlock,bytes32 blockHash,bytes32 stateRoot,bytes32 txRoot,"
    "bytes32 noteRoot,uint64 inboxCount,bytes32 prevHash,uint64 timestamp)"
)
GENESIS_TAG = keccak256(b"openmg.plasma.genesis.v1")


class InvalidCheckpoint(ValueError):
    """Bytes that are no checkpoint, or a checkpoint that this node does not see."""


@dataclass(frozen=True)
class Checkpoint:
    """Fields of `PlasmaRoot.Checkpoint`, in its order; numbers are u64, hashes 32 bytes."""

    epoch: int
    first_block: int
    last_block: int
    block_hash: bytes
    state_root: bytes
    tx_root: bytes
    note_root: bytes
    inbox_count: int
    prev_hash: bytes
    timestamp: int

    def __post_init__(self) -> None:
        numbers = (self.epoch, self.first_block, self.last_block, self.inbox_count, self.timestamp)
        hashes = (self.block_hash, self.state_root, self.tx_root, self.note_root, self.prev_hash)
        if any(type(n) is not int or not 0 <= n < 2**64 for n in numbers):
            raise InvalidCheckpoint("a checkpoint's number is not a u64")
        if any(type(h) is not bytes or len(h) != 32 for h in hashes):
            raise InvalidCheckpoint("a checkpoint's hash does not have 32 bytes")

    def as_abi(self) -> tuple[int | bytes, ...]:
        """The struct for a contract call."""
        return astuple(self)


def genesis_hash(plasma_chain_id: int) -> bytes:
    """What epoch 0 names as its previous checkpoint."""
    return keccak256(words(GENESIS_TAG, plasma_chain_id))


def checkpoint_hash(checkpoint: Checkpoint) -> bytes:
    """EIP-712 struct hash; the next checkpoint names it."""
    return keccak256(words(keccak256(CHECKPOINT_TYPE.encode()), *astuple(checkpoint)))


def checkpoint_digest(root_chain_id: int, plasma_root: bytes, checkpoint: Checkpoint) -> bytes:
    """The 32 bytes that a validator signs; `plasma_root` is the contract's 20-byte address."""
    domain = domain_separator("OpenMG PlasmaRoot", "1", root_chain_id, plasma_root)
    return typed_digest(domain, CHECKPOINT_TYPE, *astuple(checkpoint))


def sign(private_key: bytes, digest: bytes) -> bytes:
    """A validator's 65-byte signature over the digest."""
    return sign_digest(private_key, digest)


def signer_of(digest: bytes, signature: bytes, members: Iterable[bytes]) -> bytes | None:
    """The member that made the signature, or None."""
    try:
        address = recover(digest, signature)
    except InvalidSignature:
        return None
    return address if address in set(members) else None


def merge(digest: bytes, members: Iterable[bytes], signatures: Iterable[bytes]) -> tuple[bytes, ...]:
    """The valid signatures of distinct members in ascending order of their addresses."""
    known = frozenset(members)
    by_signer: dict[bytes, bytes] = {}
    for signature in signatures:
        address = signer_of(digest, signature, known)
        if address is not None:
            by_signer.setdefault(address, signature)
    return tuple(by_signer[address] for address in sorted(by_signer))


def quorum(n: int) -> int:
    """Signatures that a set of `n` validators needs: (n + f) // 2 + 1 with f = (n - 1) // 3."""
    return (n + (n - 1) // 3) // 2 + 1
