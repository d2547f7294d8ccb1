"""Whether a transcript is an honest ceremony, and the keys that follow from it.

Rules: everything is checked that the file's keys depend on, in one pass over the file as it is; the randomness of the
checks is fresh, so that nobody can prepare a file that passes. What a file cannot show is whether anybody forgot the
secrets, or whether the parties are who they say: they publish their hashes. Not here: reading and writing files.
"""

from __future__ import annotations

from dataclasses import dataclass

from openmg.zk.ceremony import phase1, phase2
from openmg.zk.ceremony.arithmetic import Arithmetic, Say
from openmg.zk.ceremony.errors import CeremonyError
from openmg.zk.ceremony.groups import Draw
from openmg.zk.ceremony.sparse import GROUP1, GROUP2, bytes_of
from openmg.zk.ceremony.transcript import CHANGING, Transcript
from openmg.zk.proof import UnsafeKeyError, VerifyingKey
from openmg.zk.proving_key import key_file_bytes
from openmg.zk.r1cs import ConstraintSystem, system_bytes


@dataclass(frozen=True)
class Contribution:
    """Who contributed to which phase, and the hash that this party published."""

    phase: int
    kind: str
    name: str
    hash: bytes


@dataclass(frozen=True)
class Report:
    """What a checked transcript holds; `verifying_key` is None while nobody has contributed to phase 2."""

    contributions: tuple[Contribution, ...]
    tip: bytes
    final: bool
    verifying_key: VerifyingKey | None


def contributions_of(transcript: Transcript) -> tuple[Contribution, ...]:
    """In order, with the chain's hash after each."""
    found = [
        Contribution(1, "contribution", entry.name, digest)
        for entry, digest in zip(transcript.taus, transcript.phase1_hashes, strict=True)
    ]
    if transcript.subject is not None:
        for entry, digest in zip(transcript.deltas, transcript.phase2_hashes, strict=True):
            kind = "beacon" if entry.value()["kind"] == "beacon" else "contribution"
            found.append(Contribution(2, kind, entry.name, digest))
    return tuple(found)


def verify(transcript: Transcript, system: ConstraintSystem | None, arithmetic: Arithmetic, draw: Draw, say: Say) -> Report:
    """CeremonyError, naming the fault, unless the transcript is right; phase 2 needs the circuit."""
    phase1.check(transcript, arithmetic, draw, say)
    key = None
    if transcript.subject is not None:
        if system is None:
            raise CeremonyError("a transcript of phase 2 is checked against its circuit; name it with --circuit")
        phase2.check(transcript, system, arithmetic, draw, say)
        if transcript.deltas:
            key = verifying_key(transcript)
    return Report(contributions_of(transcript), transcript.tip, transcript.final, key)


def verifying_key(transcript: Transcript) -> VerifyingKey:
    """CeremonyError when the key would accept forgeries (gamma = delta) or holds no valid points."""
    sections = transcript.sections | {"alpha1": transcript.sections["alpha1"][: GROUP1.size], "gamma2": _GAMMA2}
    names = ("alpha1", "beta2", "gamma2", "delta2", "IC")
    try:
        return VerifyingKey.from_bytes(b"".join(sections[name] for name in names))
    except UnsafeKeyError as error:
        raise CeremonyError(f"this ceremony gives no safe keys: {error}") from error


_GAMMA2 = bytes_of(GROUP2, [GROUP2.generator])


def key_bytes(transcript: Transcript, system: ConstraintSystem) -> bytes:
    """The proving-key file of a final transcript; CeremonyError for one that is not final."""
    if not transcript.final:
        raise CeremonyError("this ceremony is not final, so it has no keys yet; apply a beacon with finalise")
    verifying_key(transcript)
    points = transcript.sections | {
        "alpha1": transcript.sections["alpha1"][: GROUP1.size],
        "beta1": transcript.sections["beta1"][: GROUP1.size],
        "gamma2": _GAMMA2,
    }
    return key_file_bytes(transcript.circuit.header, points, system_bytes(system))


def require_successor(transcript: Transcript, earlier: Transcript) -> None:
    """CeremonyError unless the transcript is the earlier one with contributions added and nothing else changed."""
    same = (transcript.log2, transcript.origin, transcript.subject) == (earlier.log2, earlier.origin, earlier.subject)
    kept = transcript.taus[: len(earlier.taus)] == earlier.taus and transcript.deltas[: len(earlier.deltas)] == earlier.deltas
    if not same or not kept:
        raise CeremonyError("this file does not continue the earlier one: its history is another; refuse this file")
    added = len(transcript.taus) + len(transcript.deltas) - len(earlier.taus) - len(earlier.deltas)
    if not added:
        raise CeremonyError("this file adds no contribution to the earlier one; ask for the right file")
    if transcript.subject is not None:
        for name, data in earlier.sections.items():
            if name not in CHANGING and transcript.sections[name] != data:
                raise CeremonyError(f"a contribution changed {name}, which none may change; refuse this file")


def require_hash(report: Report, digest: bytes) -> None:
    """CeremonyError unless some party's hash is this one: how a party finds its contribution again."""
    if all(contribution.hash != digest for contribution in report.contributions):
        raise CeremonyError(f"no contribution has the hash {digest.hex()}; it was left out, so refuse this file")
