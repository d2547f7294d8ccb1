"""TLS between validators: this hub's key and certificate, and the others' cards, read from the folder of its identity.

    FOLDER/tls.key      private key, PEM, mode 0600
    FOLDER/tls.crt      its self-signed certificate, PEM
    FOLDER/peers/       cards of the other validators (`*.card`)

TLS 1.3 only, both sides show certificates, and the only trust anchors are the certificates of cards that hold now: no
authority, no host names. That a certificate is a validator's own is proved twice: its card is signed by the validator key,
and so is the hello, over the hashes of both certificates of the very connection (`handshake.py`).

The folder is read again when it has changed or a card ran out, at most once in REREAD_S: importing a card and rotating a key
need no restart. What cannot be read leaves the last good state in force, and one sentence in the log.
"""

from __future__ import annotations

import hashlib
import logging
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hub.ppdl.genesis import Genesis
from hub.ppdl.net.cardbook import CardBook
from hub.ppdl.net.cards import MAX_CARD_BYTES, CardError, PeerCard, check_card, check_member, decode_card
from hub.ppdl.net.transport import PeerAddress, TransportError

log = logging.getLogger(__name__)

TLS_KEY, TLS_CERTIFICATE, PEERS, CARD_SUFFIX = "tls.key", "tls.crt", "peers", ".card"
CANDIDATE_PREFIX = "candidate-"
"""File name of a card whose validator is not in the genesis: to be, or already, voted in."""
MAX_CARD_FILES = 1024
"""Cards of 64 validators, and many old ones; more files in the folder are a mistake."""
REREAD_S = 1.0
MAX_CERTIFICATE_FILE_BYTES = 16 * 1024


@dataclass(frozen=True)
class TlsState:
    """One reading of the folder."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    certificate_hash: bytes
    places: dict[bytes, tuple[PeerAddress, ...]]
    owners: dict[bytes, frozenset[bytes]]

    def owners_of(self, certificate_hash: bytes | None) -> frozenset[bytes]:
        """Validators that have a card with this certificate."""
        return self.owners.get(certificate_hash or b"", frozenset())


class TlsIdentity:
    """The identity in a folder, kept up to date. Raises TransportError when it cannot be used at first."""

    def __init__(self, folder: Path, genesis: Genesis, own: bytes, now_s: Callable[[], float] = time.time) -> None:
        self.folder, self._genesis, self._own, self._now_s = folder, genesis, own, now_s
        self._seen = self._stamp()
        self._book, self._state = self._read()
        self._read_at_s = now_s()

    def current(self) -> TlsState:
        """The state now; reads the folder again when there is reason to."""
        now_s = self._now_s()
        if not 0 <= now_s - self._read_at_s < REREAD_S:
            self._read_at_s = now_s
            seen = self._stamp()
            if seen != self._seen or self._book.owners(int(now_s)) != self._state.owners:
                self._seen = seen
                try:
                    self._book, self._state = self._read()
                except TransportError as error:
                    log.warning("%s; going on with what was read before", error)
        return self._state

    def _stamp(self) -> tuple[object, ...]:
        """Changes whenever a file of the folder is written, put there or taken away."""
        paths = [self.folder / TLS_KEY, self.folder / TLS_CERTIFICATE, *self._card_files()]
        found = []
        for path in paths:
            try:
                status = path.stat()
            except OSError:
                continue
            found.append((path.name, status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(found)

    def _card_files(self) -> list[Path]:
        return sorted((self.folder / PEERS).glob("*" + CARD_SUFFIX))[:MAX_CARD_FILES]

    def _read(self) -> tuple[CardBook, TlsState]:
        now_s = int(self._now_s())
        cards = read_cards(self._card_files(), self._genesis, now_s)
        book = CardBook.of(cards, self._own)
        anchors = [card.certificate for held in book.valid(now_s).values() for card in held]
        certificate = _own_certificate(self.folder / TLS_CERTIFICATE)
        server, client = (self._context(purpose, anchors) for purpose in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT))
        return book, TlsState(server, client, hashlib.sha256(certificate).digest(), book.places(now_s), book.owners(now_s))

    def _context(self, protocol: int, anchors: list[bytes]) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # a validator's name is its key, wherever it runs
        context.verify_mode = ssl.CERT_REQUIRED
        if protocol == ssl.PROTOCOL_TLS_SERVER:
            context.num_tickets = 0  # no resumption: every connection shows its certificates
        key = self.folder / TLS_KEY
        try:
            if os.stat(key).st_mode & 0o077:
                raise TransportError(f"TLS key {key} is open to other users: run chmod 600 on it")
            context.load_cert_chain(self.folder / TLS_CERTIFICATE, key, password=_no_password)
            for anchor in anchors:
                context.load_verify_locations(cadata=anchor)
        except TransportError:
            raise
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise TransportError(f"TLS identity in {self.folder} cannot be used ({reason}): run openmg-hub init") from error
        return context


def _no_password() -> str:
    """Called for an encrypted key; without it OpenSSL would ask at the terminal."""
    raise ValueError("the key is encrypted")


def _own_certificate(path: Path) -> bytes:
    """DER of the file's certificate."""
    try:
        text = path.read_bytes()[:MAX_CERTIFICATE_FILE_BYTES].decode("ascii")
        return ssl.PEM_cert_to_DER_cert(text)
    except OSError as error:
        raise TransportError(f"TLS certificate {path} cannot be read ({error.strerror}): run openmg-hub init") from error
    except ValueError as error:
        raise TransportError(f"TLS certificate {path} is none: run openmg-hub init in an empty folder") from error


def read_card(path: Path) -> PeerCard:
    """The card in a file; CardError, naming the file, when it is none."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CARD_BYTES + 1)
    except OSError as error:
        raise CardError(f"{path}: cannot be read ({error.strerror}): correct the path") from error
    try:
        return decode_card(data)
    except CardError as error:
        raise CardError(f"{path}: {error}") from error


def read_cards(paths: list[Path], genesis: Genesis, now_s: int) -> list[PeerCard]:
    """The usable cards of these files; of each other one a sentence in the log."""
    cards = []
    for path in paths:
        try:
            card = read_card(path)
            check_card(card, genesis.chain_id, genesis.hash, now_s)
            if not path.name.startswith(CANDIDATE_PREFIX):
                check_member(card, genesis.validators)
            _check_anchor(card)
        except CardError as error:
            log.warning("peer card left out: %s", error)
        else:
            cards.append(card)
    return cards


def _check_anchor(card: PeerCard) -> None:
    """CardError for a certificate that TLS cannot take: one bad card must not keep the others out."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=card.certificate)
    except (ssl.SSLError, ValueError) as error:
        raise CardError(f"card of {card.who}: TLS cannot use its certificate: ask its operator to make it again") from error
