"""The block header: ten 32-byte words that the EVM rebuilds and hashes, and the digest a commit seal signs.

header = [keccak("openmg.ppdl.header.v1"), chain_id, height, parent_hash, timestamp_ms, proposer, tx_root,
app_hash, validators_hash, next_validators_hash]. It excludes the view, so that a block proposed again in a
later view keeps its hash. `app_hash` is the state *before* this block. The seal excludes any relay address: a
header is a fact and not a command.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from hub.ppdl.genesis import ADDRESS_BYTES, MAX_U64
from openmg.hashing import keccak256, word

HEADER_TAG = keccak256(b"openmg.ppdl.header.v1")
SEAL_TAG = keccak256(b"PPDL-COMMIT-V1")
WORD_BYTES = 32
HEADER_BYTES = 10 * WORD_BYTES


class HeaderError(ValueError):
    """Bytes that are not a header."""


@dataclass(frozen=True)
class Header:
    """One header; integers are u64, `proposer` has 20 bytes, every other bytes field 32.

    Raises HeaderError otherwise.
    """

    chain_id: int
    height: int
    parent_hash: bytes
    timestamp_ms: int
    proposer: bytes
    tx_root: bytes
    app_hash: bytes
    validators_hash: bytes
    next_validators_hash: bytes

    def __post_init__(self) -> None:
        if any(not 0 <= n <= MAX_U64 for n in (self.chain_id, self.height, self.timestamp_ms)):
            raise HeaderError("header number is not a u64")
        hashes = (self.parent_hash, self.tx_root, self.app_hash, self.validators_hash, self.next_validators_hash)
        if any(len(h) != WORD_BYTES for h in hashes) or len(self.proposer) != ADDRESS_BYTES:
            raise HeaderError("header field has a wrong length")

    @cached_property
    def encoded(self) -> bytes:
        """The 320 bytes."""
        numbers = word(self.chain_id) + word(self.height) + self.parent_hash + word(self.timestamp_ms)
        roots = self.tx_root + self.app_hash + self.validators_hash + self.next_validators_hash
        return HEADER_TAG + numbers + word(self.proposer) + roots

    @cached_property
    def hash(self) -> bytes:
        """keccak-256 of the 320 bytes: the block's identity."""
        return keccak256(self.encoded)

    @classmethod
    def decode(cls, data: bytes) -> Header:
        """Parse 320 bytes; the only encoding of a header is the one `encoded` returns. Raises HeaderError."""
        if len(data) != HEADER_BYTES or data[:WORD_BYTES] != HEADER_TAG:
            raise HeaderError("not a PPDL header")
        tag_free = [data[i : i + WORD_BYTES] for i in range(WORD_BYTES, HEADER_BYTES, WORD_BYTES)]
        chain_id, height, parent, timestamp, proposer, tx_root, app_hash, validators, following = tag_free
        if any(proposer[: WORD_BYTES - ADDRESS_BYTES]):
            raise HeaderError("header proposer is not a left-padded address")
        return cls(
            int.from_bytes(chain_id, "big"),
            int.from_bytes(height, "big"),
            parent,
            int.from_bytes(timestamp, "big"),
            proposer[WORD_BYTES - ADDRESS_BYTES :],
            tx_root,
            app_hash,
            validators,
            following,
        )


def seal_digest(chain_id: int, genesis_hash: bytes, height: int, view: int, header_hash: bytes) -> bytes:
    """The 32 bytes a COMMIT signs; the relay contract computes the same."""
    place = word(chain_id) + genesis_hash + word(height) + word(view)
    return keccak256(SEAL_TAG + place + header_hash)
