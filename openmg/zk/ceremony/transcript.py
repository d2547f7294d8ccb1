"""The file of a ceremony: what happened, and the points as they stand.

    magic 8 | u32 length | canonical CBOR: phase, log2, origin, circuit, entries of phase 1, entries of phase 2
    phase 1:  tau1[2n - 1] G1 | tau2[n] G2 | alpha1[n] G1 | beta1[n] G1 | beta2 G2            n = 2^log2
    phase 2, after those:  delta1 | delta2 | A | B1 | B2 | L | H | IC                         as in a proving key

tau1[i] = tau^i G1, alpha1[i] = alpha tau^i G1, and so on; gamma is 1 (Bowe, Gabizon, Miers), so gamma2 = G2.
Rules: lengths are checked when the file is read, its content by `verification`. `origin` tells where phase 1 comes
from; a phase 1 that was larger than this file needs was cut to it. Not here: what the points must be.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from openmg import codec
from openmg.hashing import keccak256
from openmg.zk.ceremony.entries import (
    CIRCUIT_NAME,
    HASH_BYTES,
    BeaconEntry,
    DeltaEntry,
    Entry,
    TauEntry,
    chain,
    entry_from_value,
)
from openmg.zk.ceremony.errors import CeremonyError
from openmg.zk.curve import G1_BYTES, G2_BYTES
from openmg.zk.proof import MAX_PUBLIC_INPUTS
from openmg.zk.proving_key import MAX_WIRES, KeyHeader

MAGIC = b"OMGCER\0\1"
LENGTH = struct.Struct("<I")
MAX_LOG2 = 21
"""As large as the largest circuit (`r1cs.MAX_CONSTRAINTS`) needs."""
MAX_ENTRIES = 1024
PHASE1_TAG = b"openmg.zk.ceremony.phase1.v1\0"
PHASE2_TAG = b"openmg.zk.ceremony.phase2.v1\0"
STATE_TAG = b"openmg.zk.ceremony.state.v1\0"
CHANGING = ("delta1", "delta2", "L", "H")
"""The only sections that a contribution to phase 2 may change."""


@dataclass(frozen=True)
class Origin:
    """Where phase 1 comes from: `digest` of a public .ptau file, or empty for our own of 2^log2 powers."""

    log2: int
    algorithm: str = ""
    digest: bytes = b""

    @property
    def own(self) -> bool:
        return not self.algorithm

    def value(self) -> dict[str, Any]:
        return {"log2": self.log2, "algorithm": self.algorithm, "digest": self.digest}

    @staticmethod
    def from_value(value: Any) -> Origin:
        origin = Origin(value["log2"], value["algorithm"], value["digest"])
        sizes = {"": 0, "blake2b": 64, "sha256": 32}
        if not isinstance(origin.digest, bytes) or len(origin.digest) != sizes[origin.algorithm]:
            raise ValueError("the digest of phase 1 has another length")
        if not isinstance(origin.log2, int) or not 1 <= origin.log2 <= 28:
            raise ValueError("the size of phase 1 is impossible")
        return origin


@dataclass(frozen=True)
class Subject:
    """The circuit of phase 2."""

    name: str
    header: KeyHeader

    def value(self) -> dict[str, Any]:
        h = self.header
        sizes = {"wires": h.n_wires, "public": h.n_public, "log2": h.domain_log2, "constraints": h.n_constraints}
        return {"name": self.name, "hash": h.circuit_hash, **sizes}

    @staticmethod
    def from_value(value: Any) -> Subject:
        sizes = [value[key] for key in ("wires", "public", "log2", "constraints")]
        wires, public, log2, constraints = sizes
        if not isinstance(value["hash"], bytes) or len(value["hash"]) != HASH_BYTES:
            raise ValueError("the circuit has no hash")
        if not CIRCUIT_NAME.fullmatch(value["name"]):
            raise ValueError("the circuit's name is not one word")
        if not all(isinstance(size, int) for size in sizes) or not 0 <= public < wires <= MAX_WIRES:
            raise ValueError("the circuit's sizes are impossible")
        if public > MAX_PUBLIC_INPUTS or not 1 <= log2 <= MAX_LOG2 or not 0 <= constraints < (1 << log2) - public:
            raise ValueError("the circuit's sizes are impossible")
        return Subject(value["name"], KeyHeader(value["hash"], wires, public, log2, constraints))


def powers_sizes(log2: int) -> dict[str, int]:
    """Section to bytes, in file order, of phase 1 with 2^log2 powers."""
    n = 1 << log2
    return {
        "tau1": (2 * n - 1) * G1_BYTES, "tau2": n * G2_BYTES, "alpha1": n * G1_BYTES, "beta1": n * G1_BYTES,
        "beta2": G2_BYTES,
    }  # fmt: skip


def key_sizes(header: KeyHeader) -> dict[str, int]:
    """Section to bytes, in file order, of phase 2."""
    sizes = dict(header.sections())
    return {name: sizes[name] for name in ("delta1", "delta2", "A", "B1", "B2", "L", "H", "IC")}


@dataclass(frozen=True)
class Transcript:
    """A ceremony as it stands; `subject` is None in phase 1."""

    log2: int
    origin: Origin
    subject: Subject | None
    taus: tuple[TauEntry, ...]
    deltas: tuple[DeltaEntry | BeaconEntry, ...]
    sections: dict[str, bytes]

    @property
    def circuit(self) -> Subject:
        """CeremonyError in phase 1."""
        if self.subject is None:
            raise CeremonyError("this file is of phase 1, which no circuit belongs to; start phase 2 from it with init")
        return self.subject

    @property
    def final(self) -> bool:
        return bool(self.deltas) and isinstance(self.deltas[-1], BeaconEntry)

    @property
    def phase1_genesis(self) -> bytes:
        return keccak256(PHASE1_TAG + codec.encode(self.origin.value()))

    @cached_property
    def phase1_hashes(self) -> list[bytes]:
        return chain(self.phase1_genesis, self.taus)

    @cached_property
    def phase2_genesis(self) -> bytes:
        """Binds all of phase 1, the circuit, and every point that no contribution may change."""
        before = [self.phase1_genesis, *self.phase1_hashes][-1]
        fixed = {name: data for name, data in self.sections.items() if name not in CHANGING}
        return keccak256(PHASE2_TAG + before + codec.encode(self.circuit.value()) + state_digest(fixed))

    @cached_property
    def phase2_hashes(self) -> list[bytes]:
        return chain(self.phase2_genesis, self.deltas)

    @property
    def tip(self) -> bytes:
        """The hash that the next contribution builds on."""
        if self.subject is None:
            return [self.phase1_genesis, *self.phase1_hashes][-1]
        return [self.phase2_genesis, *self.phase2_hashes][-1]

    def state(self) -> bytes:
        return state_digest(self.sections)

    def with_entry(self, entry: Entry, sections: dict[str, bytes]) -> Transcript:
        """One contribution later; `entry.state` is filled in here."""
        merged = self.sections | sections
        stamped = replace(entry, state=state_digest(merged))
        if isinstance(stamped, TauEntry):
            return replace(self, taus=(*self.taus, stamped), sections=merged)
        return replace(self, deltas=(*self.deltas, stamped), sections=merged)

    def to_bytes(self) -> bytes:
        document = {
            "log2": self.log2,
            "origin": self.origin.value(),
            "circuit": None if self.subject is None else self.subject.value(),
            "taus": [entry.value() for entry in self.taus],
            "deltas": [entry.value() for entry in self.deltas],
        }
        head = codec.encode(document)
        return b"".join([MAGIC, LENGTH.pack(len(head)), head, *(self.sections[name] for name in self._sizes())])

    def _sizes(self) -> dict[str, int]:
        return powers_sizes(self.log2) | ({} if self.subject is None else key_sizes(self.subject.header))

    @staticmethod
    def from_bytes(data: bytes, where: str) -> Transcript:
        """CeremonyError with `where` in it unless the bytes are a whole ceremony file."""
        start = len(MAGIC) + LENGTH.size
        if not data.startswith(MAGIC) or len(data) < start:
            raise CeremonyError(f"{where} is no ceremony file of this version; give the file of init or contribute")
        end = start + LENGTH.unpack_from(data, len(MAGIC))[0]
        try:
            bare = _bare(codec.decode(data[start:end]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CeremonyError(f"{where} holds no readable account of a ceremony ({error}); ask for it again") from error
        sizes = bare._sizes()
        if len(data) != end + sum(sizes.values()):
            raise CeremonyError(f"{where} is cut off or too long for what it says it holds; ask for it again")
        sections = {}
        for name, size in sizes.items():
            sections[name] = data[end : end + size]
            end += size
        return replace(bare, sections=sections)


def _bare(document: Any) -> Transcript:
    """The account without the points; ValueError and the like for what is none."""
    log2, origin, circuit = document["log2"], Origin.from_value(document["origin"]), document["circuit"]
    if not isinstance(log2, int) or not 1 <= log2 <= min(MAX_LOG2, origin.log2):
        raise ValueError("the number of powers is impossible")
    subject = None if circuit is None else Subject.from_value(circuit)
    if subject is not None and subject.header.domain_log2 != log2:
        raise ValueError("the circuit needs another number of powers")
    if len(document["taus"]) + len(document["deltas"]) > MAX_ENTRIES:
        raise ValueError(f"more than {MAX_ENTRIES} contributions")
    taus, deltas = ([entry_from_value(value) for value in document[key]] for key in ("taus", "deltas"))
    right = [entry for entry in taus if isinstance(entry, TauEntry)]
    rest = [entry for entry in deltas if not isinstance(entry, TauEntry)]
    if len(right) != len(taus) or len(rest) != len(deltas) or (deltas and subject is None) or (taus and not origin.own):
        raise ValueError("a contribution stands in the wrong phase")
    return Transcript(log2, origin, subject, tuple(right), tuple(rest), {})


def state_digest(sections: dict[str, bytes]) -> bytes:
    """Over names, lengths and bytes of the sections, sorted by name."""
    parts = [STATE_TAG]
    for name in sorted(sections):
        parts.append(codec.encode([name, len(sections[name])]) + keccak256(sections[name]))
    return keccak256(b"".join(parts))
