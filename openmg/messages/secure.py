"""Secure aggregation: what devices and the hub say to each other in a private round of learning.

One round: every member deals shares of its two secrets; the hub passes each member those meant for it; a member answers
with its masked update; the members still there sign one survivor set; each then reveals, for every member it holds shares
of, one share: of the self mask of a survivor, of the pairwise key of one that dropped out. Which of the two follows from
the survivor set, so a message has no field for it.
Not here: what is done with them (`openmg.learning.secure`), topics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from openmg.units import HASH_BYTES

ADDRESS_BYTES = 20
PUBLIC_BYTES = 32
SHARE_BYTES = 32
SHARE_DIGEST_BYTES = 16
PAIR_DIGEST_BYTES = 2 * SHARE_DIGEST_BYTES
"""Digests of a holder's share of the self mask and of its share of the pairwise key."""
SEALED_BYTES = 2 * SHARE_BYTES + 16
"""Two shares and the tag of ChaCha20-Poly1305."""


@dataclass(frozen=True)
class ShareDealing:
    """A member's public key of the round, and shares of its secrets for its holders. Signed by the device key.

    `digests` holds PAIR_DIGEST_BYTES for each holder (its neighbours and itself, ascending), `sealed` one ciphertext for
    each neighbour, ascending.
    """

    PURPOSE: ClassVar[str] = "secagg-dealing"
    round_id: bytes
    round_public: bytes
    self_commitment: bytes
    digests: bytes
    sealed: tuple[bytes, ...]

    def __post_init__(self) -> None:
        sizes = len(self.round_id), len(self.round_public), len(self.self_commitment)
        if sizes != (HASH_BYTES, PUBLIC_BYTES, HASH_BYTES):
            raise ValueError("a dealing has a round id, a public key and a commitment of 32 bytes each")
        if any(len(item) != SEALED_BYTES for item in self.sealed):
            raise ValueError(f"sealed shares have {SEALED_BYTES} bytes")
        if len(self.digests) != PAIR_DIGEST_BYTES * (len(self.sealed) + 1):
            raise ValueError("a dealing has two digests for each neighbour and for itself")


@dataclass(frozen=True)
class Delivery:
    """One dealer's part for one neighbour, as the hub passes it on; the cipher binds all of it to the pair."""

    PURPOSE: ClassVar[str] = "secagg-delivery"
    dealer: bytes
    round_public: bytes
    self_commitment: bytes
    digests: bytes
    sealed: bytes

    def __post_init__(self) -> None:
        sizes = tuple(map(len, (self.dealer, self.round_public, self.self_commitment, self.digests, self.sealed)))
        if sizes != (ADDRESS_BYTES, PUBLIC_BYTES, HASH_BYTES, PAIR_DIGEST_BYTES, SEALED_BYTES):
            raise ValueError("a delivery has an address, a public key, a commitment, two digests and sealed shares")


@dataclass(frozen=True)
class MaskedUpdate:
    """An update under all of a member's masks: uint32 little-endian. Signed by the device key."""

    PURPOSE: ClassVar[str] = "secagg-masked"
    round_id: bytes
    values: bytes

    def __post_init__(self) -> None:
        if len(self.round_id) != HASH_BYTES or len(self.values) % 4:
            raise ValueError("a masked update has a 32-byte round id and uint32 values")


@dataclass(frozen=True)
class MaskCommit:
    """A dealer's promise of its masked update, by the hash of its bytes (`openmg.learning.blobs`). Signed by the device key."""

    PURPOSE: ClassVar[str] = "secagg-mask-commit"
    round_id: bytes
    commitment: bytes

    def __post_init__(self) -> None:
        if len(self.round_id) != HASH_BYTES or len(self.commitment) != HASH_BYTES:
            raise ValueError("a mask commit has a round id and a commitment of 32 bytes each")


@dataclass(frozen=True)
class SurvivorSet:
    """The members whose masked updates are summed, ascending. Every one of them signs it, and no other of the round."""

    PURPOSE: ClassVar[str] = "secagg-survivors"
    round_id: bytes
    survivors: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if len(self.round_id) != HASH_BYTES or any(len(address) != ADDRESS_BYTES for address in self.survivors):
            raise ValueError("a survivor set has a 32-byte round id and 20-byte addresses")
        if list(self.survivors) != sorted(set(self.survivors)):
            raise ValueError("survivors stand in ascending order, each once")


@dataclass(frozen=True)
class RevealedShare:
    """The one share that a holder reveals of a member's secret."""

    owner: bytes
    share: bytes

    def __post_init__(self) -> None:
        if len(self.owner) != ADDRESS_BYTES or len(self.share) != SHARE_BYTES:
            raise ValueError("a revealed share has a 20-byte owner and 32 bytes")


@dataclass(frozen=True)
class Unmasking:
    """What a survivor reveals: one share for each member it holds shares of, ascending. Signed by the device key."""

    PURPOSE: ClassVar[str] = "secagg-unmasking"
    round_id: bytes
    shares: tuple[RevealedShare, ...]

    def __post_init__(self) -> None:
        owners = [item.owner for item in self.shares]
        if len(self.round_id) != HASH_BYTES or owners != sorted(set(owners)):
            raise ValueError("an unmasking has a 32-byte round id and one share for each owner, ascending")
