"""Rounds of learning as rules of the chain: the phases, when each ends, and what a closed round leaves behind.

    commit     devices commit to an update             ends commit_blocks after it began, with min_participants commits;
                                                       else lasts as long again, until max_round_blocks make the round void
    reveal     validators say which blobs they hold    ends after reveal_blocks; void with fewer than min_participants included
    aggregate  a leader proposes, the others check     an attempt ends after aggregate_blocks; void after max_attempts
    committee  devices that did not train judge        ends after committee_blocks
A plan that hides updates has four more (`private_rounds`), and may come to an end.
The next round opens with the block that closed the one before. All but the first phase also end as soon as nothing can change
their outcome any more: every commit is included or malformed, the proposal is accepted or voted down, every member has
voted. The first one always lasts its length, which sets the pace of learning. Nothing waits for a meter or a validator.
Rules: pure; what is included, what is accepted and what is refused follow from the blocks alone. No replica computes an
aggregate here: it is proposed in a transaction and judged by votes (`verdicts`), because its cost grows with the square of
the devices and a block must never wait for it.
Not here: which transaction enters (`commits`, `availability`, `verdicts`, `committee`, `evaluations`), scores (`reputation`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hub.ppdl.app import availability, committee, private_rounds, reputation, verdicts
from hub.ppdl.app.governance import set_at
from hub.ppdl.app.learning_env import LearningEnv
from hub.ppdl.app.learning_view import LearningView
from hub.ppdl.app.private_state import BAD_DEALING, VOID_SUM
from hub.ppdl.app.round_state import (
    EVALUATED_ROUNDS,
    LEARNT,
    MALFORMED,
    MAX_RECORDS,
    MAX_WRONG,
    NOT_REVEALED,
    REFUSED,
    UNJUDGED,
    VOID_AGGREGATE,
    VOID_BLOBS,
    VOID_COMMITS,
    Candidate,
    Rejection,
    Round,
    RoundRecord,
    WrongAggregate,
    opening_record,
)
from openmg.learning.plan import LearningPlan
from openmg.messages.learning import PHASE_AGGREGATE, PHASE_COMMIT, PHASE_COMMITTEE, PHASE_REVEAL, PHASE_SPENT
from openmg.messages.private import STEP_PHASES


def phase_blocks(phase: str, plan: LearningPlan) -> int:
    """How many blocks a phase (of aggregate: an attempt) lasts at most."""
    return {
        PHASE_COMMIT: plan.commit_blocks,
        PHASE_REVEAL: plan.reveal_blocks,
        PHASE_AGGREGATE: plan.aggregate_blocks,
        PHASE_COMMITTEE: plan.committee_blocks,
        PHASE_SPENT: 0,
        **dict.fromkeys(STEP_PHASES, plan.reveal_blocks),
    }[phase]


def end_block(state: LearningView, height: int, env: LearningEnv) -> LearningView:
    """The state after the block's transactions: the phase goes on, the next one begins, or the round closes."""
    span = set_at(state, height)
    assert span is not None  # the set of the block that is executed is always remembered
    now, plan = state.round, env.plan
    if now.phase == PHASE_SPENT:
        return state
    due = height - now.phase_height >= phase_blocks(now.phase, plan)
    if now.phase == PHASE_COMMIT:
        return _end_commits(state, height, env) if due else state
    if now.phase in STEP_PHASES:
        state, void = private_rounds.after_block(state, height, due, plan)
        return _close(state, height, env, void) if void else state
    if now.phase == PHASE_REVEAL:
        return _end_reveal(state, height, env, span.addresses, due)
    if now.phase == PHASE_AGGREGATE:
        return _end_attempt(state, height, env, span.addresses, due)
    whole = len(state.ballots) == len(now.committee)
    return _judge(state, height, env) if due or whole else state


def _phase(state: LearningView, phase: str, height: int, **changes: object) -> LearningView:
    return replace(state, round=replace(state.round, phase=phase, phase_height=height, **changes))  # type: ignore[arg-type]


def _end_commits(state: LearningView, height: int, env: LearningEnv) -> LearningView:
    plan, now = env.plan, state.round
    if len(state.commits) >= plan.min_participants:
        return private_rounds.begin(state, height, env) if state.private else _phase(state, PHASE_REVEAL, height)
    if height - now.opened_height >= plan.max_round_blocks:
        return _close(state, height, env, VOID_COMMITS)
    return _phase(state, PHASE_COMMIT, height)


def _end_reveal(state: LearningView, height: int, env: LearningEnv, validators: Sequence[bytes], due: bool) -> LearningView:
    included, malformed = availability.decided_blobs(state, validators)
    if not due and len(included) + len(malformed) < len(state.commits):
        return state
    state = replace(state, round=replace(state.round, included=included, malformed=malformed))
    if len(included) < private_rounds.threshold_of(state, env.plan):
        return _close(state, height, env, VOID_BLOBS)
    return private_rounds.to_signing(state, height) if state.private else _phase(state, PHASE_AGGREGATE, height)


def _end_attempt(state: LearningView, height: int, env: LearningEnv, validators: Sequence[bytes], due: bool) -> LearningView:
    if verdicts.accepted(state, validators):
        if not state.candidates[0].usable:
            return _close(state, height, env, VOID_SUM)
        judging = _phase(state, PHASE_COMMITTEE, height)
        return judging if state.round.committee else _judge(judging, height, env)
    down = verdicts.voted_down(state, validators)
    if not down and not due:
        return state
    if down:
        state = _with_wrong(state, state.candidates[0], height)
    state = replace(state, candidates=(), verdicts=())
    attempt = state.round.attempt + 1
    if attempt >= env.plan.max_attempts:
        return _close(state, height, env, VOID_AGGREGATE)
    return _phase(state, PHASE_AGGREGATE, height, attempt=attempt)


def _with_wrong(state: LearningView, candidate: Candidate, height: int) -> LearningView:
    now = state.round
    wrong = WrongAggregate(now.number, candidate.attempt, candidate.leader, candidate.proposal_hash, height)
    return replace(state, wrong_aggregates=(*state.wrong_aggregates, wrong)[-MAX_WRONG:])


def _judge(state: LearningView, height: int, env: LearningEnv) -> LearningView:
    plan = env.plan
    if committee.refused(state, plan):
        return _close(state, height, env, REFUSED)
    return _close(state, height, env, LEARNT if committee.judged(state, plan) else UNJUDGED)


def _close(state: LearningView, height: int, env: LearningEnv, outcome: str) -> LearningView:
    """The state with the round's record, its model when it was learnt, the scores, and the next round open."""
    now, learnt = state.round, outcome in (LEARNT, UNJUDGED)
    model = state.candidates[0].model if learnt else state.model
    closed = _record(state, height, env.plan, outcome, model.model_hash)
    agreed = outcome not in (VOID_COMMITS, VOID_BLOBS)  # with no blobs at all the fault need not be the meters'
    seen = private_rounds.scored(closed) if agreed else replace(closed, rejected=())
    scores = reputation.scores_after(state.scores, seen, env.plan)
    state = replace(state, model=model, scores=scores)
    opening = replace(
        opening_round(state, now.number + 1, height, env),
        completed=now.completed + learnt,
        refused=now.refused + (outcome == REFUSED),
        voided=now.voided + (not learnt and outcome != REFUSED),
    )
    return private_rounds.stopped(_open(state, closed, opening), height, env.plan)


def opening_round(state: LearningView, number: int, height: int, env: LearningEnv) -> Round:
    """A round that opens after `height`, with its committee drawn."""
    plan, devices = env.plan, env.devices
    out = reputation.left_out(state.scores, devices, plan)
    eligible = (device for device in devices if device not in out)
    members = committee.draw_committee(number, state.model.model_hash, eligible, env.chain, plan)
    return Round(number, height, PHASE_COMMIT, height, 0, members, out, (), (), 0, 0, 0)


def _record(state: LearningView, height: int, plan: LearningPlan, outcome: str, new_hash: bytes) -> RoundRecord:
    now = state.round
    candidate = state.candidates[0] if state.candidates else None
    return replace(
        state.records[-1],
        closed_height=height,
        model_hash=new_hash,
        outcome=outcome,
        participants=private_rounds.participants(state),
        included=now.included,
        rejected=_rejections(state, outcome, plan),
        hostile=candidate.hostile if candidate else 0,
        capped=candidate.capped if candidate else (),
        attempts=now.attempt + (now.phase in (PHASE_AGGREGATE, PHASE_COMMITTEE)),
        wrong_leaders=tuple(item.validator for item in state.wrong_aggregates if item.round == now.number),
        committee=len(now.committee),
        ballots=len(state.ballots),
        worse=sum(committee.finds_worse(ballot, plan) for ballot in state.ballots),
        epsilon_micro=private_rounds.spent_so_far(state, plan),
    )


def _rejections(state: LearningView, outcome: str, plan: LearningPlan) -> tuple[Rejection, ...]:
    if outcome == VOID_COMMITS:
        return ()
    now = state.round
    good, bad = set(now.included), set(now.malformed)
    found = [
        Rejection(device, MALFORMED if device in bad else NOT_REVEALED)
        for device in private_rounds.participants(state)
        if device not in good
    ]
    by_rule = state.candidates[0].rejected if state.candidates else ()
    dealers = (Rejection(device, BAD_DEALING) for device in private_rounds.bad_dealers(state, outcome, plan))
    return tuple(sorted((*found, *by_rule, *dealers), key=lambda item: item.device))


def _open(state: LearningView, closed: RoundRecord, opening: Round) -> LearningView:
    """The state with the closed round's record and the next round open; the oldest records but round 0 make room."""
    record = opening_record(opening.number, opening.opened_height, state.model.model_hash)
    records = (*state.records[:-1], closed, record)
    if len(records) > MAX_RECORDS:
        records = (records[0], *records[len(records) - MAX_RECORDS + 1 :])
    oldest = opening.number - EVALUATED_ROUNDS
    losses = tuple(loss for loss in state.losses if loss.round > oldest)
    return replace(
        state,
        round=opening,
        commits=(),
        blob_votes=(),
        candidates=(),
        verdicts=(),
        ballots=(),
        losses=losses,
        records=records,
        private=private_rounds.emptied(state.private),
    )
