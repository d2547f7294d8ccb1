"""Bounded queues: one that sends (drops its oldest), and two that receive, fair between senders (one drops a flooding
sender's oldest, one makes it wait).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from hub.ppdl.net.transport import PEER_QUEUE_BYTES, PEER_QUEUE_FRAMES

Item = TypeVar("Item")

INBOX_PER_SENDER = 64  # frames; a sender that is faster than this replica waits, others do not
INBOX_BYTES_PER_SENDER = 1024 * 1024
"""One frame of any size, or many small ones: what a flood holds of this replica's memory."""
INTAKE_FRAMES, INTAKE_BYTES = 1024, 2 * 1024 * 1024
"""What waits of one sender: a block's worth of transactions, or eight chunks of a snapshot, or one larger frame."""


class FrameQueue:
    """Frames that wait for one peer.

    At most `max_frames` and `max_bytes`, but always the newest one; when full the oldest goes.
    """

    def __init__(self, max_frames: int = PEER_QUEUE_FRAMES, max_bytes: int = PEER_QUEUE_BYTES) -> None:
        self._max_frames, self._max_bytes = max_frames, max_bytes
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()

    def put(self, frame: bytes) -> int:
        """Add a frame; return how many old ones were dropped for it."""
        dropped = 0
        self._frames.append(frame)
        self._bytes += len(frame)
        while len(self._frames) > self._max_frames or (self._bytes > self._max_bytes and len(self._frames) > 1):
            self._bytes -= len(self._frames.popleft())
            dropped += 1
        self._filled.set()
        return dropped

    async def get(self) -> bytes:
        """Wait for and remove the oldest frame."""
        while not self._frames:
            self._filled.clear()
            await self._filled.wait()
        frame = self._frames.popleft()
        self._bytes -= len(frame)
        return frame

    def forget(self, useless: Callable[[bytes], bool]) -> int:
        """Drop the frames of which this is true; return how many."""
        before = len(self._frames)
        self._frames = deque(frame for frame in self._frames if not useless(frame))
        self._bytes = sum(map(len, self._frames))
        return before - len(self._frames)

    def clear(self) -> None:
        """Forget everything that waits."""
        self._frames.clear()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._frames)


class FairFrames:
    """Frames of several senders, a FrameQueue for each, taken in turn.

    Nobody waits: who sends faster than this hub takes loses its own oldest frames and nobody else's.
    """

    def __init__(self) -> None:
        self._queues: dict[bytes, FrameQueue] = {}
        self._turns: deque[bytes] = deque()  # senders with frames here, each once
        self._filled = asyncio.Event()

    def put(self, sender: bytes, frame: bytes) -> int:
        """Add a frame of a sender; return how many of its old ones were dropped for it."""
        queue = self._queues.setdefault(sender, FrameQueue(INTAKE_FRAMES, INTAKE_BYTES))
        if not len(queue):
            self._turns.append(sender)
        self._filled.set()
        return queue.put(frame)

    async def get(self) -> tuple[bytes, bytes]:
        """Wait for the next frame; return (sender, frame)."""
        while not self._turns:
            self._filled.clear()
            await self._filled.wait()
        sender = self._turns.popleft()
        queue = self._queues[sender]
        frame = await queue.get()  # it has one: does not wait
        if len(queue):
            self._turns.append(sender)
        return sender, frame


@dataclass
class _Waiting(Generic[Item]):
    """Items of one sender with their sizes."""

    items: deque[tuple[Item, int]] = field(default_factory=deque)
    size: int = 0

    def has_room(self, size: int) -> bool:
        """A single item of any size always fits."""
        return not self.items or (len(self.items) < INBOX_PER_SENDER and self.size + size <= INBOX_BYTES_PER_SENDER)


class FairInbox(Generic[Item]):
    """Items by sender, taken round robin.

    At most INBOX_PER_SENDER and INBOX_BYTES_PER_SENDER of each sender, who then waits. `put_local` never waits (own events).
    """

    def __init__(self) -> None:
        self._queues: dict[bytes, _Waiting[Item]] = {}
        self._turns: deque[bytes] = deque()
        self._local: deque[Item] = deque()
        self._filled = asyncio.Event()
        self._space = asyncio.Condition()
        self._waiting_for_space = 0

    def put_local(self, item: Item) -> None:
        """Add an event of this machine.

        It goes first. Their number is bounded by what the replica has asked for.
        """
        self._local.append(item)
        self._filled.set()

    async def put(self, sender: bytes, item: Item, size: int = 0) -> None:
        """Add an item of `size` bytes of a sender, waiting while there is no room for that sender."""
        await self.room(sender, size)
        queue = self._queues[sender]
        if not queue.items:
            self._turns.append(sender)
        queue.items.append((item, size))
        queue.size += size
        self._filled.set()

    async def room(self, sender: bytes, size: int) -> None:
        """Wait until an item of `size` bytes of this sender would be taken at once."""
        queue = self._queues.setdefault(sender, _Waiting())
        if queue.has_room(size):
            return
        self._waiting_for_space += 1
        try:
            async with self._space:
                await self._space.wait_for(lambda: queue.has_room(size))
        finally:
            self._waiting_for_space -= 1

    async def get(self) -> Item:
        """Wait for the next item: local ones first, then senders in turn."""
        while not self._local and not self._turns:
            self._filled.clear()
            await self._filled.wait()
        if self._local:
            return self._local.popleft()
        sender = self._turns.popleft()
        queue = self._queues[sender]
        item, size = queue.items.popleft()
        queue.size -= size
        if queue.items:
            self._turns.append(sender)
        if self._waiting_for_space:
            async with self._space:
                self._space.notify_all()
        return item

    def waiting(self, sender: bytes) -> tuple[int, int]:
        """Items of a sender that wait here, and their bytes."""
        queue = self._queues.get(sender)
        return (len(queue.items), queue.size) if queue else (0, 0)
