"""What queries say about learning; read like the answers of `answers`, which names the paths. All but the list of models are
about one of them.

Devices are named by their pseudonym of the epoch (`reputation`), in a record by that of the record's epoch. `Duties` alone has
addresses; it is no answer but what a hub asks its own application, to fetch blobs and to vote.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hub.ppdl.app.governance import set_at
from hub.ppdl.app.learning_env import LearningEnv
from hub.ppdl.app.learning_rounds import phase_blocks
from hub.ppdl.app.learning_view import LearningView
from hub.ppdl.app.private_answers import OpenPrivate, PrivacyShown, open_private, privacy_shown
from hub.ppdl.app.private_rounds import participants
from hub.ppdl.app.reputation import epoch_of, pseudonym
from hub.ppdl.app.round_state import BlobVote, Commit, Model, Rejection, RoundRecord, WrongAggregate
from hub.ppdl.app.state import Env, State
from hub.ppdl.app.verdicts import leader_of
from openmg.learning.plan import LearningPlan
from openmg.messages.learning import PHASE_AGGREGATE, PHASE_COMMITTEE

ROUNDS_SHOWN = 32
REJECTED_SHOWN = 64
"""Of one round: 32 rounds of them stay within one message."""


@dataclass(frozen=True)
class ListedModel:
    """A model of the chain: its short name, by which the other paths ask for it, its id, and where its rounds are."""

    name: bytes
    model_id: str
    quantity: str
    model_hash: bytes
    round: int
    phase: str
    completed: int
    registered: int


@dataclass(frozen=True)
class ModelsAnswer:
    """All models of the chain as of `height`; vouched answers are made with the first."""

    PURPOSE: ClassVar[str] = "query"
    height: int
    models: tuple[ListedModel, ...]


@dataclass(frozen=True)
class ModelAnswer:
    """What meters are told (`openmg.messages.learning.ModelNotice`). `plan`: bytes of a LearningPlan."""

    PURPOSE: ClassVar[str] = "query"
    round: int
    phase: str
    height: int
    opened_height: int
    phase_end_height: int
    model_hash: bytes
    parameters: bytes
    committee: tuple[bytes, ...]
    candidate_hash: bytes
    candidate: bytes
    plan: bytes


@dataclass(frozen=True)
class RoundAnswer:
    """The open round: its phase ends at `phase_end_height` or, once nothing more can change it, earlier.

    participants: pseudonyms of the devices that committed. expected: how many may. included: once the blobs are decided.
    """

    PURPOSE: ClassVar[str] = "query"
    round: int
    phase: str
    height: int
    opened_height: int
    phase_height: int
    phase_end_height: int
    void_height: int
    attempt: int
    completed: int
    refused: int
    voided: int
    registered: int
    min_participants: int
    expected: int
    participants: tuple[bytes, ...]
    included: int
    committee: int
    ballots: int
    privacy: PrivacyShown


@dataclass(frozen=True)
class ShownRound:
    """A `RoundRecord` with its lists of devices counted; `rejected` holds the first REJECTED_SHOWN, by pseudonym."""

    number: int
    opened_height: int
    closed_height: int
    base_hash: bytes
    model_hash: bytes
    outcome: str
    participants: int
    included: int
    rejected: tuple[Rejection, ...]
    hostile: int
    capped: int
    attempts: int
    wrong_leaders: tuple[bytes, ...]
    committee: int
    ballots: int
    worse: int
    epsilon_micro: int


@dataclass(frozen=True)
class RoundsAnswer:
    PURPOSE: ClassVar[str] = "query"
    rounds: tuple[ShownRound, ...]


@dataclass(frozen=True)
class Standing:
    """A device by pseudonym, its score in thousandths, and whether it may not commit in the open round."""

    device: bytes
    score_milli: int
    left_out: bool


@dataclass(frozen=True)
class ReputationAnswer:
    """Devices whose reputation is not full, in ascending order of pseudonyms."""

    PURPOSE: ClassVar[str] = "query"
    epoch: int
    devices: tuple[Standing, ...]


@dataclass(frozen=True)
class WrongAnswer:
    """Wrong aggregates on record, oldest first."""

    PURPOSE: ClassVar[str] = "query"
    wrong: tuple[WrongAggregate, ...]


@dataclass(frozen=True)
class Duties:
    """What a validator has to do now: the phase, commits and votes, whose turn it is, what is proposed and who spoke.

    `private`: what opens the sum of a private round, in the aggregate's phase.
    `leader` is empty outside the aggregate's phase, `proposal_hash` without a proposal. `validators`: set of height + 1.
    `registered`: number of devices that learn the model.
    """

    height: int
    round: int
    phase: str
    phase_height: int
    attempt: int
    model: Model
    plan: LearningPlan
    registered: int
    commits: tuple[Commit, ...]
    votes: tuple[BlobVote, ...]
    included: tuple[bytes, ...]
    leader: bytes
    proposal_hash: bytes
    spoken: tuple[bytes, ...]
    validators: tuple[bytes, ...]
    private: OpenPrivate | None

    @property
    def name(self) -> bytes:
        """The model's short name, which everything that is signed for it says."""
        return self.plan.spec.short_name


def shown_name(device: bytes, state: LearningView, env: LearningEnv) -> bytes:
    """The device's pseudonym in the epoch of the model's open round."""
    return pseudonym(epoch_of(state.round.number, env.plan), device, env.chain_id, env.name)


def latest(records: tuple[RoundRecord, ...], count: int) -> tuple[RoundRecord, ...]:
    """Round 0 and the latest others, `count` in all."""
    return records if len(records) <= count else (records[0], *records[1 - count :])


def _phase_end(state: LearningView, env: LearningEnv) -> int:
    return state.round.phase_height + phase_blocks(state.round.phase, env.plan)


def models_answer(state: State, height: int, env: Env) -> ModelsAnswer:
    """Every model of the chain, the first one first."""
    listed = [
        ListedModel(
            name=known.name,
            model_id=known.plan.spec.model_id,
            quantity=known.plan.spec.quantity,
            model_hash=learning.model.model_hash,
            round=learning.round.number,
            phase=learning.round.phase,
            completed=learning.round.completed,
            registered=len(known.devices),
        )
        for learning, known in zip(state.models, env.learning, strict=True)
    ]
    return ModelsAnswer(height, tuple(listed))


def model_answer(state: LearningView, height: int, env: LearningEnv) -> ModelAnswer:
    """The model and, in the committee's phase, its candidate."""
    now, model = state.round, state.model
    judged = state.candidates[0].model if now.phase == PHASE_COMMITTEE else None
    return ModelAnswer(
        round=now.number,
        phase=now.phase,
        height=height,
        opened_height=now.opened_height,
        phase_end_height=_phase_end(state, env),
        model_hash=model.model_hash,
        parameters=model.master,
        committee=now.committee,
        candidate_hash=judged.model_hash if judged else b"",
        candidate=judged.master if judged else b"",
        plan=env.plan.encode(),
    )


def round_answer(state: LearningView, height: int, env: LearningEnv) -> RoundAnswer:
    """How far the open round is."""
    plan, now = env.plan, state.round
    return RoundAnswer(
        round=now.number,
        phase=now.phase,
        height=height,
        opened_height=now.opened_height,
        phase_height=now.phase_height,
        phase_end_height=_phase_end(state, env),
        void_height=now.opened_height + plan.max_round_blocks,
        attempt=now.attempt,
        completed=now.completed,
        refused=now.refused,
        voided=now.voided,
        registered=len(env.devices),
        min_participants=plan.min_participants,
        expected=len(env.devices) - len(now.committee) - len(now.left_out),
        participants=tuple(sorted(shown_name(device, state, env) for device in participants(state))),
        included=len(now.included),
        committee=len(now.committee),
        ballots=len(state.ballots),
        privacy=privacy_shown(state, plan),
    )


def rounds_answer(state: LearningView, env: LearningEnv) -> RoundsAnswer:
    """The latest rounds and round 0."""
    return RoundsAnswer(tuple(_shown(record, env) for record in latest(state.records, ROUNDS_SHOWN)))


def _shown(record: RoundRecord, env: LearningEnv) -> ShownRound:
    epoch = epoch_of(record.number, env.plan)
    rejected = record.rejected[:REJECTED_SHOWN]
    return ShownRound(
        number=record.number,
        opened_height=record.opened_height,
        closed_height=record.closed_height,
        base_hash=record.base_hash,
        model_hash=record.model_hash,
        outcome=record.outcome,
        participants=len(record.participants),
        included=len(record.included),
        rejected=tuple(Rejection(pseudonym(epoch, item.device, env.chain_id, env.name), item.reason) for item in rejected),
        hostile=record.hostile,
        capped=len(record.capped),
        attempts=record.attempts,
        wrong_leaders=record.wrong_leaders,
        committee=record.committee,
        ballots=record.ballots,
        worse=record.worse,
        epsilon_micro=record.epsilon_micro,
    )


def reputation_answer(state: LearningView, env: LearningEnv) -> ReputationAnswer:
    """Who lost reputation, by pseudonym."""
    out = state.round.left_out
    standings = [Standing(shown_name(s.device, state, env), s.score_milli, s.device in out) for s in state.scores]
    return ReputationAnswer(epoch_of(state.round.number, env.plan), tuple(sorted(standings, key=lambda item: item.device)))


def duties_of(state: LearningView, height: int, env: LearningEnv) -> Duties:
    """What validators have to do for the open round."""
    now, span = state.round, set_at(state, height + 1)
    assert span is not None  # the set of the next block is always remembered
    leading = now.phase == PHASE_AGGREGATE
    return Duties(
        height=height,
        round=now.number,
        phase=now.phase,
        phase_height=now.phase_height,
        attempt=now.attempt,
        model=state.model,
        plan=env.plan,
        registered=len(env.devices),
        commits=state.commits,
        votes=state.blob_votes,
        included=now.included,
        leader=leader_of(now.number, now.attempt, span.addresses) if leading else b"",
        proposal_hash=state.candidates[0].proposal_hash if leading and state.candidates else b"",
        spoken=tuple(vote.validator for vote in state.verdicts),
        validators=span.addresses,
        private=open_private(state, env) if leading else None,
    )
