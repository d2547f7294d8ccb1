"""What an engine needs of a network, whichever it is.

A transport moves opaque payloads between validators that it has authenticated; it may lose, delay and
reorder, never alter or misattribute. Sending never waits: a full queue drops its oldest payload, because
consensus repeats what matters and old votes are worthless.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from hub.ppdl.net.limits import Progress

MAX_FRAME_BYTES = 4 * 1024 * 1024
MAX_TX_FRAME_BYTES = 1 + 256 * 1024
"""A channel byte and the largest transaction (`consensus.block.MAX_TX_BYTES`)."""
MAX_GOSSIP_FRAME_BYTES = 1 + 260 * 1024
"""A channel byte, the largest gossip payload of the engine and its kind."""
MAX_UNASKED_BYTES = 2_560 * 1024
"""The largest message that a validator sends without being asked: a NEW-VIEW of 64 validators, each with a certificate of 64
votes (0.3 MiB), and the largest block (2.02 MiB). Only answers are longer: of block sync (3 MiB) and a snapshot's manifest."""
LARGE_PAYLOAD_BYTES = 64 * 1024
"""Above it a payload is read only if it can be of use, and when there is room for it. No consensus message without a block is
longer."""
PEER_QUEUE_FRAMES = 1024
PEER_QUEUE_BYTES = 4 * MAX_FRAME_BYTES

BLAME_FRAMES = 100
"""What a malformed or invalid frame costs its peer beside itself: while no blocks come, one or two a second get through."""
REFUSED_FRAMES = 20
"""What a refused transaction costs. Hubs pass on what they have admitted themselves, so few are: those that lost a race."""


class TransportError(OSError):
    """The transport cannot start; the message is one sentence for the operator."""


class Channel(enum.IntEnum):
    """What a payload is for; one byte on the wire."""

    CONSENSUS = 1
    TX = 2
    GOSSIP = 3
    SNAPSHOT = 4


CHANNEL_BYTES = {
    Channel.CONSENSUS: MAX_FRAME_BYTES,
    Channel.TX: MAX_TX_FRAME_BYTES,
    Channel.GOSSIP: MAX_GOSSIP_FRAME_BYTES,
    Channel.SNAPSHOT: MAX_FRAME_BYTES,
}
"""How long a frame may be, by channel: what is longer is refused before it is read."""

Deliver = Callable[[bytes, Channel, bytes], Awaitable[None]]
"""Called with (sender address, channel, payload); while it waits, that sender's link is not read."""


class Gate(Protocol):
    """What the consumer of a transport says of frames before they are read."""

    def progress(self) -> Progress:
        """Blocks decided here since the start: each entitles every peer to some more."""
        ...

    def takes(self, peer: bytes, channel: Channel, size: int) -> bool:
        """Whether a payload of this size, above LARGE_PAYLOAD_BYTES, can be of use now; if not, it is passed over."""
        ...

    def price(self, peer: bytes, channel: Channel, size: int) -> int:
        """For how many bytes a peer pays with such a payload, taken or passed over."""
        ...

    async def room(self, peer: bytes, size: int) -> None:
        """Return when a large consensus payload would be taken at once, so that a replica holds one of a flooder's largest
        frames and not one in every place on the way.
        """
        ...


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where a validator listens: its 20-byte address, host and TCP port."""

    address: bytes
    host: str
    port: int


def is_loopback(host: str) -> bool:
    """Whether a host as configured is this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass
class LinkStats:
    """Counters of a transport, for status and tests."""

    frames_sent: int = 0
    frames_received: int = 0
    frames_dropped: int = 0
    malformed: int = 0
    refused: int = 0
    throttled: int = 0  # times that a peer was not read for a while
    unwanted: int = 0  # large frames that nobody had asked for


class Transport(Protocol):
    """A network between validators."""

    stats: LinkStats

    async def start(self, deliver: Deliver) -> None:
        """Begin to listen and to dial; `deliver` gets every payload received."""
        ...

    async def stop(self) -> None:
        """Close everything; nothing is delivered afterwards."""
        ...

    def send(self, peer: bytes, channel: Channel, payload: bytes) -> None:
        """Queue a payload for one peer; unknown peers and oversized payloads are counted as dropped."""
        ...

    def broadcast(self, channel: Channel, payload: bytes) -> None:
        """Queue a payload for every peer."""
        ...

    def blame(self, peer: bytes, frames: int = BLAME_FRAMES) -> None:
        """Say that a payload of this peer was malformed or invalid, which no honest peer's is; or, with REFUSED_FRAMES, that it
        was refused, which many of an honest peer's are not. It counts as so many frames more, so the peer is read more slowly.
        """
        ...

    def connected(self) -> tuple[bytes, ...]:
        """Addresses of the peers that can be sent to now, ascending."""
        ...
