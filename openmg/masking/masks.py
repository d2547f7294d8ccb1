"""The masks of one member: pairwise masks, the self mask of each report, and the shares of that self mask.

    masked = values + sum over peers of (+-) pair mask + self mask          (Bonawitz et al. 2017, section 4)

Every pair of members shares an X25519 secret. For each slot it yields one key (`pair_key`), and that a mask which the member
with the lower address adds and the other subtracts. Only this key is ever given away, never the secret.
The seed of the self mask is derived anew for each report, from a secret of the device, roster, slot *and values*: a
meter that was restored and reports another value for a slot uses another self mask, so the difference shows nothing.
Shares of the seed travel with the report, each XORed with a pad that dealer and holder derive from their pairwise secret, for
this report alone. So a holder keeps nothing, and what it gives away to open a share (`pad`) says nothing of other slots.
Rules: masks are keyed by roster and slot; sums are modulo MASK_MODULI.
Not here: whether a key may be given away (`member`), how the hub takes masks off (`opening`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from openmg import codec
from openmg.hashing import keccak256
from openmg.identity import DeviceKey
from openmg.kdf import hkdf
from openmg.masking.rosters import roster_id, threshold
from openmg.messages.slot_opening import DEALT_BYTES, SHARE_BYTES, SHARE_DIGEST_BYTES
from openmg.messages.telemetry import MASK_MODULI, Roster
from openmg.pairwise import agree, mask_sign
from openmg.shamir import ELEMENT_BYTES, WIDE_BYTES, deal, element
from openmg.zk.babyjub import SUBGROUP_ORDER

MASK_BYTES = (8, 8, 48, 48)
"""Of the key stream for each value: 48 bytes make the bias of a mask modulo l negligible."""
VALUE_LIMITS = (2**32, 2**32, SUBGROUP_ORDER, SUBGROUP_ORDER)
Words = tuple[int, ...]
"""One number for each of MASK_MODULI."""


class MaskedSlot(NamedTuple):
    """A slot's values under all masks, what binds the report to its self mask, and the dealt shares, ascending by member."""

    masked: Words
    self_commitment: bytes
    shares: bytes


class Dealt(NamedTuple):
    """One member's share as it travels: under its pad, and its digest."""

    sealed: bytes
    digest: bytes


class Masker:
    """The masks of one member of a roster; agrees on the pairwise secrets once."""

    def __init__(self, key: DeviceKey, roster: Roster) -> None:
        if key.address not in {member.address for member in roster.members}:
            raise ValueError(f"device 0x{key.address.hex()} is not in the roster of microgrid {roster.microgrid}")
        self.roster, self.roster_id, self.address = roster, roster_id(roster), key.address
        self._self_secret = key.self_mask_secret
        self._secrets = {
            peer.address: agree(key.mask_key, peer.mask_public) for peer in roster.members if peer.address != key.address
        }

    def mask(self, slot: int, values: Sequence[int]) -> MaskedSlot:
        """A slot's import and export in Wh and the blindings of export and import, under this member's masks.

        The same again for the same values. Raises ValueError for energies from 2^32 and blindings from l on.
        """
        if len(values) != len(VALUE_LIMITS) or not all(0 <= v < limit for v, limit in zip(values, VALUE_LIMITS, strict=True)):
            raise ValueError("a slot has two energies in 0..2^32-1 and two blindings in 0..l-1")
        chance = self._chance(slot, values)
        seed = _drawn(chance, "seed")
        commitment = self_commitment(self.roster_id, slot, self.address, seed)
        masked = add(tuple(values), self_mask(self.roster_id, slot, seed))
        for peer in self._secrets:
            masked = add(masked, pair_mask(self.pair_key(peer, slot)), mask_sign(self.address, peer))
        return MaskedSlot(masked, commitment, self._shares(slot, chance, seed, commitment))

    def pair_key(self, peer: bytes, slot: int) -> bytes:
        """The 32 bytes from which this slot's mask with a peer comes."""
        return hkdf(self._secrets[peer], f"mask/{self.roster_id.hex()}/{slot}")

    def pad(self, dealer: bytes, slot: int, commitment: bytes) -> bytes:
        """The 32 bytes that open the share of the report with this self commitment, which `dealer` dealt to this member."""
        return self._pad(dealer, self.address, slot, commitment)

    def _pad(self, dealer: bytes, holder: bytes, slot: int, commitment: bytes) -> bytes:
        peer = holder if dealer == self.address else dealer
        secret = self._self_secret if peer == self.address else self._secrets[peer]
        label = f"share/{self.roster_id.hex()}/{slot}/{dealer.hex()}/{holder.hex()}/{commitment.hex()}"
        return hkdf(secret, label, SHARE_BYTES)

    def _chance(self, slot: int, values: Sequence[int]) -> bytes:
        said = keccak256(codec.encode([value.to_bytes(32, "big") for value in values]))
        return hkdf(self._self_secret, f"slot/{self.roster_id.hex()}/{slot}/{said.hex()}")

    def _shares(self, slot: int, chance: bytes, seed: int, commitment: bytes) -> bytes:
        members = [member.address for member in self.roster.members]
        shares = deal(seed, lambda label: _drawn(chance, label), threshold(len(members)), len(members))
        dealt = b""
        for holder, share in zip(members, shares, strict=True):
            pad = self._pad(self.address, holder, slot, commitment)
            dealt += xor(share, pad) + share_digest(commitment, holder, share)
        return dealt


def dealt_share(shares: bytes, place: int) -> Dealt:
    """The share for the member at this place of the roster; empty when there are not so many."""
    item = shares[place * DEALT_BYTES : (place + 1) * DEALT_BYTES]
    return Dealt(item[:SHARE_BYTES], item[SHARE_BYTES:])


def self_commitment(roster: bytes, slot: int, member: bytes, seed: int) -> bytes:
    """Binds a report to its self mask; hides it, because the seed is uniform."""
    place = roster + slot.to_bytes(8, "big") + member
    return keccak256(b"openmg.slot.self" + place + seed.to_bytes(ELEMENT_BYTES, "big"))


def share_digest(commitment: bytes, holder: bytes, share: bytes) -> bytes:
    """By which the hub sees that an opened share is the dealt one; hides it, because shares are uniform."""
    return keccak256(b"openmg.slot.share" + commitment + holder + share)[:SHARE_DIGEST_BYTES]


def self_mask(roster: bytes, slot: int, seed: int) -> Words:
    return _words(seed.to_bytes(ELEMENT_BYTES, "big"), f"self-mask/{roster.hex()}/{slot}")


def pair_mask(pair_key: bytes) -> Words:
    """The mask of two members for the slot of the key."""
    return _words(pair_key, "pair-mask")


def add(left: Words, right: Words, sign: int = 1) -> Words:
    """left + sign * right, each modulo its modulus."""
    return tuple((a + sign * b) % modulus for a, b, modulus in zip(left, right, MASK_MODULI, strict=True))


def xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def _words(key: bytes, label: str) -> Words:
    stream, place, words = hkdf(key, label, sum(MASK_BYTES)), 0, []
    for size in MASK_BYTES:
        words.append(int.from_bytes(stream[place : place + size], "little"))
        place += size
    return tuple(words)


def _drawn(chance: bytes, label: str) -> int:
    return element(hkdf(chance, label, WIDE_BYTES))
