"""What a member answers when its hub asks to open a slot, as a function of what it promised before.

    whole set           signature and keys at once: it reveals pads of shares only
    somebody left out   the signature first; the keys once `threshold` survivors signed the same set

Why both are safe against a hub that shows different sets: to open a report it needs `threshold` pads of its shares, to take
the pair masks off a report it needs the peers' pair keys. Pair keys are given only under a set that more than two thirds
signed, so at most a third, and a third that lies, can still answer another set: too few for the shares of a member left
out. Nobody reveals its own seed whole, since it alone might have been shown the whole set.
Rules: one set for each slot, one key for each member, and no key before the promise of that set is durable: the caller stores
the promise that `answer` returns before it sends the opening. A repeated notice brings the same answer.
Not here: storage and transport (`edge_agent.masking`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from openmg.hashing import keccak256
from openmg.masking.masks import Masker
from openmg.masking.rosters import threshold
from openmg.masking.survivors import RefusedSet, is_whole, require_set, set_of
from openmg.messages.base import encode
from openmg.messages.slot_opening import OpeningNotice, SlotOpening
from openmg.survivors import count_signed, sign_set


@dataclass(frozen=True)
class Promise:
    """What a member must not forget of a slot: under which roster it reported, with which self mask, and the digest of the set
    it signed (empty before)."""

    slot: int
    roster_id: bytes
    self_commitment: bytes
    survivors: bytes = b""


def answer(
    masker: Masker, promise: Promise, notice: OpeningNotice, chain_id: int, signing_key: bytes
) -> tuple[Promise, SlotOpening]:
    """The promise to store first, and then the answer to send. Raises RefusedSet; nothing changes then."""
    survivors, slot = set_of(notice), notice.slot
    if (promise.slot, promise.roster_id) != (slot, notice.roster_id) or masker.roster_id != notice.roster_id:
        raise RefusedSet("roster", f"slot {slot} was reported under another roster")
    mine = [c for a, c in zip(notice.survivors, notice.commitments, strict=True) if a == masker.address]
    if mine != [promise.self_commitment]:
        raise RefusedSet("absent", f"slot {slot} is to be opened without this meter's report")
    require_set(masker.roster, notice.survivors)
    name = keccak256(encode(survivors))
    if promise.survivors not in (b"", name):
        raise RefusedSet("second", f"another set of slot {slot} was answered; the hub asks a second time with other members")
    signature = sign_set(survivors, chain_id, signing_key)
    keys = b""
    if is_whole(masker.roster, notice.survivors) or _has_quorum(masker, notice, chain_id):
        keys = _keys(masker, notice)
    return replace(promise, survivors=name), SlotOpening(notice.roster_id, slot, signature, keys)


def _has_quorum(masker: Masker, notice: OpeningNotice, chain_id: int) -> bool:
    signatures, enough = dict(zip(notice.signers, notice.signatures, strict=True)), threshold(len(masker.roster.members))
    return count_signed(set_of(notice), chain_id, signatures, enough) >= enough


def _keys(masker: Masker, notice: OpeningNotice) -> bytes:
    """One key for each member: the only place where a member gives any away."""
    alive = dict(zip(notice.survivors, notice.commitments, strict=True))
    return b"".join(
        masker.pad(peer, notice.slot, alive[peer]) if peer in alive else masker.pair_key(peer, notice.slot)
        for peer in (member.address for member in masker.roster.members)
    )
