"""Shared by the tests of transport and operators' tools: hubs' folders with identities, transports over TLS, ears."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from hub.keys import HubKeys
from hub.operators.folder import HubFolder
from hub.operators.identity import Place, init_identity, times
from hub.operators.network import keep_card
from hub.ppdl.genesis import Genesis, make_genesis
from hub.ppdl.net.cards import PeerCard, sign_card
from hub.ppdl.net.tcp import TcpTransport
from hub.ppdl.net.tls import TlsIdentity
from hub.ppdl.net.transport import Channel
from workbench.ports import PortReservation

CHAIN_ID = 4711
DAYS = 30
BOUND_S = 20.0


class Heard:
    """Collects what a transport delivers."""

    def __init__(self) -> None:
        self.items: list[tuple[bytes, Channel, bytes]] = []

    async def __call__(self, sender: bytes, channel: Channel, payload: bytes) -> None:
        self.items.append((sender, channel, payload))

    def payloads(self, sender: bytes) -> list[bytes]:
        return [payload for who, _, payload in self.items if who == sender]


async def until(condition: Callable[[], bool], bound_s: float = BOUND_S) -> None:
    """Wait for a condition, with a bound."""
    async with asyncio.timeout(bound_s):
        while not condition():
            await asyncio.sleep(0.01)


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What still came until the other side ended the connection."""
    rest = b""
    with suppress(OSError):
        async with asyncio.timeout(BOUND_S):
            while data := await reader.read(4096):
                rest += data
    return rest


@dataclass
class Site:
    """One operator's folder."""

    folder: HubFolder
    keys: HubKeys
    card: PeerCard
    port: int

    def client_context(self, *, show: bool = True, trust: Sequence[PeerCard] = ()) -> ssl.SSLContext:
        """A TLS client written out by hand: shows this operator's certificate, trusts these cards'."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        if show:
            context.load_cert_chain(self.folder.tls_certificate, self.folder.tls_key)
        for card in trust:
            context.load_verify_locations(cadata=card.certificate)
        if not trust:
            context.verify_mode = ssl.CERT_NONE
        return context

    def server_context(self, trust: Sequence[PeerCard]) -> ssl.SSLContext:
        """The same for a server that asks for certificates."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder.tls_certificate, self.folder.tls_key)
        context.verify_mode = ssl.CERT_REQUIRED
        for card in trust:
            context.load_verify_locations(cadata=card.certificate)
        return context


def reissued(site: Site, later_s: int, **changes: object) -> PeerCard:
    """A newer card of the operator with other contents."""
    card = site.card
    newer = {"issued_s": card.issued_s + later_s, "sole_from_s": card.issued_s + later_s, "signature": b""}
    return sign_card(replace(card, **(newer | changes)), site.keys.validator_key)  # type: ignore[arg-type]


@dataclass
class Net:
    """Operators of one chain with each other's cards."""

    genesis: Genesis
    sites: list[Site]
    reservation: PortReservation

    def transport(self, i: int, now_s: Callable[[], float] = time.time) -> TcpTransport:
        site = self.sites[i]
        tls = TlsIdentity(site.folder.root, self.genesis, site.keys.validator, now_s)
        return TcpTransport(self.genesis, site.keys.validator_key, "127.0.0.1", site.port, tls=tls)

    def address(self, i: int) -> bytes:
        return self.sites[i].keys.validator


def make_site(root: Path, name: str, port: int, genesis: Genesis | None = None, chain_id: int = CHAIN_ID) -> Site:
    """A new operator's folder."""
    folder = HubFolder(root / name)
    when = times(int(time.time()), DAYS)
    card = init_identity(folder, chain_id, genesis, Place(name, "127.0.0.1", port), when)
    return Site(folder, HubKeys.load(folder.hub_key), card, port)


def make_net(root: Path, n: int, strangers: int = 0) -> Net:
    """`n` validators that know each other, and behind them `strangers` that nobody knows."""
    reservation = PortReservation(n + strangers)
    sites = [make_site(root, f"hub-{i + 1}", port) for i, port in enumerate(reservation.ports)]
    genesis = make_genesis(CHAIN_ID, [site.keys.validator for site in sites[:n]], b"", 1)
    for site in sites:
        for other in sites[:n]:
            if other is not site:
                keep_card(site.folder, other.card, candidate=False)
    return Net(genesis, sites, reservation)
