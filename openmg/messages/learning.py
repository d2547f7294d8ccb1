"""Learning: what hubs tell meters of the open round, and what a meter answers in each of its phases.

Parameters travel as little-endian integers: the master model int32 at 2^-20, an update int16 at 2^-18 inside its blob
(`openmg.learning.blobs`). A chain agrees on several models, and each has rounds of its own, numbered from 0: so every
message says by `model` (`ForecastSpec.short_name`) which one it is about. What a device signs names model, round and
weights, so that it counts nowhere else.
Not here: what validators sign for a round (`hub.ppdl.app.duties`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from openmg.learning.blobs import MAX_BLOB_BYTES
from openmg.learning.plan import MAX_COMMITTEE
from openmg.units import ADDRESS_BYTES, HASH_BYTES, MODEL_BYTES

PHASE_COMMIT, PHASE_REVEAL, PHASE_AGGREGATE, PHASE_COMMITTEE = "commit", "reveal", "aggregate", "committee"
PHASE_SPENT = "spent"
"""The privacy budget is used up: this round takes no commits and none follows it."""
PHASES = (PHASE_COMMIT, PHASE_REVEAL, PHASE_AGGREGATE, PHASE_COMMITTEE, PHASE_SPENT)
MAX_LOSS_MICRO = 2**48 - 1


def names_round(model: bytes, number: int) -> bool:
    """Whether this may be a round of a model."""
    return len(model) == MODEL_BYTES and number >= 0


@dataclass(frozen=True)
class ModelNotice:
    """The open round as the chain agreed on it at `height` (retained, unsigned: the hashes decide).

    The phase ends at `phase_end_height` or, once nothing more can change it, earlier. `committee`: devices that judge this
    round instead of training for it. The candidate is empty but in the committee's phase.
    """

    PURPOSE: ClassVar[str] = "model"
    model: bytes
    round: int
    phase: str
    height: int
    phase_end_height: int
    model_hash: bytes
    parameters: bytes  # int32 little-endian
    committee: tuple[bytes, ...]
    candidate_hash: bytes
    candidate: bytes  # int32 little-endian
    plan: bytes  # LearningPlan.encode()

    def __post_init__(self) -> None:
        if not names_round(self.model, self.round) or len(self.model_hash) != HASH_BYTES or len(self.parameters) % 4:
            raise ValueError("a model notice has a model and round, a 32-byte hash and int32 parameters")
        if self.phase not in PHASES or len(self.committee) > MAX_COMMITTEE:
            raise ValueError(
                f"a model notice has one of the phases {', '.join(PHASES)} and a committee of at most {MAX_COMMITTEE}"
            )
        if any(len(device) != ADDRESS_BYTES for device in self.committee):
            raise ValueError("a model notice names its committee by 20-byte addresses")
        judged = HASH_BYTES if self.phase == PHASE_COMMITTEE else 0
        if len(self.candidate_hash) != judged or len(self.candidate) % 4 or bool(self.candidate) != bool(judged):
            raise ValueError("a model notice has a candidate, with its hash, in the committee's phase only")


@dataclass(frozen=True)
class UpdateCommit:
    """A meter's promise of one update to the round's model. Signed by the device key."""

    PURPOSE: ClassVar[str] = "update-commit"
    model: bytes
    round: int
    base_hash: bytes
    commitment: bytes

    def __post_init__(self) -> None:
        if not names_round(self.model, self.round) or len(self.base_hash) != HASH_BYTES or len(self.commitment) != HASH_BYTES:
            raise ValueError("a commit has a model and round, a 32-byte base hash and a 32-byte commitment")


@dataclass(frozen=True)
class UpdateReveal:
    """The blob behind a commitment. Not signed: it is its device's when the commitment on the chain opens to it."""

    PURPOSE: ClassVar[str] = "update-reveal"
    model: bytes
    round: int
    blob: bytes

    def __post_init__(self) -> None:
        if not names_round(self.model, self.round) or not 1 <= len(self.blob) <= MAX_BLOB_BYTES:
            raise ValueError(f"a reveal has a model, a round and a blob of 1 to {MAX_BLOB_BYTES} bytes")


@dataclass(frozen=True)
class Ballot:
    """A committee member's losses (millionths) of base and candidate on windows nobody trains on. Signed by the device."""

    PURPOSE: ClassVar[str] = "ballot"
    model: bytes
    round: int
    candidate_hash: bytes
    base_loss_micro: int
    candidate_loss_micro: int

    def __post_init__(self) -> None:
        if not names_round(self.model, self.round) or len(self.candidate_hash) != HASH_BYTES:
            raise ValueError("a ballot has a model, a round and the 32-byte hash of a candidate")
        if not all(0 <= loss <= MAX_LOSS_MICRO for loss in (self.base_loss_micro, self.candidate_loss_micro)):
            raise ValueError("a ballot has losses in 0..2^48-1 millionths")


@dataclass(frozen=True)
class Evaluation:
    """Loss of the round's model on a window of this home that nobody trains on (millionths). Signed by the device."""

    PURPOSE: ClassVar[str] = "evaluation"
    model: bytes
    round: int
    model_hash: bytes
    loss_micro: int

    def __post_init__(self) -> None:
        names = names_round(self.model, self.round) and len(self.model_hash) == HASH_BYTES
        if not names or not 0 <= self.loss_micro <= MAX_LOSS_MICRO:
            raise ValueError("an evaluation has a model and round, a 32-byte hash and a loss in 0..2^48-1 millionths")
