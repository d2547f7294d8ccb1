"""Bounded queues: one that sends (drops its oldest), and two that receive, fair between senders (one drops a flooding
sender's oldest, one makes it wait).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from hub.ppdl.net.transport import PEER_QUEUE_BYTES, PEER_QUEUE_FRAMES

Item = TypeVar("Item")

INBOX_PER_SENDER = 64  # frames of at most 4 MiB; a sender that is faster than this replica waits, others do not


class FrameQueue:
    """Frames that wait for one peer.

    At most PEER_QUEUE_FRAMES and PEER_QUEUE_BYTES; when full the oldest goes.
    """

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()

    def put(self, frame: bytes) -> int:
        """Add a frame; return how many old ones were dropped for it."""
        dropped = 0
        self._frames.append(frame)
        self._bytes += len(frame)
        while len(self._frames) > PEER_QUEUE_FRAMES or self._bytes > PEER_QUEUE_BYTES:
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
        queue = self._queues.setdefault(sender, FrameQueue())
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


class FairInbox(Generic[Item]):
    """Items by sender, taken round robin.

    At most INBOX_PER_SENDER of each sender, who then waits. `put_local` never waits (own events).
    """

    def __init__(self) -> None:
        self._queues: dict[bytes, deque[Item]] = {}
        self._turns: deque[bytes] = deque()
        self._local: deque[Item] = deque()
        self._filled = asyncio.Event()
        self._space = asyncio.Condition()

    def put_local(self, item: Item) -> None:
        """Add an event of this machine.

        It goes first. Their number is bounded by what the replica has asked for.
        """
        self._local.append(item)
        self._filled.set()

    async def put(self, sender: bytes, item: Item) -> None:
        """Add an item of a sender, waiting while that sender has INBOX_PER_SENDER items here."""
        queue = self._queues.setdefault(sender, deque())
        async with self._space:
            await self._space.wait_for(lambda: len(queue) < INBOX_PER_SENDER)
        if not queue:
            self._turns.append(sender)
        queue.append(item)
        self._filled.set()

    async def get(self) -> Item:
        """Wait for the next item: local ones first, then senders in turn."""
        while not self._local and not self._turns:
            self._filled.clear()
            await self._filled.wait()
        if self._local:
            return self._local.popleft()
        sender = self._turns.popleft()
        queue = self._queues[sender]
        was_full = len(queue) >= INBOX_PER_SENDER
        item = queue.popleft()
        if queue:
            self._turns.append(sender)
        if was_full:
            async with self._space:
                self._space.notify_all()
        return item
