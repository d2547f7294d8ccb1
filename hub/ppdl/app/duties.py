"""What a validator signs for a learning round: which blobs it holds, the aggregate it leads with, its word on another's.

Rules: each names the model and the round (and attempt), so that it counts nowhere else; form is checked here, everything that
depends on the chain's state where it is admitted (`availability`, `verdicts`).
Not here: who makes them (`hub.learning.attendant`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from hub.ppdl.app.round_state import MAX_REASON
from openmg.learning.blobs import MAX_RESULT_BYTES
from openmg.learning.plan import MAX_ATTEMPTS, MAX_DEVICES
from openmg.messages.learning import names_round
from openmg.units import HASH_BYTES

MAX_BITMAP_BYTES = MAX_DEVICES // 8
MAX_REASONS = 8
"""Kinds of rejection that one rule may give."""


def bitmap_of(marks: Sequence[bool]) -> bytes:
    """Bit i, least significant first, is marks[i]; as many bytes as they need."""
    value = sum(1 << index for index, mark in enumerate(marks) if mark)
    return value.to_bytes((len(marks) + 7) // 8, "little")


def marks_of(bitmap: bytes, count: int) -> list[bool]:
    """Inverse of `bitmap_of`. Raises ValueError for another length or a bit beyond `count`."""
    value = int.from_bytes(bitmap, "little")
    if len(bitmap) != (count + 7) // 8 or value >> count:
        raise ValueError(f"a bitmap of {len(bitmap)} bytes does not fit {count} devices")
    return [bool(value >> index & 1) for index in range(count)]


@dataclass(frozen=True)
class Availability:
    """Blobs that this validator holds and matched to their commits; bit i (least significant first) is commit i."""

    PURPOSE: ClassVar[str] = "ppdl-availability"
    model: bytes
    round: int
    present: bytes
    malformed: bytes

    def __post_init__(self) -> None:
        sizes = len(self.present), len(self.malformed)
        if not names_round(self.model, self.round) or sizes[0] != sizes[1] or sizes[0] > MAX_BITMAP_BYTES:
            raise ValueError(
                f"an availability vote has a model, a round and two bitmaps of equal length, at most {MAX_BITMAP_BYTES} bytes"
            )
        if any(a & b for a, b in zip(self.present, self.malformed, strict=True)):
            raise ValueError("an availability vote calls a blob good or malformed, not both")


@dataclass(frozen=True)
class Found:
    """Devices that the aggregation rule left out or found far off for one reason; bit i is included device i."""

    reason: str
    devices: bytes

    def __post_init__(self) -> None:
        if not 1 <= len(self.reason) <= MAX_REASON or not self.reason.isascii() or len(self.devices) > MAX_BITMAP_BYTES:
            raise ValueError(f"a finding has a reason of 1 to {MAX_REASON} ASCII characters and a bitmap of devices")


@dataclass(frozen=True)
class AggregateProposal:
    """The aggregate of the included set: int32 little-endian master and momentum, and whom the rule capped or rejected.

    Devices are bits over the included set in ascending order, so that a round of thousands fits one transaction.
    """

    PURPOSE: ClassVar[str] = "ppdl-aggregate"
    model: bytes
    round: int
    attempt: int
    master: bytes
    momentum: bytes
    hostile: int
    capped: bytes
    rejected: tuple[Found, ...]

    def __post_init__(self) -> None:
        counts = 0 <= self.attempt < MAX_ATTEMPTS and 0 <= self.hostile < MAX_DEVICES
        if not names_round(self.model, self.round) or not counts:
            raise ValueError("an aggregate has a model, a round, an attempt and a number of hostile devices")
        if len(self.master) != len(self.momentum) or len(self.master) + len(self.momentum) > MAX_RESULT_BYTES:
            raise ValueError(f"an aggregate has master and momentum of equal length, together at most {MAX_RESULT_BYTES} bytes")
        reasons = [found.reason for found in self.rejected]
        if len(self.capped) > MAX_BITMAP_BYTES or len(reasons) > MAX_REASONS or reasons != sorted(set(reasons)):
            raise ValueError(
                f"an aggregate has a bitmap of capped devices and at most {MAX_REASONS} reasons in ascending order"
            )


@dataclass(frozen=True)
class Verdict:
    """Whether this validator computed the very aggregate that the attempt's leader proposed."""

    PURPOSE: ClassVar[str] = "ppdl-verdict"
    model: bytes
    round: int
    attempt: int
    proposal_hash: bytes
    ok: bool

    def __post_init__(self) -> None:
        names = names_round(self.model, self.round) and len(self.proposal_hash) == HASH_BYTES
        if not names or not 0 <= self.attempt < MAX_ATTEMPTS:
            raise ValueError("a verdict has a model, a round, an attempt and the 32-byte hash of a proposal")
