"""Pairwise masks: what leaves a home is its value under masks that cancel in the sum of its group.

Every pair of members shares an X25519 secret; for each slot it yields one mask per value, which the member with the
lower address adds and the other subtracts, modulo 2^64 for energies and modulo l, the order of the commitments' group, for
blindings (Bonawitz et al. 2017, section 4.0.1). The sum over *all* members of a roster is the sum of the values; any
smaller set is uniformly random. Masks are keyed by roster and slot, so none is ever used twice as long as a meter reports
each slot once.
The sum of the members' commitments must open to the opened sums (`require_committed`): that ties each commitment to what
was masked, up to shifts that cancel within the group, and those the range proof of every commitment bounds.
Not here: repair of a group with a gap (self masks and secret shares): such a group opens nothing; the range proofs;
masks of model updates, which do have such repair (`openmg.learning.secure`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from openmg.hashing import keccak256
from openmg.identity import DeviceKey
from openmg.kdf import hkdf
from openmg.messages.base import encode
from openmg.messages.telemetry import MASK_MODULI, Roster, RosterMember
from openmg.pairwise import agree, mask_sign
from openmg.zk import babyjub
from openmg.zk.babyjub import SUBGROUP_ORDER, Point

MASK_BYTES = (8, 8, 48, 48)
"""Of the key stream for each value: 48 bytes make the bias of a mask modulo l negligible."""
VALUE_LIMITS = (2**32, 2**32, SUBGROUP_ORDER, SUBGROUP_ORDER)
Commitments = tuple[Point, Point]
"""A member's commitments to export and import, in this order."""
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
        agree(X25519PrivateKey.from_private_bytes(bytes(32)), public)
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
            (mask_sign(key.address, peer.address), agree(key.mask_key, peer.mask_public))
            for peer in roster.members
            if peer.address != key.address
        ]

    def mask(self, slot: int, values: Sequence[int]) -> tuple[int, ...]:
        """A slot's import and export in Wh and the blindings of export and import, under this member's masks.

        Raises ValueError for energies from 2^32 and blindings from l on.
        """
        if len(values) != len(VALUE_LIMITS) or not all(0 <= v < limit for v, limit in zip(values, VALUE_LIMITS, strict=True)):
            raise ValueError("a slot has two energies in 0..2^32-1 and two blindings in 0..l-1")
        label = f"mask/{self.roster_id.hex()}/{slot}"
        masked = list(values)
        for sign, secret in self._pairs:
            stream, place = hkdf(secret, label, sum(MASK_BYTES)), 0
            for i, size in enumerate(MASK_BYTES):
                masked[i] += sign * int.from_bytes(stream[place : place + size], "little")
                place += size
        return tuple(value % modulus for value, modulus in zip(masked, MASK_MODULI, strict=True))


class SlotSums(NamedTuple):
    """A group's opened sums: energies in Wh, blindings modulo l."""

    import_wh: int
    export_wh: int
    export_blinding: int
    import_blinding: int


def open_sum(roster: Roster, masked: dict[bytes, Sequence[int]]) -> SlotSums:
    """The sums of the group's values from one masked report of every member (by address).

    Raises ValueError when the reports are not exactly those of the roster's members, or when a sum is not plausible
    (some member did not follow the rules: then nothing is learnt).
    """
    if set(masked) != {member.address for member in roster.members}:
        raise ValueError("the reports are not those of all members of the roster")
    sums = SlotSums(*(sum(values[i] for values in masked.values()) % modulus for i, modulus in enumerate(MASK_MODULI)))
    if max(sums.import_wh, sums.export_wh) >= 2**32 * len(roster.members):
        raise ValueError(f"the masks of microgrid {roster.microgrid} do not cancel; a member used another roster or slot")
    return sums


def require_committed(sums: SlotSums, commitments: Iterable[Commitments]) -> None:
    """ValueError unless the members' commitments, added up, open to the sums: sum Cx = X G + R H', and sum Cm alike.

    The points must be known to lie in the subgroup (`openmg.zk.babyjub.decompress`).
    """
    exported = imported = babyjub.IDENTITY
    for export_point, import_point in commitments:
        exported, imported = babyjub.add(exported, export_point), babyjub.add(imported, import_point)
    for name, total, energy_wh, blinding in (
        ("export", exported, sums.export_wh, sums.export_blinding),
        ("import", imported, sums.import_wh, sums.import_blinding),
    ):
        if babyjub.commit(energy_wh, blinding) != total:
            raise ValueError(f"the {name} commitments do not open to the group's sum; a member committed to another value")
