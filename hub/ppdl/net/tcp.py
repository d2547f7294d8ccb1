"""TCP transport: length-prefixed frames over mutually authenticated connections.

Frame: 4 bytes length (big endian, at most MAX_FRAME_BYTES), 1 byte channel, payload. Every validator dials
every peer and sends only on connections it dialed; it receives on those it accepted. So each direction has
its own connection, queue and reconnect loop, and neither waits for the other.

A malformed frame is counted, logged once per peer and dropped (a wrong length ends the connection, since
nothing after it can be read). Strangers are refused after the hello (`handshake.py`); how many may be in
their hello at once is bounded. Proxies are never used: these are plain sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Callable, Sequence

from hub.ppdl.genesis import Genesis
from hub.ppdl.net.handshake import (
    DIALER,
    LISTENER,
    MAX_HELLO_BYTES,
    NONCE_BYTES,
    HandshakeError,
    Hello,
    check_proof,
    check_same_chain,
    decode_hello,
    proof_digest,
)
from hub.ppdl.net.queues import FrameQueue
from hub.ppdl.net.transport import MAX_FRAME_BYTES, Channel, Deliver, LinkStats, PeerAddress
from openmg.signing import address_of, sign_digest
from openmg.tasks import end_tasks

log = logging.getLogger(__name__)

LENGTH_BYTES = 4
HANDSHAKE_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 5.0
BACKOFF_FIRST_S = 0.1
BACKOFF_LAST_S = 5.0
STEADY_LINK_S = 5.0  # a connection that lasted so long was a good one: after its end the first wait is short again
UNANSWERED_S = 15.0  # bytes that a peer has not acknowledged for so long end the connection
MAX_PENDING_HELLOS = 64
MAX_LOGGED_PER_PEER = 16  # different complaints; all strangers together count as one peer


class TransportError(OSError):
    """The transport cannot start; the message is one sentence for the operator."""


def frame_of(channel: Channel, payload: bytes) -> bytes:
    """Bytes of one frame."""
    return (1 + len(payload)).to_bytes(LENGTH_BYTES, "big") + bytes([channel]) + payload


async def read_frame(reader: asyncio.StreamReader, limit: int) -> bytes:
    """Read the body of one frame.

    Raises HandshakeError when its length is 0 or above `limit`, IncompleteReadError at the end.
    """
    length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
    if not 1 <= length <= limit:
        raise HandshakeError(f"peer announced a frame of {length} bytes, allowed are 1 to {limit}")
    return await reader.readexactly(length)


class TcpTransport:
    """Transport of one validator.

    `peers`: where the others listen; connections of addresses not among them are refused.
    """

    def __init__(self, genesis: Genesis, private_key: bytes, host: str, port: int, peers: Sequence[PeerAddress]) -> None:
        self.address = address_of(private_key)
        self.stats = LinkStats()
        self._genesis_hash, self._chain_id = genesis.hash, genesis.chain_id
        self._sign: Callable[[bytes], bytes] = lambda digest: sign_digest(private_key, digest)
        self._host, self._port = host, port
        self._peers = {p.address: p for p in peers if p.address != self.address}
        self._queues: dict[bytes, FrameQueue] = {}
        self._connected: dict[bytes, float] = {}  # since when, in loop time
        self._accepted: dict[bytes, asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._pending_hellos = 0
        self._logged: dict[bytes, set[str]] = {}
        self._server: asyncio.Server | None = None
        self._deliver: Deliver | None = None

    @property
    def port(self) -> int:
        """The port listened on (useful when 0 was asked for)."""
        if self._server is None or not self._server.sockets:
            return self._port
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self, deliver: Deliver) -> None:
        """Listen and dial. Raises TransportError when the port cannot be had."""
        self._deliver = deliver
        try:
            self._server = await asyncio.start_server(self._accept, self._host, self._port)
        except OSError as error:
            where = f"{self._host}:{self._port}"
            raise TransportError(f"cannot listen on {where} ({error.strerror}): choose another PPDL port") from error
        for peer in self._peers.values():
            self._queues[peer.address] = FrameQueue()
            self._spawn(asyncio.create_task(self._dial(peer), name=f"ppdl-dial-{peer.port}"))

    def _spawn(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Close every connection and wait for the tasks."""
        if self._server is not None:
            self._server.close()
        await end_tasks(self._tasks)
        if self._server is not None:
            await self._server.wait_closed()

    def connected(self) -> tuple[bytes, ...]:
        """Peers with an open outgoing connection."""
        return tuple(sorted(self._connected))

    def send(self, peer: bytes, channel: Channel, payload: bytes) -> None:
        """Queue one frame."""
        queue = self._queues.get(peer)
        if queue is None or 1 + len(payload) > MAX_FRAME_BYTES:
            self.stats.frames_dropped += 1
            return
        self.stats.frames_dropped += queue.put(frame_of(channel, payload))

    def broadcast(self, channel: Channel, payload: bytes) -> None:
        """Queue one frame for each peer."""
        for peer in self._queues:
            self.send(peer, channel, payload)

    def _log_once(self, peer: bytes, what: str) -> None:
        said = self._logged.setdefault(peer if peer in self._peers else b"", set())
        if what not in said and len(said) < MAX_LOGGED_PER_PEER:
            said.add(what)
            log.warning("PPDL peer %s: %s", peer.hex() or "unknown", what)

    async def _dial(self, peer: PeerAddress) -> None:
        """Keep one outgoing connection to a peer, for ever.

        Who does not answer, or welcomes and hangs up, is dialed less and less often.
        """
        wait = BACKOFF_FIRST_S
        while True:
            try:
                await self._send_over(peer)
            except HandshakeError as error:
                self.stats.refused += 1
                self._log_once(peer.address, str(error))
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                pass  # the peer is down or gone: that is what the loop is for
            since = self._connected.pop(peer.address, None)
            if since is not None and asyncio.get_running_loop().time() - since >= STEADY_LINK_S:
                wait = BACKOFF_FIRST_S
            await asyncio.sleep(wait)
            wait = min(2 * wait, BACKOFF_LAST_S)

    async def _send_over(self, peer: PeerAddress) -> None:
        """Connect, prove, then send until the connection ends."""
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(peer.host, peer.port)
        _expect_answers(writer)
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                address = await self._hello(reader, writer, dialer=True)
            if address != peer.address:
                raise HandshakeError(f"the validator at {peer.host}:{peer.port} is {address.hex()}: check the peer list")
            self._connected[peer.address] = asyncio.get_running_loop().time()
            closed = asyncio.create_task(reader.read(1))  # the listener never sends: any answer or end closes
            sender = asyncio.create_task(self._drain(self._queues[peer.address], writer))
            try:
                await asyncio.wait({closed, sender}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (closed, sender):
                    task.cancel()
                await asyncio.gather(closed, sender, return_exceptions=True)
        finally:
            await _close(writer)

    async def _drain(self, queue: FrameQueue, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(await queue.get())
            self.stats.frames_sent += 1
            await writer.drain()

    async def _hello(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dialer: bool) -> bytes:
        """Exchange hellos and proofs; return the other side's proven address."""
        mine = Hello(self._chain_id, self._genesis_hash, self.address, secrets.token_bytes(NONCE_BYTES))
        writer.write(frame_of(Channel.CONSENSUS, mine.encode()))
        theirs = decode_hello((await read_frame(reader, 1 + MAX_HELLO_BYTES))[1:])
        check_same_chain(mine, theirs)
        my_role, their_role = (DIALER, LISTENER) if dialer else (LISTENER, DIALER)
        writer.write(frame_of(Channel.CONSENSUS, self._sign(proof_digest(my_role, mine, theirs))))
        await writer.drain()
        check_proof(their_role, mine, theirs, (await read_frame(reader, 1 + MAX_HELLO_BYTES))[1:])
        return theirs.address

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one incoming connection to its end."""
        task = asyncio.current_task()
        if task is not None:
            self._spawn(task)
        with contextlib.suppress(asyncio.CancelledError):
            await self._serve(reader, writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = b""
        try:
            peer = await self._welcome(reader, writer)
            previous = self._accepted.get(peer)
            if previous is not None:
                previous.close()  # the peer came again: its old connection is dead
            self._accepted[peer] = writer
            await self._receive(peer, reader)
        except HandshakeError as error:
            self.stats.refused += 1
            self._log_once(peer, str(error))
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the peer went away
        finally:
            if self._accepted.get(peer) is writer:
                del self._accepted[peer]
            await _close(writer)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        if self._pending_hellos >= MAX_PENDING_HELLOS:
            raise HandshakeError("too many connections are in their hello")
        self._pending_hellos += 1
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                peer = await self._hello(reader, writer, dialer=False)
        finally:
            self._pending_hellos -= 1
        if peer not in self._peers:
            raise HandshakeError(f"{peer.hex()} is not in the peer list")
        return peer

    async def _receive(self, peer: bytes, reader: asyncio.StreamReader) -> None:
        """Deliver frames; waiting for the consumer holds back only this peer."""
        assert self._deliver is not None
        channels = {int(channel): channel for channel in Channel}
        while True:
            body = await read_frame(reader, MAX_FRAME_BYTES)
            channel = channels.get(body[0])
            if channel is None:
                self.stats.malformed += 1
                self._log_once(peer, "sent a frame on an unknown channel; frame dropped")
                continue
            self.stats.frames_received += 1
            await self._deliver(peer, channel, body[1:])


def _expect_answers(writer: asyncio.StreamWriter) -> None:
    """End the connection when the other machine is gone without a word: the kernel alone would go on for a quarter of an
    hour, and a peer that came back would hear nothing until then.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux only; elsewhere the kernel's patience has to do
    if option is not None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, option, round(1000 * UNANSWERED_S))


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
