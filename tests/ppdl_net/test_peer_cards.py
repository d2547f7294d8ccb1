"""Peer cards: what they bind, and one sentence for each that is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.operators.certificates import make_certificate
from hub.ppdl.net.cardbook import CardBook
from hub.ppdl.net.cards import (
    FOUNDING,
    MAX_CLOCK_AHEAD_S,
    CardError,
    PeerCard,
    certificate_name,
    check_card,
    check_member,
    decode_card,
    sign_card,
)
from openmg.signing import address_of

KEYS = [bytes([i]) * 32 for i in (1, 2)]
CHAIN, GENESIS, NOW = 7, b"g" * 32, 2_000_000_000
DER = make_certificate(NOW, NOW + 1000).der
OTHER_DER = make_certificate(NOW, NOW + 1000).der


def card(key: bytes = KEYS[0], **changes: object) -> PeerCard:
    plain = PeerCard(CHAIN, GENESIS, address_of(key), "hub-1", "hub-1.example.org", 7100, DER, NOW, NOW, NOW + 1000)
    return sign_card(replace(plain, **changes), key)  # type: ignore[arg-type]


def test_a_card_survives_its_encoding() -> None:
    made = card()
    assert decode_card(made.encode()) == made
    check_card(made, CHAIN, GENESIS, NOW)
    check_member(made, (made.address,))
    assert len(made.fingerprint.split()) == 8 and made.fingerprint != card(port=7101).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"chain_id": 8},
        {"genesis_hash": FOUNDING},
        {"address": address_of(KEYS[1])},
        {"name": "hub-2"},
        {"host": "evil.example"},
        {"port": 7101},
        {"certificate": OTHER_DER},
        {"issued_s": NOW - 1},
        {"sole_from_s": NOW + 1},
        {"expires_s": NOW + 2000},
    ],
)
def test_the_signature_covers_every_field(change: dict[str, object]) -> None:
    """Each field of an honest card changed by somebody else, who keeps the signature."""
    with pytest.raises(CardError, match="not signed by that validator's key"):
        decode_card(replace(card(), **change).encode())  # type: ignore[arg-type]


def test_a_signature_for_another_purpose_is_no_signature_of_a_card() -> None:
    from openmg import codec
    from openmg.signing import domain_digest, sign_digest

    made = card()
    fields = codec.decode(made.encode())[1:-1]
    other = sign_digest(KEYS[0], domain_digest("ppdl.hello.v1", CHAIN, codec.encode(fields)))
    right = sign_digest(KEYS[0], domain_digest("ppdl.card.v1", CHAIN, codec.encode(fields)))
    assert right == made.signature  # written out here once more, as a second reading of the form
    with pytest.raises(CardError, match="not signed"):
        decode_card(replace(made, signature=other).encode())


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"name": "Hub 1"}, "name"),
        ({"host": "a b"}, "no place to dial"),
        ({"host": "x" * 254}, "no place to dial"),
        ({"port": 0}, "no place to dial"),
        ({"port": 65_536}, "no place to dial"),
        ({"certificate": b"none"}, "certificate cannot be used"),
        ({"certificate": DER + bytes(2048)}, "certificate cannot be used"),
        ({"sole_from_s": NOW - 1}, "times are not in order"),
        ({"expires_s": NOW - 1}, "times are not in order"),
        ({"chain_id": 0}, "wrong length"),
        ({"genesis_hash": b"g"}, "wrong length"),
    ],
)
def test_a_field_out_of_range_is_one_sentence(change: dict[str, object], what: str) -> None:
    with pytest.raises(CardError, match=what) as refused:
        decode_card(card(**change).encode())
    assert "\n" not in str(refused.value) and ":" in str(refused.value)


@pytest.mark.parametrize(
    ("chain", "genesis", "now", "what"),
    [
        (8, GENESIS, NOW, "for chain 7, this is chain 8"),
        (CHAIN, b"h" * 32, NOW, "another genesis"),
        (CHAIN, FOUNDING, NOW, "another genesis"),
        (CHAIN, GENESIS, NOW + 1000, "expired"),
        (CHAIN, GENESIS, NOW - MAX_CLOCK_AHEAD_S - 1, "issued in the future"),
    ],
)
def test_a_card_for_something_else_is_refused(chain: int, genesis: bytes, now: int, what: str) -> None:
    with pytest.raises(CardError, match=what):
        check_card(card(), chain, genesis, now)


def test_bounds_of_time_are_tight() -> None:
    check_card(card(), CHAIN, GENESIS, NOW + 999)
    check_card(card(), CHAIN, GENESIS, NOW - MAX_CLOCK_AHEAD_S)
    check_card(card(genesis_hash=FOUNDING), CHAIN, GENESIS, NOW)


def certificate(public: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey, name: x509.Name | None = None) -> bytes:
    der = public.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    subject = name or certificate_name(der)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(public.public_key())
    times = builder.serial_number(1).not_valid_before(datetime(2026, 1, 1)).not_valid_after(datetime(2040, 1, 1))
    return times.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_nobody_takes_the_name_of_another_ones_certificate() -> None:
    """OpenSSL finds anchors by name, so a second certificate of the name would shut the first one's owner out."""
    victim, thief = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    decode_card(card(certificate=certificate(victim, victim)).encode())
    name = x509.load_der_x509_certificate(certificate(victim, victim)).subject
    for lie in (certificate(thief, thief, name), certificate(victim, thief)):
        with pytest.raises(CardError, match="certificate cannot be used"):
            decode_card(card(KEYS[1], certificate=lie).encode())


def test_a_card_of_a_stranger_is_refused() -> None:
    with pytest.raises(CardError, match="not a validator of this chain"):
        check_member(card(), (address_of(KEYS[1]),))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 600), st.integers(0, 255))
def test_no_bytes_but_a_card_pass(junk: bytes, position: int, bit: int) -> None:
    """Neither junk nor an honest card with one byte changed: always CardError, never another exception."""
    wire = card().encode()
    changed = bytearray(wire)
    changed[position % len(wire)] ^= bit
    for data in (junk, bytes(changed), wire[: position % len(wire)], wire + junk[:1] if junk else b""):
        if data != wire:
            with pytest.raises(CardError):
                decode_card(data)


def test_both_cards_hold_until_the_newer_is_the_sole_one() -> None:
    old = card(expires_s=NOW + 900)
    new = card(certificate=OTHER_DER, port=7200, issued_s=NOW + 10, sole_from_s=NOW + 100, expires_s=NOW + 1000)
    book = CardBook.of([old, new], own=address_of(KEYS[1]))
    both = {old.certificate_hash: {old.address}, new.certificate_hash: {new.address}}
    assert book.owners(NOW + 99) == both
    assert [place.port for place in book.places(NOW + 99)[old.address]] == [7200, 7100]  # the newer place first
    assert book.owners(NOW + 100) == {new.certificate_hash: {new.address}}
    assert book.owners(NOW + 1000) == {}
    assert CardBook.of([old, new], own=old.address).cards == {}


def test_an_expired_newer_card_does_not_bring_an_older_one_back() -> None:
    old = card(expires_s=NOW + 900)
    new = card(certificate=OTHER_DER, issued_s=NOW + 10, sole_from_s=NOW + 100, expires_s=NOW + 200)
    assert CardBook.of([old, new], own=b"").owners(NOW + 300) == {}


def test_who_makes_many_cards_has_few_of_them_count() -> None:
    cards = [card(issued_s=NOW + i, sole_from_s=NOW + 500, port=7000 + i) for i in range(20)]
    held = CardBook.of(cards, own=b"").cards[address_of(KEYS[0])]
    assert [one.port for one in held] == [7019, 7018, 7017, 7016]


def test_a_validator_that_shows_another_ones_certificate_does_not_shut_it_out() -> None:
    honest, thief = card(), card(KEYS[1])
    assert CardBook.of([honest, thief], own=b"").owners(NOW) == {honest.certificate_hash: {honest.address, thief.address}}
