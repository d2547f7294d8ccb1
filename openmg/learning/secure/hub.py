"""The hub's side of a private round: a state machine that collects, passes on, and opens the sum or nothing.

States, each closed by the caller at its deadline:
  DEALING   take_dealing    -> close_dealing: what each dealer is to be given
  MASKING   take_masked     -> close_masking: the survivor set, final from here on
  SIGNING   take_signature  -> close_signing: the signatures for the survivors
  OPENING   take_unmasking  -> open: the sum
  OPENED, VOID
Closing with fewer than `threshold` answers raises SecureError and the round is VOID: nothing was or will be opened.
Rules: an answer out of its state, of a stranger, or a second and different one is refused with SecureError and changes
nothing; so an update that comes after close_masking is never opened. Senders are authenticated by the caller (`open_signed`).
Each member has at most one answer a state, which bounds what is kept.
The hub is not trusted with secrecy: that rests on `device` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from openmg.learning.secure.deliveries import deliveries_of
from openmg.learning.secure.opening import open_sum
from openmg.learning.secure.survivors import is_signed
from openmg.learning.secure.terms import RoundTerms, SecureError
from openmg.messages.secure import Delivery, MaskedUpdate, ShareDealing, SurvivorSet, Unmasking

I64 = NDArray[np.int64]
T = TypeVar("T")


class Phase(Enum):
    """Where a round stands."""

    DEALING = "dealing"
    MASKING = "masking"
    SIGNING = "signing"
    OPENING = "opening"
    OPENED = "opened"
    VOID = "void"


@dataclass(frozen=True)
class OpenedSum:
    """The sum [P] over the survivors in units of 2^-18, who dropped out, and who revealed a share that was not dealt to it."""

    total: I64
    survivors: tuple[bytes, ...]
    dropped: tuple[bytes, ...]
    tampered: tuple[bytes, ...]


class SecureHub:
    """One private round at the hub."""

    def __init__(self, terms: RoundTerms) -> None:
        self.terms = terms
        self.phase = Phase.DEALING
        self._dealings: dict[bytes, ShareDealing] = {}
        self._masked: dict[bytes, MaskedUpdate] = {}
        self._signatures: dict[bytes, bytes] = {}
        self._unmaskings: dict[bytes, Unmasking] = {}
        self._survivors = SurvivorSet(terms.round_id, ())

    def take_dealing(self, sender: bytes, dealing: ShareDealing) -> None:
        """Step 1 of a member."""
        self._require(Phase.DEALING, sender in self.terms.mask_public and self._same_round(dealing.round_id), sender)
        if len(dealing.sealed) != len(self.terms.neighbours(sender)):
            raise SecureError(f"0x{sender.hex()} dealt {len(dealing.sealed)} shares, not one for each neighbour")
        self._keep(self._dealings, sender, dealing)

    def close_dealing(self) -> dict[bytes, tuple[Delivery, ...]]:
        """For each dealer the deliveries of its neighbours that dealt."""
        self._close(Phase.DEALING, Phase.MASKING, len(self._dealings))
        return {holder: deliveries_of(self.terms, self._dealings, holder) for holder in sorted(self._dealings)}

    def take_masked(self, sender: bytes, masked: MaskedUpdate) -> None:
        """Step 2 of a dealer."""
        self._require(Phase.MASKING, sender in self._dealings and self._same_round(masked.round_id), sender)
        if len(masked.values) != 4 * self.terms.parameters:
            raise SecureError(f"0x{sender.hex()} sent {len(masked.values)} bytes instead of {4 * self.terms.parameters}")
        self._keep(self._masked, sender, masked)

    def close_masking(self) -> SurvivorSet:
        """The survivor set, for every survivor to sign."""
        self._close(Phase.MASKING, Phase.SIGNING, len(self._masked))
        self._survivors = SurvivorSet(self.terms.round_id, tuple(sorted(self._masked)))
        return self._survivors

    def take_signature(self, sender: bytes, signature: bytes) -> None:
        """Step 3 of a survivor."""
        self._require(Phase.SIGNING, is_signed(self.terms, self._survivors, sender, signature), sender)
        self._keep(self._signatures, sender, signature)

    def close_signing(self) -> dict[bytes, bytes]:
        """The signatures, for every survivor to see."""
        self._close(Phase.SIGNING, Phase.OPENING, len(self._signatures))
        return dict(self._signatures)

    def take_unmasking(self, sender: bytes, unmasking: Unmasking) -> None:
        """Step 4 of a survivor."""
        self._require(Phase.OPENING, sender in self._masked and self._same_round(unmasking.round_id), sender)
        self._keep(self._unmaskings, sender, unmasking)

    def open(self) -> OpenedSum:
        """The sum, from the shares of at least `threshold` survivors; the round is VOID when a secret cannot be had."""
        self._close(Phase.OPENING, Phase.OPENED, len(self._unmaskings))
        masked = {address: message.values for address, message in self._masked.items()}
        try:
            total, tampered = open_sum(self.terms, self._dealings, masked, self._unmaskings)
        except SecureError:
            self.phase = Phase.VOID
            raise
        dropped = tuple(address for address in self.terms.mask_public if address not in self._masked)
        return OpenedSum(total, self._survivors.survivors, dropped, tampered)

    def _same_round(self, round_id: bytes) -> bool:
        return round_id == self.terms.round_id

    def _require(self, phase: Phase, valid: bool, sender: bytes) -> None:
        if self.phase is not phase:
            raise SecureError(f"round {self.terms.round} is {self.phase.value}; this is no time for an answer of {phase.value}")
        if not valid:
            raise SecureError(f"0x{sender.hex()} has no such answer to give in round {self.terms.round}")

    def _keep(self, answers: dict[bytes, T], sender: bytes, answer: T) -> None:
        if answers.setdefault(sender, answer) != answer:
            raise SecureError(f"0x{sender.hex()} gave two different answers in round {self.terms.round}")

    def _close(self, phase: Phase, after: Phase, answers: int) -> None:
        if self.phase is not phase:
            raise SecureError(f"round {self.terms.round} is {self.phase.value}, not {phase.value}")
        if answers < self.terms.threshold:
            self.phase = Phase.VOID
            raise SecureError(
                f"{answers} members answered while {phase.value}; round {self.terms.round} opens nothing below"
                f" {self.terms.threshold}"
            )
        self.phase = after
