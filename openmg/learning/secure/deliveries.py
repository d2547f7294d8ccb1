"""What each holder is given of the dealings: the part of every neighbour's that is sealed for it.

Not here: opening them (`device`), whose dealings they are (`hub`, and on a chain `hub.ppdl.app.private_steps`).
"""

from __future__ import annotations

from collections.abc import Mapping

from openmg.learning.secure.terms import RoundTerms
from openmg.messages.secure import PAIR_DIGEST_BYTES, Delivery, ShareDealing


def deliveries_of(terms: RoundTerms, dealings: Mapping[bytes, ShareDealing], holder: bytes) -> tuple[Delivery, ...]:
    """The deliveries of the holder's neighbours that dealt, ascending by dealer. Raises SecureError for a stranger.

    Each dealing has as many sealed shares as its dealer has neighbours.
    """
    return tuple(
        _delivery(terms, dealer, dealings[dealer], holder) for dealer in terms.neighbours(holder) if dealer in dealings
    )


def _delivery(terms: RoundTerms, dealer: bytes, dealing: ShareDealing, holder: bytes) -> Delivery:
    place = terms.holders(dealer).index(holder)
    digests = dealing.digests[place * PAIR_DIGEST_BYTES : (place + 1) * PAIR_DIGEST_BYTES]
    sealed = dealing.sealed[terms.neighbours(dealer).index(holder)]
    return Delivery(dealer, dealing.round_public, dealing.self_commitment, digests, sealed)
