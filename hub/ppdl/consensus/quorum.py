"""Quorum arithmetic, validator sets and the proposer rule.

q = (n + f) // 2 + 1 with f = (n - 1) // 3: two quorums always share an honest validator (2q - n > f), for
every n and not only n = 3f + 1, and the honest validators alone are a quorum (q <= n - f).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from hub.ppdl.genesis import ADDRESS_BYTES, MAX_VALIDATORS
from openmg.hashing import keccak256, word


def max_faulty(n: int) -> int:
    """Byzantine validators that n validators tolerate."""
    return (n - 1) // 3


def quorum(n: int) -> int:
    """Votes that decide among n validators."""
    return (n + max_faulty(n)) // 2 + 1


@dataclass(frozen=True)
class ValidatorSet:
    """Validators of one height.

    1 .. MAX_VALIDATORS distinct 20-byte addresses in ascending order. Raises ValueError otherwise.
    """

    addresses: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.addresses) <= MAX_VALIDATORS:
            raise ValueError(f"a validator set has 1 to {MAX_VALIDATORS} members, not {len(self.addresses)}")
        if any(len(a) != ADDRESS_BYTES for a in self.addresses):
            raise ValueError("a validator address has 20 bytes")
        if any(a >= b for a, b in zip(self.addresses, self.addresses[1:], strict=False)):
            raise ValueError("validator addresses must be in strictly ascending order")

    def __len__(self) -> int:
        return len(self.addresses)

    def __contains__(self, address: bytes) -> bool:
        return address in self.members

    @cached_property
    def members(self) -> frozenset[bytes]:
        """The addresses, for the many places that ask whether one is among them."""
        return frozenset(self.addresses)

    @cached_property
    def quorum(self) -> int:
        """Votes that decide."""
        return quorum(len(self.addresses))

    @cached_property
    def max_faulty(self) -> int:
        """Byzantine members tolerated."""
        return max_faulty(len(self.addresses))

    @cached_property
    def hash(self) -> bytes:
        """keccak-256 of the concatenated address words in ascending order (what the relay contract stores)."""
        return keccak256(b"".join(word(address) for address in self.addresses))

    def proposer(self, height: int, view: int) -> bytes:
        """Address that proposes in (height, view): the turn passes on with every height and every view."""
        return self.addresses[(height + view) % len(self.addresses)]

    def updated(self, changes: tuple[tuple[bytes, bool], ...]) -> ValidatorSet:
        """Apply (address, active) changes in order. Raises ValueError when the result is no valid set."""
        members = set(self.addresses)
        for address, active in changes:
            if active:
                members.add(address)
            else:
                members.discard(address)
        return ValidatorSet(tuple(sorted(members)))
