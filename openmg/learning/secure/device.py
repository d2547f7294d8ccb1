"""A member's steps in a private round, as functions of its keys, the terms and what it remembers.

Rules: each step returns the memory to store durably and then the answer to send, in this order. A step that is repeated
with the same input gives the same answer; with another input it raises SecureError, and memory and secrecy stay as they were:
  one masked update a round   two under the same masks would show their difference;
  one survivor set a round    two would let the hub open what a smaller set hides;
  one share for each owner    its kind follows from the signed survivor set, no caller chooses it.
Clipping is this device's own duty: nobody can check it afterwards.
Not here: what the hub does (`hub`), where the noise comes from (`noise`), storage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from openmg.hashing import keccak256
from openmg.learning.quantise import norm_units
from openmg.learning.secure.round_secrets import (
    RoundSecrets,
    Sealer,
    commitment,
    pair_mask,
    pair_public,
    self_mask,
    share_digest,
)
from openmg.learning.secure.survivors import require_quorum, require_set, sign_set
from openmg.learning.secure.terms import RoundTerms, SecureError
from openmg.messages.base import encode
from openmg.messages.secure import Delivery, MaskedUpdate, RevealedShare, ShareDealing, SurvivorSet, Unmasking
from openmg.pairwise import mask_sign
from openmg.shamir import ELEMENT_BYTES

if TYPE_CHECKING:
    from openmg.identity import DeviceKey

I16 = NDArray[np.int16]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class HeldShares:
    """A holder's shares of one dealer's two secrets (empty when it dealt none that are good), and its key of the round."""

    dealer: bytes
    round_public: bytes
    self_share: bytes
    pair_share: bytes


@dataclass(frozen=True)
class DeviceMemory:
    """What a member must still know after a restart; empty fields are steps not yet taken. Secret: it stays on the device.

    `masked` and `survivors` are digests of what was sent and signed. `openmg.messages.base` turns a memory into bytes.
    """

    PURPOSE: ClassVar[str] = "secagg-memory"
    round_id: bytes
    chance: bytes
    held: tuple[HeldShares, ...] = ()
    masked: bytes = b""
    survivors: bytes = b""


def deal(key: DeviceKey, terms: RoundTerms, chance: bytes) -> tuple[DeviceMemory, ShareDealing]:
    """Step 1, with 32 bytes drawn for this round alone. Raises SecureError for a stranger to the round.

    A caller that already stores a memory of the round gives its `chance` again and keeps that memory: a member that deals
    anew is a second member to the rules above.
    """
    secrets, holders = RoundSecrets(chance, terms.round_id), terms.holders(key.address)
    own = _own_shares(secrets, terms, holders)
    digests = [share_digest(terms.round_id, item[0]) + share_digest(terms.round_id, item[1]) for item in own]
    public, self_commitment = pair_public(secrets.pair_secret), commitment(terms.round_id, secrets.self_seed)
    sealed = tuple(
        Sealer(key.mask_key, terms.mask_public[holder], terms.round_id).seal(
            key.address, holder, public, self_commitment, digest, b"".join(shares)
        )
        for holder, shares, digest in zip(holders, own, digests, strict=True)
        if holder != key.address
    )
    return DeviceMemory(terms.round_id, chance), ShareDealing(
        terms.round_id, public, self_commitment, b"".join(digests), sealed
    )


def mask(
    key: DeviceKey,
    terms: RoundTerms,
    memory: DeviceMemory,
    deliveries: Iterable[Delivery],
    update: I16,
    noise: I64 | None = None,
    signed: bool = False,
) -> tuple[DeviceMemory, MaskedUpdate]:
    """Step 2: the update (int16 [P], at most `clip_units` long) plus this member's noise, under all its masks.

    `signed`: the deliveries are of dealings whose signatures the caller checked. Shares that are not good are then their
    dealer's own fault: it is masked for all the same, and its shares are missing when this member unmasks. Without it they may
    be the hub's, which could have exchanged the dealer's key as well.
    Raises SecureError when too few neighbours dealt, a delivery is not authentic, the update is too long, or another
    update was already masked in this round.
    """
    secrets = _secrets(terms, memory)
    if update.shape != (terms.parameters,) or norm_units(update) > terms.clip_units:
        raise SecureError(f"the update is not {terms.parameters} values of a norm of at most {terms.clip_units} units")
    held = _opened(key, terms, secrets, deliveries, signed)
    words = update.astype(np.int64) + (0 if noise is None else noise)
    masked = words.astype(np.uint32) + self_mask(terms.round_id, secrets.self_seed, terms.parameters)
    for item in held:
        if item.dealer != key.address:
            mask_of_pair = pair_mask(terms.round_id, secrets.pair_secret, item.round_public, terms.parameters)
            masked = masked + mask_of_pair if mask_sign(key.address, item.dealer) > 0 else masked - mask_of_pair
    answer = MaskedUpdate(terms.round_id, masked.astype("<u4").tobytes())
    digest = keccak256(answer.values)
    if memory.masked not in (b"", digest):
        raise SecureError(f"another update was already masked in round {terms.round}")
    return replace(memory, held=held, masked=digest), answer


def sign(key: DeviceKey, terms: RoundTerms, memory: DeviceMemory, survivors: SurvivorSet) -> tuple[DeviceMemory, bytes]:
    """Step 3: the signature under the round's survivor set. Raises SecureError for a second set, or one that is not valid."""
    _secrets(terms, memory)
    require_set(terms, survivors)
    if not memory.masked or key.address not in survivors.survivors:
        raise SecureError(f"this device sent no masked update that round {terms.round} counts, so it signs no survivor set")
    digest = keccak256(encode(survivors))
    if memory.survivors not in (b"", digest):
        raise SecureError(f"another survivor set of round {terms.round} was already signed; the hub shows different ones")
    return replace(memory, survivors=digest), sign_set(terms, survivors, key.signing_key)


def unmask(
    key: DeviceKey,
    terms: RoundTerms,
    memory: DeviceMemory,
    survivors: SurvivorSet,
    signatures: Mapping[bytes, bytes],
) -> Unmasking:
    """Step 4: one share for each dealer whose shares this member holds, given the signatures (address -> 65 bytes) of the set.

    The set was signed, and that memory stored, in step 3, so this step has nothing new to remember. Raises SecureError for
    any other set and for fewer than `threshold` valid signatures of survivors.
    """
    _secrets(terms, memory)
    if memory.survivors != keccak256(encode(survivors)):
        raise SecureError(f"this device did not sign that survivor set of round {terms.round}")
    require_quorum(terms, survivors, signatures)
    alive = frozenset(survivors.survivors)
    return Unmasking(terms.round_id, tuple(_revealed(item, alive) for item in memory.held if item.self_share))


def noise_seed(terms: RoundTerms, memory: DeviceMemory) -> bytes:
    """32 secret bytes for this member's noise of the round, the same again after a restart."""
    return _secrets(terms, memory).noise_seed


def _revealed(item: HeldShares, alive: frozenset[bytes]) -> RevealedShare:
    """The only place where a held share becomes a revealed one."""
    return RevealedShare(item.dealer, item.self_share if item.dealer in alive else item.pair_share)


def _secrets(terms: RoundTerms, memory: DeviceMemory) -> RoundSecrets:
    if memory.round_id != terms.round_id:
        raise SecureError(f"the memory is of another round than {terms.round}, or the terms of the round changed")
    return RoundSecrets(memory.chance, terms.round_id)


def _own_shares(secrets: RoundSecrets, terms: RoundTerms, holders: tuple[bytes, ...]) -> list[tuple[bytes, bytes]]:
    """(share of the self seed, share of the pairwise key) for each holder."""
    least = terms.share_threshold
    return list(
        zip(
            secrets.shares("self", secrets.self_seed, least, len(holders)),
            secrets.shares("pair", secrets.pair_secret, least, len(holders)),
            strict=True,
        )
    )


def _opened(
    key: DeviceKey, terms: RoundTerms, secrets: RoundSecrets, deliveries: Iterable[Delivery], signed: bool
) -> tuple[HeldShares, ...]:
    """The shares in the deliveries and this member's own, ascending by dealer."""
    holders = terms.holders(key.address)
    own = _own_shares(secrets, terms, holders)[holders.index(key.address)]
    held = {key.address: HeldShares(key.address, pair_public(secrets.pair_secret), *own)}
    for delivery in deliveries:
        if delivery.dealer in held or delivery.dealer not in holders:
            raise SecureError(f"0x{delivery.dealer.hex()} dealt twice, or is no neighbour of this device")
        try:
            self_share, pair_share = _delivered(key, terms, delivery)
        except SecureError:
            if not signed:
                raise
            self_share = pair_share = b""
        held[delivery.dealer] = HeldShares(delivery.dealer, delivery.round_public, self_share, pair_share)
    if len(held) < terms.share_threshold:
        raise SecureError(f"{len(held)} of {len(holders)} holders dealt; fewer than {terms.share_threshold} cannot be unmasked")
    return tuple(held[dealer] for dealer in sorted(held))


def _delivered(key: DeviceKey, terms: RoundTerms, delivery: Delivery) -> tuple[bytes, bytes]:
    """The two shares in a delivery. Raises SecureError when they are not what its digests name."""
    shares = Sealer(key.mask_key, terms.mask_public[delivery.dealer], terms.round_id).open(delivery, key.address)
    self_share, pair_share = shares[:ELEMENT_BYTES], shares[ELEMENT_BYTES:]
    if share_digest(terms.round_id, self_share) + share_digest(terms.round_id, pair_share) != delivery.digests:
        raise SecureError(f"0x{delivery.dealer.hex()} dealt shares that its digests do not name; open the round without it")
    return self_share, pair_share
