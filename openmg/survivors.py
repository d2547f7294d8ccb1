"""Signatures under a survivor set: the members whose masked values are summed, and nobody else's.

Rules: a signature counts when it is a survivor's and under this very set. With a quorum above two thirds of the members, two
sets of one round would need more than a third of the members to sign both.
Not here: which sets may be signed (`openmg.masking.survivors` for slots, `openmg.learning.secure.survivors` for updates).
"""

from __future__ import annotations

from collections.abc import Mapping

from openmg.messages.base import digest
from openmg.messages.secure import SurvivorSet
from openmg.signing import InvalidSignature, recover, sign_digest


def two_thirds(members: int) -> int:
    """The least number above two thirds: a third may drop out, and two sets share an honest signer if under a third lie."""
    return 2 * members // 3 + 1


def sign_set(survivors: SurvivorSet, chain_id: int, signing_key: bytes) -> bytes:
    """65 bytes over the set, its purpose and the chain."""
    return sign_digest(signing_key, digest(survivors, chain_id))


def is_signed(survivors: SurvivorSet, chain_id: int, signer: bytes, signature: bytes) -> bool:
    """Whether that survivor signed the set."""
    try:
        return signer in survivors.survivors and recover(digest(survivors, chain_id), signature) == signer
    except InvalidSignature:
        return False


def count_signed(survivors: SurvivorSet, chain_id: int, signatures: Mapping[bytes, bytes], enough: int) -> int:
    """How many survivors signed the set, by signatures (address -> 65 bytes); counts up to `enough`."""
    valid = 0
    for signer, signature in signatures.items():
        valid += is_signed(survivors, chain_id, signer, signature)
        if valid == enough:
            break
    return valid
