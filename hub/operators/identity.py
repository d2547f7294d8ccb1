"""A hub's identity: its secret, its TLS key with certificate, and the card that ties them together; and their change.

Rotation takes two steps, because the others refuse a certificate that they do not know: `prepare_rotation` makes the new key
and card beside those in use, the card goes to the other operators, and when all have imported it `activate_rotation` puts the
new ones in place. The old certificate holds until the card's `sole_from_s`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hub.keys import HubKeys
from hub.operators.certificates import Certificate, make_certificate
from hub.operators.errors import OperatorError
from hub.operators.folder import HubFolder, load_card, write_public
from hub.ppdl.genesis import Genesis
from hub.ppdl.net.cards import FOUNDING, CardError, PeerCard, decode_card, sign_card
from openmg.keys.files import write_new_private

SECONDS_PER_DAY = 86_400
DEFAULT_DAYS = 730
"""A certificate that nobody replaces stops its hub: two years, and `peers list` says how long each has left."""
DEFAULT_GRACE_DAYS = 14
"""Time for all operators to import a new card and for its hub to change over."""
MAX_DAYS = 3_650


@dataclass(frozen=True)
class Place:
    """What a hub is called and where the others reach it."""

    name: str
    host: str
    port: int


@dataclass(frozen=True)
class Times:
    """Unix seconds of a card."""

    issued_s: int
    sole_from_s: int
    expires_s: int


def times(now_s: int, days: int, grace_days: int = 0) -> Times:
    """A card's times; OperatorError when they make no sense."""
    if not 1 <= days <= MAX_DAYS or not 0 <= grace_days < days:
        raise OperatorError(
            f"{days} days with {grace_days} of grace cannot be: use 1 to {MAX_DAYS} days, and less for the grace"
        )
    return Times(now_s, now_s + grace_days * SECONDS_PER_DAY, now_s + days * SECONDS_PER_DAY)


def make_card(keys: HubKeys, chain_id: int, genesis_hash: bytes, place: Place, when: Times, der: bytes) -> PeerCard:
    """The signed card, in form; OperatorError when the place or the name is not."""
    unsigned = PeerCard(
        chain_id, genesis_hash, keys.validator, place.name, place.host, place.port, der,
        when.issued_s, when.sole_from_s, when.expires_s,
    )  # fmt: skip
    card = sign_card(unsigned, keys.validator_key)
    try:
        return decode_card(card.encode())
    except CardError as error:
        raise OperatorError(str(error)) from error


def init_identity(folder: HubFolder, chain_id: int, genesis: Genesis | None, place: Place, when: Times) -> PeerCard:
    """Make what is missing: the hub's secret if there is none, TLS key, certificate, card. OperatorError if there is a card.

    genesis: of a chain that exists already; without it the card is a founding one for `chain_id`.
    """
    if folder.own_card.exists():
        raise OperatorError(f"{folder.own_card} exists: this hub has an identity; to change it run openmg-hub keys rotate")
    if not 1 <= chain_id < 2**64:
        raise OperatorError(f"chain id {chain_id} is not in 1 .. 2^64-1: choose a positive chain id, the same at all operators")
    try:
        folder.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise OperatorError(f"{folder.root} cannot be made ({error.strerror}): give another --dir") from error
    keys = HubKeys.load(folder.hub_key)
    certificate = make_certificate(when.issued_s, when.expires_s)
    card = make_card(keys, chain_id, genesis.hash if genesis else FOUNDING, place, when, certificate.der)
    for leftover in (folder.tls_key, folder.tls_certificate):
        leftover.unlink(missing_ok=True)  # of an init that was interrupted: a card was never made with it
    _write_certificate(certificate, folder.tls_key, folder.tls_certificate)
    write_public(folder.own_card, card.encode())
    return card


def _write_certificate(certificate: Certificate, key_path: Path, certificate_path: Path) -> None:
    try:
        write_new_private(key_path, certificate.key_pem)
    except OSError as error:
        raise OperatorError(f"{key_path} cannot be made ({error.strerror}): check the folder and free space") from error
    write_public(certificate_path, certificate.pem)


def existing_keys(folder: HubFolder) -> HubKeys:
    """The hub's keys, which must be there; OperatorError when they are not, or are not those of its card."""
    card = folder.load_own_card()
    if not folder.hub_key.exists():
        raise OperatorError(f"{folder.hub_key} is missing: restore it from your backup, or make a new identity elsewhere")
    keys = HubKeys.load(folder.hub_key)
    if keys.validator != card.address:
        raise OperatorError(f"{folder.hub_key} is not the key of {folder.own_card}: put the two that belong together in place")
    return keys


def prepare_rotation(folder: HubFolder, host_port: tuple[str, int] | None, when: Times) -> PeerCard:
    """A new TLS key and card beside those in use; one that was prepared before and not activated is replaced."""
    keys, card, genesis = existing_keys(folder), folder.load_own_card(), folder.load_genesis()
    host, port = host_port or (card.host, card.port)
    prepared = load_card(folder.next_card).issued_s if folder.next_card.exists() else 0
    first_s = max(card.issued_s, prepared) + 1  # newer than any card that was sent out
    when = Times(max(when.issued_s, first_s), max(when.sole_from_s, first_s), when.expires_s)
    certificate = make_certificate(when.issued_s, when.expires_s)
    new = make_card(keys, genesis.chain_id, genesis.hash, Place(card.name, host, port), when, certificate.der)
    for old in (folder.next_card, folder.next_tls_key, folder.next_tls_certificate):
        old.unlink(missing_ok=True)
    _write_certificate(certificate, folder.next_tls_key, folder.next_tls_certificate)
    write_public(folder.next_card, new.encode())
    return new


def activate_rotation(folder: HubFolder) -> PeerCard:
    """Put the prepared key, certificate and card in place. A hub that runs takes them up by itself.

    The card moves last: after an interruption the same call finishes the work.
    """
    if not folder.next_card.exists():
        raise OperatorError(f"{folder.root} has no prepared key (next.card is missing): run openmg-hub keys rotate first")
    card = load_card(folder.next_card)
    moves = (
        (folder.next_tls_key, folder.tls_key),
        (folder.next_tls_certificate, folder.tls_certificate),
        (folder.next_card, folder.own_card),
    )
    try:
        for source, target in moves:
            if source.exists():
                os.replace(source, target)
    except OSError as error:
        raise OperatorError(f"{folder.root} cannot be written ({error.strerror}): mend that and run it again") from error
    return card


def prepare_validator(folder: HubFolder, host_port: tuple[str, int] | None, when: Times) -> tuple[PeerCard, HubFolder]:
    """A whole new identity in `next-validator`, what a change of the validator key begins with; by default for the same place.

    The change itself is voted on chain: the new validator in, the old one out.
    """
    card, genesis = folder.load_own_card(), folder.load_genesis()
    place = Place(card.name, *(host_port or (card.host, card.port)))
    return init_identity(folder.successor, genesis.chain_id, genesis, place, when), folder.successor
