"""Evidence of equivocation: two signed statements that no honest validator makes both.

An honest validator signs at most one PRE-PREPARE, PREPARE, COMMIT and VIEW-CHANGE for each (height, view), after any
crash (`core.ReplicaCore._statement` and the vote log). Two signatures of one key over different digests there are
therefore proof, and need nobody's word: `verify_evidence` looks at nothing but the six fields and the chain's domain.
One pair has one encoding: the smaller digest stands first.

`Witness` finds such pairs. It remembers the first statement of each (kind, view, signer) of one height *without*
checking its signature, since an honest run has no second one; both are checked when another digest turns up. A
statement that turns out not to be the signer's gives way, and never displaces one that is, so that noise hides nothing.

Not here: who is told (`core.py`), membership of the signer at that height and punishment (the application).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hub.ppdl.consensus.certs import CertError, Domain
from hub.ppdl.consensus.messages import DIGEST_BYTES, MAX_VIEW, Kind
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.genesis import MAX_U64
from openmg import codec
from openmg.signing import SIGNATURE_BYTES

EVIDENCE_KINDS = (Kind.PRE_PREPARE, Kind.PREPARE, Kind.COMMIT, Kind.VIEW_CHANGE)
"""What is signed at most once for each (height, view). NEW-VIEW is not: it is not in the vote log, and may differ."""
MAX_EVIDENCE_BYTES = 512  # seven fields need about 240
WITNESSED_PER_SIGNER = 32  # four kinds in eight views; a signer that says more pushes out only its own statements
ACCUSATIONS_PER_SIGNER = 8  # for one height; whoever equivocates everywhere is recorded often enough


class EvidenceError(ValueError):
    """Bytes or fields that are no evidence; the message is one sentence."""


@dataclass(frozen=True)
class Evidence:
    """Two statements of one kind, height, view and signer. Raises EvidenceError when they do not contradict."""

    kind: Kind
    height: int
    view: int
    digest_a: bytes
    digest_b: bytes
    signature_a: bytes
    signature_b: bytes

    def __post_init__(self) -> None:
        if self.kind not in EVIDENCE_KINDS:
            raise EvidenceError(f"evidence: a {self.kind.name} may be said twice")
        if not 1 <= self.height <= MAX_U64 or not 0 <= self.view <= MAX_VIEW:
            raise EvidenceError("evidence: height or view is out of range")
        if any(len(digest) != DIGEST_BYTES for digest in (self.digest_a, self.digest_b)):
            raise EvidenceError("evidence: a digest does not have 32 bytes")
        if any(len(signature) != SIGNATURE_BYTES for signature in (self.signature_a, self.signature_b)):
            raise EvidenceError("evidence: a signature does not have 65 bytes")
        if self.digest_a >= self.digest_b:
            raise EvidenceError("evidence: the digests must differ, the smaller one first")

    @cached_property
    def encoded(self) -> bytes:
        """Canonical bytes [kind, height, view, digest a, digest b, signature a, signature b]."""
        digests, signatures = [self.digest_a, self.digest_b], [self.signature_a, self.signature_b]
        return codec.encode([int(self.kind), self.height, self.view, *digests, *signatures])

    @classmethod
    def decode(cls, data: bytes) -> Evidence:
        """Exact inverse of `encoded`. Raises EvidenceError."""
        try:
            fields: Any = codec.decode(data, max_bytes=MAX_EVIDENCE_BYTES, max_items=8)
        except codec.DecodeError as error:
            raise EvidenceError(f"evidence: {error}") from error
        types = [int, int, int, bytes, bytes, bytes, bytes]
        if not isinstance(fields, list) or [type(item) for item in fields] != types:
            raise EvidenceError("evidence: it does not have its seven fields")
        if fields[0] not in tuple(map(int, EVIDENCE_KINDS)):
            raise EvidenceError("evidence: the kind is not one that is said only once")
        return cls(Kind(fields[0]), *fields[1:])


def make_evidence(kind: Kind, height: int, view: int, one: tuple[bytes, bytes], other: tuple[bytes, bytes]) -> Evidence:
    """Evidence of two (digest, signature) pairs in any order. Raises EvidenceError."""
    (digest_a, signature_a), (digest_b, signature_b) = sorted((one, other))
    return Evidence(kind, height, view, digest_a, digest_b, signature_a, signature_b)


def verify_evidence(domain: Domain, evidence: Evidence) -> bytes:
    """The address that signed both statements. Raises CertError when there is no such address."""
    place = evidence.kind, evidence.height, evidence.view
    signer = domain.signer(*place, evidence.digest_a, evidence.signature_a)
    if domain.signer(*place, evidence.digest_b, evidence.signature_b) != signer:
        raise CertError("evidence: the two statements are not signed by one key")
    return signer


def _signed_by(domain: Domain, signer: bytes, place: tuple[Kind, int, int], said: tuple[bytes, bytes]) -> bool:
    try:
        return domain.signer(*place, *said) == signer
    except CertError:
        return False


@dataclass
class Witness:
    """What the validators of one height said, first statements only; bounded for each by the two constants above."""

    height: int
    validators: ValidatorSet
    _said: dict[bytes, dict[tuple[Kind, int], tuple[bytes, bytes]]] = field(default_factory=dict)
    _accused: dict[bytes, frozenset[tuple[Kind, int]]] = field(default_factory=dict)

    def hear(self, domain: Domain, signer: bytes, kind: Kind, view: int, digest: bytes, signature: bytes) -> Evidence | None:
        """Take note of a statement that `signer` is said to have made; return evidence when it contradicts another.

        The first proof of a place only: what follows there proves nothing new.
        """
        said, place = self._said.get(signer), (kind, view)
        accused = self._accused.get(signer) if self._accused else None
        if kind not in EVIDENCE_KINDS or (said is None and signer not in self.validators.members):
            return None
        if accused is not None and (place in accused or len(accused) >= ACCUSATIONS_PER_SIGNER):
            return None
        if said is None:
            said = self._said[signer] = {}
        first, statement = said.get(place), (digest, signature)
        if first is not None and first[0] == digest:
            return None
        if first is not None and _signed_by(domain, signer, (kind, self.height, view), first):
            if not _signed_by(domain, signer, (kind, self.height, view), statement):
                return None
            self._accused[signer] = (accused or frozenset()) | {place}
            return make_evidence(kind, self.height, view, first, statement)
        said[place] = statement
        if len(said) > WITNESSED_PER_SIGNER:
            del said[next(iter(said))]
        return None

    def __len__(self) -> int:
        return sum(len(said) for said in self._said.values())
