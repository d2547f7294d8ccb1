"""The genesis of a PPDL chain: who starts it, when, and from which application state.

The canonical encoding (deterministic CBOR) is the chain's identity: its keccak-256 is the parent hash of
block 1 and is part of every signature, so that two chains never accept each other's messages. Validators are
20-byte secp256k1 addresses in strictly ascending order.

Not here: key files, peer addresses, timeouts (they may differ from hub to hub).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from openmg import codec
from openmg.hashing import keccak256

GENESIS_TAG = "openmg.ppdl.genesis.v1"
MAX_GENESIS_BYTES = 16 * 1024 * 1024
MAX_VALIDATORS = 64  # NEW-VIEW carries q certificates of q votes each: 43 * 43 votes stay far below one 4 MiB frame
ADDRESS_BYTES = 20
MAX_U64 = 2**64 - 1


class GenesisError(ValueError):
    """The genesis is malformed; the message is one sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Genesis:
    """Start of a chain.

    chain_id: PPDL chain id, 1 .. 2^64-1.  validators: ascending distinct 20-byte addresses, 1 ..
    MAX_VALIDATORS of them. app_state: opaque bytes for `Application.init_chain`.  genesis_time_ms: wall time,
    unix milliseconds; block 1 is later than it. Raises GenesisError when a field is out of range.
    """

    chain_id: int
    validators: tuple[bytes, ...]
    app_state: bytes
    genesis_time_ms: int

    def __post_init__(self) -> None:
        if not 1 <= self.chain_id <= MAX_U64:
            raise GenesisError(f"genesis chain_id {self.chain_id} is not in 1 .. 2^64-1: choose a positive chain id")
        if not 0 <= self.genesis_time_ms <= MAX_U64:
            raise GenesisError(f"genesis genesis_time_ms {self.genesis_time_ms} is not a u64: give unix milliseconds")
        if not 1 <= len(self.validators) <= MAX_VALIDATORS:
            raise GenesisError(f"genesis has {len(self.validators)} validators: name 1 to {MAX_VALIDATORS}")
        if any(len(a) != ADDRESS_BYTES for a in self.validators):
            raise GenesisError("genesis has a validator address that is not 20 bytes: give addresses, not keys")
        if any(a >= b for a, b in zip(self.validators, self.validators[1:], strict=False)):
            raise GenesisError("genesis validators are not in strictly ascending order: use make_genesis, which sorts them")

    def encode(self) -> bytes:
        """Return the canonical bytes; `decode` is its exact inverse."""
        fields = [GENESIS_TAG, self.chain_id, self.genesis_time_ms, list(self.validators), self.app_state]
        return codec.encode(fields)

    @property
    def hash(self) -> bytes:
        """keccak-256 of the canonical encoding, 32 bytes.

        The chain's identity and the parent hash of block 1.
        """
        return keccak256(self.encode())

    @classmethod
    def decode(cls, data: bytes) -> Genesis:
        """Parse canonical bytes. Raises GenesisError when they are not a genesis."""
        try:
            fields = codec.decode(data, max_bytes=MAX_GENESIS_BYTES)
        except codec.DecodeError as error:
            raise GenesisError(f"genesis is not canonical CBOR ({error}): make it again from its inputs") from error
        if not isinstance(fields, list | tuple) or len(fields) != 5 or fields[0] != GENESIS_TAG:
            raise GenesisError(f"genesis does not start with {GENESIS_TAG!r}: this is another kind of file")
        _, chain_id, time_ms, validators, app_state = fields
        ints = type(chain_id) is int and type(time_ms) is int
        names = isinstance(validators, list | tuple) and all(isinstance(a, bytes) for a in validators)
        if not (ints and names and isinstance(app_state, bytes)):
            raise GenesisError("genesis has a field of a wrong type: make it again from its inputs")
        return cls(chain_id, tuple(validators), app_state, time_ms)


def make_genesis(chain_id: int, validators: list[bytes] | tuple[bytes, ...], app_state: bytes, genesis_time_ms: int) -> Genesis:
    """Build a genesis from validator addresses in any order.

    Raises GenesisError (a repeated address included).
    """
    return Genesis(chain_id, tuple(sorted(validators)), app_state, genesis_time_ms)


def load_genesis(path: Path) -> Genesis:
    """Read a genesis file. Raises GenesisError naming the file when it is missing, too large or malformed."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise GenesisError(f"cannot read genesis file {path} ({error.strerror}): create it or correct the path") from error
    if len(data) > MAX_GENESIS_BYTES:
        raise GenesisError(f"genesis file {path} has {len(data)} bytes, more than {MAX_GENESIS_BYTES}: wrong file?")
    try:
        return Genesis.decode(data)
    except GenesisError as error:
        raise GenesisError(f"genesis file {path}: {error}") from error
