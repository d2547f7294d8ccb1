"""From revealed shares to the masks that still lie on the sum of the survivors' updates, and to that sum.

Rules: a share counts when its digest is the one its dealer published for that holder and that secret; others name their
holder as tampering. A secret counts when it matches its dealer's commitment (self mask) or public key (pairwise key); one that
does not names its dealer, and the round opens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from openmg.learning.secure.round_secrets import commitment, pair_mask, pair_public, self_mask, share_digest
from openmg.learning.secure.streams import U32
from openmg.learning.secure.terms import RoundTerms, SecureError
from openmg.messages.secure import (
    PAIR_DIGEST_BYTES,
    SHARE_DIGEST_BYTES,
    RevealedShare,
    ShareDealing,
    SurvivorSet,
    Unmasking,
)
from openmg.pairwise import mask_sign
from openmg.shamir import combine

I64 = NDArray[np.int64]


class DealerFault(SecureError):
    """A dealer's shares give another secret than it published: `dealer` is its address."""

    def __init__(self, dealer: bytes, problem: str) -> None:
        super().__init__(f"0x{dealer.hex()} {problem}; open a round without it")
        self.dealer = dealer


def open_sum(
    terms: RoundTerms,
    dealings: Mapping[bytes, ShareDealing],
    masked: Mapping[bytes, bytes],
    unmaskings: Mapping[bytes, Unmasking],
) -> tuple[I64, tuple[bytes, ...]]:
    """The sum [P] in units of 2^-18, read as int32, of those with a masked update (uint32 little-endian), and the holders
    that revealed wrong shares. Raises SecureError as `open_masks` does.
    """
    total = np.zeros(terms.parameters, np.uint32)
    for values in masked.values():
        total += np.frombuffer(values, dtype="<u4")
    masks, tampered = open_masks(terms, dealings, SurvivorSet(terms.round_id, tuple(sorted(masked))), unmaskings)
    return (total - masks).astype(np.int32).astype(np.int64), tampered


def open_masks(
    terms: RoundTerms,
    dealings: Mapping[bytes, ShareDealing],
    survivors: SurvivorSet,
    unmaskings: Mapping[bytes, Unmasking],
) -> tuple[U32, tuple[bytes, ...]]:
    """The masks [P] on the survivors' sum modulo 2^32, and the holders that revealed wrong shares, ascending.

    Raises SecureError when a secret has too few good shares, DealerFault when it is not the published one.
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
            if is_dealt(terms, dealings, holder, item, item.owner in alive):
                good[item.owner][terms.holders(item.owner).index(holder)] = item.share
            else:
                tampered.add(holder)
    return good, tuple(sorted(tampered))


def is_dealt(
    terms: RoundTerms, dealings: Mapping[bytes, ShareDealing], holder: bytes, item: RevealedShare, survived: bool
) -> bool:
    """Whether the share is the one that its owner dealt to the holder: of the self mask if the owner survived, else of its
    pairwise key."""
    if item.owner not in dealings or holder not in terms.holders(item.owner):
        return False
    place = terms.holders(item.owner).index(holder)
    return share_digest(terms.round_id, item.share) == _digest(dealings[item.owner], place, survived)


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
        raise DealerFault(owner, "dealt shares of another self mask than it committed to")
    return secret


def _pair_secret(terms: RoundTerms, owner: bytes, dealing: ShareDealing, good: Mapping[bytes, Mapping[int, bytes]]) -> int:
    secret = _secret(terms, owner, good)
    if pair_public(secret) != dealing.round_public:
        raise DealerFault(owner, "dealt shares of another key than its public one")
    return secret
