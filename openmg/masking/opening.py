"""From reports and answers to a group's sums: the hub's half of the masks.

Rules: a share counts when it is the one its dealer published the digest of; a seed counts when its report is bound to it. The
pair masks of those left out are taken off with the keys of *all* survivors, since each of their reports carries one. A wrong
pair key cannot be told from a right one here: the sums then do not fit the commitments (`sums.require_committed`).
Not here: collecting and deadlines (`hub.ingest.openings`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openmg.masking.masks import Words, add, dealt_share, pair_mask, self_commitment, self_mask, share_digest, xor
from openmg.masking.rosters import roster_id, threshold
from openmg.masking.sums import SlotSums, require_plausible
from openmg.messages.slot_opening import KEY_BYTES
from openmg.messages.telemetry import MASK_MODULI, Roster
from openmg.pairwise import mask_sign
from openmg.shamir import combine


class NotYet(ValueError):
    """More answers are needed."""


class CannotOpen(ValueError):
    """The reports and answers do not open; one sentence says why."""


@dataclass(frozen=True)
class MaskedReport:
    """What opening needs of a report: masked values, the self commitment and the dealt shares."""

    masked: Words
    self_commitment: bytes
    shares: bytes


def open_sums(roster: Roster, slot: int, reports: Mapping[bytes, MaskedReport], keys: Mapping[bytes, bytes]) -> SlotSums:
    """The sums over the survivors, whose reports these are; `keys`: what those who answered gave, by address.

    Raises NotYet, CannotOpen, and ValueError when the sums are not plausible.
    """
    name, members = roster_id(roster), [member.address for member in roster.members]
    answers = {holder: keys[holder] for holder in reports if len(keys.get(holder, b"")) == KEY_BYTES * len(members)}
    total: Words = (0,) * len(MASK_MODULI)
    for dealer, report in reports.items():
        seed = _seed(members, dealer, report, answers)
        if self_commitment(name, slot, dealer, seed) != report.self_commitment:
            raise CannotOpen(f"0x{dealer.hex()} dealt shares of another self mask than its report's")
        total = add(add(total, report.masked), self_mask(name, slot, seed), -1)
    for place, gone in enumerate(members):
        if gone in reports:
            continue
        for peer in reports:
            if peer not in answers:
                raise NotYet("a member is left out, so every survivor must answer")
            total = add(total, pair_mask(_key(answers[peer], place)), -mask_sign(peer, gone))
    sums = SlotSums(*total)
    require_plausible(sums, len(reports))
    return sums


def _seed(members: Sequence[bytes], dealer: bytes, report: MaskedReport, answers: Mapping[bytes, bytes]) -> int:
    enough, place_of_dealer = threshold(len(members)), members.index(dealer)
    good: dict[int, bytes] = {}
    for place, holder in enumerate(members):
        if holder not in answers or len(good) == enough:
            continue
        dealt = dealt_share(report.shares, place)
        share = xor(dealt.sealed, _key(answers[holder], place_of_dealer)) if dealt.sealed else b""
        if share_digest(report.self_commitment, holder, share) == dealt.digest:
            good[place] = share
    if len(good) < enough:
        raise NotYet(f"{len(good)} good shares of 0x{dealer.hex()} came; {enough} are needed")
    return combine(good, enough)


def _key(keys: bytes, place: int) -> bytes:
    return keys[place * KEY_BYTES : (place + 1) * KEY_BYTES]
