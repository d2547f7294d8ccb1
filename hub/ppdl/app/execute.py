"""One transaction, and one block, as pure functions of the state.

Rules: a transaction either takes effect whole or raises; the caller keeps the old state then. The end of a block runs
after its transactions. Not here: files, hashes of the result (`app`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hub.ppdl.app import governance, inference, learning_rounds, offences, private_steps, slots
from hub.ppdl.app.availability import admit_availability
from hub.ppdl.app.commits import admit_commit
from hub.ppdl.app.committee import admit_ballot
from hub.ppdl.app.duties import AggregateProposal, Availability, Verdict
from hub.ppdl.app.evaluations import admit_evaluation
from hub.ppdl.app.learning_view import LearningView, OpenModel, model_at, model_named
from hub.ppdl.app.rejected import Rejected
from hub.ppdl.app.set_change import open_propose, open_vote
from hub.ppdl.app.state import Env, State
from hub.ppdl.app.transactions import (
    KIND_AGGREGATE,
    KIND_AVAILABILITY,
    KIND_BALLOT,
    KIND_COMMIT,
    KIND_DEALING,
    KIND_EVALUATION,
    KIND_EVIDENCE,
    KIND_INFERENCE,
    KIND_MASK,
    KIND_PROPOSE,
    KIND_SLOT_SUM,
    KIND_SURVIVORS,
    KIND_VERDICT,
    PRIVATE_KINDS,
    InvalidTransaction,
    decode_tx,
    open_evidence,
    open_inference,
    open_message,
    open_slot_sum,
)
from hub.ppdl.app.verdicts import admit_proposal, admit_verdict
from hub.ppdl.application import TxResult, ValidatorUpdate
from openmg.hashing import words
from openmg.messages.learning import Ballot, Evaluation, UpdateCommit
from openmg.messages.market import SlotLeavesNotice
from openmg.messages.secure import MaskCommit, ShareDealing, SurvivorSet, Unmasking


@dataclass(frozen=True, slots=True)
class Executed:
    """A block's outcome: the next state, the result of each transaction, the events, the slots' leaves and the changes of
    the validator set, all in order.
    """

    state: State
    results: tuple[TxResult, ...]
    events: tuple[bytes, ...]
    leaves: tuple[SlotLeavesNotice, ...]
    updates: tuple[ValidatorUpdate, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one transaction does. Of transactions with one `subject` only the first takes effect.

    `leaves`: of a slot that it records; the state holds their root.
    """

    state: State
    events: tuple[bytes, ...]
    subject: bytes
    leaves: tuple[SlotLeavesNotice, ...] = ()


def execute_tx(state: State, tx: bytes, height: int, env: Env) -> Outcome:
    """The transaction's outcome. Raises InvalidTransaction (form, signature) or Rejected (state)."""
    transaction = decode_tx(tx)
    kind, payload = transaction.kind, transaction.payload
    if kind in PRIVATE_KINDS:
        return _private_tx(state, kind, payload, env)
    if kind in _ROUND_KINDS:
        return _round_tx(state, kind, payload, height, env)
    if kind == KIND_SLOT_SUM:
        signed, reports = open_slot_sum(payload, env.chain_id)
        recorded = slots.record_slot_sum(state, signed, reports, env)
        subject = _subject(kind, signed.message.microgrid, signed.message.slot)
        return Outcome(recorded.state, recorded.events, subject, (recorded.leaves,))
    if kind == KIND_INFERENCE:
        return _answer(state, payload, height, env)
    if kind == KIND_EVIDENCE:
        evidence, signer = open_evidence(payload, env.chain_id, env.chain)
        state, event = offences.record_evidence(state, evidence, signer, height, env)
        return Outcome(state, (event,), _subject(kind, signer, evidence.height, evidence.view, int(evidence.kind)))
    if kind == KIND_PROPOSE:
        proposed = open_propose(payload, env.chain_id, env.chain)
        return Outcome(governance.propose(state, proposed, height), (), _subject(kind, proposed.proposal_hash))
    voted = open_vote(payload, env.chain_id, env.chain)
    return Outcome(governance.vote(state, voted, height), (), _subject(kind, voted.proposal_hash, voted.voter))


_ROUND_KINDS = (KIND_COMMIT, KIND_AVAILABILITY, KIND_AGGREGATE, KIND_VERDICT, KIND_BALLOT, KIND_EVALUATION)


def _round_tx(state: State, kind: str, payload: bytes, height: int, env: Env) -> Outcome:
    """What meters and validators say in a learning round: one subject for each sender, model and round."""
    chain_id = env.chain_id
    if kind == KIND_COMMIT:
        commit = open_message(UpdateCommit, payload, chain_id, kind)
        now = model_named(state, commit.message.model, env, kind)
        return _said(kind, now, admit_commit(now.view, commit, now.env), commit.message.round, commit.signer)
    if kind == KIND_BALLOT:
        ballot = open_message(Ballot, payload, chain_id, kind)
        now = model_named(state, ballot.message.model, env, kind)
        return _said(kind, now, admit_ballot(now.view, ballot, now.env), ballot.message.round, ballot.signer)
    if kind == KIND_EVALUATION:
        evaluation = open_message(Evaluation, payload, chain_id, kind)
        now = model_named(state, evaluation.message.model, env, kind)
        after = admit_evaluation(now.view, evaluation, now.env)
        return _said(kind, now, after, evaluation.message.round, evaluation.signer)
    if kind == KIND_AVAILABILITY:
        available = open_message(Availability, payload, chain_id, "availability")
        now = model_named(state, available.message.model, env, "availability")
        return _said(kind, now, admit_availability(now.view, available, height), available.message.round, available.signer)
    if kind == KIND_AGGREGATE:
        proposal = open_message(AggregateProposal, payload, chain_id, kind)
        now = model_named(state, proposal.message.model, env, kind)
        after = admit_proposal(now.view, proposal, height, now.env)
        return _said(kind, now, after, proposal.message.round, proposal.message.attempt)
    verdict = open_message(Verdict, payload, chain_id, kind)
    now = model_named(state, verdict.message.model, env, kind)
    names = verdict.message.round, verdict.message.attempt, verdict.signer
    return _said(kind, now, admit_verdict(now.view, verdict, height), *names)


def _said(kind: str, now: OpenModel, after: LearningView, *names: int | bytes) -> Outcome:
    return Outcome(now.with_view(after), (), _subject(kind, now.env.name, *names))


def _private_tx(state: State, kind: str, payload: bytes, env: Env) -> Outcome:
    """What meters do in a private round: one subject for each sender and round. The round's id says of which model it is."""
    chain_id = env.chain_id
    if kind == KIND_DEALING:
        dealing = open_message(ShareDealing, payload, chain_id, kind)
        now = private_steps.model_of_round(state, dealing.message.round_id, env, kind)
        after = private_steps.admit_dealing(now.view, dealing, payload, now.env)
        return _said(kind, now, after, now.view.round.number, dealing.signer)
    if kind == KIND_MASK:
        mask = open_message(MaskCommit, payload, chain_id, kind)
        now = private_steps.model_of_round(state, mask.message.round_id, env, kind)
        return _said(kind, now, private_steps.admit_mask(now.view, mask, now.env), now.view.round.number, mask.signer)
    if kind == KIND_SURVIVORS:
        signed = open_message(SurvivorSet, payload, chain_id, kind)
        now = private_steps.model_of_round(state, signed.message.round_id, env, kind)
        return _said(kind, now, private_steps.admit_signature(now.view, signed, now.env), now.view.round.number, signed.signer)
    unmasking = open_message(Unmasking, payload, chain_id, kind)
    now = private_steps.model_of_round(state, unmasking.message.round_id, env, kind)
    return _said(
        kind, now, private_steps.admit_unmasking(now.view, unmasking, now.env), now.view.round.number, unmasking.signer
    )


def _answer(state: State, payload: bytes, height: int, env: Env) -> Outcome:
    signed = open_inference(payload, env.chain_id)
    request = signed.message
    state, event = inference.answer_request(state, signed, height, env)
    return Outcome(state, (event,), _subject(KIND_INFERENCE, request.plasma_chain_id, request.contract, request.request_id))


def _subject(kind: str, *names: int | bytes) -> bytes:
    return kind.encode("ascii") + words(*names)


def execute_block(state: State, txs: Sequence[bytes], height: int, env: Env) -> Executed:
    """Every transaction in order, then the end of the block; a bad transaction is a failed result and nothing else."""
    results: list[TxResult] = []
    events: list[bytes] = []
    leaves: list[SlotLeavesNotice] = []
    for tx in txs:
        try:
            outcome = execute_tx(state, tx, height, env)
        except (InvalidTransaction, Rejected) as error:
            results.append(TxResult(False, str(error)))
        else:
            state = outcome.state
            results.append(TxResult(True))
            events.extend(outcome.events)
            leaves.extend(outcome.leaves)
    for place in range(len(state.models)):  # before sets are forgotten: votes are counted by that of this height
        now = model_at(state, place, env)
        state = now.with_view(learning_rounds.end_block(now.view, height, now.env))
    state, updates = governance.end_block(offences.end_block(state, height), height)
    return Executed(state, tuple(results), tuple(events), tuple(leaves), updates)
