"""Envelopes: what a home sends to the plasma chain, sealed to a relay that its own hub cannot read, and the sealed answer.

HPKE base mode (RFC 9180): DHKEM(X25519), HKDF-SHA256, ChaCha20-Poly1305. Content: signed raw transactions, or calls that
need no signature because a proof authorises them, submitted in order; or nothing at all, and then it is a dummy. The
answer is sealed with ChaCha20-Poly1305 (RFC 8439) under a key that follows from the content's reference, which only meter
and relay know.
Rules: contents are padded to one size and receipts to another, and a message of any other size is refused when it is
decoded, so that a carrier sees neither what is inside nor how much, nor whether there is anything.
Not here: when a meter sends one (`edge_agent.wallet.envelopes`), who carries, opens and submits (`hub.carrier`,
`hub.relay.envelope`). What each party sees is in docs/ENVELOPES.md.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import ClassVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from openmg.identity import hkdf
from openmg.messages.base import InvalidMessage, Message, decode, encode

ENVELOPES_PER_SLOT = 4
"""Envelopes of a wallet in a slot, whether it has something to say or not."""
CONTENT_BYTES = 4096
"""A purchase (two proofs, two note ciphertexts) and a merge are 1.4 KiB each; three signed transactions under 1 KiB."""
SEALED_BYTES = CONTENT_BYTES + 32 + 16
"""An ephemeral X25519 key before the content, a tag behind it."""
RECEIPT_BYTES = 1024
"""MAX_ACTIONS outcomes are 0.5 KiB, the longest error another 0.25 KiB."""
NONCE_BYTES = 12
SEALED_RECEIPT_BYTES = NONCE_BYTES + RECEIPT_BYTES + 16
MAX_ACTIONS = 8
MAX_ERROR_BYTES = 256
"""UTF-8 bytes of a receipt's error: a sentence, or the name of a contract's own error."""
REFERENCE_BYTES, RELAY_BYTES = 16, 32
NUMBER_BYTES = 16
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
    """What is inside an envelope; one without actions is a dummy.

    `reference` is 16 random bytes, new for each envelope and told to nobody but the relay. Nothing is submitted after
    `valid_until` (Unix seconds); a dummy's is 0.
    """

    PURPOSE: ClassVar[str] = "envelope-content"
    reference: bytes
    valid_until: int
    actions: tuple[Action, ...]

    def __post_init__(self) -> None:
        if len(self.reference) != REFERENCE_BYTES or len(self.actions) > MAX_ACTIONS:
            raise ValueError(f"an envelope has a 16-byte reference and at most {MAX_ACTIONS} actions")


@dataclass(frozen=True)
class Envelope:
    """A sealed content and the relay it is for (its X25519 public key)."""

    PURPOSE: ClassVar[str] = "envelope"
    relay: bytes
    sealed: bytes

    def __post_init__(self) -> None:
        if len(self.relay) != RELAY_BYTES or len(self.sealed) != SEALED_BYTES:
            raise ValueError(f"an envelope has a 32-byte relay key and {SEALED_BYTES} sealed bytes")


@dataclass(frozen=True)
class Outcome:
    """What became of one action: its transaction hash and whether it succeeded on chain."""

    transaction: bytes
    succeeded: bool

    def __post_init__(self) -> None:
        if len(self.transaction) != 32:
            raise ValueError("an outcome names a transaction by its 32-byte hash")


@dataclass(frozen=True)
class Receipt:
    """A relay's answer: an outcome for each action that was sent, and why not all were, or nothing."""

    PURPOSE: ClassVar[str] = "receipt"
    reference: bytes
    outcomes: tuple[Outcome, ...]
    error: str

    def __post_init__(self) -> None:
        if len(self.reference) != REFERENCE_BYTES or len(self.outcomes) > MAX_ACTIONS:
            raise ValueError(f"a receipt has a 16-byte reference and at most {MAX_ACTIONS} outcomes")
        if len(self.error.encode()) > MAX_ERROR_BYTES:
            raise ValueError(f"a receipt's error has at most {MAX_ERROR_BYTES} bytes")


@dataclass(frozen=True)
class SealedReceipt:
    """A receipt as its carrier and other hubs see it; `number` tells the meter which envelope it answers."""

    PURPOSE: ClassVar[str] = "sealed-receipt"
    number: bytes
    sealed: bytes

    def __post_init__(self) -> None:
        if len(self.number) != NUMBER_BYTES or len(self.sealed) != SEALED_RECEIPT_BYTES:
            raise ValueError(f"a sealed receipt has a 16-byte number and {SEALED_RECEIPT_BYTES} bytes")


def seal(relay_public: bytes, content: Content) -> Envelope:
    """The content, padded and sealed to the relay; ValueError when it does not fit the one size."""
    sealed = _SUITE.encrypt(padded(content), X25519PublicKey.from_public_bytes(relay_public), info=_INFO)
    return Envelope(relay_public, sealed)


def unseal(relay_private: X25519PrivateKey, envelope: Envelope) -> Content:
    """The content of an envelope for this relay; InvalidMessage when it is not one."""
    try:
        plain = _SUITE.decrypt(envelope.sealed, relay_private, info=_INFO)
    except (InvalidTag, ValueError) as error:
        raise InvalidMessage("the envelope was not sealed to this relay") from error
    return decode(Content, _unpad(plain))


def padded(content: Content) -> bytes:
    """The CONTENT_BYTES that are sealed; ValueError when the content has more."""
    return _pad(content, CONTENT_BYTES, "the content", "an envelope")


def receipt_number(reference: bytes) -> bytes:
    """Under which number the receipt of an envelope travels."""
    return hkdf(reference, "envelope/receipt-number", NUMBER_BYTES)


def seal_receipt(receipt: Receipt) -> SealedReceipt:
    """The receipt for the meter whose envelope had its reference; each call looks different."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    plain = _pad(receipt, RECEIPT_BYTES, "the receipt", "an answer")
    number = receipt_number(receipt.reference)
    return SealedReceipt(number, nonce + _receipt_cipher(receipt.reference).encrypt(nonce, plain, number))


def unseal_receipt(reference: bytes, sealed: SealedReceipt) -> Receipt:
    """The receipt of the envelope that had this reference; InvalidMessage when it is not its relay's answer."""
    nonce, body = sealed.sealed[:NONCE_BYTES], sealed.sealed[NONCE_BYTES:]
    try:
        plain = _receipt_cipher(reference).decrypt(nonce, body, sealed.number)
    except InvalidTag as error:
        raise InvalidMessage("the receipt was not sealed by the envelope's relay") from error
    receipt = decode(Receipt, _unpad(plain))
    if receipt.reference != reference:
        raise InvalidMessage("the receipt names another envelope")
    return receipt


def _receipt_cipher(reference: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(hkdf(reference, "envelope/receipt-key"))


def _pad(message: Message, size: int, what: str, holder: str) -> bytes:
    body = encode(message)
    if len(body) > size - _LENGTH_BYTES:
        raise ValueError(f"{what} has {len(body)} bytes; {holder} carries {size - _LENGTH_BYTES}")
    return (len(body).to_bytes(_LENGTH_BYTES, "big") + body).ljust(size, b"\0")


def _unpad(plain: bytes) -> bytes:
    length = int.from_bytes(plain[:_LENGTH_BYTES], "big")
    if length > len(plain) - _LENGTH_BYTES:
        raise InvalidMessage("what was sealed is longer than the one size")
    return plain[_LENGTH_BYTES : _LENGTH_BYTES + length]
