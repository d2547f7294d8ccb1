"""Links over TLS on real sockets: who gets in, who is refused and how, and changing keys while they run."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from net_support import CHAIN_ID, Heard, Net, Site, ended, make_net, make_site, reissued, until

from hub.operators.folder import load_card
from hub.operators.identity import activate_rotation, prepare_rotation, times
from hub.operators.network import add_peer, keep_card, remove_peer
from hub.ppdl.genesis import Genesis, make_genesis
from hub.ppdl.net import link, tcp
from hub.ppdl.net.framing import frame_of, read_frame
from hub.ppdl.net.handshake import (
    DIALER,
    LISTENER,
    HandshakeError,
    Hello,
    channel_binding,
    check_proof,
    decode_hello,
    proof_digest,
)
from hub.ppdl.net.tcp import TcpTransport
from hub.ppdl.net.tls import TlsIdentity
from hub.ppdl.net.transport import MAX_FRAME_BYTES, MAX_TX_FRAME_BYTES, Channel, PeerAddress, TransportError
from openmg.signing import address_of, sign_digest


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    made = make_net(tmp_path, 3, strangers=1)
    yield made
    made.reservation.close()


@pytest.fixture
async def listener(net: Net) -> AsyncIterator[tuple[TcpTransport, Heard]]:
    """Hub 1 of the network, alone."""
    node, ear = net.transport(0), Heard()
    await node.start(ear)
    yield node, ear
    await node.stop()


async def dial(
    net: Net,
    site: Site,
    key: bytes | None = None,
    binding: bytes | None = None,
    genesis: Genesis | None = None,
    show: bool = True,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """An independent client of hub 1, TLS and hello written out by hand."""
    hub, chain = net.sites[0], genesis or net.genesis
    context = site.client_context(show=show, trust=[hub.card])
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port, ssl=context, server_hostname="")
    try:
        key = key or site.keys.validator_key
        mine = Hello(chain.chain_id, chain.hash, address_of(key), b"n" * 32)
        writer.write(frame_of(Channel.CONSENSUS, mine.encode()))
        theirs = decode_hello((await read_frame(reader, 300))[1:])
        if binding is None:
            binding = channel_binding(site.card.certificate_hash, hub.card.certificate_hash)
        writer.write(frame_of(Channel.CONSENSUS, sign_digest(key, proof_digest(DIALER, mine, theirs, binding))))
        check_proof(LISTENER, mine, theirs, (await read_frame(reader, 300))[1:], binding)
    except BaseException:
        writer.transport.abort()
        raise
    return reader, writer


async def refused(net: Net, node: TcpTransport, attempt: Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
    """The attempt ends without a link, and hub 1 has counted one refusal."""
    before = node.stats.refused
    with suppress(OSError, asyncio.IncompleteReadError):
        reader, writer = await attempt
        await ended(reader)
        writer.transport.abort()
    await until(lambda: node.stats.refused == before + 1)


async def test_frames_arrive_both_ways_over_tls(net: Net) -> None:
    nodes, ears = [net.transport(i) for i in range(3)], [Heard() for _ in range(3)]
    for node, ear in zip(nodes, ears, strict=True):
        await node.start(ear)
    try:
        big = os.urandom(MAX_FRAME_BYTES - 1)
        nodes[0].broadcast(Channel.GOSSIP, b"to all")
        nodes[2].send(net.address(0), Channel.CONSENSUS, big)
        await until(lambda: all(ear.items for ear in ears))
        assert ears[1].items == ears[2].items == [(net.address(0), Channel.GOSSIP, b"to all")]
        assert ears[0].items == [(net.address(2), Channel.CONSENSUS, big)]
        await until(lambda: all(len(node.connected()) == 2 for node in nodes))
        assert [node.stats.refused for node in nodes] == [0, 0, 0]
    finally:
        for node in nodes:
            await node.stop()


async def test_an_independent_client_gets_in_and_speaks_tls_1_3(net: Net, listener: tuple[TcpTransport, Heard]) -> None:
    node, ear = listener
    _, writer = await dial(net, net.sites[1])
    assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
    writer.write(frame_of(Channel.GOSSIP, b"fine"))
    await until(lambda: ear.payloads(net.address(1)) == [b"fine"])
    writer.transport.abort()


async def test_tls_1_2_is_refused(net: Net, listener: tuple[TcpTransport, Heard]) -> None:
    context = net.sites[1].client_context(trust=[net.sites[0].card])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", net.sites[0].port, ssl=context, server_hostname="")
    await until(lambda: listener[0].stats.refused == 1)


async def test_strangers_of_every_kind_are_refused(net: Net, listener: tuple[TcpTransport, Heard]) -> None:
    node, ear = listener
    one, other, stranger = net.sites[1], net.sites[2], net.sites[3]
    other_chain = make_genesis(CHAIN_ID, net.genesis.validators, b"another", 1)
    await refused(net, node, dial(net, stranger))  # a certificate that no card has
    await refused(net, node, dial(net, one, show=False))  # no certificate
    await refused(net, node, dial(net, one, key=other.keys.validator_key))  # hub 2's certificate, hub 3's key
    await refused(net, node, dial(net, one, key=stranger.keys.validator_key))  # hub 2's certificate, a stranger's key
    await refused(net, node, dial(net, one, genesis=other_chain))
    await refused(net, node, dial(net, one, key=net.sites[0].keys.validator_key))  # hub 1's own key
    await refused(net, node, dial(net, one, binding=b""))  # a proof for a plain connection
    swapped = channel_binding(net.sites[0].card.certificate_hash, one.card.certificate_hash)
    await refused(net, node, dial(net, one, binding=swapped))
    assert not ear.items and not node._accepted


async def test_a_plain_client_is_refused(net: Net, listener: tuple[TcpTransport, Heard]) -> None:
    node, _ = listener
    for opening in (frame_of(Channel.CONSENSUS, b"hello"), b"GET / HTTP/1.1\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        before = node.stats.refused
        writer.write(opening)
        await ended(reader)
        writer.close()
        await until(lambda before=before: node.stats.refused == before + 1)  # type: ignore[misc]


class Relay:
    """A man in the middle who is a validator himself: hub 3 takes hub 2's calls to hub 1 and passes on what both say.

    Each side meets his certificate, which is one of a card that both hold; what he passes on is signed by the right keys.
    """

    def __init__(self, net: Net) -> None:
        self.net, self.passed = net, bytearray()

    async def serve(self, port: int) -> asyncio.Server:
        cards = [site.card for site in self.net.sites[:3]]
        return await asyncio.start_server(self._meet, "127.0.0.1", port, ssl=self.net.sites[2].server_context(cards))

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hub = self.net.sites[0]
        context = self.net.sites[2].client_context(trust=[hub.card])
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", hub.port, ssl=context, server_hostname="")
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(4096):
                self.passed += data
                target.write(data)
                await target.drain()
        target.transport.abort()


async def test_a_man_in_the_middle_who_relays_the_hello_is_refused_by_both(
    net: Net, listener: tuple[TcpTransport, Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the binding he would sit in the link: to prove it, the last part takes the binding away."""
    node, ear = listener
    relay = Relay(net)
    server = await relay.serve(net.sites[2].port)
    victim = net.sites[1]
    stolen = net.sites[2].card.certificate
    as_hub = reissued(net.sites[0], 1, port=net.sites[2].port, certificate=stolen)  # worst case: even the cards lie, so that
    as_victim = reissued(victim, 1, certificate=stolen)  # each side takes his certificate for that of the other
    for site, lie in ((victim, as_hub), (net.sites[0], as_victim)):
        for address in net.genesis.validators:
            remove_peer(site.folder, address)
        keep_card(site.folder, lie, candidate=False)
    await until(lambda: node._tls is not None and node._tls.current().owners_of(net.sites[2].card.certificate_hash) == {victim.card.address})  # fmt: skip # noqa: E501
    dialing = net.transport(1)
    await dialing.start(Heard())
    try:
        await until(lambda: dialing.stats.refused >= 1 and node.stats.refused >= 1)
        assert relay.passed and not dialing.connected() and not node._accepted
        monkeypatch.setattr(link, "proof_digest", lambda role, mine, theirs, _: proof_digest(role, mine, theirs))
        monkeypatch.setattr(link, "check_proof", lambda role, mine, theirs, proof, _: check_proof(role, mine, theirs, proof))
        dialing.broadcast(Channel.GOSSIP, b"for hub 1 only")
        await until(lambda: ear.payloads(net.address(1)) == [b"for hub 1 only"])
        assert b"for hub 1 only" in relay.passed
    finally:
        await dialing.stop()
        server.close()


async def test_who_dials_a_hub_with_another_certificate_says_so(net: Net, caplog: pytest.LogCaptureFixture) -> None:
    """Hub 2 listens where hub 1's card points to."""
    wrong = reissued(net.sites[0], 1, port=net.sites[2].port)
    remove_peer(net.sites[1].folder, net.address(0))
    keep_card(net.sites[1].folder, wrong, candidate=False)
    third, second = net.transport(2), net.transport(1)
    with caplog.at_level(logging.WARNING):
        await third.start(Heard())
        await second.start(Heard())
        try:
            await until(lambda: second.stats.refused >= 1)
        finally:
            await third.stop()
            await second.stop()
    assert any("check the peer list" in record.message for record in caplog.records)


# what strangers may cost


async def test_slow_strangers_hold_few_places_for_a_short_time(
    net: Net, listener: tuple[TcpTransport, Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, ear = listener
    monkeypatch.setattr(tcp, "HANDSHAKE_TIMEOUT_S", 60.0)
    many = [await asyncio.open_connection("127.0.0.1", node.port) for _ in range(40)]
    await until(lambda: node._door.inside == 32 and node.stats.refused == 8)  # more than 32 of one host are turned away
    for _, writer in many:
        writer.transport.abort()
    await until(lambda: node._door.inside == 0)
    before = node.stats.refused
    monkeypatch.setattr(tcp, "HANDSHAKE_TIMEOUT_S", 0.5)
    slow = [await asyncio.open_connection("127.0.0.1", node.port) for _ in range(3)]
    for _, writer in slow:
        writer.write(b"\x16\x03\x01")  # the first bytes of a TLS hello, and never the rest
    await until(lambda: node._door.inside == 0 and node.stats.refused == before + 3)
    for _, writer in slow:
        writer.transport.abort()
    monkeypatch.setattr(tcp, "HANDSHAKE_TIMEOUT_S", 60.0)
    _, writer = await dial(net, net.sites[1])
    writer.write(frame_of(Channel.GOSSIP, b"in again"))
    await until(lambda: ear.payloads(net.address(1)) == [b"in again"])
    writer.transport.abort()


async def test_a_stranger_who_stops_after_tls_is_cut_off(
    net: Net, listener: tuple[TcpTransport, Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, _ = listener
    monkeypatch.setattr(tcp, "HANDSHAKE_TIMEOUT_S", 0.5)
    context = net.sites[1].client_context(trust=[net.sites[0].card])
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port, ssl=context, server_hostname="")
    writer.write(b"\x00")
    await ended(reader)
    writer.transport.abort()
    await until(lambda: node.stats.refused == 1 and node._door.inside == 0)


@pytest.mark.parametrize("head", [b"\x00\x00\x01\x02\x01", b"\xff\xff\xff\xff\x01", b"\x00\x00\x00\x00\x01"])
async def test_a_hello_of_impossible_length_is_refused_unread(
    net: Net, listener: tuple[TcpTransport, Heard], head: bytes
) -> None:
    node, _ = listener
    context = net.sites[1].client_context(trust=[net.sites[0].card])
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port, ssl=context, server_hostname="")
    writer.write(head)
    await ended(reader)
    writer.transport.abort()
    await until(lambda: node.stats.refused == 1)


@pytest.mark.parametrize(
    ("channel", "length"),
    [(1, MAX_FRAME_BYTES + 1), (2, MAX_TX_FRAME_BYTES + 1), (3, 2**32 - 1), (1, 0)],
)
async def test_an_oversize_frame_ends_the_connection_unread(
    net: Net, listener: tuple[TcpTransport, Heard], channel: int, length: int
) -> None:
    node, ear = listener
    reader, writer = await dial(net, net.sites[1])
    writer.write(length.to_bytes(4, "big") + bytes([channel]) + b"xxxx")
    await ended(reader)
    writer.transport.abort()
    await until(lambda: node.stats.refused == 1)
    assert not ear.items


async def test_the_largest_frame_of_a_channel_is_taken(net: Net, listener: tuple[TcpTransport, Heard]) -> None:
    _, ear = listener
    _, writer = await dial(net, net.sites[1])
    writer.write(frame_of(Channel.TX, bytes(MAX_TX_FRAME_BYTES - 1)))
    await until(lambda: [len(payload) for _, _, payload in ear.items] == [MAX_TX_FRAME_BYTES - 1])
    writer.transport.abort()


# plain connections


@pytest.mark.parametrize(
    ("host", "peer"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "10.0.0.2"), ("localhost", "hub.example.org")]
)
async def test_plain_connections_beyond_loopback_are_refused(net: Net, host: str, peer: str) -> None:
    peers = [PeerAddress(net.address(1), peer, 7100)]
    node = TcpTransport(net.genesis, net.sites[0].keys.validator_key, host, 0, peers)
    with pytest.raises(TransportError, match="PPDL without TLS is for loopback only.*openmg-hub init"):
        await node.start(Heard())


# identities that cannot be used


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda site: site.folder.tls_key.unlink(), "No such file"),
        (lambda site: site.folder.tls_key.chmod(0o644), "chmod 600"),
        (lambda site: site.folder.tls_certificate.write_text("none"), "is none"),
        (lambda site: site.folder.tls_certificate.unlink(), "cannot be read"),
        (lambda site: site.folder.tls_key.write_text("none"), "cannot be used"),
    ],
)
def test_an_identity_that_cannot_be_used_is_one_sentence(net: Net, spoil: Callable[[Site], object], what: str) -> None:
    spoil(net.sites[0])
    with pytest.raises(TransportError, match=what) as error:
        net.transport(0)
    assert "\n" not in str(error.value)


def test_a_bad_card_in_the_folder_is_left_out_and_said(net: Net, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    site = net.sites[0]
    (site.folder.peers / "junk.card").write_bytes(b"junk")
    outsider = make_site(tmp_path, "other", 7100, chain_id=99)
    keep_card(site.folder, outsider.card, candidate=False)
    keep_card(site.folder, net.sites[3].card, candidate=False)
    with caplog.at_level(logging.WARNING):
        state = TlsIdentity(site.folder.root, net.genesis, site.keys.validator).current()
    assert set(state.places) == {net.address(1), net.address(2)}
    said = " ".join(record.message for record in caplog.records)
    assert "junk.card" in said and "for chain 99" in said and "not a validator" in said


# changing keys and cards while hubs run


class Clock:
    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


async def test_a_key_is_rotated_while_hubs_run(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both certificates hold during the grace; afterwards the old one is refused and its connections end."""
    monkeypatch.setattr(tcp, "REVIEW_S", 0.1)
    clock = Clock()
    first, second = net.transport(0, clock), net.transport(1, clock)
    ear = Heard()
    await first.start(ear)
    await second.start(Heard())
    try:
        await until(lambda: net.address(1) in first.connected() and net.address(0) in second.connected())
        for site in net.sites[:3]:
            site.folder.genesis.write_bytes(net.genesis.encode())
        new = prepare_rotation(net.sites[1].folder, None, times(int(time.time()), 30, grace_days=1))
        for i in (0, 2):
            assert add_peer(net.sites[i].folder, load_card(net.sites[1].folder.next_card), int(time.time()))
        old_site = net.sites[1]
        old_card, old_context = old_site.card, old_site.client_context(trust=[net.sites[0].card])
        await until(lambda: first._tls is not None and len(first._tls.current().owners) == 3)
        assert net.address(1) in first._accepted  # importing a card disturbs nothing
        activate_rotation(net.sites[1].folder)
        await until(lambda: second._tls is not None and second._tls.current().certificate_hash == new.certificate_hash)
        second._dialed[net.address(0)].writer.transport.abort()
        await until(lambda: getattr(first._accepted.get(net.address(1)), "certificate_hash", None) == new.certificate_hash)
        second.broadcast(Channel.GOSSIP, b"with the new key")
        await until(lambda: ear.payloads(net.address(1)) == [b"with the new key"])

        monkeypatch.setattr(Site, "client_context", lambda self, **_: old_context)
        reader, writer = await dial(net, replace(old_site, card=old_card))  # the old certificate, within the grace
        await until(lambda: first._accepted[net.address(1)].certificate_hash == old_card.certificate_hash)
        clock.ahead = 2 * 86_400
        await ended(reader)  # after it: cut off
        writer.transport.abort()
        before = first.stats.refused
        with suppress(OSError, asyncio.IncompleteReadError, HandshakeError):
            reader, writer = await dial(net, replace(old_site, card=old_card))
            await ended(reader)
            writer.transport.abort()
        await until(lambda: first.stats.refused > before)
    finally:
        await first.stop()
        await second.stop()


async def test_a_removed_peer_is_cut_off_and_an_added_one_dialed(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "REVIEW_S", 0.1)
    first, second = net.transport(0), net.transport(1)
    await first.start(Heard())
    await second.start(Heard())
    try:
        await until(lambda: net.address(1) in first.connected() and net.address(0) in second.connected())
        remove_peer(net.sites[0].folder, net.address(1))
        await until(lambda: not first.connected() and net.address(1) not in first._accepted)
        await until(lambda: net.address(0) not in second.connected())
        keep_card(net.sites[0].folder, net.sites[1].card, candidate=False)
        await until(lambda: net.address(1) in first.connected())
    finally:
        await first.stop()
        await second.stop()
