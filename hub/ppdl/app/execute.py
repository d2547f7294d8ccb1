"""One transaction, and one block, as pure functions of the state.

Rules: a transaction either takes effect whole or raises; the caller keeps the old state then. The end of a block runs
after its transactions. Not here: files, hashes of the result (`app`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hub.ppdl.app import governance, inference, learning_rounds, offences, slots
from hub.ppdl.app.availability import admit_availability
from hub.ppdl.app.commits import admit_commit
from hub.ppdl.app.committee import admit_ballot
from hub.ppdl.app.duties import AggregateProposal, Availability, Verdict
from hub.ppdl.app.evaluations import admit_evaluation
from hub.ppdl.app.rejected import Rejected
from hub.ppdl.app.set_change import open_propose, open_vote
from hub.ppdl.app.state import Env, State
from hub.ppdl.app.transactions import (
    KIND_AGGREGATE,
    KIND_AVAILABILITY,
    KIND_BALLOT,
    KIND_COMMIT,
    KIND_EVALUATION,
    KIND_EVIDENCE,
    KIND_INFERENCE,
    KIND_PROPOSE,
    KIND_SLOT_SUM,
    KIND_VERDICT,
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
    if kind in _ROUND_KINDS:
        return _round_tx(state, kind, payload, height, env)
    if kind == KIND_SLOT_SUM:
        slot_sum, reports = open_slot_sum(payload, env.chain_id)
        recorded = slots.record_slot_sum(state, slot_sum, reports, env)
        subject = _subject(kind, slot_sum.roster.microgrid, slot_sum.slot)
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
    """What meters and validators say in a learning round: one subject for each sender and round."""
    chain_id = env.chain_id
    if kind == KIND_COMMIT:
        commit = open_message(UpdateCommit, payload, chain_id, kind)
        return Outcome(admit_commit(state, commit, env), (), _subject(kind, commit.message.round, commit.signer))
    if kind == KIND_BALLOT:
        ballot = open_message(Ballot, payload, chain_id, kind)
        return Outcome(admit_ballot(state, ballot, env), (), _subject(kind, ballot.message.round, ballot.signer))
    if kind == KIND_EVALUATION:
        evaluation = open_message(Evaluation, payload, chain_id, kind)
        subject = _subject(kind, evaluation.message.round, evaluation.signer)
        return Outcome(admit_evaluation(state, evaluation, env), (), subject)
    if kind == KIND_AVAILABILITY:
        available = open_message(Availability, payload, chain_id, "availability")
        subject = _subject(kind, available.message.round, available.signer)
        return Outcome(admit_availability(state, available, height), (), subject)
    if kind == KIND_AGGREGATE:
        proposal = open_message(AggregateProposal, payload, chain_id, kind)
        subject = _subject(kind, proposal.message.round, proposal.message.attempt)
        return Outcome(admit_proposal(state, proposal, height, env), (), subject)
    verdict = open_message(Verdict, payload, chain_id, kind)
    subject = _subject(kind, verdict.message.round, verdict.message.attempt, verdict.signer)
    return Outcome(admit_verdict(state, verdict, height), (), subject)


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
    state = learning_rounds.end_block(state, height, env)  # before sets are forgotten: it counts votes by that of this height
    state, updates = governance.end_block(offences.end_block(state, height), height)
    return Executed(state, tuple(results), tuple(events), tuple(leaves), updates)
