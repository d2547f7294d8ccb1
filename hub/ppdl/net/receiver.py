"""Frames of authenticated peers on their way in: paid for, judged before they are read, delivered.

A peer pays for frames and bytes (`limits.PeerAllowance`); one that is over its limit is not read for a while, which stops it
through TCP and takes nothing from the others. A large frame is read only if it can be of use (`transport.Gate`).

Not here: where the connections come from (`tcp.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hub.ppdl.net.framing import pass_over, read_head, read_payload
from hub.ppdl.net.limits import NO_PROGRESS, PeerAllowance
from hub.ppdl.net.link import Link
from hub.ppdl.net.transport import BLAME_FRAMES, LARGE_PAYLOAD_BYTES, Channel, Deliver, Gate, LinkStats

PAUSE_S = 0.1  # for who is over its limit: one long pause costs this hub less than a wake-up for each frame
FRAMES_PER_TURN = 32  # of one peer before the others' turn, when all of them are there already
CHANNELS = {int(channel): channel for channel in Channel}


class Receiver:
    """Reads the links of one transport. `complain`: told once what is wrong with a peer; it bounds what it remembers."""

    def __init__(self, stats: LinkStats, complain: Callable[[bytes, str], None]) -> None:
        self.gate: Gate | None = None  # of a consumer that has bounds
        self.allowances: dict[bytes, PeerAllowance] = {}
        self._stats, self._complain = stats, complain

    def blame(self, peer: bytes, frames: int) -> None:
        """A payload of this peer was malformed, invalid or refused: it counts as `frames` more."""
        if peer in self.allowances:
            self.allowances[peer].blame(frames, asyncio.get_running_loop().time())

    async def receive(self, link: Link, deliver: Deliver) -> None:
        """Deliver frames. While the peer has no tokens, or the consumer waits, only this peer's connection is not read."""
        loop, stats = asyncio.get_running_loop(), self._stats
        allowance = self.allowances.setdefault(link.peer, PeerAllowance(loop.time()))
        turn = 0
        while True:
            number, size = await read_head(link.reader)
            channel = CHANNELS.get(number)
            price, taken = self._weighed(link.peer, channel, size)
            progress = self.gate.progress() if self.gate is not None else NO_PROGRESS
            wait_s = allowance.pay(price, loop.time(), progress)
            turn = (turn + 1) % FRAMES_PER_TURN
            if wait_s > 0 or turn == 0:
                stats.throttled += wait_s > 0
                await asyncio.sleep(max(wait_s, PAUSE_S) if wait_s > 0 else 0)
            if not taken:
                await pass_over(link.reader, size)
                continue
            if self.gate is not None and size > LARGE_PAYLOAD_BYTES and channel is Channel.CONSENSUS:
                await self.gate.room(link.peer, size)
            payload = await read_payload(link.reader, size)
            if channel is None:
                stats.malformed += 1
                self.blame(link.peer, BLAME_FRAMES)
                self._complain(link.peer, "sent a frame on an unknown channel; frame dropped")
                continue
            stats.frames_received += 1
            await deliver(link.peer, channel, payload)
            del payload  # not held while the next one is read

    def _weighed(self, peer: bytes, channel: Channel | None, size: int) -> tuple[int, bool]:
        """(bytes to pay, whether to take it) of a payload that is about to be read."""
        if channel is None or self.gate is None or size <= LARGE_PAYLOAD_BYTES:
            return size, True
        taken = self.gate.takes(peer, channel, size)
        if not taken:
            self._stats.unwanted += 1
            self._complain(peer, "sent a large frame that nobody had asked for; it was not read")
        return self.gate.price(peer, channel, size), taken
