"""In-process transport with the same rules as TCP.

Bounded queues, a task per link, links that can be cut. For tests and a single-process network.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hub.ppdl.net.queues import FrameQueue
from hub.ppdl.net.transport import BLAME_FRAMES, MAX_FRAME_BYTES, Channel, Deliver, LinkStats
from openmg.tasks import end_tasks


@dataclass
class MemoryNetwork:
    """The wire between `MemoryTransport`s; `cut` holds addresses that nothing reaches or leaves."""

    members: dict[bytes, MemoryTransport] = field(default_factory=dict)
    cut: set[bytes] = field(default_factory=set)

    def join(self, address: bytes) -> MemoryTransport:
        """The transport of one validator."""
        transport = MemoryTransport(self, address)
        self.members[address] = transport
        return transport

    def passes(self, one: bytes, other: bytes) -> bool:
        """Whether both ends are up and not cut off."""
        up = self.members[other].running if other in self.members else False
        return up and one not in self.cut and other not in self.cut


class MemoryTransport:
    """One validator's end of a MemoryNetwork."""

    def __init__(self, network: MemoryNetwork, address: bytes) -> None:
        self.address = address
        self.stats = LinkStats()
        self.running = False
        self._network = network
        self._queues: dict[bytes, FrameQueue] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._deliver: Deliver | None = None

    async def start(self, deliver: Deliver) -> None:
        """Open a link to every member."""
        self._deliver = deliver
        self.running = True
        for peer in sorted(self._network.members):
            if peer != self.address:
                self._queues[peer] = FrameQueue()
                self._tasks.append(asyncio.create_task(self._carry(peer)))

    async def stop(self) -> None:
        """Close all links."""
        self.running = False
        await end_tasks(self._tasks)
        self._tasks.clear()

    def connected(self) -> tuple[bytes, ...]:
        """Peers that are up and reachable."""
        return tuple(p for p in sorted(self._queues) if self._network.passes(self.address, p))

    def send(self, peer: bytes, channel: Channel, payload: bytes) -> None:
        """Queue one payload."""
        queue = self._queues.get(peer)
        if queue is None or 1 + len(payload) > MAX_FRAME_BYTES:
            self.stats.frames_dropped += 1
            return
        self.stats.frames_dropped += queue.put(bytes([channel]) + payload)

    def broadcast(self, channel: Channel, payload: bytes) -> None:
        """Queue one payload for each peer."""
        for peer in self._queues:
            self.send(peer, channel, payload)

    def blame(self, peer: bytes, frames: int = BLAME_FRAMES) -> None:
        """Nothing: in one process nobody floods."""

    async def _carry(self, peer: bytes) -> None:
        while True:
            frame = await self._queues[peer].get()
            if not self._network.passes(self.address, peer):
                self.stats.frames_dropped += 1
                continue
            self.stats.frames_sent += 1
            other = self._network.members[peer]
            other.stats.frames_received += 1
            assert other._deliver is not None
            await other._deliver(self.address, Channel(frame[0]), frame[1:])
