"""What a store keeps of a decided block, and how its rows become objects again.

Decoders raise ValueError for bytes that this program did not write. Not here: the file (`store.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.effects import Tip
from hub.ppdl.consensus.header import Header
from hub.ppdl.consensus.messages import Decided, QuorumCert
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.genesis import ADDRESS_BYTES
from openmg import codec
from openmg.signing import SIGNATURE_BYTES


@dataclass(frozen=True, slots=True)
class SignedHeader:
    """A decided header for a light client.

    320 bytes, the view of its seals, and at least a quorum of 65-byte seals, signers ascending.
    """

    header_bytes: bytes
    view: int
    seals: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """A decided block and the outcome of its execution.

    App hash after it and validator changes (address, active). `opened`: the set that agrees on the next height, when
    this block's header says that it is another one.
    """

    decided: Decided
    app_hash: bytes
    updates: tuple[tuple[bytes, bool], ...]
    opened: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class SetChange:
    """A decided header after which another set of validators agrees: addresses ascending."""

    header: Header
    qc: QuorumCert
    opened: tuple[bytes, ...]


def change_from(header: bytes, view: int, seals: bytes, opened: bytes) -> SetChange:
    """A row of the history of sets."""
    return SetChange(Header.decode(bytes(header)), QuorumCert(view, split_seals(bytes(seals))), _addresses(bytes(opened)))


def _addresses(joined: bytes) -> tuple[bytes, ...]:
    return tuple(joined[i : i + ADDRESS_BYTES] for i in range(0, len(joined), ADDRESS_BYTES))


def tip_bytes(tip: Tip, header: Header) -> bytes:
    """A tip whose block has this header."""
    sets = [b"".join(tip.validators.addresses), b"".join(tip.next_validators.addresses)]
    return codec.encode([header.encoded, tip.app_hash, *sets])


def tip_from(data: bytes) -> Tip:
    """Exact inverse of `tip_bytes`."""
    encoded, app_hash, validators, following = codec.decode(data)
    header = Header.decode(encoded)
    sets = ValidatorSet(_addresses(validators)), ValidatorSet(_addresses(following))
    return Tip(header.height, header.hash, header.timestamp_ms, app_hash, *sets)


def split_seals(seals: bytes) -> tuple[bytes, ...]:
    """The 65-byte seals of a row."""
    return tuple(seals[i : i + SIGNATURE_BYTES] for i in range(0, len(seals), SIGNATURE_BYTES))


def changes_from(updates: bytes) -> tuple[tuple[bytes, bool], ...]:
    """The validator changes of a row."""
    return tuple((address, active) for address, active in codec.decode(bytes(updates)))


def stored_from(view: int, seals: bytes, wire: bytes, app_hash: bytes, updates: bytes) -> StoredBlock:
    """A block's row."""
    decided = Decided(Block.decode(bytes(wire)), QuorumCert(view, split_seals(bytes(seals))))
    return StoredBlock(decided, bytes(app_hash), changes_from(updates))
