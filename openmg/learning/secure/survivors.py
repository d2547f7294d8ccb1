"""The survivor set of a round: its form, its signatures and the quorum that lets a member reveal shares.

Rules: a set has at least `threshold` members of the round; it counts once `threshold` of *its* members signed it. With more
than two thirds as threshold, two sets of one round would need more than a third of the members to sign both.
Not here: the signatures themselves (`openmg.survivors`).
"""

from __future__ import annotations

from collections.abc import Mapping

from openmg import survivors as signatures_of
from openmg.learning.secure.terms import RoundTerms, SecureError
from openmg.messages.secure import SurvivorSet


def require_set(terms: RoundTerms, survivors: SurvivorSet) -> None:
    """SecureError unless it is a set of this round, of members only, and at least `threshold` of them."""
    if survivors.round_id != terms.round_id or not terms.mask_public.keys() >= set(survivors.survivors):
        raise SecureError(f"the survivor set is not one of members of round {terms.round}")
    count = len(survivors.survivors)
    if count < terms.threshold:
        raise SecureError(f"{count} members are left; round {terms.round} opens nothing below {terms.threshold}")


def sign_set(terms: RoundTerms, survivors: SurvivorSet, signing_key: bytes) -> bytes:
    """65 bytes over the set, its purpose and the chain."""
    return signatures_of.sign_set(survivors, terms.chain_id, signing_key)


def is_signed(terms: RoundTerms, survivors: SurvivorSet, signer: bytes, signature: bytes) -> bool:
    """Whether that survivor signed the set."""
    return signatures_of.is_signed(survivors, terms.chain_id, signer, signature)


def require_quorum(terms: RoundTerms, survivors: SurvivorSet, signatures: Mapping[bytes, bytes]) -> None:
    """SecureError unless at least `threshold` survivors signed the set; signatures that are not valid do not count."""
    require_set(terms, survivors)
    valid = signatures_of.count_signed(survivors, terms.chain_id, signatures, terms.threshold)
    if valid < terms.threshold:
        raise SecureError(f"{valid} survivors signed the set; round {terms.round} takes {terms.threshold}")
