"""Envelopes: what a home sends to the plasma chain, sealed to a relay that its own hub cannot read.

HPKE base mode (RFC 9180): DHKEM(X25519), HKDF-SHA256, ChaCha20-Poly1305. The content is padded to one size, so that
a carrier sees neither what is inside nor how much. Content: signed raw transactions, or calls that need no signature
because a proof authorises them; the relay submits them in order.
Not here: who carries, opens and submits (`hub.relay.envelope`), and when a meter sends one (`edge_agent.wallet`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from openmg.messages.base import InvalidMessage, decode, encode

CONTENT_BYTES = 4096
"""A confidential transfer with two note ciphertexts is 1.3 KiB; three signed transactions are under 1 KiB."""
MAX_ACTIONS = 8
_INFO = b"openmg.envelope.v1"
_LENGTH_BYTES = 4
_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)


@dataclass(frozen=True)
class Action:
    """One thing to submit: `target` empty means `data` is a signed raw transaction, else a call to that contract."""

    target: bytes
    data: bytes

    def __post_init__(self) -> None:
        if len(self.target) not in (0, 20) or not self.data:
            raise ValueError("an action is a raw transaction or a call to a 20-byte address")


@dataclass(frozen=True)
class Content:
    """What is inside an envelope; `reference` comes back in the receipt and says nothing to others."""

    PURPOSE: ClassVar[str] = "envelope-content"
    reference: bytes
    valid_until: int
    actions: tuple[Action, ...]

    def __post_init__(self) -> None:
        if len(self.reference) != 16 or not 1 <= len(self.actions) <= MAX_ACTIONS:
            raise ValueError(f"an envelope has a 16-byte reference and 1 to {MAX_ACTIONS} actions")


@dataclass(frozen=True)
class Envelope:
    """A sealed content and the relay it is for (its X25519 public key)."""

    PURPOSE: ClassVar[str] = "envelope"
    relay: bytes
    sealed: bytes


@dataclass(frozen=True)
class Outcome:
    """What became of one action: its transaction hash and whether it succeeded on chain."""

    transaction: bytes
    succeeded: bool


@dataclass(frozen=True)
class Receipt:
    """A relay's answer to an envelope, told to the meter that sent it by the hub that carried it."""

    PURPOSE: ClassVar[str] = "receipt"
    reference: bytes
    outcomes: tuple[Outcome, ...]
    error: str


def seal(relay_public: bytes, content: Content) -> Envelope:
    """The content, padded and sealed to the relay; ValueError when it does not fit the one size."""
    body = encode(content)
    if len(body) > CONTENT_BYTES - _LENGTH_BYTES:
        raise ValueError(f"the content has {len(body)} bytes; an envelope carries {CONTENT_BYTES - _LENGTH_BYTES}")
    padded = (len(body).to_bytes(_LENGTH_BYTES, "big") + body).ljust(CONTENT_BYTES, b"\0")
    sealed = _SUITE.encrypt(padded, X25519PublicKey.from_public_bytes(relay_public), info=_INFO)
    return Envelope(relay_public, sealed)


def unseal(relay_private: X25519PrivateKey, envelope: Envelope) -> Content:
    """The content of an envelope for this relay; InvalidMessage when it is not one."""
    try:
        padded = _SUITE.decrypt(envelope.sealed, relay_private, info=_INFO)
    except (InvalidTag, ValueError) as error:
        raise InvalidMessage("the envelope was not sealed to this relay") from error
    length = int.from_bytes(padded[:_LENGTH_BYTES], "big")
    if len(padded) != CONTENT_BYTES or length > CONTENT_BYTES - _LENGTH_BYTES:
        raise InvalidMessage("the envelope's content does not have the one size")
    return decode(Content, padded[_LENGTH_BYTES : _LENGTH_BYTES + length])
