"""Private rounds as rules of the chain: the phases between the commits and the aggregate, and the budget.

    commit     as in the clear: who is in is a member of the round     (`learning_rounds`)
    deal       members deal shares of their secrets                    ends when all have, or with the threshold at its length
    mask       dealers promise a masked update, by its hash            ends when all have, or with the threshold at its length
    reveal     validators say which masked updates they hold           as in the clear; the included are the survivors
    sign       survivors sign their set                                ends with the threshold's signatures
    unmask     survivors reveal one share of each dealer               ends with the threshold's shares of every dealer
    aggregate  a leader proposes what the opened sum makes of the model, the others recompute it from the same blobs and shares
Each of the four steps lasts `reveal_blocks` at most; with fewer than the threshold then the round is void and the next opens.
- Who survives is a function of the chain: a quorum holds those masked updates. A leader, or a hub, chooses nothing.
- With noise a round is charged in the block that fixes its survivor set, whatever becomes of it: from there on survivors sign,
  and whoever collects signatures may be shown shares, on the chain or off it.
- A round that would pass the budget does not open. Its record says so, and it stays the last one: the model stands.
Not here: the steps' own rules (`private_steps`), the sum (`hub.learning.private_sum`).
"""

from __future__ import annotations

from dataclasses import replace

from hub.ppdl.app.duties import marks_of
from hub.ppdl.app.learning_env import LearningEnv
from hub.ppdl.app.learning_view import LearningView
from hub.ppdl.app.private_state import (
    BAD_DEALING,
    BUDGET_SPENT,
    PRIVATE_OUTCOMES,
    VOID_DEAL,
    VOID_MASK,
    VOID_SIGN,
    VOID_UNMASK,
    PrivateRound,
)
from hub.ppdl.app.round_state import RoundRecord
from openmg.hashing import keccak256, word
from openmg.learning.plan import LearningPlan
from openmg.learning.secure.chain_round import chain_threshold, may_open, spent_micro
from openmg.messages.learning import PHASE_AGGREGATE, PHASE_REVEAL, PHASE_SPENT
from openmg.messages.private import PHASE_DEAL, PHASE_MASK, PHASE_SIGN, PHASE_UNMASK

SEED_TAG = keccak256(b"openmg.learning.private.seed.v1")
VOID = {PHASE_DEAL: VOID_DEAL, PHASE_MASK: VOID_MASK, PHASE_SIGN: VOID_SIGN, PHASE_UNMASK: VOID_UNMASK}
AFTER = {PHASE_DEAL: PHASE_MASK, PHASE_MASK: PHASE_REVEAL, PHASE_SIGN: PHASE_UNMASK, PHASE_UNMASK: PHASE_AGGREGATE}


def first_private(plan: LearningPlan) -> tuple[PrivateRound, ...]:
    """The section before block 1: empty for a plan that shows updates."""
    return () if plan.privacy == "none" else (PrivateRound(0),)


def begin(state: LearningView, height: int, env: LearningEnv) -> LearningView:
    """The deal phase; the devices that committed are the members."""
    now = state.round
    commitments = b"".join(commit.commitment for commit in state.commits)
    seed = keccak256(SEED_TAG + env.chain + word(now.number) + commitments)
    members = tuple(commit.device for commit in state.commits)
    private = replace(state.private[0], seed=seed, members=members)
    return replace(state, round=replace(now, phase=PHASE_DEAL, phase_height=height), commits=(), private=(private,))


def threshold_of(state: LearningView, plan: LearningPlan) -> int:
    """How many must be left at every step: in the clear, and before there are members, `min_participants`."""
    members = state.private[0].members if state.private else ()
    return chain_threshold(plan, len(members)) if members else plan.min_participants


def after_block(state: LearningView, height: int, due: bool, plan: LearningPlan) -> tuple[LearningView, str]:
    """The state after the block in one of the four steps, and the outcome if the round is void."""
    now, private = state.round, state.private[0]
    least = threshold_of(state, plan)
    came, enough = {
        PHASE_DEAL: (len(private.dealings), len(private.members)),
        PHASE_MASK: (len(state.commits), len(private.dealings)),
        PHASE_SIGN: (len(private.signatures), least),
        PHASE_UNMASK: (min(shares_of_dealers(private), default=0), least),
    }[now.phase]
    all_spoke = now.phase == PHASE_UNMASK and len(private.unmaskings) == len(now.included)
    if came < enough and not (due or all_spoke):
        return state, ""
    if came < least:
        return state, VOID[now.phase]
    return replace(state, round=replace(now, phase=AFTER[now.phase], phase_height=height)), ""


def shares_of_dealers(private: PrivateRound) -> list[int]:
    """How many shares of each dealer were revealed."""
    marks = [marks_of(item.dealers, len(private.dealings)) for item in private.unmaskings]
    return [sum(mark[place] for mark in marks) for place in range(len(private.dealings))]


def bad_dealers(state: LearningView, outcome: str, plan: LearningPlan) -> tuple[bytes, ...]:
    """Dealers of a round that could not be unmasked, from whom more survivors got nothing than may be hostile or missing."""
    if outcome != VOID_UNMASK:
        return ()
    private = state.private[0]
    spare, came = len(private.members) - threshold_of(state, plan), len(private.unmaskings)
    return tuple(
        dealt.device
        for dealt, shares in zip(private.dealings, shares_of_dealers(private), strict=True)
        if came - shares > spare
    )


def to_signing(state: LearningView, height: int) -> LearningView:
    """The sign phase: the survivor set is fixed, and the round charged."""
    private = state.private[0]
    charged = replace(private, charged_rounds=private.charged_rounds + 1)
    return replace(state, round=replace(state.round, phase=PHASE_SIGN, phase_height=height), private=(charged,))


def participants(state: LearningView) -> tuple[bytes, ...]:
    """Who committed in the open round, ascending."""
    members = state.private[0].members if state.private else ()
    return members or tuple(commit.device for commit in state.commits)


def named_devices(state: LearningView) -> tuple[bytes, ...]:
    """Over whom a proposal's bitmaps run: the included, in a private round all dealers."""
    return tuple(dealt.device for dealt in state.private[0].dealings) if state.private else state.round.included


def spent_so_far(state: LearningView, plan: LearningPlan) -> int:
    """epsilon in millionths; 0 without noise."""
    return spent_micro(plan, state.private[0].charged_rounds) if state.private else 0


def emptied(private: tuple[PrivateRound, ...]) -> tuple[PrivateRound, ...]:
    """What a closed round leaves to the next."""
    return tuple(PrivateRound(item.charged_rounds) for item in private)


def scored(closed: RoundRecord) -> RoundRecord:
    """The record as reputations see it: of a void round only who was proven to deal wrong."""
    if closed.outcome not in PRIVATE_OUTCOMES:
        return closed
    proven = tuple(item for item in closed.rejected if item.reason == BAD_DEALING)
    return replace(closed, included=(), rejected=proven)


def stopped(state: LearningView, height: int, plan: LearningPlan) -> LearningView:
    """The state just after a round opened: as it is, or with that round at its end because the budget is spent."""
    if not state.private or may_open(plan, state.private[0].charged_rounds):
        return state
    last = replace(state.records[-1], closed_height=height, outcome=BUDGET_SPENT, epsilon_micro=spent_so_far(state, plan))
    return replace(
        state, round=replace(state.round, phase=PHASE_SPENT, phase_height=height), records=(*state.records[:-1], last)
    )
