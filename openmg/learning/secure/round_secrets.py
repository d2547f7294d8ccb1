"""A member's two secrets of a round, and how its masks, shares and digests follow from them.

Rules: all of it follows from 32 bytes of chance drawn for this round alone; the device's registered mask key only seals
shares, so no share ever says anything of another round. Labels name the use and the round.
Not here: the order of the steps (`device`, `hub`).
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from openmg.hashing import keccak256
from openmg.kdf import KEY_BYTES, hkdf
from openmg.learning.secure.streams import U32, mask_words
from openmg.learning.secure.terms import SecureError
from openmg.messages.secure import SHARE_DIGEST_BYTES, Delivery
from openmg.pairwise import agree
from openmg.shamir import ELEMENT_BYTES, WIDE_BYTES, deal, element

_NONCE = bytes(12)
"""Zero: a sealing key serves one message (its label holds the dealer's key of the round, which is drawn for it)."""


class RoundSecrets:
    """The seed of the self mask and the pairwise X25519 key, both as elements that can be shared."""

    def __init__(self, chance: bytes, round_id: bytes) -> None:
        if len(chance) != KEY_BYTES:
            raise SecureError(f"the chance of a round has {KEY_BYTES} bytes, not {len(chance)}")
        self._chance, self._round = chance, round_id.hex()
        self.self_seed = self._element("self")
        self.pair_secret = self._element("pair")

    def _derive(self, use: str, length: int) -> bytes:
        return hkdf(self._chance, f"secagg/{use}/{self._round}", length)

    def _element(self, use: str) -> int:
        return element(self._derive(use, WIDE_BYTES))

    @property
    def noise_seed(self) -> bytes:
        """32 bytes from which the member's share of the round's noise is drawn."""
        return self._derive("noise", KEY_BYTES)

    def shares(self, use: str, secret: int, threshold: int, holders: int) -> tuple[bytes, ...]:
        """Shares of one of the two secrets; `use` separates their polynomials."""
        return deal(secret, lambda label: self._element(f"{use}/{label}"), threshold, holders)


def pair_key(secret: int) -> X25519PrivateKey:
    """The X25519 key that an element stands for."""
    return X25519PrivateKey.from_private_bytes(secret.to_bytes(ELEMENT_BYTES, "little"))


def pair_public(secret: int) -> bytes:
    return pair_key(secret).public_key().public_bytes_raw()


def commitment(round_id: bytes, self_seed: int) -> bytes:
    """Binds a member to its self mask; hides it, because the seed is uniform."""
    return keccak256(b"openmg.secagg.self" + round_id + self_seed.to_bytes(ELEMENT_BYTES, "big"))


def share_digest(round_id: bytes, share: bytes) -> bytes:
    """By which the hub sees that a revealed share is the dealt one; hides it, because shares are uniform."""
    return keccak256(b"openmg.secagg.share" + round_id + share)[:SHARE_DIGEST_BYTES]


def self_mask(round_id: bytes, self_seed: int, count: int) -> U32:
    key = hkdf(self_seed.to_bytes(ELEMENT_BYTES, "big"), f"secagg/self-mask/{round_id.hex()}")
    return mask_words(key, count)


def pair_mask(round_id: bytes, own_secret: int, peer_public: bytes, count: int) -> U32:
    """The mask of two members, from the round's secret of one and the round's public key of the other."""
    return mask_words(hkdf(agree(pair_key(own_secret), peer_public), f"secagg/pair-mask/{round_id.hex()}"), count)


class Sealer:
    """Seals a dealer's shares for one holder and opens them there; authentic because only these two know the key."""

    def __init__(self, mask_key: X25519PrivateKey, peer_public: bytes, round_id: bytes) -> None:
        self._shared, self._round_id = agree(mask_key, peer_public), round_id

    def _cipher(self, dealer: bytes, holder: bytes, round_public: bytes) -> ChaCha20Poly1305:
        label = f"secagg/seal/{self._round_id.hex()}/{dealer.hex()}/{holder.hex()}/{round_public.hex()}"
        return ChaCha20Poly1305(hkdf(self._shared, label))

    def _bound(self, self_commitment: bytes, digests: bytes) -> bytes:
        return self._round_id + self_commitment + digests

    def seal(self, dealer: bytes, holder: bytes, public: bytes, self_commitment: bytes, digests: bytes, shares: bytes) -> bytes:
        """The ciphertext of a holder's two shares; all public parts are bound to it."""
        return self._cipher(dealer, holder, public).encrypt(_NONCE, shares, self._bound(self_commitment, digests))

    def open(self, delivery: Delivery, holder: bytes) -> bytes:
        """The two shares in a delivery; SecureError when anything of it is not what the dealer sent."""
        cipher = self._cipher(delivery.dealer, holder, delivery.round_public)
        try:
            return cipher.decrypt(_NONCE, delivery.sealed, self._bound(delivery.self_commitment, delivery.digests))
        except InvalidTag:
            raise SecureError(f"the shares dealt by 0x{delivery.dealer.hex()} were changed on the way") from None
