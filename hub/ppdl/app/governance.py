"""The validator set as a rule of the chain: proposals, votes, and the sets of the heights that still matter.

A validator proposes a change (`set_change.SetChange`), others vote for it, one vote for each validator and proposal. At
the end of block h the oldest open proposal passes for which a quorum of the set of height h has voted: votes of those
who are no longer in it do not count. The new set agrees on block h + 2, as `BlockResult.validator_updates` promises, and
header h + 1 announces it. At most one change passes in a block. A proposal ends when it passes, at its height of expiry,
or when another change has made it pointless.

Sizes: a set has 1 to MAX_VALIDATORS members. Once a set had four, a proposal that leaves fewer must say so
(`below_four`), because such a set tolerates no faulty member.

Whoever is removed keeps its chain, serves blocks and votes no more; whoever is added catches up from the others and
votes from its first height on. Evidence of equivocation flags a validator (`offences`) and removes nobody by itself: a
quorum that reads it decides, so that one stolen backup cannot shrink the set below what keeps the chain alive.
Not here: signatures (`set_change`), the engine's own sets (`consensus.effects.Tip`), which follow from the updates.
"""

from __future__ import annotations

from dataclasses import replace

from hub.ppdl.app.rejected import Rejected
from hub.ppdl.app.set_change import Proposed, SetChange, Voted
from hub.ppdl.app.state import FOUR, OpenProposal, SetSpan, State, WithSets
from hub.ppdl.application import ValidatorUpdate
from hub.ppdl.consensus.quorum import quorum
from hub.ppdl.genesis import MAX_VALIDATORS

DELAY = 2
"""A change that passes in block h makes the set of block h + 2."""
MAX_PROPOSAL_BLOCKS = 302_400
"""A week of blocks at one every two seconds: operators vote by hand."""
OPEN_PER_PROPOSER = 2
"""One faulty validator cannot keep the others from proposing."""
MAX_OPEN_PROPOSALS = OPEN_PER_PROPOSER * MAX_VALIDATORS
EVIDENCE_MAX_AGE = 100_000
"""Heights for which a signer's set is remembered and evidence is taken: two days at one block every two seconds."""
MAX_SPANS = 512
"""Sets remembered even if they change with every block; evidence from before the oldest is refused."""


def set_at(state: WithSets, height: int) -> SetSpan | None:
    """The set that agrees on `height`; None when it is not decided yet or no longer remembered."""
    return next((span for span in reversed(state.sets) if span.from_height <= height), None)


def require_validator(state: WithSets, address: bytes, height: int, what: str) -> None:
    """Raises Rejected when the address is not in the set of `height`."""
    span = set_at(state, height)
    if span is None or address not in span.addresses:
        raise Rejected(f"{what}: it is not signed by a validator of this chain at height {height}")


def _members_after(span: SetSpan, add: bytes, remove: bytes, below_four: bool) -> tuple[bytes, ...]:
    """The set after a change of `span`. Raises Rejected when the change does not fit it."""
    if remove and remove not in span.addresses:
        raise Rejected(f"set change: 0x{remove.hex()} is not a validator, so it cannot be removed")
    if add in span.addresses:
        raise Rejected(f"set change: 0x{add.hex()} is a validator already")
    members = (set(span.addresses) | ({add} if add else set())) - {remove}
    if not 1 <= len(members) <= MAX_VALIDATORS:
        raise Rejected(f"set change: a set has 1 to {MAX_VALIDATORS} validators, not {len(members)}")
    if span.reached_four and len(members) < min(FOUR, len(span.addresses)) and not below_four:
        raise Rejected(f"set change: {len(members)} validators tolerate no fault; set below_four if that is wanted")
    return tuple(sorted(members))


def _still_fits(span: SetSpan, proposal: OpenProposal) -> bool:
    try:
        _members_after(span, proposal.add, proposal.remove, proposal.below_four)
    except Rejected:
        return False
    return True


def propose(state: State, proposed: Proposed, height: int) -> State:
    """Opens a proposal with its proposer's vote. Raises Rejected."""
    change, latest = proposed.change, state.sets[-1]
    require_validator(state, proposed.proposer, height, "set change")
    if change.number != latest.number:
        raise Rejected(f"set change: it starts from set {change.number}, the latest is {latest.number}; make it anew")
    if not height <= change.expires_height <= height + MAX_PROPOSAL_BLOCKS:
        raise Rejected(f"set change: it must expire between height {height} and {height + MAX_PROPOSAL_BLOCKS}")
    if any(known.proposal_hash == proposed.proposal_hash for known in state.proposals):
        raise Rejected("set change: this proposal is open already; vote for it")
    if sum(known.proposer == proposed.proposer for known in state.proposals) >= OPEN_PER_PROPOSER:
        raise Rejected(f"set change: this validator has {OPEN_PER_PROPOSER} open proposals; wait until one ends")
    if len(state.proposals) >= MAX_OPEN_PROPOSALS:
        raise Rejected(f"set change: {MAX_OPEN_PROPOSALS} proposals are open; wait until one ends")
    _members_after(latest, change.add, change.remove, change.below_four)
    return replace(state, proposals=(*state.proposals, _opened(proposed, change, height)))


def _opened(proposed: Proposed, change: SetChange, height: int) -> OpenProposal:
    terms = change.add, change.remove, change.below_four, height, change.expires_height
    return OpenProposal(proposed.proposal_hash, proposed.proposer, *terms, (proposed.proposer,))


def vote(state: State, voted: Voted, height: int) -> State:
    """Adds a vote. Raises Rejected."""
    require_validator(state, voted.voter, height, "vote")
    proposal = next((known for known in state.proposals if known.proposal_hash == voted.proposal_hash), None)
    if proposal is None:  # `end_block` has dropped what expired
        raise Rejected("vote: no such proposal is open (not yet, or any more)")
    if voted.voter in proposal.votes:
        raise Rejected("vote: this validator has voted for the proposal")
    more = replace(proposal, votes=tuple(sorted((*proposal.votes, voted.voter))))
    return replace(state, proposals=tuple(more if known is proposal else known for known in state.proposals))


def _has_passed(state: State, proposal: OpenProposal, height: int) -> bool:
    voters = set_at(state, height)
    assert voters is not None  # spans of at least EVIDENCE_MAX_AGE heights are kept
    return sum(address in proposal.votes for address in voters.addresses) >= quorum(len(voters.addresses))


def end_block(state: State, height: int) -> tuple[State, tuple[ValidatorUpdate, ...]]:
    """Lets the oldest proposal with a quorum pass and ends those that cannot any more; the same state when nothing moved."""
    passed = next((one for one in state.proposals if _has_passed(state, one, height)), None)
    updates: tuple[ValidatorUpdate, ...] = ()
    if passed is not None:
        state, updates = _pass(state, passed, height)
    latest = state.sets[-1]
    still = tuple(one for one in state.proposals if one.expires_height > height and _still_fits(latest, one))
    if len(still) != len(state.proposals):
        state = replace(state, proposals=still)
    return _forget_sets(state, height), updates


def _pass(state: State, passed: OpenProposal, height: int) -> tuple[State, tuple[ValidatorUpdate, ...]]:
    """The state with the next set. Every open proposal fits the latest set, so this one does."""
    latest = state.sets[-1]
    members = _members_after(latest, passed.add, passed.remove, passed.below_four)
    reached = latest.reached_four or len(members) >= FOUR
    following = SetSpan(latest.number + 1, height + DELAY, members, reached)
    gone = (ValidatorUpdate(passed.remove, active=False),) if passed.remove else ()
    come = (ValidatorUpdate(passed.add, active=True),) if passed.add else ()
    remaining = tuple(one for one in state.proposals if one is not passed)
    return replace(state, sets=(*state.sets, following), proposals=remaining), (*gone, *come)


def _forget_sets(state: State, height: int) -> State:
    """Drops sets that ended more than EVIDENCE_MAX_AGE heights ago, and the oldest beyond MAX_SPANS."""
    sets = state.sets[-MAX_SPANS:]
    while len(sets) > 1 and sets[1].from_height <= height - EVIDENCE_MAX_AGE:
        sets = sets[1:]
    return state if len(sets) == len(state.sets) else replace(state, sets=sets)
