"""The third phase as a rule: a leader proposes the aggregate, the other validators recompute it and say whether it is right.

Leader of attempt k of round r is validator (r + k) mod n of the set of that height; its proposal is its own `ok`.
With n validators, f = (n - 1) // 3 of them faulty at most and q = (n + f) // 2 + 1:
- q times `ok` accepts. q - f >= 1 of those are honest, and an honest validator says `ok` only to the very bytes it computed
  from the included blobs. The aggregate is a pure function of them, so what is accepted is right: f faulty validators never
  get a wrong aggregate accepted, whoever leads.
- f + 1 times `not ok` refuses, and the leader goes on record. One of those is honest, so the proposal was wrong. An honest
  leader's proposal gets at most f of them: no honest leader is ever recorded or voted down.
- Both cannot happen to one proposal, by the two lines above.
- An honest leader's proposal is accepted whenever the honest validators hold the blobs in time: they are n - f >= q. That
  each of them can get every included blob follows from how it was included (`availability`).
A leader that says nothing, or verdicts that come too late, cost the attempt and nobody's record; one of any f + 1 attempts
in a row is led by an honest validator.
Not here: when an attempt ends (`learning_rounds`), computing the aggregate (`hub.learning.results`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import compress

from hub.ppdl.app.commits import require_phase
from hub.ppdl.app.duties import AggregateProposal, Verdict, marks_of
from hub.ppdl.app.governance import require_validator, set_at
from hub.ppdl.app.learning_env import LearningEnv
from hub.ppdl.app.learning_view import LearningView
from hub.ppdl.app.private_rounds import named_devices
from hub.ppdl.app.rejected import Rejected
from hub.ppdl.app.round_state import Candidate, Model, Rejection, VerdictVote
from hub.ppdl.consensus.quorum import max_faulty, quorum
from openmg.forecast.model import master_from_bytes
from openmg.hashing import keccak256
from openmg.learning.quantise import model_hash
from openmg.messages.base import Signed, encode
from openmg.messages.learning import PHASE_AGGREGATE

PROPOSAL_TAG = keccak256(b"openmg.learning.aggregate.v1")


def proposal_hash(proposal: AggregateProposal) -> bytes:
    """What a verdict names."""
    return keccak256(PROPOSAL_TAG + encode(proposal))


def leader_of(number: int, attempt: int, validators: Sequence[bytes]) -> bytes:
    """The validator that proposes in an attempt of a round."""
    return validators[(number + attempt) % len(validators)]


def admit_proposal(state: LearningView, signed: Signed[AggregateProposal], height: int, env: LearningEnv) -> LearningView:
    """The state with the attempt's candidate. Raises Rejected."""
    leader, message, now, spec = signed.signer, signed.message, state.round, env.plan.spec
    span = set_at(state, height)
    require_phase(state, message.round, PHASE_AGGREGATE, "aggregate")
    if message.attempt != now.attempt:
        raise Rejected(f"aggregate: attempt {message.attempt} is not open; the open one is {now.attempt}")
    if span is None or leader != leader_of(now.number, now.attempt, span.addresses):
        raise Rejected(f"aggregate: 0x{leader.hex()} does not lead attempt {now.attempt} of round {now.number}")
    if state.candidates:
        raise Rejected(f"aggregate: attempt {now.attempt} of round {now.number} has its proposal already")
    usable = bool(message.master) or not state.private  # of a private round it may say that the sum is not to be used
    if usable and len(message.master) != spec.master_bytes:
        raise Rejected(f"aggregate: master and momentum have {len(message.master)} bytes instead of {spec.master_bytes}")
    capped, rejected = _named(message, named_devices(state))
    model = state.model
    if usable:
        name = model_hash(spec, master_from_bytes(spec, message.master))
        model = Model(message.master, message.momentum, name)
    candidate = Candidate(now.attempt, leader, proposal_hash(message), model, message.hostile, capped, rejected, usable)
    return replace(state, candidates=(candidate,), verdicts=(VerdictVote(leader, True),))


def _named(message: AggregateProposal, included: Sequence[bytes]) -> tuple[tuple[bytes, ...], tuple[Rejection, ...]]:
    """The capped and the rejected devices. Raises Rejected for a bitmap that does not fit their number."""
    try:
        capped = tuple(compress(included, marks_of(message.capped, len(included))))
        rejected = [
            Rejection(device, found.reason)
            for found in message.rejected
            for device in compress(included, marks_of(found.devices, len(included)))
        ]
    except ValueError as error:
        raise Rejected(f"aggregate: {error}") from error
    return capped, tuple(sorted(rejected, key=lambda item: (item.device, item.reason)))


def admit_verdict(state: LearningView, signed: Signed[Verdict], height: int) -> LearningView:
    """The state with the validator's word on the candidate. Raises Rejected."""
    validator, message, now = signed.signer, signed.message, state.round
    require_validator(state, validator, height, "verdict")
    require_phase(state, message.round, PHASE_AGGREGATE, "verdict")
    candidate = state.candidates[0] if state.candidates else None
    if candidate is None or (candidate.attempt, candidate.proposal_hash) != (message.attempt, message.proposal_hash):
        raise Rejected(f"verdict: it is not about the proposal of attempt {now.attempt} of round {now.number}")
    if any(vote.validator == validator for vote in state.verdicts):
        raise Rejected(f"verdict: 0x{validator.hex()} has given its word on this proposal already")
    verdicts = sorted((*state.verdicts, VerdictVote(validator, message.ok)), key=lambda vote: vote.validator)
    return replace(state, verdicts=tuple(verdicts))


def accepted(state: LearningView, validators: Sequence[bytes]) -> bool:
    """Whether a quorum of those who are validators now computed the same."""
    return sum(vote.ok for vote in state.verdicts if vote.validator in validators) >= quorum(len(validators))


def voted_down(state: LearningView, validators: Sequence[bytes]) -> bool:
    """Whether f + 1 of them say that it is wrong."""
    against = sum(not vote.ok for vote in state.verdicts if vote.validator in validators)
    return against > max_faulty(len(validators))
