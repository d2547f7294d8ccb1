"""A peer card: how one operator tells the others where a validator listens and with which TLS certificate.

Canonical CBOR, a few hundred bytes, nothing secret: operators send it to each other by any way they like and compare its
fingerprint by voice. The validator key signs all of it under a domain tag of its own, so that nobody else can tie a
certificate or a place to that validator, and no card of one chain holds on another.

A founding card names no genesis (32 zero bytes), because the genesis is made from these cards; it serves the chain that its
operator starts with it. Every later card names the genesis.

Rotation: a newer card of a validator makes its older ones void from `sole_from_s` on; until then both hold, so that the
validator may change its certificate while others still have the old card.

Pure functions over bytes and numbers. Not here: files, making certificates (`hub.operators`), TLS (`tls.py`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature as BadSelfSignature
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from hub.ppdl.genesis import ADDRESS_BYTES, MAX_U64
from openmg import codec
from openmg.signing import SIGNATURE_BYTES, InvalidSignature, domain_digest, recover, sign_digest

CARD_TAG = "openmg.ppdl.card.v1"
SIGNING_PURPOSE = "ppdl.card.v1"
FOUNDING = bytes(32)
"""Genesis hash of a card that was made before the genesis."""
MAX_CARD_BYTES = 4096
"""A P-256 certificate has some 400 bytes, names and places at most 300."""
MAX_CERTIFICATE_BYTES = 2048
MAX_HOST_CHARS = 253
"""Of a DNS name (RFC 1035, section 2.3.4)."""
MAX_CLOCK_AHEAD_S = 24 * 3600
"""A card may come from a machine whose clock, or time zone, is wrong by so much."""
MAX_SHOWN_CHARS = 48
"""Of a bad name or place in a sentence: a card may hold thousands, and the sentence goes to a terminal or a log."""
FINGERPRINT_BYTES = 16
"""128 bits: nobody finds another card with the same ones."""
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
HOST = re.compile(r"[0-9A-Za-z.:_-]+")
_FIELDS = 11


class CardError(ValueError):
    """The card is not to be trusted; the message is one sentence for the operator."""


@dataclass(frozen=True, slots=True)
class PeerCard:
    """What a validator's operator says of it.

    address: of the validator key. certificate: DER. issued_s, sole_from_s, expires_s: unix seconds; since when it holds, from
    when on it makes older cards of this validator void, and its end.
    """

    chain_id: int
    genesis_hash: bytes
    address: bytes
    name: str
    host: str
    port: int
    certificate: bytes
    issued_s: int
    sole_from_s: int
    expires_s: int
    signature: bytes = b""

    @property
    def certificate_hash(self) -> bytes:
        """SHA-256 of the certificate's DER, as the hello binds it."""
        return hashlib.sha256(self.certificate).digest()

    @property
    def who(self) -> str:
        """The card's validator as sentences name it."""
        return f"{self.name} (0x{self.address.hex()})"

    @property
    def fingerprint(self) -> str:
        """Eight groups of four hex digits over the whole card, to be compared by voice."""
        text = hashlib.sha256(self.encode()).hexdigest()[: 2 * FINGERPRINT_BYTES]
        return " ".join(text[i : i + 4] for i in range(0, len(text), 4))

    def encode(self) -> bytes:
        """Canonical bytes; `decode_card` is the exact inverse."""
        return codec.encode([CARD_TAG, *self._signed_fields(), self.signature])

    def _signed_fields(self) -> list[object]:
        place = [self.name, self.host, self.port]
        times = [self.issued_s, self.sole_from_s, self.expires_s]
        return [self.chain_id, self.genesis_hash, self.address, *place, self.certificate, *times]

    def digest(self) -> bytes:
        """The 32 bytes that the validator key signs."""
        return domain_digest(SIGNING_PURPOSE, self.chain_id, codec.encode(self._signed_fields()))


def sign_card(card: PeerCard, validator_key: bytes) -> PeerCard:
    """The card with the signature of its validator."""
    return replace(card, signature=sign_digest(validator_key, card.digest()))


def decode_card(data: bytes) -> PeerCard:
    """Parse canonical bytes and check their form and signature; CardError when anything is wrong."""
    try:
        fields = codec.decode(data, max_bytes=MAX_CARD_BYTES)
    except codec.DecodeError as error:
        raise CardError("this is no peer card: ask its operator to send the file again") from error
    if not isinstance(fields, list) or len(fields) != 1 + _FIELDS or fields[0] != CARD_TAG:
        raise CardError("this is no peer card: ask its operator to send the file again")
    kinds = (int, bytes, bytes, str, str, int, bytes, int, int, int, bytes)
    if any(type(value) is not kind for value, kind in zip(fields[1:], kinds, strict=True)):
        raise CardError("this peer card has a field of a wrong type: ask its operator to send the file again")
    card = PeerCard(*fields[1:])
    _check_form(card)
    _check_signature(card)
    _check_certificate(card)
    return card


def _shown(text: str) -> str:
    """The beginning of a text that may be long, quoted; what is not ASCII as question marks."""
    return repr(text[:MAX_SHOWN_CHARS].encode("ascii", "replace").decode("ascii"))


def _check_form(card: PeerCard) -> None:
    """Raises CardError for a field out of its range."""
    lengths = (card.genesis_hash, 32), (card.address, ADDRESS_BYTES), (card.signature, SIGNATURE_BYTES)
    if any(len(value) != size for value, size in lengths) or not 1 <= card.chain_id <= MAX_U64:
        raise CardError("this peer card has a field of a wrong length: ask its operator to send the file again")
    if not NAME.fullmatch(card.name):
        raise CardError(
            f"the card's name {_shown(card.name)} is not up to 32 lower-case letters, digits and dashes: choose another"
        )
    if not HOST.fullmatch(card.host) or len(card.host) > MAX_HOST_CHARS or not 1 <= card.port <= 65_535:
        raise CardError(f"card of {card.who}: {_shown(card.host)} port {card.port} is no place to dial: correct its address")
    if not 0 <= card.issued_s <= card.sole_from_s <= card.expires_s <= MAX_U64:
        raise CardError(f"card of {card.who}: its times are not in order: ask its operator to make it again")


def certificate_name(public_key_der: bytes) -> x509.Name:
    """The only subject and issuer that a certificate may have: made from its public key (SubjectPublicKeyInfo, DER).

    OpenSSL finds a trust anchor by its name. If two certificates had one, a hub would check one with the other's key and
    refuse it: a second key of the same validator, or of another validator who took the name in order to shut the first out.
    """
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "PPDL " + hashlib.sha256(public_key_der).hexdigest()[:40])])


def _check_certificate(card: PeerCard) -> None:
    """After the signature: nobody but a validator gets bytes as far as the parser of certificates."""
    try:
        if len(card.certificate) > MAX_CERTIFICATE_BYTES:
            raise ValueError("too large")
        certificate = x509.load_der_x509_certificate(card.certificate)
        encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        if certificate.subject != certificate_name(certificate.public_key().public_bytes(encoding, form)):
            raise ValueError("name")
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm, BadSelfSignature) as error:
        raise CardError(f"card of {card.who}: its certificate cannot be used: ask its operator to make it again") from error


def _check_signature(card: PeerCard) -> None:
    try:
        signer = recover(card.digest(), card.signature)
    except InvalidSignature:
        signer = b""
    if signer != card.address:
        raise CardError(
            f"card of {card.who}: it is not signed by that validator's key: do not use it, and ask the operator by another way"
        )


def check_card(card: PeerCard, chain_id: int, genesis_hash: bytes, now_s: int) -> None:
    """Raises CardError unless the card is for this chain and holds now. `genesis_hash`: FOUNDING while there is no genesis."""
    if card.chain_id != chain_id:
        raise CardError(
            f"card of {card.who}: it is for chain {card.chain_id}, this is chain {chain_id}: ask for the right card"
        )
    if card.genesis_hash not in (FOUNDING, genesis_hash):
        raise CardError(f"card of {card.who}: it is for another genesis of chain {chain_id}: ask for a card of this one")
    if now_s >= card.expires_s:
        end = datetime.fromtimestamp(min(card.expires_s, 2**32)).date()
        raise CardError(f"card of {card.who}: it expired on {end}: ask its operator to run openmg-hub keys rotate")
    if card.issued_s > now_s + MAX_CLOCK_AHEAD_S:
        raise CardError(f"card of {card.who}: it was issued in the future: correct the clock of this or of that machine")


def check_member(card: PeerCard, validators: Collection[bytes]) -> None:
    """Raises CardError unless the card's validator is one of these."""
    if card.address not in validators:
        raise CardError(f"card of {card.who}: it is not a validator of this chain: leave it out, or have it voted in first")
