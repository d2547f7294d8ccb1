"""What a change note says to its owner: which notes its payment spent, and for which purpose.

Nothing on chain links a change note with the notes that were spent for it. The wallet's database does, and a wallet that
is restored from words has none. So the link is written into the change's blinding, which only has to be unpredictable
to others: a keyed permutation of 252 bits, below the field's modulus, turns

    zeros 64 | attempt 20 | purpose 64 | position 52 | position 52

into a blinding. Whoever has the owner's seed inverts it; to everybody else, viewing keys included, it is a random number.
The permutation is a Feistel network of four rounds of HMAC-SHA256 (Luby and Rackoff, SIAM J. Comput. 17, 1988), and
asset and amount enter each round: a blinding that is put into another note says nothing. The zeros tell a change from
notes of other senders, whose blindings look like one with probability 2^-64. A payment of more than two notes names none:
that they are spent, the chain's nullifiers say; the purpose, which they cannot say, is always there.
Pure. Not here: what follows for the notes (`edge_agent.wallet.note_store`).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

ZERO_BITS, ATTEMPT_BITS, PURPOSE_BITS, POSITION_BITS = 64, 20, 64, 52
HALF_BITS = (ZERO_BITS + ATTEMPT_BITS + PURPOSE_BITS + 2 * POSITION_BITS) // 2
MAX_NAMED = 2
"""Positions there is room for."""
NO_POSITION = (1 << POSITION_BITS) - 1
ROUNDS = 4
_HALF_MASK = (1 << HALF_BITS) - 1
_HALF_BYTES = (HALF_BITS + 7) // 8


@dataclass(frozen=True)
class Change:
    """The positions a payment spent (none when they are more than two), its purpose's number, and which attempt it was."""

    positions: tuple[int, ...]
    purpose: int
    attempt: int = 0

    def __post_init__(self) -> None:
        if len(self.positions) > MAX_NAMED or not all(0 <= item < NO_POSITION for item in self.positions):
            raise ValueError(f"a change names up to {MAX_NAMED} positions below 2^{POSITION_BITS} - 1")
        if not 0 <= self.purpose < 1 << PURPOSE_BITS:
            raise ValueError("a purpose is a number of 64 bits")

    def _payload(self) -> int:
        first, second = (*self.positions, NO_POSITION, NO_POSITION)[:MAX_NAMED]
        value = self.attempt % (1 << ATTEMPT_BITS)
        for part, bits in ((self.purpose, PURPOSE_BITS), (first, POSITION_BITS), (second, POSITION_BITS)):
            value = value << bits | part
        return value

    @staticmethod
    def _of_payload(payload: int) -> Change | None:
        parts = []
        for bits in (POSITION_BITS, POSITION_BITS, PURPOSE_BITS, ATTEMPT_BITS):
            parts.append(payload & (1 << bits) - 1)
            payload >>= bits
        second, first, purpose, attempt = parts
        if payload or (first == NO_POSITION and second != NO_POSITION):
            return None
        return Change(tuple(item for item in (first, second) if item != NO_POSITION), purpose, attempt)


def change_of(positions: Sequence[int], purpose: str, attempt: int) -> Change:
    """The change of a payment that spends the notes at these positions."""
    named = tuple(positions) if len(positions) <= MAX_NAMED else ()
    return Change(named, purpose_number(purpose), attempt)


def purpose_number(purpose: str) -> int:
    """64 bits that stand for a purpose's name."""
    return int.from_bytes(hashlib.sha256(b"openmg.purpose." + purpose.encode("utf-8")).digest()[:8], "big")


class ChangeCipher:
    """Writes and reads the blindings of one owner's change notes."""

    def __init__(self, owner_seed: bytes) -> None:
        from openmg.kdf import hkdf  # eight megabytes, which a reader of the notes goes without

        self._key = hkdf(owner_seed, "owner/zk-change")

    def _round(self, number: int, note: bytes, half: int) -> int:
        message = bytes([number]) + note + half.to_bytes(_HALF_BYTES, "big")
        return int.from_bytes(hmac.digest(self._key, message, "sha256"), "big") & _HALF_MASK

    def blinding(self, change: Change, asset: int, amount: int) -> int:
        """The blinding, below 2^252, of a change note of this asset and amount."""
        note, payload = _note_bytes(asset, amount), change._payload()
        left, right = payload >> HALF_BITS, payload & _HALF_MASK
        for number in range(ROUNDS):
            left, right = right, left ^ self._round(number, note, right)
        return left << HALF_BITS | right

    def read(self, blinding: int, asset: int, amount: int) -> Change | None:
        """What the blinding of a note of this asset and amount says; None when it is no change of this owner."""
        if blinding >> 2 * HALF_BITS:
            return None
        note = _note_bytes(asset, amount)
        left, right = blinding >> HALF_BITS, blinding & _HALF_MASK
        for number in reversed(range(ROUNDS)):
            left, right = right ^ self._round(number, note, left), left
        return Change._of_payload(left << HALF_BITS | right)


def _note_bytes(asset: int, amount: int) -> bytes:
    return asset.to_bytes(32, "big") + amount.to_bytes(32, "big")
