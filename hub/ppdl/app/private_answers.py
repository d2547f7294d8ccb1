"""What a chain says of its private rounds: to readers how far one is and what is spent, to meters and hubs what they need.

Not here: answers about rounds in general (`round_answers`), the paths (`answers`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hub.ppdl.app.learning_env import LearningEnv
from hub.ppdl.app.learning_rounds import phase_blocks
from hub.ppdl.app.learning_view import LearningView
from hub.ppdl.app.private_rounds import spent_so_far, threshold_of
from hub.ppdl.app.private_state import PrivateRound
from hub.ppdl.app.private_steps import dealings_of, terms_of, unmaskings_of
from openmg.learning.plan import LearningPlan
from openmg.learning.secure.terms import RoundTerms
from openmg.messages.learning import PHASE_REVEAL
from openmg.messages.private import PHASE_MASK, PHASE_SIGN, PHASE_UNMASK, STEP_PHASES, PrivateNotice, Registered
from openmg.messages.secure import ShareDealing, Unmasking


@dataclass(frozen=True)
class PrivacyShown:
    """The privacy of the open round: how many must be left at each step, and how many took it.

    `epsilon_micro` was spent by all rounds so far and `epsilon_budget_micro` is the most, at 10^-`delta_exponent`, in
    millionths; without noise both are 0.
    """

    mode: str
    threshold: int
    members: int
    dealt: int
    signed: int
    unmasked: int
    charged_rounds: int
    epsilon_micro: int
    epsilon_budget_micro: int
    delta_exponent: int


@dataclass(frozen=True, slots=True)
class OpenPrivate:
    """What opens the sum of the open round besides the masked updates."""

    terms: RoundTerms
    steps: PrivateRound

    def dealings(self) -> Mapping[bytes, ShareDealing]:
        """By dealer, ascending."""
        return dealings_of(self.steps, self.terms.chain_id)

    def unmaskings(self) -> dict[bytes, Unmasking]:
        """By holder, ascending."""
        return unmaskings_of(self.steps, self.terms.round_id)


def open_private(state: LearningView, env: LearningEnv) -> OpenPrivate | None:
    """None for a round in the clear."""
    return OpenPrivate(terms_of(state, env), state.private[0]) if state.private else None


def privacy_shown(state: LearningView, plan: LearningPlan) -> PrivacyShown:
    """Mode, progress and budget."""
    steps = state.private[0] if state.private else PrivateRound(0)
    return PrivacyShown(
        mode=plan.privacy,
        threshold=threshold_of(state, plan),
        members=len(steps.members),
        dealt=len(steps.dealings),
        signed=len(steps.signatures),
        unmasked=len(steps.unmaskings),
        charged_rounds=steps.charged_rounds,
        epsilon_micro=spent_so_far(state, plan),
        epsilon_budget_micro=plan.epsilon_budget_micro,
        delta_exponent=plan.delta_exponent,
    )


def private_notice(state: LearningView, height: int, env: LearningEnv) -> PrivateNotice | None:
    """What meters are told now; None when no step of a private round is theirs to take."""
    now, plan = state.round, env.plan
    if not state.private or now.phase not in (*STEP_PHASES, PHASE_REVEAL):
        return None
    steps, unmasking = state.private[0], now.phase == PHASE_UNMASK
    return PrivateNotice(
        model=env.name,
        round=now.number,
        phase=now.phase,
        height=height,
        phase_end_height=now.phase_height + phase_blocks(now.phase, plan),
        base_hash=state.model.model_hash,
        seed=steps.seed,
        members=steps.members,
        dealings=tuple(dealt.signed for dealt in steps.dealings) if now.phase == PHASE_MASK else (),
        survivors=now.included if now.phase in (PHASE_SIGN, PHASE_UNMASK) else (),
        signers=tuple(item.device for item in steps.signatures) if unmasking else (),
        signatures=tuple(item.signature for item in steps.signatures) if unmasking else (),
        registered=tuple(Registered(device.address, device.mask_public) for device in env.registered),
        plan=plan.encode(),
    )
