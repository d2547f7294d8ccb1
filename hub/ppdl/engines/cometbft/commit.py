"""CometBFT headers and commits, hashed and verified here, without trusting the node that served them.

A header's hash is the SHA-256 Merkle root (RFC 6962 shape) over its fourteen encoded fields. A commit is a list of
precommits of one round, each signed over block id, time, height, round and chain id. With keys of type secp256k1eth a
signature is 65 recoverable bytes over keccak-256, so the signer's address is recovered as everywhere else in PPDL.

In a `SignedHeader` of scheme `comet-commit`, `header_bytes` is the canonical encoding of `CometHeader`, `view` the
round, and each seal is seconds (8 bytes) || nanoseconds (4 bytes) || signature (65 bytes), signers ascending.
Not here: the trusting period and the way from one set to the next (a light client's).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from hub.ppdl.consensus.certs import CertError
from hub.ppdl.engines.cometbft.messages import MS_PER_S, NANOS_PER_MS, public_key
from hub.ppdl.engines.cometbft.wire import bytes_field, int_field, message_field, sfixed64_field, text_field, varint
from hub.ppdl.store import SignedHeader
from openmg import codec
from openmg.hashing import keccak256
from openmg.signing import SIGNATURE_BYTES, InvalidSignature, recover

HEADER_TAG = "openmg.ppdl.comet-header.v1"
PRECOMMIT = 2
POWER = 1  # every validator weighs the same
TIME_BYTES = 12
SEAL_BYTES = TIME_BYTES + SIGNATURE_BYTES
MAX_HEADER_BYTES = 4096
HASH_FIELDS = 8


@dataclass(frozen=True, slots=True)
class Time:
    """Unix seconds and nanoseconds, as CometBFT signs them."""

    seconds: int
    nanos: int

    @property
    def proto(self) -> bytes:
        """A google.protobuf.Timestamp."""
        return int_field(1, self.seconds) + int_field(2, self.nanos)

    @property
    def ms(self) -> int:
        """Unix milliseconds, rounded down."""
        return self.seconds * MS_PER_S + self.nanos // NANOS_PER_MS


@dataclass(frozen=True, slots=True)
class BlockId:
    """Hash of a header, and of the parts in which its block travelled."""

    hash: bytes
    parts: int
    parts_hash: bytes

    @property
    def proto(self) -> bytes:
        """A tendermint.types.BlockID; the part set header is written even when empty."""
        parts = int_field(1, self.parts) + bytes_field(2, self.parts_hash)
        return bytes_field(1, self.hash) + message_field(2, parts)


def _merkle(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 tree hash: the left part is the largest power of two that is smaller than the whole."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + _merkle(leaves[:split]) + _merkle(leaves[split:])).digest()


@dataclass(frozen=True)
class CometHeader:
    """A header, and the part set header that its commit signs beside it.

    `hashes`: last commit, data, validators, next validators, consensus parameters, app, last results, evidence, in
    the order of the header's fields.
    """

    block_version: int
    app_version: int
    chain_id: str
    height: int
    time: Time
    last_block: BlockId
    hashes: tuple[bytes, ...]
    proposer: bytes
    parts: int
    parts_hash: bytes

    @property
    def validators_hash(self) -> bytes:
        """The set that decides this block."""
        return self.hashes[2]

    @property
    def next_validators_hash(self) -> bytes:
        """The set that decides the block after it."""
        return self.hashes[3]

    @property
    def app_hash(self) -> bytes:
        """The state before this block."""
        return self.hashes[5]

    @property
    def timestamp_ms(self) -> int:
        """Unix milliseconds."""
        return self.time.ms

    @cached_property
    def hash(self) -> bytes:
        """The block's identity."""
        version = int_field(1, self.block_version) + int_field(2, self.app_version)
        start = [version, text_field(1, self.chain_id), int_field(1, self.height), self.time.proto, self.last_block.proto]
        return _merkle([*start, *(bytes_field(1, one) for one in self.hashes), bytes_field(1, self.proposer)])

    @property
    def block_id(self) -> BlockId:
        """What a precommit for this block names."""
        return BlockId(self.hash, self.parts, self.parts_hash)

    @cached_property
    def encoded(self) -> bytes:
        """Canonical bytes; `decode` is the exact inverse."""
        last = self.last_block
        return codec.encode([
            HEADER_TAG, self.block_version, self.app_version, self.chain_id, self.height, self.time.seconds,
            self.time.nanos, last.hash, last.parts, last.parts_hash, list(self.hashes), self.proposer, self.parts,
            self.parts_hash,
        ])  # fmt: skip

    @classmethod
    def decode(cls, data: bytes) -> CometHeader:
        """Parse `encoded`. Raises CertError."""
        try:
            fields = codec.decode(data, max_bytes=MAX_HEADER_BYTES)
        except codec.DecodeError as error:
            raise CertError(f"CometBFT header is malformed: {error}") from error
        kinds = (str, int, int, str, int, int, int, bytes, int, bytes, list, bytes, int, bytes)
        if not isinstance(fields, list) or tuple(map(type, fields)) != kinds or fields[0] != HEADER_TAG:
            raise CertError("CometBFT header has a field of a wrong type")
        _, block, app, chain, height, seconds, nanos, last, last_parts, last_hash, hashes, proposer, parts, parts_hash = fields
        if len(hashes) != HASH_FIELDS or any(type(one) is not bytes for one in hashes):
            raise CertError(f"CometBFT header has not {HASH_FIELDS} hashes")
        last_block = BlockId(last, last_parts, last_hash)
        time = Time(seconds, nanos)
        return cls(block, app, chain, height, time, last_block, tuple(hashes), proposer, parts, parts_hash)


def precommit_bytes(header: CometHeader, view: int, time: Time) -> bytes:
    """What a precommit for the header in round `view` signs: a length-prefixed CanonicalVote."""
    vote = (
        int_field(1, PRECOMMIT)
        + sfixed64_field(2, header.height)
        + sfixed64_field(3, view)
        + message_field(4, header.block_id.proto)
        + message_field(5, time.proto)
        + text_field(6, header.chain_id)
    )
    return varint(len(vote)) + vote


def seal_of(time: Time, signature: bytes) -> bytes:
    """A seal of a `SignedHeader` from a precommit of CometBFT, whose v is 0 or 1 where ours is 27 or 28."""
    evm = signature[:64] + bytes([27 + signature[64]])
    return time.seconds.to_bytes(8, "big") + time.nanos.to_bytes(4, "big") + evm


def seal_signer(header: CometHeader, view: int, seal: bytes) -> bytes:
    """Address that signed. Raises CertError."""
    if len(seal) != SEAL_BYTES:
        raise CertError(f"CometBFT seal has {len(seal)} bytes instead of {SEAL_BYTES}")
    time = Time(int.from_bytes(seal[:8], "big"), int.from_bytes(seal[8:TIME_BYTES], "big"))
    try:
        return recover(keccak256(precommit_bytes(header, view, time)), seal[TIME_BYTES:])
    except InvalidSignature as error:
        raise CertError("signature of a precommit is invalid") from error


def validators_hash(keys: Mapping[bytes, bytes]) -> bytes:
    """Hash of a set given as address -> compressed public key; equal powers stand in ascending order of address."""
    leaves = [message_field(1, public_key(keys[address])) + int_field(2, POWER) for address in sorted(keys)]
    return _merkle(leaves)


def verify_commit(signed: SignedHeader, chain_id: str, keys: Mapping[bytes, bytes]) -> CometHeader:
    """Check that more than two thirds of the set decided the header; return it.

    `keys`: the set that should decide this height, address -> compressed public key. Raises CertError.
    """
    header = CometHeader.decode(signed.header_bytes)
    if header.chain_id != chain_id:
        raise CertError(f"CometBFT header is of chain {header.chain_id!r} instead of {chain_id!r}")
    if header.validators_hash != validators_hash(keys):
        raise CertError("CometBFT header names another validator set")
    last = b""
    for seal in signed.seals:
        signer = seal_signer(header, signed.view, seal)
        if signer <= last:
            raise CertError("signers of a commit are not strictly ascending")
        if signer not in keys:
            raise CertError(f"signer {signer.hex()} is not a validator of this height")
        last = signer
    if 3 * len(signed.seals) <= 2 * len(keys):
        raise CertError(f"commit has {len(signed.seals)} signers of {len(keys)}: more than two thirds are needed")
    return header
