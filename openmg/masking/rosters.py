"""Rosters: which meters are summed together, in which order, and how many of them a sum takes.

Rules: a roster is canonical (ascending, each meter once), has MIN_GROUP to MAX_GROUP members, and of each member the utility
signed that it is a real meter with this mask key (`require_approved`): an operator alone cannot make up members.
Not here: who makes rosters (`hub.ingest.rosters`).
"""

from __future__ import annotations

from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from openmg.hashing import keccak256
from openmg.messages.base import digest, encode
from openmg.messages.slot_opening import MeterApproval
from openmg.messages.telemetry import Roster, RosterMember
from openmg.pairwise import agree
from openmg.signing import InvalidSignature, recover, sign_digest
from openmg.survivors import two_thirds

MIN_GROUP = 5
"""Fewer members and a sum would say too much about each of them."""
DEFAULT_GROUP = 10
"""Three of ten may be away and the others' sum still opens."""
MAX_GROUP = 192
"""A slot with the signed reports of so many fits one transaction."""


def threshold(members: int) -> int:
    """Survivors that a slot takes, signatures and answers it takes to open it, and shares that give a self mask.

    More than half would keep two disjoint sets from both being answered; above two thirds two *different* sets are only
    answered if a third of the members sign both.
    """
    return max(MIN_GROUP, two_thirds(members))


def roster_id(roster: Roster) -> bytes:
    """The 32 bytes by which masks and reports name their roster."""
    return keccak256(encode(roster))


def make_roster(
    microgrid: int, from_slot: int, members: Iterable[RosterMember], clear_feeder: bool = False, operator: bytes = b""
) -> Roster:
    """A roster in canonical order; ValueError when it has too few, too many or repeated members."""
    ordered = tuple(sorted(members, key=lambda member: member.address))
    if not MIN_GROUP <= len(ordered) <= MAX_GROUP:
        raise ValueError(f"a group has {MIN_GROUP} to {MAX_GROUP} members, not {len(ordered)}")
    if len({member.address for member in ordered}) != len(ordered):
        raise ValueError("a meter stands twice in the roster")
    return Roster(microgrid, from_slot, ordered, clear_feeder, operator)


def is_mask_key(public: bytes) -> bool:
    """Whether a secret can be agreed with the key: a point of small order would spoil the roster for its whole group."""
    try:
        agree(X25519PrivateKey.from_private_bytes(bytes(32)), public)
    except ValueError:
        return False
    return True


def approve(approval: MeterApproval, chain_id: int, utility_key: bytes) -> bytes:
    """The utility's signature, 65 bytes, that goes into a RosterMember."""
    return sign_digest(utility_key, digest(approval, chain_id))


def require_approved(roster: Roster, chain_id: int, utility: bytes) -> None:
    """ValueError unless the utility (20-byte address) signed every member, its mask key and what the roster says of the
    feeder."""
    for member in roster.members:
        said = MeterApproval(roster.microgrid, member.device, member.address, member.mask_public, roster.clear_feeder)
        try:
            signer = recover(digest(said, chain_id), member.approval)
        except InvalidSignature:
            signer = b""
        if signer != utility:
            raise ValueError(f"the utility did not approve {member.device} as a meter of microgrid {roster.microgrid}")
