"""The folder of a hub's identity: what each file is called, and writing it so that it is there whole or not at all.

hub.key          the hub's secret (`hub.keys`), 0600             never leaves the machine
tls.key          private key of the TLS certificate, 0600        never leaves the machine
tls.crt          the certificate
own.card         this hub's card: what the other operators get
tls-next.key, tls-next.crt, next.card   the same, prepared by `keys rotate`, until `keys activate`
peers/*.card     cards of the other validators
genesis.cbor     the chain
hub.toml         the hub's configuration
state/           databases; state/ppdl.sqlite is the vote log, state/control.sock where commands reach the running hub
next-validator/  a folder like this one, for the validator that is to replace this one (`keys rotate --validator`)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hub.operators.errors import OperatorError
from hub.ppdl.genesis import Genesis, GenesisError, load_genesis
from hub.ppdl.net.cards import CardError, PeerCard
from hub.ppdl.net.tls import CANDIDATE_PREFIX, CARD_SUFFIX, PEERS, TLS_CERTIFICATE, TLS_KEY, read_card
from openmg.durable import replace_durably

OWN_CARD = "own.card"


@dataclass(frozen=True)
class HubFolder:
    """Paths of one hub."""

    root: Path

    @property
    def hub_key(self) -> Path:
        return self.root / "hub.key"

    @property
    def tls_key(self) -> Path:
        return self.root / TLS_KEY

    @property
    def tls_certificate(self) -> Path:
        return self.root / TLS_CERTIFICATE

    @property
    def own_card(self) -> Path:
        return self.root / OWN_CARD

    @property
    def next_tls_key(self) -> Path:
        return self.root / "tls-next.key"

    @property
    def next_tls_certificate(self) -> Path:
        return self.root / "tls-next.crt"

    @property
    def next_card(self) -> Path:
        return self.root / "next.card"

    @property
    def peers(self) -> Path:
        return self.root / PEERS

    @property
    def genesis(self) -> Path:
        return self.root / "genesis.cbor"

    @property
    def config(self) -> Path:
        return self.root / "hub.toml"

    @property
    def successor(self) -> HubFolder:
        """The identity that `keys rotate --validator` prepares."""
        return HubFolder(self.root / "next-validator")

    @property
    def store(self) -> Path:
        return self.root / "state" / "ppdl.sqlite"

    def peer_card(self, card: PeerCard, candidate: bool) -> Path:
        """Where a card of another validator is kept."""
        prefix = CANDIDATE_PREFIX if candidate else ""
        return self.peers / f"{prefix}{card.address.hex()}-{card.issued_s}{CARD_SUFFIX}"

    def load_own_card(self) -> PeerCard:
        """This hub's card; OperatorError when `init` was not run."""
        if not self.own_card.exists():
            raise OperatorError(f"{self.root} holds no identity (own.card is missing): run openmg-hub init first")
        return load_card(self.own_card)

    def load_genesis(self) -> Genesis:
        """The chain that this hub has joined; OperatorError when it has joined none."""
        if not self.genesis.exists():
            raise OperatorError(f"{self.root} has joined no chain (genesis.cbor is missing): run openmg-hub join first")
        return read_genesis(self.genesis)


def load_card(path: Path) -> PeerCard:
    """The card in a file; OperatorError when it is none."""
    try:
        return read_card(path)
    except CardError as error:
        raise OperatorError(str(error)) from error


def read_genesis(path: Path) -> Genesis:
    """The genesis in a file; OperatorError when it is none."""
    try:
        return load_genesis(path)
    except GenesisError as error:
        raise OperatorError(str(error)) from error


def write_public(path: Path, content: bytes) -> None:
    """Write a file that anybody may read, replacing it at once; OperatorError when that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_durably(path, content, mode=0o644)
    except OSError as error:
        raise OperatorError(f"{path} cannot be written ({error.strerror}): check the folder and free space") from error
