"""Learning: the agreed model that hubs publish, and what a meter answers with.

Parameters travel as little-endian integers: the master model int32 at 2^-20, an update int16 at 2^-18.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from openmg.units import HASH_BYTES


@dataclass(frozen=True)
class ModelNotice:
    """The model of the open round as the chain agreed on it at `height` (retained, unsigned: the hash decides)."""

    PURPOSE: ClassVar[str] = "model"
    round: int
    height: int
    model_hash: bytes
    parameters: bytes  # int32 little-endian
    plan: bytes  # LearningPlan.encode()

    def __post_init__(self) -> None:
        if self.round < 0 or len(self.model_hash) != HASH_BYTES or len(self.parameters) % 4:
            raise ValueError("a model notice has a round, a 32-byte hash and int32 parameters")


@dataclass(frozen=True)
class ModelUpdate:
    """A clipped, quantised difference to the round's model. Signed by the device key."""

    PURPOSE: ClassVar[str] = "model-update"
    round: int
    base_hash: bytes
    update: bytes  # int16 little-endian

    def __post_init__(self) -> None:
        if self.round < 0 or len(self.base_hash) != HASH_BYTES or len(self.update) % 2:
            raise ValueError("an update has a round, a 32-byte base hash and int16 values")


@dataclass(frozen=True)
class Evaluation:
    """Loss of the round's model on a window of this home that nobody trains on (millionths). Signed by the device."""

    PURPOSE: ClassVar[str] = "evaluation"
    round: int
    model_hash: bytes
    loss_micro: int

    def __post_init__(self) -> None:
        if self.round < 0 or len(self.model_hash) != HASH_BYTES or not 0 <= self.loss_micro < 2**48:
            raise ValueError("an evaluation has a round, a 32-byte hash and a loss in 0..2^48-1 millionths")
