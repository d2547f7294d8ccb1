"""The contributions of a ceremony and the hash chain through them.

Rules: an entry is canonical CBOR; its hash covers the hash before it, so that nothing can be left out, put in or moved.
`state` is the digest of the file's points after the contribution. A party publishes the hash of its own entry and
finds it again in the final transcript. Not here: whether an entry is right (`phase1`, `phase2`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openmg import codec
from openmg.hashing import keccak256
from openmg.zk.ceremony.errors import CeremonyError
from openmg.zk.ceremony.knowledge import KNOWLEDGE_BYTES
from openmg.zk.curve import G1_BYTES

TAG = b"openmg.zk.ceremony.entry.v1\0"
HASH_BYTES = 32
MAX_NAME = 64
MAX_BEACON_BYTES = 1024
MAX_BEACON_LOG2 = 32
"""2^32 hashes take an hour."""


@dataclass(frozen=True)
class TauEntry:
    """A contribution to phase 1: tau G1, alpha G1 and beta G1 afterwards, and a proof of knowledge for each."""

    name: str
    tau1: bytes
    alpha1: bytes
    beta1: bytes
    proofs: tuple[bytes, bytes, bytes]
    state: bytes

    def value(self) -> dict[str, Any]:
        points = {"tau1": self.tau1, "alpha1": self.alpha1, "beta1": self.beta1}
        return {"kind": "tau", "name": self.name, "proofs": list(self.proofs), "state": self.state, **points}


@dataclass(frozen=True)
class DeltaEntry:
    """A contribution to phase 2: delta G1 afterwards and a proof of knowledge."""

    name: str
    delta1: bytes
    proof: bytes
    state: bytes

    def value(self) -> dict[str, Any]:
        return {"kind": "delta", "name": self.name, "delta1": self.delta1, "proof": self.proof, "state": self.state}


@dataclass(frozen=True)
class BeaconEntry:
    """The last contribution to phase 2, whose secret anybody computes: the beacon hashed 2^log2 times."""

    name: str
    beacon: bytes
    log2: int
    delta1: bytes
    state: bytes

    def value(self) -> dict[str, Any]:
        public = {"beacon": self.beacon, "log2": self.log2}
        return {"kind": "beacon", "name": self.name, "delta1": self.delta1, "state": self.state, **public}


Entry = TauEntry | DeltaEntry | BeaconEntry
CIRCUIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""Names of circuits become names of files and contracts, so nothing else may stand in them."""


def require_name(name: str) -> str:
    """A contributor's name; CeremonyError when it is empty, long or holds what a terminal would obey."""
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise CeremonyError(f"a contributor's name is 1 to {MAX_NAME} printable characters; choose another with --name")
    return name


def _bytes(value: Mapping[str, Any], key: str, size: int) -> bytes:
    data = value[key]
    if not isinstance(data, bytes) or len(data) != size:
        raise ValueError(f"{key} is not {size} bytes")
    return data


def entry_from_value(value: Any) -> Entry:
    """CeremonyError for anything that is no entry."""
    try:
        kind, name = value["kind"], require_name(value["name"])
        state = _bytes(value, "state", HASH_BYTES)
        entry: Entry
        if kind == "tau":
            first, second, third = value["proofs"]
            if not all(isinstance(proof, bytes) and len(proof) == KNOWLEDGE_BYTES for proof in (first, second, third)):
                raise ValueError("a proof of knowledge has another length")
            points = [_bytes(value, key, G1_BYTES) for key in ("tau1", "alpha1", "beta1")]
            entry = TauEntry(name, points[0], points[1], points[2], (first, second, third), state)
        elif kind == "delta":
            proof = _bytes(value, "proof", KNOWLEDGE_BYTES)
            entry = DeltaEntry(name, _bytes(value, "delta1", G1_BYTES), proof, state)
        else:
            beacon, log2 = value["beacon"], value["log2"]
            require_beacon(beacon, log2)
            entry = BeaconEntry(name, beacon, log2, _bytes(value, "delta1", G1_BYTES), state)
        if entry.value() != value:
            raise ValueError("it holds something unknown")
        return entry
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CeremonyError(f"the transcript holds a contribution that cannot be read ({error}); refuse this file") from error


def require_beacon(beacon: Any, log2: Any) -> None:
    """CeremonyError for a beacon without content or with a number of hashes out of range."""
    if not isinstance(beacon, bytes) or not HASH_BYTES // 2 <= len(beacon) <= MAX_BEACON_BYTES:
        raise CeremonyError(f"a beacon has {HASH_BYTES // 2} to {MAX_BEACON_BYTES} bytes; give the whole public value")
    if not isinstance(log2, int) or isinstance(log2, bool) or not 0 <= log2 <= MAX_BEACON_LOG2:
        raise CeremonyError(f"a beacon is hashed 2^0 to 2^{MAX_BEACON_LOG2} times; give the exponent")


def entry_hash(before: bytes, entry: Entry) -> bytes:
    """The chain's next hash."""
    return keccak256(TAG + before + codec.encode(entry.value()))


def chain(genesis: bytes, entries: tuple[Entry, ...]) -> list[bytes]:
    """The hash after each entry."""
    hashes = []
    for entry in entries:
        genesis = entry_hash(genesis, entry)
        hashes.append(genesis)
    return hashes


def context(before: bytes, kind: str, name: str) -> bytes:
    """What a proof of knowledge is bound to: all that happened before, and who contributes what."""
    return codec.encode([before, kind, name])
