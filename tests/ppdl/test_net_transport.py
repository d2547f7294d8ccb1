"""Transport: who gets in, what is dropped, what survives a restart. Real sockets on loopback."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import pairwise

import pytest
from pbft_support import free_ports, genesis_of, peer_list

from hub.ppdl.genesis import Genesis, make_genesis
from hub.ppdl.net import handshake, tcp
from hub.ppdl.net.handshake import DIALER, LISTENER, HandshakeError, Hello, check_proof, decode_hello, proof_digest
from hub.ppdl.net.memory import MemoryNetwork
from hub.ppdl.net.queues import INBOX_PER_SENDER, FairFrames, FairInbox, FrameQueue
from hub.ppdl.net.tcp import TcpTransport, TransportError, frame_of, read_frame
from hub.ppdl.net.transport import (
    LARGE_PAYLOAD_BYTES,
    MAX_FRAME_BYTES,
    PEER_QUEUE_BYTES,
    PEER_QUEUE_FRAMES,
    Channel,
    PeerAddress,
)
from hub.ppdl.sim.world import validator_keys
from openmg.signing import address_of, sign_digest

KEYS = validator_keys(4)
GENESIS = genesis_of(KEYS[:3], 10_000)


class Heard:
    """Collects what a transport delivers."""

    def __init__(self) -> None:
        self.items: list[tuple[bytes, Channel, bytes]] = []
        self._new = asyncio.Event()

    async def __call__(self, sender: bytes, channel: Channel, payload: bytes) -> None:
        self.items.append((sender, channel, payload))
        self._new.set()

    async def wait(self, count: int, timeout_s: float = 5.0) -> None:
        async with asyncio.timeout(timeout_s):
            while len(self.items) < count:
                self._new.clear()
                await self._new.wait()


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


def make(i: int, peers: tuple[PeerAddress, ...], genesis: Genesis = GENESIS) -> TcpTransport:
    return TcpTransport(genesis, KEYS[i], peers[i].host, peers[i].port, peers)


async def test_frames_arrive_with_their_sender_both_ways() -> None:
    peers = peer_list(KEYS[:3], free_ports(3))
    nodes, heard = [make(i, peers) for i in range(3)], [Heard() for _ in range(3)]
    for node, ear in zip(nodes, heard, strict=True):
        await node.start(ear)
    try:
        nodes[0].broadcast(Channel.GOSSIP, b"to all")  # queued while the links come up
        await heard[1].wait(1)
        await heard[2].wait(1)
        big = bytes(MAX_FRAME_BYTES - 1)
        nodes[2].send(address_of(KEYS[0]), Channel.CONSENSUS, big)
        await heard[0].wait(1)
        assert heard[1].items == [(address_of(KEYS[0]), Channel.GOSSIP, b"to all")]
        assert heard[0].items == [(address_of(KEYS[2]), Channel.CONSENSUS, big)]
        await until(lambda: all(len(node.connected()) == 2 for node in nodes))
        nodes[0].send(address_of(KEYS[1]), Channel.TX, bytes(MAX_FRAME_BYTES))
        nodes[0].send(bytes(20), Channel.TX, b"nobody")
        assert nodes[0].stats.frames_dropped == 2
    finally:
        for node in nodes:
            await node.stop()


async def test_links_come_back_after_a_peer_restart() -> None:
    peers = peer_list(KEYS[:2], free_ports(2))
    first, second, ear = make(0, peers), make(1, peers), Heard()
    await first.start(Heard())
    await second.start(ear)
    await until(lambda: len(first.connected()) == 1)
    await second.stop()
    await until(lambda: not first.connected())
    again = make(1, peers)
    await again.start(ear)
    try:
        await until(lambda: len(first.connected()) == 1, 10)
        first.broadcast(Channel.GOSSIP, b"hello again")
        await until(lambda: any(payload == b"hello again" for _, _, payload in ear.items))
    finally:
        await first.stop()
        await again.stop()


async def dial_raw(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def say_hello(port: int, key: bytes, genesis: Genesis = GENESIS) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """An independent client: the hello written out by hand."""
    reader, writer = await dial_raw(port)
    try:
        mine = Hello(genesis.chain_id, genesis.hash, address_of(key), b"n" * 32)
        writer.write(frame_of(Channel.CONSENSUS, mine.encode()))
        theirs = decode_hello((await read_frame(reader, 300))[1:])
        writer.write(frame_of(Channel.CONSENSUS, sign_digest(key, proof_digest(DIALER, mine, theirs))))
        check_proof(LISTENER, mine, theirs, (await read_frame(reader, 300))[1:])
    except BaseException:
        writer.close()
        raise
    return reader, writer


@pytest.fixture
async def listener() -> Awaitable[tuple[TcpTransport, Heard]]:  # type: ignore[misc]
    peers = peer_list(KEYS[:2], free_ports(2))
    node, ear = make(0, (*peers[:1], peers[1])), Heard()
    await node.start(ear)
    yield node, ear  # type: ignore[misc]
    await node.stop()


async def ends(reader: asyncio.StreamReader) -> bool:
    with suppress(ConnectionError):
        async with asyncio.timeout(5):
            while await reader.read(4096):
                pass
    return True


async def test_malformed_frames_are_counted_logged_once_and_dropped(
    listener: tuple[TcpTransport, Heard], caplog: pytest.LogCaptureFixture
) -> None:
    node, ear = listener
    _, writer = await say_hello(node.port, KEYS[1])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            writer.write((2).to_bytes(4, "big") + b"\xeex")  # unknown channel
        writer.write(frame_of(Channel.GOSSIP, b"fine"))
        await ear.wait(1)
    assert ear.items == [(address_of(KEYS[1]), Channel.GOSSIP, b"fine")]
    assert node.stats.malformed == 3
    assert len([r for r in caplog.records if "unknown channel" in r.message]) == 1
    writer.close()


@pytest.mark.parametrize("length", [0, MAX_FRAME_BYTES + 1, 2**32 - 1])
async def test_impossible_lengths_end_the_connection(listener: tuple[TcpTransport, Heard], length: int) -> None:
    node, ear = listener
    reader, writer = await say_hello(node.port, KEYS[1])
    writer.write(length.to_bytes(4, "big") + b"xxxx")
    assert await ends(reader)
    assert node.stats.refused == 1 and not ear.items
    writer.close()
    _, writer = await say_hello(node.port, KEYS[1])  # the node still serves
    writer.write(frame_of(Channel.GOSSIP, b"fine"))
    await ear.wait(1)
    writer.close()


async def test_garbage_strangers_other_chains_and_own_key_are_refused(listener: tuple[TcpTransport, Heard]) -> None:
    node, ear = listener
    reader, writer = await dial_raw(node.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await ends(reader)
    writer.close()
    other_chain = make_genesis(5, GENESIS.validators, b"", 0)
    for key, genesis in ((KEYS[3], GENESIS), (KEYS[1], other_chain), (KEYS[0], GENESIS)):
        with suppress(HandshakeError, ConnectionError, asyncio.IncompleteReadError):
            reader, writer = await say_hello(node.port, key, genesis)
            assert await ends(reader)
        writer.close()
    await until(lambda: node.stats.refused == 4)
    assert not ear.items


async def test_a_proof_of_another_key_is_refused(listener: tuple[TcpTransport, Heard]) -> None:
    node, ear = listener
    reader, writer = await dial_raw(node.port)
    mine = Hello(GENESIS.chain_id, GENESIS.hash, address_of(KEYS[1]), b"n" * 32)
    writer.write(frame_of(Channel.CONSENSUS, mine.encode()))
    theirs = decode_hello((await read_frame(reader, 300))[1:])
    forged = sign_digest(KEYS[3], proof_digest(DIALER, mine, theirs))
    writer.write(frame_of(Channel.CONSENSUS, forged) + frame_of(Channel.GOSSIP, b"let me in"))
    assert await ends(reader)
    assert not ear.items and node.stats.refused == 1
    writer.close()


def test_proofs_are_not_reflected_or_replayed() -> None:
    a = Hello(1, bytes(32), address_of(KEYS[0]), b"a" * 32)
    b = Hello(1, bytes(32), address_of(KEYS[1]), b"b" * 32)
    proof = sign_digest(KEYS[0], proof_digest(DIALER, a, b))
    check_proof(DIALER, b, a, proof)
    fresh = Hello(1, bytes(32), b.address, b"c" * 32)
    for role, mine in ((LISTENER, b), (DIALER, fresh)):
        with pytest.raises(HandshakeError):
            check_proof(role, mine, a, proof)
    with pytest.raises(HandshakeError, match="reflects"):
        handshake.check_same_chain(a, Hello(1, bytes(32), b.address, a.nonce))
    for data in (b"", b"\x80", a.encode()[:-1], a.encode() + b"\0"):
        with pytest.raises(HandshakeError):
            decode_hello(data)


async def test_strangers_cannot_use_up_the_log_lines_of_a_peer(
    listener: tuple[TcpTransport, Heard], caplog: pytest.LogCaptureFixture
) -> None:
    node, ear = listener
    with caplog.at_level(logging.WARNING):
        for length in range(60):
            reader, writer = await dial_raw(node.port)
            writer.write((MAX_FRAME_BYTES + length).to_bytes(4, "big"))
            assert await ends(reader)
            writer.close()
        assert node.stats.refused == 60
        assert len([r for r in caplog.records if "announced a frame" in r.message]) < 20
        _, writer = await say_hello(node.port, KEYS[1])
        writer.write((2).to_bytes(4, "big") + b"\xeex" + frame_of(Channel.GOSSIP, b"fine"))
        await ear.wait(1)
        writer.close()
    assert len([r for r in caplog.records if "unknown channel" in r.message]) == 1


class Accepting:
    """A validator that proves its key to whoever dials, then does what the test says with the connection."""

    def __init__(self, key: bytes, then: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
        self.times: list[float] = []
        self._key, self._then = key, then

    async def start(self, port: int) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.times.append(asyncio.get_running_loop().time())
        mine = Hello(GENESIS.chain_id, GENESIS.hash, address_of(self._key), b"n" * 32)
        writer.write(frame_of(Channel.CONSENSUS, mine.encode()))
        theirs = decode_hello((await read_frame(reader, 300))[1:])
        writer.write(frame_of(Channel.CONSENSUS, sign_digest(self._key, proof_digest(LISTENER, mine, theirs))))
        await read_frame(reader, 300)
        await self._then(reader, writer)
        writer.close()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What an `Accepting` does after its welcome: nothing, so it closes."""


async def test_a_peer_that_welcomes_and_hangs_up_is_dialed_less_and_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does in whose peer list this validator is missing."""
    monkeypatch.setattr(tcp, "BACKOFF_FIRST_S", 0.01)

    peers = peer_list(KEYS[:2], free_ports(2))
    other = Accepting(KEYS[1], hang_up)
    server, node = await other.start(peers[1].port), make(0, peers)
    await node.start(Heard())
    await until(lambda: len(other.times) >= 8, 30)
    await node.stop()
    server.close()
    assert other.times[7] - other.times[0] > 0.01 * (2**7 - 1)


async def test_a_peer_that_comes_is_dialed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was away for long, so it was dialed rarely; what it asks is answered over the connection that it is dialed with."""
    for name in ("BACKOFF_FIRST_S", "BACKOFF_LAST_S"):
        monkeypatch.setattr(tcp, name, 60.0)
    monkeypatch.setattr(tcp, "AWAY_S", 0.1)
    peers = peer_list(KEYS[:2], free_ports(2))
    first, second, ear = make(0, peers), make(1, peers), Heard()
    await first.start(Heard())
    await asyncio.sleep(0.2)  # nobody is there: the next time is in a minute
    block, chunk = (Channel.CONSENSUS, bytes(LARGE_PAYLOAD_BYTES + 1)), (Channel.SNAPSHOT, bytes(LARGE_PAYLOAD_BYTES + 1))
    vote, tx = (Channel.CONSENSUS, b"vote"), (Channel.TX, bytes(LARGE_PAYLOAD_BYTES + 1))
    for frame in (block, vote, chunk, tx):
        first.send(address_of(KEYS[1]), *frame)
    await second.start(ear)
    try:
        await until(lambda: first.connected() == (address_of(KEYS[1]),), 20)
        first.send(address_of(KEYS[1]), *block)  # said while it is here
        await ear.wait(3)
        assert [(channel, payload) for _, channel, payload in ear.items] == [vote, tx, block]
        assert first.stats.frames_dropped == 2
    finally:
        await first.stop()
        await second.stop()


async def test_a_peer_that_comes_again_and_again_is_dialed_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """It hangs up each time: whatever it does, dialing stays cheap."""
    monkeypatch.setattr(tcp, "RECALL_S", 0.5)

    peers = peer_list(KEYS[:2], free_ports(2))
    other = Accepting(KEYS[1], hang_up)
    server, node = await other.start(peers[1].port), make(0, peers)
    await node.start(Heard())
    try:
        await until(lambda: len(other.times) >= 4, 30)  # the first waits are shorter than half a second
        for _ in range(20):
            _, writer = await say_hello(peers[0].port, KEYS[1])
            await asyncio.sleep(0.1)
            writer.close()
    finally:
        await node.stop()
        server.close()
    gaps = [after - before for before, after in pairwise(other.times)]
    assert len(gaps) >= 4 and all(gap >= 0.49 for gap in gaps[3:])


async def test_a_peer_that_takes_nothing_any_more_is_dialed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half-open: the other end acknowledges nothing, and without a deadline the kernel would try for a quarter of an hour."""
    monkeypatch.setattr(tcp, "UNANSWERED_S", 0.3)
    over = asyncio.Event()

    async def read_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()

    peers = peer_list(KEYS[:2], free_ports(2))
    other = Accepting(KEYS[1], read_nothing)
    server, node = await other.start(peers[1].port), make(0, peers)
    await node.start(Heard())
    try:
        for _ in range(4):
            node.send(address_of(KEYS[1]), Channel.TX, bytes(MAX_FRAME_BYTES - 1))
        await until(lambda: len(other.times) >= 2, 30)
    finally:
        over.set()
        await node.stop()
        server.close()


async def test_port_in_use_is_one_sentence() -> None:
    peers = peer_list(KEYS[:1], free_ports(1))
    first, second = make(0, peers), make(0, peers)
    await first.start(Heard())
    try:
        with pytest.raises(TransportError, match="cannot listen on 127.0.0.1:.* choose another"):
            await second.start(Heard())
    finally:
        await first.stop()


async def test_send_queue_drops_its_oldest() -> None:
    queue = FrameQueue()
    dropped = sum(queue.put(str(i).encode()) for i in range(PEER_QUEUE_FRAMES + 5))
    assert dropped == 5 and len(queue) == PEER_QUEUE_FRAMES
    assert await queue.get() == b"5"
    queue.clear()
    frame = bytes(MAX_FRAME_BYTES)
    for _ in range(PEER_QUEUE_BYTES // MAX_FRAME_BYTES + 3):
        queue.put(frame)
    assert len(queue) == PEER_QUEUE_BYTES // MAX_FRAME_BYTES


async def test_row_13_a_flood_of_transactions_drops_only_its_own() -> None:
    frames = FairFrames()
    assert frames.put(b"quiet", b"first") == 0
    assert sum(frames.put(b"flood", str(i).encode()) for i in range(PEER_QUEUE_FRAMES + 5)) == 5
    assert frames.put(b"quiet", b"second") == 0
    taken = [await frames.get() for _ in range(4)]
    assert taken == [(b"quiet", b"first"), (b"flood", b"5"), (b"quiet", b"second"), (b"flood", b"6")]
    for i in range(7, PEER_QUEUE_FRAMES + 5):
        assert await frames.get() == (b"flood", str(i).encode())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await frames.get()


async def test_row_13_a_flooding_sender_waits_and_others_do_not() -> None:
    inbox: FairInbox[int] = FairInbox()

    async def flood() -> None:
        for i in range(10 * INBOX_PER_SENDER):
            await inbox.put(b"flood", i)

    flooding = asyncio.create_task(flood())
    await asyncio.sleep(0.02)
    await inbox.put(b"quiet", -1)
    inbox.put_local(-2)
    assert [await inbox.get() for _ in range(3)] == [-2, 0, -1]  # own events first, then in turn
    assert not flooding.done()
    for _ in range(10 * INBOX_PER_SENDER - 1):
        await inbox.get()
    await flooding


async def test_memory_network_follows_the_same_rules() -> None:
    network, ears = MemoryNetwork(), [Heard(), Heard()]
    nodes = [network.join(address_of(KEYS[i])) for i in range(2)]
    for node, ear in zip(nodes, ears, strict=True):
        await node.start(ear)
    nodes[0].broadcast(Channel.GOSSIP, b"one")
    await ears[1].wait(1)
    network.cut.add(nodes[1].address)
    assert nodes[0].connected() == ()
    nodes[0].broadcast(Channel.GOSSIP, b"two")
    nodes[0].send(nodes[1].address, Channel.TX, bytes(MAX_FRAME_BYTES))
    await until(lambda: nodes[0].stats.frames_dropped == 2)
    network.cut.clear()
    nodes[0].broadcast(Channel.GOSSIP, b"three")
    await ears[1].wait(2)
    assert [payload for _, _, payload in ears[1].items] == [b"one", b"three"]
    for node in nodes:
        await node.stop()


async def test_stopping_ends_a_dialer_that_is_closing_its_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """When hubs stop together, a dialer is often closing its link to a peer that has just gone; its cancellation was lost
    there, it went on dialing, and the hub never ended."""
    closing = asyncio.Event()

    async def slowly(writer: asyncio.StreamWriter) -> None:
        closing.set()
        await asyncio.sleep(30)

    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame_of(Channel.CONSENSUS, b"no hello"))
        await reader.read()
        writer.close()

    peers = peer_list(KEYS[:2], free_ports(2))
    server = await asyncio.start_server(rude, peers[1].host, peers[1].port)
    monkeypatch.setattr(asyncio.StreamWriter, "wait_closed", slowly)
    node = make(0, peers, genesis_of(KEYS[:2], 10_000))
    await node.start(Heard())
    async with asyncio.timeout(10):
        await closing.wait()
        await node.stop()
    server.close()
