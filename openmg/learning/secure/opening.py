"""From revealed shares to the masks that still lie on the sum of the survivors' updates.

Rules: a share counts when its digest is the one its dealer published for that holder and that secret; others name their
holder as tampering. A secret counts when it matches its dealer's commitment (self mask) or public key (pairwise key); one that
does not names its dealer, and the round opens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from openmg.learning.secure.round_secrets import commitment, pair_mask, pair_public, self_mask, share_digest
from openmg.learning.secure.shamir import combine
from openmg.learning.secure.streams import U32
from openmg.learning.secure.terms import RoundTerms, SecureError
from openmg.messages.secure import PAIR_DIGEST_BYTES, SHARE_DIGEST_BYTES, ShareDealing, SurvivorSet, Unmasking
from openmg.pairwise import mask_sign


def open_masks(
    terms: RoundTerms,
    dealings: Mapping[bytes, ShareDealing],
    survivors: SurvivorSet,
    unmaskings: Mapping[bytes, Unmasking],
) -> tuple[U32, tuple[bytes, ...]]:
    """The masks [P] on the survivors' sum modulo 2^32, and the holders that revealed wrong shares, ascending.

    Raises SecureError when a secret has too few good shares or is not the dealt one.
    """
    alive = frozenset(survivors.survivors)
    good, tampered = _good_shares(terms, dealings, alive, unmaskings)
    masks = np.zeros(terms.parameters, np.uint32)
    for owner in sorted(dealings):
        others = [peer for peer in terms.neighbours(owner) if peer in alive]
        if owner in alive:
            masks += self_mask(terms.round_id, _self_seed(terms, owner, dealings[owner], good), terms.parameters)
        elif others:
            secret = _pair_secret(terms, owner, dealings[owner], good)
            for peer in others:  # the peer's half is in the sum; the half of the one that dropped out is not
                half = pair_mask(terms.round_id, secret, dealings[peer].round_public, terms.parameters)
                masks = masks + half if mask_sign(peer, owner) > 0 else masks - half
    return masks, tampered


def _good_shares(
    terms: RoundTerms,
    dealings: Mapping[bytes, ShareDealing],
    alive: frozenset[bytes],
    unmaskings: Mapping[bytes, Unmasking],
) -> tuple[dict[bytes, dict[int, bytes]], tuple[bytes, ...]]:
    """Shares by owner and place that are what was dealt, and the holders of the others."""
    good: dict[bytes, dict[int, bytes]] = {owner: {} for owner in dealings}
    tampered: set[bytes] = set()
    for holder, unmasking in unmaskings.items():
        for item in unmasking.shares:
            place = _place(terms, item.owner, holder) if item.owner in dealings else None
            if place is None or share_digest(terms.round_id, item.share) != _digest(
                dealings[item.owner], place, item.owner in alive
            ):
                tampered.add(holder)
            else:
                good[item.owner][place] = item.share
    return good, tuple(sorted(tampered))


def _place(terms: RoundTerms, owner: bytes, holder: bytes) -> int | None:
    holders = terms.holders(owner)
    return holders.index(holder) if holder in holders else None


def _digest(dealing: ShareDealing, place: int, survived: bool) -> bytes:
    start = place * PAIR_DIGEST_BYTES + (0 if survived else SHARE_DIGEST_BYTES)
    return dealing.digests[start : start + SHARE_DIGEST_BYTES]


def _secret(terms: RoundTerms, owner: bytes, good: Mapping[bytes, Mapping[int, bytes]]) -> int:
    if len(good[owner]) < terms.share_threshold:
        raise SecureError(
            f"{len(good[owner])} good shares of 0x{owner.hex()} came; round {terms.round} opens nothing below"
            f" {terms.share_threshold}"
        )
    return combine(good[owner], terms.share_threshold)


def _self_seed(terms: RoundTerms, owner: bytes, dealing: ShareDealing, good: Mapping[bytes, Mapping[int, bytes]]) -> int:
    secret = _secret(terms, owner, good)
    if commitment(terms.round_id, secret) != dealing.self_commitment:
        raise SecureError(f"0x{owner.hex()} dealt shares of another self mask than it committed to; open a round without it")
    return secret


def _pair_secret(terms: RoundTerms, owner: bytes, dealing: ShareDealing, good: Mapping[bytes, Mapping[int, bytes]]) -> int:
    secret = _secret(terms, owner, good)
    if pair_public(secret) != dealing.round_public:
        raise SecureError(f"0x{owner.hex()} dealt shares of another key than its public one; open a round without it")
    return secret
