"""Pairwise masks: what leaves a home is its value under masks that cancel in the sum of its group.

Every pair of members shares an X25519 secret; for each slot it yields one mask per value, which the member with the
lower address adds and the other subtracts, modulo 2^64 (Bonawitz et al. 2017, section 4.0.1). The sum over *all*
members of a roster is the sum of the values; any smaller set is uniformly random. Masks are keyed by roster and slot,
so none is ever used twice.
Not here: repair of a group with a gap (self masks and secret shares): such a group opens nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from openmg.hashing import keccak256
from openmg.identity import DeviceKey, hkdf
from openmg.messages.base import encode
from openmg.messages.telemetry import MASKED_VALUES, Roster, RosterMember

MASK_MODULUS = 2**64
MIN_GROUP = 5
"""Fewer members and a sum would say too much about each of them."""
MAX_GROUP = 256


def roster_id(roster: Roster) -> bytes:
    """The 32 bytes by which masks and reports name their roster."""
    return keccak256(encode(roster))


def make_roster(microgrid: int, from_slot: int, members: Iterable[RosterMember]) -> Roster:
    """A roster in canonical order; ValueError when it has too few, too many or repeated members."""
    ordered = tuple(sorted(members, key=lambda member: member.address))
    if not MIN_GROUP <= len(ordered) <= MAX_GROUP:
        raise ValueError(f"a group has {MIN_GROUP} to {MAX_GROUP} members, not {len(ordered)}")
    if len({member.address for member in ordered}) != len(ordered):
        raise ValueError("a meter stands twice in the roster")
    return Roster(microgrid, from_slot, ordered)


def is_mask_key(public: bytes) -> bool:
    """Whether a secret can be agreed with the key: a point of small order would spoil the roster for its whole group."""
    try:
        X25519PrivateKey.from_private_bytes(bytes(32)).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        return False
    return True


class Masker:
    """The masks of one member of a roster; agrees on the pairwise secrets once."""

    def __init__(self, key: DeviceKey, roster: Roster) -> None:
        if key.address not in {member.address for member in roster.members}:
            raise ValueError(f"device 0x{key.address.hex()} is not in the roster of microgrid {roster.microgrid}")
        self.roster_id = roster_id(roster)
        self._pairs = [
            (1 if key.address < peer.address else -1, self._secret(key, peer))
            for peer in roster.members
            if peer.address != key.address
        ]

    @staticmethod
    def _secret(key: DeviceKey, peer: RosterMember) -> bytes:
        return key.mask_key.exchange(X25519PublicKey.from_public_bytes(peer.mask_public))

    def mask(self, slot: int, values: Sequence[int]) -> tuple[int, ...]:
        """The values of a slot under this member's masks, each modulo 2^64."""
        if len(values) != MASKED_VALUES or not all(0 <= value < 2**32 for value in values):
            raise ValueError(f"a slot has {MASKED_VALUES} values in 0..2^32-1")
        label = f"mask/{self.roster_id.hex()}/{slot}"
        masked = list(values)
        for sign, secret in self._pairs:
            stream = hkdf(secret, label, 8 * MASKED_VALUES)
            for i in range(MASKED_VALUES):
                masked[i] += sign * int.from_bytes(stream[8 * i : 8 * i + 8], "little")
        return tuple(value % MASK_MODULUS for value in masked)


def open_sum(roster: Roster, masked: dict[bytes, Sequence[int]]) -> tuple[int, ...]:
    """The sums of the group's values from one masked report of every member (by address).

    Raises ValueError when the reports are not exactly those of the roster's members, or when a sum is not plausible
    (some member did not follow the rules: then nothing is learnt).
    """
    if set(masked) != {member.address for member in roster.members}:
        raise ValueError("the reports are not those of all members of the roster")
    sums = tuple(sum(values[i] for values in masked.values()) % MASK_MODULUS for i in range(MASKED_VALUES))
    if any(total >= 2**32 * len(roster.members) for total in sums):
        raise ValueError(f"the masks of microgrid {roster.microgrid} do not cancel; a member used another roster or slot")
    return sums
