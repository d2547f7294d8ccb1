"""State transfer at work in an engine: answers other hubs, and runs this hub's own sync when it is far behind.

Two tasks take frames, each one sender after the other, so a peer that asks for much waits for itself: one takes answers, and
everything the sync decides is carried out before the next one; one serves, reading the application in its own thread and the
store in another. A block that takes long delays what others get, and nothing of what this hub fetches.

When a sync begins: once after the start (a new hub hears of no height at first); when f + 1 validators say that they are
`lag` blocks ahead; when no block was decided for STUCK_TICKS, because blocks that this hub misses may be kept by
nobody any more. Between two syncs RETRY_TICKS pass.

Not here: what is asked of whom (`sync.py`), stopping and starting the replica (`engine.py`).
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

from hub.ppdl.application import SNAPSHOT_INTERVAL, Application, Snapshot, SnapshotApplication
from hub.ppdl.consensus.certs import Domain
from hub.ppdl.consensus.effects import Tip
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.genesis import Genesis
from hub.ppdl.net.queues import FairFrames
from hub.ppdl.net.transport import Channel, Transport
from hub.ppdl.snapshots.incoming import Incoming
from hub.ppdl.snapshots.manifest import MAX_SET_CHANGES, Manifest, check_history, verify
from hub.ppdl.snapshots.messages import (
    AskSnapshots,
    Chunk,
    FetchChunk,
    NothingToOffer,
    Offer,
    SnapshotMessage,
    SnapshotMessageError,
    decode_snapshot_message,
    encode_snapshot_message,
    is_request,
)
from hub.ppdl.snapshots.sync import (
    Begin,
    Dropped,
    GaveUp,
    KeepChunk,
    Phase,
    Ready,
    SendTo,
    SnapshotSync,
    SyncEffect,
)
from hub.ppdl.store import PpdlStore, StoreError

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

SNAPSHOT_LAG = 2 * SNAPSHOT_INTERVAL
"""Blocks behind from which on a snapshot is the shorter way."""
START_TICKS = 4
STUCK_TICKS = 24
RETRY_TICKS = 16
MAX_REQUEST_BYTES = 1024
"""Longer than any request and any short answer; what is longer is a manifest or a chunk."""
SERVED_PER_TICK = 16
"""Answers to one peer between two ticks: 4 MiB of chunks, so that serving never fills its queue."""


@dataclass(frozen=True)
class Standing:
    """Where the engine stands: last block, set of the next height, and what peers say they work on."""

    height: int
    validators: ValidatorSet
    peer_heights: dict[bytes, int]

    def claimed_height(self) -> int:
        """A height that f + 1 validators say they have passed: one of them is honest."""
        heights = sorted((h for p, h in self.peer_heights.items() if p in self.validators), reverse=True)
        faulty = self.validators.max_faulty
        return heights[faulty] - 1 if len(heights) > faulty else 0


class SnapshotService:
    """State transfer of one engine.

    `install` stops the replica, puts the kept snapshot in force and starts the replica again; it returns why the
    snapshot was refused, or "". `blame` counts a malformed message. `lag`: blocks behind that make it worth while.
    """

    def __init__(
        self,
        genesis: Genesis,
        address: bytes,
        app: Application,
        app_thread: Executor,
        store: PpdlStore,
        incoming: Incoming,
        transport: Transport,
        install: Callable[[], Awaitable[str]],
        blame: Callable[[bytes, str], None],
        lag: int = SNAPSHOT_LAG,
    ) -> None:
        self.sync = SnapshotSync(address, self._verify)
        self.peers_dropped = 0
        self.installed = 0
        self._genesis, self._store = genesis, store
        self._app, self._app_thread = app, app_thread
        self._incoming, self._transport = incoming, transport
        self._install, self._blame, self._lag = install, blame, lag
        self._answers, self._requests = FairFrames(), FairFrames()
        self._lock = asyncio.Lock()  # an answer or a tick at a time
        self._serving = asyncio.Lock()  # nothing is served while a snapshot is put in force
        self._served: dict[bytes, int] = {}  # peers only
        self._ticks = self._still = self._rest = 0
        self._last_height = -1
        if incoming.manifest is not None:
            self.sync.resume(incoming.manifest, incoming.have())

    def _verify(self, manifest: Manifest) -> Tip:
        """Prove a manifest from the genesis on, and against the blocks that are here (blocking)."""
        height = self._store.last_height()
        check_history(manifest, self._store.set_changes(height), height)
        return verify(Domain(self._genesis.chain_id, self._genesis.hash), self._genesis, manifest)

    def deliver(self, sender: bytes, payload: bytes) -> None:
        """A frame of a peer; never waits, a flood drops its own oldest."""
        requests = len(payload) <= MAX_REQUEST_BYTES and is_request(payload)
        (self._requests if requests else self._answers).put(sender, payload)

    async def run(self) -> None:
        """Handle frames for ever."""
        await asyncio.gather(self._hear_answers(), self._serve_requests())

    async def _hear_answers(self) -> None:
        while True:
            sender, payload = await self._answers.get()
            async with self._lock:
                await self._guarded(self._handle(sender, payload))

    async def _serve_requests(self) -> None:
        while True:
            peer, payload = await self._requests.get()
            async with self._serving:
                try:
                    await self._handle(peer, payload)
                except (sqlite3.Error, OSError, StoreError) as error:
                    log.warning("PPDL snapshot cannot be served (%s): check the disk", error)

    async def _guarded(self, work: Awaitable[None]) -> None:
        """A file of no use ends the sync under way, and no task."""
        try:
            await work
        except (sqlite3.Error, OSError, StoreError) as error:
            log.warning("PPDL state transfer stops (%s): check the disk; it begins again by itself", error)
            await self._carry_out(self.sync.abort(str(error)))

    async def _handle(self, sender: bytes, payload: bytes) -> None:
        if len(payload) > MAX_REQUEST_BYTES and not self.sync.expects(sender):
            return  # nobody asked: a flood of large frames is not even decoded
        try:
            message = decode_snapshot_message(payload)
        except SnapshotMessageError:
            self._blame(sender, "snapshot")
            return
        match message:
            case AskSnapshots() | FetchChunk():
                await self._serve(sender, message)
            case Offer() | NothingToOffer() | Chunk():
                await self._carry_out(await asyncio.to_thread(self.sync.received, sender, message))

    # serving

    async def _serve(self, peer: bytes, message: AskSnapshots | FetchChunk) -> None:
        """Answer a peer, within its allowance."""
        used = self._served[peer] = self._served.get(peer, 0) + 1
        if used > SERVED_PER_TICK:
            return
        answers: Iterable[SnapshotMessage] = [NothingToOffer()]
        if isinstance(message, FetchChunk):
            answers = [Chunk(message.chunk, await self._in_app(lambda app: _load(app, message)))]
        else:
            listed = await self._in_app(_listed)
            snapshots = [s for s in reversed(listed) if s.height > message.above]  # the best first
            manifests = [await asyncio.to_thread(make_manifest, self._store, self._genesis, snapshot) for snapshot in snapshots]
            answers = [Offer(m) for m in manifests if m is not None] or answers
        for answer in answers:
            self._transport.send(peer, Channel.SNAPSHOT, encode_snapshot_message(answer))

    async def _in_app(self, call: Callable[[Application], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._app_thread, call, self._app)

    # this hub's own sync

    async def pulse(self, interval_s: float, standing: Callable[[], Standing]) -> None:
        """Tick for ever."""
        while True:
            await asyncio.sleep(interval_s)
            await self.tick(standing())

    async def tick(self, standing: Standing) -> None:
        """A regular pulse."""
        self._served.clear()
        async with self._lock:
            self._ticks += 1
            self._still = self._still + 1 if standing.height == self._last_height else 0
            self._last_height = standing.height
            self._rest = max(0, self._rest - 1)
            await self._guarded(self._go_on(standing))

    async def _go_on(self, standing: Standing) -> None:
        await self._carry_out(self.sync.tick(standing.height, self._transport.connected()))
        above = self._wanted_above(standing)
        if above is not None:
            self._rest = RETRY_TICKS
            await self._carry_out(self.sync.begin(above, self._transport.connected()))

    def _wanted_above(self, standing: Standing) -> int | None:
        """The height above which a snapshot is wanted now; None when none is."""
        if self.sync.phase is not Phase.IDLE or not isinstance(self._app, SnapshotApplication):
            return None
        if self._ticks == START_TICKS:
            return standing.height + self._lag
        if self._rest:
            return None
        if standing.claimed_height() >= standing.height + self._lag or self._still >= STUCK_TICKS:
            return standing.height
        return None

    async def _carry_out(self, effects: list[SyncEffect]) -> None:
        """In order, each before the next."""
        for effect in effects:
            match effect:
                case SendTo():
                    self._transport.send(effect.peer, Channel.SNAPSHOT, encode_snapshot_message(effect.message))
                case Begin():
                    log.warning("PPDL hub is far behind: fetching the snapshot at height %d", effect.manifest.height)
                    await asyncio.to_thread(self._incoming.begin, effect.manifest)
                case KeepChunk():
                    await asyncio.to_thread(self._incoming.keep, effect.index, effect.data)
                case Dropped():
                    self.peers_dropped += 1
                    log.warning("PPDL peer %s dropped from state transfer: %s", effect.peer.hex(), effect.reason)
                case GaveUp():
                    log.info("PPDL state transfer: %s", effect.reason)
                case Ready():
                    before = self._store.base_height()
                    async with self._serving:
                        fault = await self._install()
                    self.installed += self._store.base_height() != before  # blocks may have been faster
                    self._rest = RETRY_TICKS
                    await self._carry_out(self.sync.installed(fault))


def _listed(app: Application) -> list[Snapshot]:
    return list(app.list_snapshots()) if isinstance(app, SnapshotApplication) else []


def _load(app: Application, message: FetchChunk) -> bytes:
    """A chunk; empty when it is not of the snapshot that is kept at that height."""
    wanted = message.chunk
    if not isinstance(app, SnapshotApplication):
        return b""
    if not any((s.height, s.format, s.hash) == (wanted.height, wanted.format, wanted.snapshot) for s in app.list_snapshots()):
        return b""
    return app.load_snapshot_chunk(wanted.height, wanted.format, wanted.index)


def make_manifest(store: PpdlStore, genesis: Genesis, snapshot: Snapshot) -> Manifest | None:
    """The manifest of a snapshot; None while the header after it is not decided, or when the history is too long."""
    blocks = [stored.decided for stored in store.blocks_from(snapshot.height, 2)]
    changes = store.set_changes(snapshot.height + 1)
    if len(blocks) < 2 or len(changes) > MAX_SET_CHANGES:
        return None
    next_set = changes[-1].opened if changes else genesis.validators
    header, following = blocks[0].block.header, blocks[1].block.header
    before = tuple(change for change in changes if change.header.height <= snapshot.height)
    return Manifest(snapshot, header, following, blocks[1].qc, next_set, before)
