"""The fourth phase as a rule: who judges a round's candidate, and when a committee refuses it.

Members are drawn when the round opens, by the lowest keccak(tag | chain | number | base model | device) among the registered
devices that are not left out. The base model depends on all updates of earlier rounds, so nobody knows a committee before the
round before it is decided, but whoever sees that round's blobs first knows it a little earlier. Members do not train in
their round and judge on windows that nobody trains on; never so many are drawn that too few are left to take part.
The candidate is refused when more than half of at least `committee_quorum` ballots find it worse than the base by more than
`worse_milli` thousandths. Fewer ballots accept it, and the record says so: absent meters hold nothing up.
Not here: evaluating (`openmg.member`), when the phase ends (`learning_rounds`).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from dataclasses import replace

from hub.ppdl.app.commits import require_device, require_phase
from hub.ppdl.app.learning_env import LearningEnv
from hub.ppdl.app.learning_view import LearningView
from hub.ppdl.app.rejected import Rejected
from hub.ppdl.app.round_state import BallotVote
from openmg.hashing import keccak256, word
from openmg.learning.plan import LearningPlan
from openmg.messages.base import Signed
from openmg.messages.learning import PHASE_COMMITTEE, Ballot

COMMITTEE_TAG = keccak256(b"openmg.learning.committee.v1")
MILLI = 1000


def draw_committee(
    number: int, base_hash: bytes, eligible: Iterable[bytes], chain: bytes, plan: LearningPlan
) -> tuple[bytes, ...]:
    """The members of a round, ascending; `chain` is the hash of the chain's genesis."""
    prefix = COMMITTEE_TAG + chain + word(number) + base_hash
    order = sorted(eligible, key=lambda device: keccak256(prefix + device))
    size = max(0, min(plan.committee_size, len(order) - plan.min_participants))
    return tuple(sorted(order[:size]))


def admit_ballot(state: LearningView, signed: Signed[Ballot], env: LearningEnv) -> LearningView:
    """The state with the member's ballot. Raises Rejected."""
    device, message = signed.signer, signed.message
    require_device(device, env, "ballot")
    require_phase(state, message.round, PHASE_COMMITTEE, "ballot")
    if device not in state.round.committee:
        raise Rejected(f"ballot: device 0x{device.hex()} is not in the committee of round {message.round}")
    if message.candidate_hash != state.candidates[0].model.model_hash:
        raise Rejected("ballot: it is about another model than the round's candidate", device)
    if any(known.device == device for known in state.ballots):
        raise Rejected(f"ballot: device 0x{device.hex()} already has one in round {message.round}")
    ballots = list(state.ballots)
    ballot = BallotVote(device, message.base_loss_micro, message.candidate_loss_micro)
    insort(ballots, ballot, key=lambda item: item.device)
    return replace(state, ballots=tuple(ballots))


def finds_worse(ballot: BallotVote, plan: LearningPlan) -> bool:
    """Whether the candidate's loss exceeds the base's by more than the plan's thousandths."""
    return ballot.candidate_loss_micro * MILLI > ballot.base_loss_micro * (MILLI + plan.worse_milli)


def judged(state: LearningView, plan: LearningPlan) -> bool:
    """Whether enough ballots came to speak for the committee."""
    return len(state.ballots) >= plan.committee_quorum


def refused(state: LearningView, plan: LearningPlan) -> bool:
    """Whether the committee refuses the candidate."""
    worse = sum(finds_worse(ballot, plan) for ballot in state.ballots)
    return judged(state, plan) and 2 * worse > len(state.ballots)
