"""TCP transport: length-prefixed frames (`framing.py`) over mutually authenticated connections.

Every validator dials every peer and sends only on connections it dialed; it receives on those it accepted. So each direction
has its own connection, queue and reconnect loop, and neither waits for the other. A peer that comes is dialed at once: answers
to what it asks go over that connection. Blocks and chunks that waited for one that was away for long are not sent: their
heights are over, or they are repeated, and this validator would pay for them before it is heard with what is asked for now.

With a `TlsIdentity` every connection is TLS 1.3 with a certificate on both sides (`tls.py`); without one it is plain, which is
allowed between loopback addresses only. In both cases the hello then proves the validator keys (`link.py`).

Who may cost what. A stranger gets a place at the door (`limits.Door`), HANDSHAKE_TIMEOUT_S for TLS and hello together, and
frames of MAX_HELLO_BYTES. A peer pays for what it sends (`receiver.py`). A malformed frame is counted, logged once per peer
and dropped (a wrong length ends the connection, since nothing after it can be read). A peer has one connection: when it comes
again, nothing more is read of the old one. Proxies are never used.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress

from hub.ppdl.genesis import Genesis
from hub.ppdl.net.framing import LENGTH_BYTES
from hub.ppdl.net.framing import frame_of as frame_of
from hub.ppdl.net.framing import read_frame as read_frame
from hub.ppdl.net.handshake import HandshakeError
from hub.ppdl.net.heap import keep_large_payloads_off
from hub.ppdl.net.limits import Door
from hub.ppdl.net.link import Credentials, Link
from hub.ppdl.net.queues import FrameQueue
from hub.ppdl.net.receiver import Receiver
from hub.ppdl.net.sockets import CLOSE_TIMEOUT_S, accepted_stream, close, expect_answers, listen
from hub.ppdl.net.tls import TlsIdentity
from hub.ppdl.net.transport import (
    BLAME_FRAMES,
    LARGE_PAYLOAD_BYTES,
    MAX_FRAME_BYTES,
    Channel,
    Deliver,
    Gate,
    LinkStats,
    PeerAddress,
    is_loopback,
)
from hub.ppdl.net.transport import TransportError as TransportError
from openmg.tasks import end_tasks

log = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 5.0
BACKOFF_FIRST_S = 0.1
BACKOFF_LAST_S = 5.0
BACKOFF_JITTER = 0.25  # each wait is longer by up to this share, so that hubs that fell together do not come back together
RECALL_S = 1.0  # a peer that comes is dialed at once, but so long after the last time: one that hangs up gains nothing by it
AWAY_S = 5.0  # a peer without a connection for so long was away: longer than views at first, in which blocks are repeated
STEADY_LINK_S = 5.0  # a connection that lasted so long was a good one: after its end the first wait is short again
UNANSWERED_S = 15.0  # bytes that a peer has not acknowledged for so long end the connection
REVIEW_S = 2.0  # how often the cards are looked at again
ACCEPT_PAUSE_S = 0.1  # after the system has refused a connection: no descriptors are left
MAX_LOGGED_PER_PEER = 16  # different complaints; all strangers together count as one peer


def backoff(wait_s: float, jitter: random.Random) -> tuple[float, float]:
    """(seconds to pause now, the wait after it): doubled each time up to BACKOFF_LAST_S, each with its own bit of chance."""
    return wait_s * (1 + BACKOFF_JITTER * jitter.random()), min(2 * wait_s, BACKOFF_LAST_S)


def outlived(frame: bytes) -> bool:
    """Whether a frame that waited for a peer that was away is of no use to it now: one with a block, or a chunk."""
    return len(frame) > LARGE_PAYLOAD_BYTES and frame[LENGTH_BYTES] in (Channel.CONSENSUS, Channel.SNAPSHOT)


class TcpTransport:
    """Transport of one validator.

    `peers`: where the others listen, on loopback, without TLS. `tls`: or the cards that say so. Connections of others are
    refused. `jitter`: where chance comes from; a seeded one for repeatable tests.
    """

    def __init__(
        self,
        genesis: Genesis,
        private_key: bytes,
        host: str,
        port: int,
        peers: Sequence[PeerAddress] = (),
        *,
        tls: TlsIdentity | None = None,
        jitter: random.Random | None = None,
    ) -> None:
        self._credentials = Credentials(genesis, private_key)
        self.address = self._credentials.address
        self.stats = LinkStats()
        self._receiver = Receiver(self.stats, self._log_once)
        self._host, self._port = host, port
        self._tls, self._jitter = tls, jitter or random.Random()
        self._places = {p.address: (p,) for p in peers if p.address != self.address} if tls is None else tls.current().places
        self._queues: dict[bytes, FrameQueue] = {}
        self._dialing: dict[bytes, asyncio.Task[None]] = {}
        self._came: dict[bytes, asyncio.Event] = {}  # the peer dialed this validator since it was dialed
        self._alone_since_s: dict[bytes, float] = {}  # when the last connection to the peer ended
        self._dialed: dict[bytes, Link] = {}
        self._accepted: dict[bytes, Link] = {}
        self._door = Door()
        self._tasks: set[asyncio.Task[None]] = set()
        self._logged: dict[bytes, set[str]] = {}
        self._sockets: list[socket.socket] = []
        self._deliver: Deliver | None = None

    @property
    def port(self) -> int:
        """The port listened on (useful when 0 was asked for)."""
        return int(self._sockets[0].getsockname()[1]) if self._sockets else self._port

    @property
    def gate(self) -> Gate | None:
        """Set by a consumer that has bounds, before `start`."""
        return self._receiver.gate

    @gate.setter
    def gate(self, gate: Gate) -> None:
        self._receiver.gate = gate

    # life

    async def start(self, deliver: Deliver) -> None:
        """Listen and dial. Raises TransportError when the port cannot be had, or for plain TCP beyond loopback."""
        self._deliver = deliver
        keep_large_payloads_off()
        if self._tls is None:
            hosts = [self._host, *(place.host for places in self._places.values() for place in places)]
            beyond = [host for host in hosts if not is_loopback(host)]
            if beyond:
                problem = f"PPDL without TLS is for loopback only, and {beyond[0]} is not"
                raise TransportError(f"{problem}: run openmg-hub init, and set ppdl.identity_dir")
        try:
            self._sockets = await listen(self._host, self._port)
        except OSError as error:
            where = f"{self._host}:{self._port}"
            raise TransportError(f"cannot listen on {where} ({error.strerror}): choose another PPDL port") from error
        for listening in self._sockets:
            self._spawn(asyncio.create_task(self._accept(listening), name=f"ppdl-accept-{self.port}"))
        self._follow_places()
        if self._tls is not None:
            self._spawn(asyncio.create_task(self._review(self._tls), name="ppdl-review-cards"))

    def _spawn(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Close every connection and wait for the tasks."""
        await end_tasks(self._tasks)
        for listening in self._sockets:
            listening.close()

    def connected(self) -> tuple[bytes, ...]:
        """Peers with an open outgoing connection."""
        return tuple(sorted(self._dialed))

    def places(self) -> dict[bytes, tuple[PeerAddress, ...]]:
        """Peers and where they are dialed."""
        return dict(self._places)

    # cards that come and go

    async def _review(self, tls: TlsIdentity) -> None:
        """Follow the cards: dial who is new, and end connections under certificates that hold no more."""
        while True:
            await asyncio.sleep(REVIEW_S)
            state = tls.current()
            if state.places != self._places:
                self._places = state.places
                self._follow_places()
            for link in (*self._dialed.values(), *self._accepted.values()):
                if link.certificate_hash not in state.owners:
                    link.end()

    def _follow_places(self) -> None:
        for peer in self._places.keys() - self._dialing.keys():
            self._queues[peer], self._came[peer] = FrameQueue(), asyncio.Event()
            self._alone_since_s[peer] = asyncio.get_running_loop().time()
            task = asyncio.create_task(self._dial(peer), name=f"ppdl-dial-{peer.hex()[:8]}")
            self._dialing[peer] = task
            self._spawn(task)
        for peer in self._dialing.keys() - self._places.keys():
            self._dialing.pop(peer).cancel()
            del self._queues[peer], self._came[peer], self._alone_since_s[peer]

    # sending

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

    def blame(self, peer: bytes, frames: int = BLAME_FRAMES) -> None:
        """A payload of this peer was malformed, invalid or refused: it counts as `frames` more."""
        self._receiver.blame(peer, frames)

    def _log_once(self, peer: bytes, what: str) -> None:
        said = self._logged.setdefault(peer if peer in self._places else b"", set())
        if what not in said and len(said) < MAX_LOGGED_PER_PEER:
            said.add(what)
            log.warning("PPDL peer %s: %s", peer.hex() or "unknown", what)

    def _refuse(self, peer: bytes, what: str) -> None:
        self.stats.refused += 1
        self._log_once(peer, what)

    async def _dial(self, peer: bytes) -> None:
        """Keep one outgoing connection to a peer, for ever.

        Who does not answer, or welcomes and hangs up, is dialed less and less often. A validator with two cards may be at
        either place: they take turns.
        """
        wait, attempt, loop = BACKOFF_FIRST_S, 0, asyncio.get_running_loop()
        while True:
            places = self._places[peer]
            link: Link | None = None
            try:
                link = await self._send_over(places[attempt % len(places)])
            except HandshakeError as error:
                self._refuse(peer, str(error))
            except ssl.SSLError as error:
                self._refuse(peer, f"TLS failed ({error.reason or error}): import its card, and let it import ours")
            except (OSError, asyncio.IncompleteReadError):
                pass  # the peer is down or gone: that is what the loop is for
            attempt += link is None
            if link is not None and loop.time() - link.since_s >= STEADY_LINK_S:
                wait = BACKOFF_FIRST_S
            pause, wait = backoff(wait, self._jitter)
            await self._pause(self._came[peer], pause)

    async def _pause(self, came: asyncio.Event, pause_s: float) -> None:
        """Rest before dialing again: until the peer comes itself, at most so long."""
        await asyncio.sleep(min(pause_s, RECALL_S))
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, pause_s - RECALL_S)):
                await came.wait()
        came.clear()

    def _met(self, peer: bytes) -> None:
        """The first of the two connections with a peer: if it was away, forget what is of no use to it any more."""
        alone = peer not in self._dialed and peer not in self._accepted
        if alone and asyncio.get_running_loop().time() - self._alone_since_s[peer] >= AWAY_S:
            self.stats.frames_dropped += self._queues[peer].forget(outlived)

    async def _send_over(self, place: PeerAddress) -> Link:
        """Connect, prove, then send until the connection ends; the link that was. Raises if it came to none."""
        state = self._tls.current() if self._tls is not None else None
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            if state is None:
                reader, writer = await asyncio.open_connection(place.host, place.port)
            else:
                reader, writer = await asyncio.open_connection(
                    place.host, place.port, ssl=state.client, server_hostname="", ssl_shutdown_timeout=CLOSE_TIMEOUT_S
                )
        expect_answers(writer, UNANSWERED_S)
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                link = await self._credentials.prove(reader, writer, state, dialer=True)
            if link.peer != place.address:
                raise HandshakeError(f"the validator at {place.host}:{place.port} is {link.peer.hex()}: check the peer list")
            self._met(place.address)
            self._dialed[place.address] = link
            self._came[place.address].clear()
            closed = asyncio.create_task(reader.read(1))  # the listener never sends: any answer or end closes
            sender = asyncio.create_task(self._drain(self._queues[place.address], writer))
            try:
                await asyncio.wait({closed, sender}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (closed, sender):
                    task.cancel()
                await asyncio.gather(closed, sender, return_exceptions=True)
            return link
        finally:
            if self._dialed.pop(place.address, None) is not None and place.address in self._alone_since_s:
                self._alone_since_s[place.address] = asyncio.get_running_loop().time()
            await close(writer)

    async def _drain(self, queue: FrameQueue, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(await queue.get())
            self.stats.frames_sent += 1
            await writer.drain()

    # receiving

    async def _accept(self, listening: socket.socket) -> None:
        """Let connections in as far as the door allows; the others are closed before they cost anything."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, place = await loop.sock_accept(listening)
            except OSError as error:
                self._log_once(b"", f"a connection cannot be accepted ({error.strerror})")
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            host = str(place[0])
            why_not = self._door.enter(host, loop.time())
            if why_not is not None:
                connection.close()
                self._refuse(b"", why_not)
                continue
            self._spawn(asyncio.create_task(self._serve(connection, host), name=f"ppdl-serve-{self.port}"))

    async def _serve(self, connection: socket.socket, host: str) -> None:
        """Serve one incoming connection to its end."""
        link: Link | None = None
        try:
            try:
                async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                    link = await self._welcome(connection)
            finally:
                self._door.leave(host)
            previous = self._accepted.get(link.peer)
            if previous is not None:
                previous.end()  # the peer came again: its old connection is dead
            link.task = asyncio.current_task()
            self._met(link.peer)
            self._accepted[link.peer] = link
            self._came[link.peer].set()
            assert self._deliver is not None
            await self._receiver.receive(link, self._deliver)
        except HandshakeError as error:
            self._refuse(link.peer if link else b"", str(error))
        except TimeoutError:
            self._refuse(b"", f"did not prove its key within {HANDSHAKE_TIMEOUT_S:g} s")
        except ssl.SSLError as error:
            self._refuse(b"", f"TLS failed ({error.reason or error}): import its card, and let it import ours")
        except (OSError, asyncio.IncompleteReadError):
            pass  # the peer went away
        finally:
            if link is not None:
                if self._accepted.get(link.peer) is link:
                    del self._accepted[link.peer]
                await close(link.writer)

    async def _welcome(self, connection: socket.socket) -> Link:
        """TLS and hello with a stranger; closes the connection unless a link comes of it."""
        state = self._tls.current() if self._tls is not None else None
        reader, writer = await accepted_stream(connection, state.server if state is not None else None)
        try:
            link = await self._credentials.prove(reader, writer, state, dialer=False)
            if link.peer not in self._places:
                raise HandshakeError(f"{link.peer.hex()} is not in the peer list")
        except BaseException:
            await close(writer)
            raise
        return link
