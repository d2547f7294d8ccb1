"""A private round as a chain fixes it: its terms, its noise and the longest sum it may open, all from the plan and the state.

Meters and replicas compute these alike. Members are the devices whose commit the chain holds.
- threshold = max(2n/3 + 1, the plan's `min_participants`). A hub that keeps commits away makes a round small, but no sum is
  opened over fewer survivors than the plan names, however few members there are.
- At most MAX_CHAIN_MEMBERS members, so that everybody is everybody's neighbour. In a sparse graph the seed decides, and what
  a chain could take for it is chosen by whoever commits last; in the full graph it decides nothing.
Not here: the phases (`hub.ppdl.app.private_rounds`), what a device does (`device`).
"""

from __future__ import annotations

from collections.abc import Mapping

from openmg.learning.budget import PrivacyBudget
from openmg.learning.plan import LearningPlan
from openmg.learning.secure.graph import FULL_GRAPH_MEMBERS
from openmg.learning.secure.noise import member_variance
from openmg.learning.secure.plausible import longest_sum
from openmg.learning.secure.terms import Member, RoundTerms, default_threshold

MAX_CHAIN_MEMBERS = FULL_GRAPH_MEMBERS
WORD_BYTES = 4


def chain_threshold(plan: LearningPlan, members: int) -> int:
    """How many members must be left at every step."""
    return max(default_threshold(members), plan.min_participants)


def chain_terms(
    plan: LearningPlan, chain_id: int, number: int, base_hash: bytes, seed: bytes, members: Mapping[bytes, bytes]
) -> RoundTerms:
    """The terms of a round for members given as address -> mask key. Raises SecureError."""
    ordered = tuple(Member(address, members[address]) for address in sorted(members))
    threshold = chain_threshold(plan, len(ordered))
    return RoundTerms(chain_id, number, base_hash, seed, ordered, plan.spec.parameters, plan.clip_units, threshold)


def is_noisy(plan: LearningPlan) -> bool:
    """Whether sums carry noise and rounds have a budget."""
    return plan.privacy == "secagg_dp"


def noise_variance(plan: LearningPlan, terms: RoundTerms) -> int:
    """The variance of each member's noise; 0 without noise."""
    return member_variance(plan.noise_multiplier_milli, terms.clip_units, terms.threshold) if is_noisy(plan) else 0


def sum_bound(plan: LearningPlan, terms: RoundTerms, survivors: int) -> int:
    """The L2 norm that the sum of so many clipped updates stays within."""
    return longest_sum(survivors, terms.clip_units, terms.parameters, noise_variance(plan, terms))


def masked_bytes(plan: LearningPlan) -> int:
    """Length of a masked update."""
    return WORD_BYTES * plan.spec.parameters


def budget_after(plan: LearningPlan, rounds: int) -> PrivacyBudget:
    """The budget after so many charged rounds; only for a plan with noise."""
    return PrivacyBudget(plan.noise_multiplier_milli, plan.delta_exponent, plan.epsilon_budget_micro, rounds)


def spent_micro(plan: LearningPlan, rounds: int) -> int:
    """epsilon after so many charged rounds, in millionths; 0 without noise, where there is none to state."""
    return budget_after(plan, rounds).spent_micro if is_noisy(plan) and rounds else 0


def may_open(plan: LearningPlan, rounds: int) -> bool:
    """Whether one more round stays within the budget; always without noise."""
    return not is_noisy(plan) or budget_after(plan, rounds).may_open()
