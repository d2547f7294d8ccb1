"""The section of the agreed state that a chain with private rounds has: what the open round's steps collected, and the budget.

Rules: as in `state`. A chain whose plan shows updates has no such value.
Not here: how it changes (`private_steps`, `private_rounds`).
"""

from __future__ import annotations

from dataclasses import dataclass

VOID_DEAL = "void_deal"
VOID_MASK = "void_mask"
VOID_SIGN = "void_sign"
VOID_UNMASK = "void_unmask"
"""Fewer than the threshold took the step of this name."""
VOID_SUM = "void_sum"
"""A quorum found that the sum cannot be opened, or that it is longer than clipped updates can make it."""
BUDGET_SPENT = "budget_spent"
"""The round did not open: one more would pass the budget."""
PRIVATE_OUTCOMES = (VOID_DEAL, VOID_MASK, VOID_SIGN, VOID_UNMASK, VOID_SUM, BUDGET_SPENT)

BAD_DEALING = "bad_dealing"
"""A device dealt shares of another secret than it published, or to too many others none that they could open."""


@dataclass(frozen=True, slots=True)
class Dealt:
    """A member's ShareDealing as it signed it."""

    device: bytes
    signed: bytes


@dataclass(frozen=True, slots=True)
class SetSignature:
    """A survivor's signature under the survivor set."""

    device: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Unmasked:
    """A survivor's shares: 32 bytes for each dealer whose bit is set (bit i is dealer i), all found to be the dealt ones."""

    device: bytes
    dealers: bytes
    shares: bytes


@dataclass(frozen=True, slots=True)
class PrivateRound:
    """Rounds charged so far, and the open round: seed and members from the deal phase on, then what its steps collected.

    All lists ascend by device. Who committed to a masked update is in the section `commits`, the survivors are the round's
    `included`.
    """

    charged_rounds: int
    seed: bytes = b""
    members: tuple[bytes, ...] = ()
    dealings: tuple[Dealt, ...] = ()
    signatures: tuple[SetSignature, ...] = ()
    unmaskings: tuple[Unmasked, ...] = ()
