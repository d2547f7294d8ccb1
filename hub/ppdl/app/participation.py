"""Who does what in a round, device by device: the open one as it goes, and the last one that closed.

Rules: devices stand under their pseudonym of the round's epoch (`reputation`), in ascending order of it; at most SEATS_SHOWN,
with a rejection before the others. A rejection by the aggregation rule counts once the validators have accepted the proposal
that names it. Nothing here is agreed on or hashed: it says what the state already holds.
Not here: how many did each thing (`round_answers`), when a phase ends (`learning_rounds`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from hub.ppdl.app.availability import decided_blobs
from hub.ppdl.app.committee import finds_worse
from hub.ppdl.app.governance import set_at
from hub.ppdl.app.learning_env import LearningEnv
from hub.ppdl.app.learning_view import LearningView
from hub.ppdl.app.private_rounds import participants
from hub.ppdl.app.reputation import epoch_of, pseudonym
from hub.ppdl.app.round_state import MALFORMED, NOT_REVEALED, Rejection, RoundRecord
from hub.ppdl.app.verdicts import leader_of
from openmg.messages.learning import PHASE_AGGREGATE, PHASE_COMMITTEE, PHASE_REVEAL
from openmg.messages.private import PHASE_SIGN, PHASE_UNMASK

SEATS_SHOWN = 64
"""Of one round: two rounds of four models stay within a tenth of the console's section."""

WAITING = "waiting"
"""May commit and has not; in a closed round: did not train (a judge, or silent)."""
LEFT_OUT = "left_out"
COMMITTED = "committed"
DEALT = "dealt"
MASKED = "masked"
REVEALED = "revealed"
INCLUDED = "included"
REJECTED = "rejected"
JUDGE = "judge"
FOUND_GOOD = "found_good"
FOUND_WORSE = "found_worse"
SEAT_STATES = (
    WAITING,
    LEFT_OUT,
    COMMITTED,
    DEALT,
    MASKED,
    REVEALED,
    INCLUDED,
    REJECTED,
    JUDGE,
    FOUND_GOOD,
    FOUND_WORSE,
)
CAPPED = "capped"
"""Reason beside INCLUDED: the update counted, shortened to the norm cap."""

_DECIDED = (PHASE_SIGN, PHASE_UNMASK, PHASE_AGGREGATE, PHASE_COMMITTEE)


@dataclass(frozen=True)
class Seat:
    """A device by pseudonym, one of SEAT_STATES, and why it was rejected (else empty, or CAPPED)."""

    device: bytes
    state: str
    reason: str


@dataclass(frozen=True)
class ParticipationAnswer:
    """The open round's devices, its leader's proposal and ballots; `last_*`: of the last closed round, none before one closed.

    `leader` is empty outside the aggregate's phase. agreed, disagreed: words on the proposal, the leader's own included;
    `validators`: how many may give one. `worse`: ballots that found the candidate worse. `masked`: updates promised under a
    mask, in a private round. `revealed`: updates that a quorum holds or found malformed. Pseudonyms change with
    `next_epoch_round`.
    """

    PURPOSE: ClassVar[str] = "query"
    round: int
    masked: int
    revealed: int
    max_attempts: int
    leader: bytes
    agreed: int
    disagreed: int
    validators: int
    worse: int
    next_epoch_round: int
    seats: tuple[Seat, ...]
    last_round: int
    last_seats: tuple[Seat, ...]


def participation_answer(state: LearningView, height: int, env: LearningEnv) -> ParticipationAnswer:
    """Who does what in the open round, and did in the last closed one."""
    now, plan = state.round, env.plan
    span = set_at(state, height + 1)
    assert span is not None  # the set of the next block is always remembered
    included, malformed = _blobs(state, span.addresses)
    last = next((record for record in reversed(state.records) if record.closed_height), None)
    return ParticipationAnswer(
        round=now.number,
        masked=len(state.commits) if _has_members(state) else 0,
        revealed=len(included) + len(malformed),
        max_attempts=plan.max_attempts,
        leader=leader_of(now.number, now.attempt, span.addresses) if now.phase == PHASE_AGGREGATE else b"",
        agreed=sum(vote.ok for vote in state.verdicts),
        disagreed=sum(not vote.ok for vote in state.verdicts),
        validators=len(span.addresses),
        worse=sum(finds_worse(ballot, plan) for ballot in state.ballots),
        next_epoch_round=(epoch_of(now.number, plan) + 1) * plan.epoch_rounds,
        seats=_seats(_open(state, env, included, malformed), env.devices, now.number, env),
        last_round=last.number if last else 0,
        last_seats=_seats(_closed(last), env.devices, last.number, env) if last else (),
    )


def _has_members(state: LearningView) -> bool:
    """Whether `commits` are those to masked updates: before a private round has members they are those of its commit phase."""
    return bool(state.private and state.private[0].members)


def _blobs(state: LearningView, validators: tuple[bytes, ...]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """(held, malformed) devices by the votes so far; once that phase is over, as it was decided."""
    now = state.round
    if now.phase == PHASE_REVEAL:
        return decided_blobs(state, validators)
    return now.included, now.malformed


Said = tuple[str, str]
"""State and reason of a device."""


def _open(state: LearningView, env: LearningEnv, included: Iterable[bytes], malformed: Iterable[bytes]) -> Mapping[bytes, Said]:
    """What is said of each device that is not WAITING; what comes later overrides what came before."""
    now = state.round
    said: dict[bytes, Said] = dict.fromkeys(now.left_out, (LEFT_OUT, ""))
    said |= dict.fromkeys(participants(state), (COMMITTED, ""))
    if state.private:
        said |= {dealt.device: (DEALT, "") for dealt in state.private[0].dealings}
        if _has_members(state):
            said |= {commit.device: (MASKED, "") for commit in state.commits}
    decided = now.phase in _DECIDED
    if decided:
        said |= dict.fromkeys(participants(state), (REJECTED, NOT_REVEALED))
    said |= dict.fromkeys(included, (INCLUDED if decided else REVEALED, ""))
    said |= dict.fromkeys(malformed, (REJECTED, MALFORMED))
    if now.phase == PHASE_COMMITTEE:
        candidate = state.candidates[0]
        said |= _found(candidate.capped, candidate.rejected)
    said |= dict.fromkeys(now.committee, (JUDGE, ""))
    for ballot in state.ballots:
        said[ballot.device] = (FOUND_WORSE if finds_worse(ballot, env.plan) else FOUND_GOOD, "")
    return said


def _closed(record: RoundRecord) -> Mapping[bytes, Said]:
    said = dict.fromkeys(record.participants, (COMMITTED, ""))
    return said | dict.fromkeys(record.included, (INCLUDED, "")) | _found(record.capped, record.rejected)


def _found(capped: Iterable[bytes], rejected: Iterable[Rejection]) -> dict[bytes, Said]:
    return dict.fromkeys(capped, (INCLUDED, CAPPED)) | {item.device: (REJECTED, item.reason) for item in rejected}


def _seats(said: Mapping[bytes, Said], devices: Iterable[bytes], number: int, env: LearningEnv) -> tuple[Seat, ...]:
    # Not sorted by pseudonym before the cut: of 4,096 devices that would hash each at every look.
    order = sorted(devices, key=lambda device: said.get(device, (WAITING, ""))[0] != REJECTED)[:SEATS_SHOWN]
    epoch = epoch_of(number, env.plan)
    seats = (Seat(pseudonym(epoch, d, env.chain_id, env.name), *said.get(d, (WAITING, ""))) for d in order)
    return tuple(sorted(seats, key=lambda seat: seat.device))
