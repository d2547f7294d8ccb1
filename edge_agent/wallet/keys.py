"""The owner's keys, all from one 32-byte seed: the plasma account and the notes' spending key.

Rules: an owner key signs money and never telemetry; the seed may live off the meter except while spending. Each key has
its own HKDF label. Not here: the device key (`openmg.identity`), what a spending key is (`openmg.zk.notes`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from openmg.identity import signing_key
from openmg.signing import address_of

if TYPE_CHECKING:
    from openmg.zk.notes import SpendingKey


@dataclass(frozen=True)
class OwnerKeys:
    """What is derived from an owner's seed."""

    seed: bytes

    def __repr__(self) -> str:
        return f"OwnerKeys(0x{self.account.hex()})"

    @cached_property
    def account_key(self) -> bytes:
        """secp256k1 key of the owner's account on the plasma chain."""
        return signing_key(self.seed, "owner/account")

    @cached_property
    def account(self) -> bytes:
        return address_of(self.account_key)

    @cached_property
    def spending_key(self) -> SpendingKey:
        """Key of the owner's notes."""
        from openmg.zk.notes import SpendingKey

        return SpendingKey.from_seed(self.seed)
