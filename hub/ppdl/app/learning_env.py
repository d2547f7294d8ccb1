"""What never changes for one model while a chain lives: the plan of its rounds, and who learns it.

Not here: what does change (`round_state`, `learning_view`), the rest of the genesis (`genesis_state`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hub.ppdl.app.genesis_prices import Trainer
from hub.ppdl.app.genesis_state import AppGenesis, Device
from openmg.learning.plan import LearningPlan


@dataclass(frozen=True)
class LearningEnv:
    """Of one model: the chain's id and genesis hash, the model's plan, and who learns it, by address.

    `devices`: meters, or of prices the hubs that are registered for them. `registered`: all meters of the chain. `name`: the
    short name by which messages mean this model.
    """

    chain_id: int
    chain: bytes
    plan: LearningPlan
    devices: Mapping[bytes, Device | Trainer]
    registered: tuple[Device, ...]

    @property
    def name(self) -> bytes:
        return self.plan.spec.short_name


def learning_envs(genesis: AppGenesis, chain_id: int, chain: bytes) -> tuple[LearningEnv, ...]:
    """One for each plan, in their order."""
    return tuple(
        LearningEnv(chain_id, chain, plan, {member.address: member for member in genesis.learners(plan)}, genesis.devices)
        for plan in genesis.plans
    )
