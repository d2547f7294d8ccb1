"""The learning sections of the agreed state: a model, its open round with what its phases collected, what closed rounds left.

Rules: as in `state`: frozen values, lists sorted by their key, each with a bound. Master and momentum of a candidate stand in a
section of their own, so that a verdict or a ballot does not hash them again.
Not here: how any of it changes (`learning_rounds` and the files it names).
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.ppdl.app.private_state import PrivateRound

MAX_RECORDS = 512
"""Closed rounds kept in the state; round 0 always stays, it is what later losses are compared with."""
EVALUATED_ROUNDS = 4
"""Rounds whose evaluations are kept one by one, the open one included; older rounds keep sum and count."""
MAX_WRONG = 256
"""Wrong aggregates on record; the oldest make room."""

OPEN = "open"
LEARNT = "learnt"
UNJUDGED = "learnt_unjudged"
"""Accepted although fewer ballots came than the plan asks for: absent members never hold a round up."""
REFUSED = "refused"
VOID_COMMITS = "void_commits"
VOID_BLOBS = "void_blobs"
VOID_AGGREGATE = "void_aggregate"
OUTCOMES = (OPEN, LEARNT, UNJUDGED, REFUSED, VOID_COMMITS, VOID_BLOBS, VOID_AGGREGATE)

MALFORMED = "malformed"
NOT_REVEALED = "not_revealed"
"""Reasons of the chain itself; the aggregation rule adds its own (`openmg.learning.aggregate`)."""
MAX_REASON = 32


@dataclass(frozen=True, slots=True)
class Model:
    """Master model and server momentum: int32 little-endian in units of 2^-20."""

    master: bytes
    momentum: bytes
    model_hash: bytes


@dataclass(frozen=True, slots=True)
class Round:
    """The open round: its phase, after which height the phase began, and who may do what.

    `attempt` counts leaders of the aggregate from 0. `committee` judges, `left_out` may not commit for its reputation.
    `included` and `malformed` are set when the blobs' phase ends. completed, refused, voided: rounds before this one.
    """

    number: int
    opened_height: int
    phase: str
    phase_height: int
    attempt: int
    committee: tuple[bytes, ...]
    left_out: tuple[bytes, ...]
    included: tuple[bytes, ...]
    malformed: tuple[bytes, ...]
    completed: int
    refused: int
    voided: int


@dataclass(frozen=True, slots=True)
class Commit:
    """A device's commitment to its blob of the open round."""

    device: bytes
    commitment: bytes


@dataclass(frozen=True, slots=True)
class BlobVote:
    """A validator's latest word on the blobs: bit i of a bitmap is commit i in ascending order of devices."""

    validator: bytes
    height: int
    present: bytes
    malformed: bytes


@dataclass(frozen=True, slots=True)
class Rejection:
    """A device whose update did not count, or was found far off, and why."""

    device: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the leader of an attempt says the aggregate is."""

    attempt: int
    leader: bytes
    proposal_hash: bytes
    model: Model
    hostile: int
    capped: tuple[bytes, ...]
    rejected: tuple[Rejection, ...]
    usable: bool = True
    """False when it says that the round's sum is not to be used; the model is then the old one."""


@dataclass(frozen=True, slots=True)
class VerdictVote:
    """A validator's word on the candidate; the leader's own is its proposal."""

    validator: bytes
    ok: bool


@dataclass(frozen=True, slots=True)
class BallotVote:
    """A committee member's losses of base and candidate, in millionths."""

    device: bytes
    base_loss_micro: int
    candidate_loss_micro: int


@dataclass(frozen=True, slots=True)
class Loss:
    """One device's loss of the model that a round started from, in millionths."""

    round: int
    device: bytes
    loss_micro: int


@dataclass(frozen=True, slots=True)
class Score:
    """The reputation of a device that does not have the full one, in thousandths."""

    device: bytes
    score_milli: int


@dataclass(frozen=True, slots=True)
class WrongAggregate:
    """A proposal that was voted down: its leader is proven wrong to f + 1 validators."""

    round: int
    attempt: int
    validator: bytes
    proposal_hash: bytes
    height: int


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """A round: what it started from and, once closed, what came out.

    `base_hash` names the model at the start, `model_hash` the one at the end (equal unless the outcome is learnt).
    `participants` committed, `included` were aggregated. `ballots` were cast, `worse` of them found the candidate worse.
    `loss_sum_micro` and `loss_count` add up the evaluations of the model at the start. `closed_height` is 0 while open.
    `epsilon_micro`: the privacy spent by this round and all before it, in millionths; 0 without noise.
    """

    number: int
    opened_height: int
    closed_height: int
    base_hash: bytes
    model_hash: bytes
    outcome: str
    participants: tuple[bytes, ...]
    included: tuple[bytes, ...]
    rejected: tuple[Rejection, ...]
    hostile: int
    capped: tuple[bytes, ...]
    attempts: int
    wrong_leaders: tuple[bytes, ...]
    committee: int
    ballots: int
    worse: int
    loss_sum_micro: int
    loss_count: int
    epsilon_micro: int = 0


def opening_record(number: int, opened_height: int, base_hash: bytes) -> RoundRecord:
    """The record of a round that has just opened."""
    return RoundRecord(number, opened_height, 0, base_hash, base_hash, OPEN, (), (), (), 0, (), 0, (), 0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Learning:
    """All sections of one model; `state` fixes their order in the hash."""

    model: Model
    round: Round
    commits: tuple[Commit, ...]
    blob_votes: tuple[BlobVote, ...]
    candidates: tuple[Candidate, ...]  # at most one
    verdicts: tuple[VerdictVote, ...]
    ballots: tuple[BallotVote, ...]
    losses: tuple[Loss, ...]
    records: tuple[RoundRecord, ...]
    scores: tuple[Score, ...]
    wrong_aggregates: tuple[WrongAggregate, ...]
    private: tuple[PrivateRound, ...]  # one for a plan that hides updates, else none
