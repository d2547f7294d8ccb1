"""What an engine needs of a network, whichever it is.

A transport moves opaque payloads between validators that it has authenticated; it may lose, delay and
reorder, never alter or misattribute. Sending never waits: a full queue drops its oldest payload, because
consensus repeats what matters and old votes are worthless.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

MAX_FRAME_BYTES = 4 * 1024 * 1024
PEER_QUEUE_FRAMES = 1024
PEER_QUEUE_BYTES = 4 * MAX_FRAME_BYTES


class Channel(enum.IntEnum):
    """What a payload is for; one byte on the wire."""

    CONSENSUS = 1
    TX = 2
    GOSSIP = 3


Deliver = Callable[[bytes, Channel, bytes], Awaitable[None]]
"""Called with (sender address, channel, payload); while it waits, that sender's link is not read."""


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where a validator listens: its 20-byte address, host and TCP port."""

    address: bytes
    host: str
    port: int


@dataclass
class LinkStats:
    """Counters of a transport, for status and tests."""

    frames_sent: int = 0
    frames_received: int = 0
    frames_dropped: int = 0
    malformed: int = 0
    refused: int = 0


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

    def connected(self) -> tuple[bytes, ...]:
        """Addresses of the peers that can be sent to now, ascending."""
        ...
