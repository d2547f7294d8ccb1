"""What a flooder of `bench_ppdl_flood.py` sends: frames of each kind, what they cost it, and how a validator sends them.

Costs are those of `hub/ppdl/net/limits.py` and `hub/ppdl/gate.py`, told here again: a flooder knows the program.

Not here: processes, phases and figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hub.keys import HubKeys
from hub.ppdl.consensus.block import MAX_BLOCK_TX_BYTES, Block
from hub.ppdl.consensus.certs import Domain
from hub.ppdl.consensus.header import Header
from hub.ppdl.consensus.messages import Kind, NewView, Prepare, PrePrepare, Status, ViewChange, encode_message
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.gate import UNSEASONED_PRICE
from hub.ppdl.genesis import Genesis
from hub.ppdl.listeners import MAX_GOSSIP_BYTES, gossip_frame
from hub.ppdl.net.framing import frame_of
from hub.ppdl.net.limits import BYTES_PER_S, FRAMES_PER_S, TokenBucket
from hub.ppdl.net.queues import FrameQueue
from hub.ppdl.net.tcp import TcpTransport
from hub.ppdl.net.tls import TlsIdentity
from hub.ppdl.net.transport import (
    BLAME_FRAMES,
    LARGE_PAYLOAD_BYTES,
    MAX_FRAME_BYTES,
    MAX_UNASKED_BYTES,
    REFUSED_FRAMES,
    Channel,
)
from openmg.hashing import merkle_root
from openmg.signing import sign_digest

STRANGERS_KINDS = (
    "garbage", "transactions", "votes", "statuses", "gossip", "large", "proposals", "turns", "connections",
)  # fmt: skip
VALIDATORS_KINDS = (
    "garbage", "transactions", "votes", "statuses", "gossip", "large", "proposals", "turns", "views", "newviews",
)  # fmt: skip
VIEWS = 8  # whose votes are kept beside the current one
LARGE_TXS = 2048  # of a proposal; 1 KiB each fill the block
BURST_FRAMES = 32
UNKNOWN_CHANNEL = b"\x00\x00\x00\x02\xee\x00"


@dataclass
class Junk:
    """Frames of a kind, for ever; `height` is that of the last block."""

    kind: str
    keys: HubKeys
    genesis: Genesis
    height: Callable[[], int]

    def __post_init__(self) -> None:
        self._domain = Domain(self.genesis.chain_id, self.genesis.hash)
        self._members = ValidatorSet(self.genesis.validators)
        self._noise = os.urandom(MAX_FRAME_BYTES - 1)

    def frames(self) -> Iterator[bytes]:
        """What is sent, one frame after the other; nothing, of a kind without frames."""
        old = self.proposal(1) if self.kind == "proposals" else b""
        for number in itertools.count():
            mark = number.to_bytes(8, "big")
            match self.kind:
                case "garbage":
                    yield frame_of((Channel.CONSENSUS, Channel.GOSSIP, Channel.TX)[number % 3], mark * (1 + number % 40))
                    yield UNKNOWN_CHANNEL
                case "transactions":
                    yield frame_of(Channel.TX, b"no" + mark + bytes(990))
                case "votes":
                    yield self._consensus(self.vote(number))
                case "statuses":
                    yield self._consensus(encode_message(Status(1)))
                case "gossip":
                    yield frame_of(Channel.GOSSIP, gossip_frame("news", mark + self._noise[8:MAX_GOSSIP_BYTES]))
                case "large":
                    yield self._consensus(mark + self._noise[8:])
                case "proposals":
                    yield self._consensus(old)
                case "turns":
                    yield self._consensus(self.proposal(self.next_turn()))
                case "views":
                    yield self._consensus(self.view_change(1 + number))
                case "newviews":
                    yield self._consensus(self.new_view())
                case _:
                    return

    def price(self, frame: bytes) -> tuple[float, int]:
        """(frames, bytes) that a frame costs a validator out of the season of large blocks."""
        blamed = {"garbage": BLAME_FRAMES, "newviews": BLAME_FRAMES, "transactions": REFUSED_FRAMES}
        large = LARGE_PAYLOAD_BYTES < len(frame) <= MAX_UNASKED_BYTES and self.kind != "gossip"
        return 1 + blamed.get(self.kind, 0), len(frame) * (UNSEASONED_PRICE if large else 1)

    def _consensus(self, message: bytes) -> bytes:
        return frame_of(Channel.CONSENSUS, message)

    def _signed(self, kind: Kind, height: int, view: int, digest: bytes) -> bytes:
        return sign_digest(self.keys.validator_key, self._domain.digest(kind, height, view, digest))

    def vote(self, number: int) -> bytes:
        """A PREPARE under a right signature for the height under way, another each time: its signature has to be checked."""
        height, view, digest = self.height() + 1, 1 + number % (VIEWS - 1), number.to_bytes(32, "big")
        return encode_message(Prepare(height, view, digest, self._signed(Kind.PREPARE, height, view, digest)))

    def view_change(self, view: int) -> bytes:
        """A VIEW-CHANGE under a right signature, for a later view each time."""
        height = self.height() + 1
        bare = ViewChange(height, view, None, b"")
        return encode_message(ViewChange(height, view, None, self._signed(Kind.VIEW_CHANGE, height, view, bare.digest)))

    def next_turn(self) -> int:
        """The first height not under way at which the flooder proposes; any, if it never does."""
        first = self.height() + 2
        coming = range(first, first + len(self._members))
        return next((height for height in coming if self._members.proposer(height, 0) == self.keys.validator), first)

    def block(self, height: int) -> Block:
        """Well-formed in every part, with as many bytes as a block may have, and another one each time."""
        txs = tuple(os.urandom(MAX_BLOCK_TX_BYTES // LARGE_TXS) for _ in range(LARGE_TXS))
        word = bytes(32)
        chain_id, root = self.genesis.chain_id, merkle_root(txs)
        return Block(Header(chain_id, height, word, 1, self.keys.validator, root, word, word, word), txs)

    def proposal(self, height: int) -> bytes:
        """A PRE-PREPARE with such a block."""
        return encode_message(self._proposal(height, 0))

    def _proposal(self, height: int, view: int) -> PrePrepare:
        block = self.block(height)
        return PrePrepare(view, block, self._signed(Kind.PRE_PREPARE, height, view, block.hash))

    def new_view(self) -> bytes:
        """A NEW-VIEW with such a block, signed by the proposer of its view, on VIEW-CHANGEs that are all its own."""
        height = self.height() + 1
        view = next((v for v in range(1, VIEWS) if self._members.proposer(height, v) == self.keys.validator), 1)
        own = ViewChange(height, view, None, b"")
        own = ViewChange(height, view, None, self._signed(Kind.VIEW_CHANGE, height, view, own.digest))
        proposal = self._proposal(height, view)
        unsigned = NewView(height, view, (own,) * self._members.quorum, proposal, b"")
        signature = self._signed(Kind.NEW_VIEW, height, view, unsigned.digest)
        return encode_message(NewView(height, view, unsigned.view_changes, proposal, signature))


class FloodingTransport(TcpTransport):
    """Carries what its engine says, and on the same connections, while `flooding` is set, junk: the share `pace` of what the
    others' limits let in each second. Its part in the blocks takes less than they give it for each (`limits.FRAMES_PER_BLOCK`).
    So its votes come in time, and the chain is as fast as with four that do no harm.
    """

    def __init__(self, genesis: Genesis, key: bytes, port: int, tls: TlsIdentity, junk: Junk, pace: float) -> None:
        super().__init__(genesis, key, "127.0.0.1", port, tls=tls)
        self.junk, self.pace, self.sent = junk, pace, 0
        self.flooding = asyncio.Event()

    async def _drain(self, queue: FrameQueue, writer: asyncio.StreamWriter) -> None:
        flood = asyncio.create_task(self._flood(writer))
        try:
            await super()._drain(queue, writer)
        finally:
            flood.cancel()
            await asyncio.gather(flood, return_exceptions=True)

    async def _flood(self, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        frames = TokenBucket(self.pace * FRAMES_PER_S, BURST_FRAMES, loop.time())
        size = TokenBucket(self.pace * BYTES_PER_S, 1, loop.time())
        stream = self.junk.frames()
        with contextlib.suppress(OSError):
            while True:
                await self.flooding.wait()
                frame = await asyncio.to_thread(next, stream)  # to make 2 MiB takes a while, in which its engine goes on
                cost, bytes_ = self.junk.price(frame)
                writer.write(frame)
                self.sent += 1
                await writer.drain()
                await asyncio.sleep(max(frames.take(cost, loop.time()), size.take(bytes_, loop.time())))
