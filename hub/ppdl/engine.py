"""The PBFT engine of one hub: replica, store, transport, mempool and application behind one object.

A proposer makes a block when transactions wait (at least `block_interval_s` after the last one) and otherwise every
`heartbeat_s`, so that a silent proposer is suspected even when nobody wants anything. `quiesce()` on every hub stops new
blocks without suspicion, so that followers of the chain can reach its end. Time for blocks and timers is wall time.

Far behind, the engine takes a snapshot (`snapshots/`): its replica stops, application and store move to the snapshot's
height, and a new replica starts there, with the same transport, mempool and listeners.

Not here: the meaning of transactions (`application.py`), consensus rules (`consensus/`), an interface over a network.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hub.ppdl.application import Application, BlockResult, QueryResult
from hub.ppdl.chain import Executed
from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.effects import Complaint, Propose, Tick
from hub.ppdl.consensus.evidence import Evidence
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.driver import Driver
from hub.ppdl.evidence import submit_evidence
from hub.ppdl.gate import EngineGate
from hub.ppdl.genesis import Genesis
from hub.ppdl.listeners import Listeners, gossip_frame, gossip_of
from hub.ppdl.mempool import TxRefused
from hub.ppdl.net.queues import FairFrames
from hub.ppdl.net.tcp import TcpTransport
from hub.ppdl.net.transport import REFUSED_FRAMES, Channel, PeerAddress, Transport
from hub.ppdl.proposer import Proposer
from hub.ppdl.quarantine import open_store
from hub.ppdl.restart import Restarted, restart
from hub.ppdl.snapshots.incoming import Incoming, incoming_path
from hub.ppdl.snapshots.service import SNAPSHOT_LAG, SnapshotService, Standing
from hub.ppdl.status import EngineFailed, EngineStatus
from hub.ppdl.store import PpdlStore, SignedHeader
from hub.ppdl.tasks import TaskSet
from openmg.hashing import keccak256
from openmg.signing import address_of, sign_digest
from openmg.tasks import end_task

log = logging.getLogger(__name__)

DEFAULT_BLOCK_INTERVAL_S = 0.5
DEFAULT_HEARTBEAT_S = 2.0
DEFAULT_VIEW_TIMEOUT_S = 2.0
TICKS_PER_TIMEOUT = 4
MAX_TICK_S = 1.0
NOT_STARTED = "the PPDL engine was not started: call start() first"

__all__ = ["EngineFailed", "EngineStatus", "PbftEngine", "wall_ms"]

DecidedListener = Callable[[Block, BlockResult], None]
GossipListener = Callable[[str, bytes, bytes], None]


def wall_ms() -> int:
    """Wall time in unix milliseconds."""
    return time.time_ns() // 1_000_000


class PbftEngine:
    """One validator. All methods belong to one asyncio loop; `stop` before the loop ends.

    genesis: the chain.  private_key: 32 bytes; its address should be a validator (else this is a silent observer).
    app: driven from one thread. store_path: this validator's SQLite file, made by `store.initialise_store`.  listen: (host,
    port), port 0 for a free one.  peers: the others.  block_interval_s < heartbeat_s; view_timeout_s is T0, doubled with each
    view up to 2^6.  transport: TCP unless given.  snapshot_lag: blocks behind from which on a snapshot is taken.
    """

    def __init__(
        self,
        genesis: Genesis,
        private_key: bytes,
        app: Application,
        store_path: Path,
        listen: tuple[str, int],
        peers: Sequence[PeerAddress],
        *,
        block_interval_s: float = DEFAULT_BLOCK_INTERVAL_S,
        heartbeat_s: float = DEFAULT_HEARTBEAT_S,
        view_timeout_s: float = DEFAULT_VIEW_TIMEOUT_S,
        transport: Transport | None = None,
        now_ms: Callable[[], int] = wall_ms,
        snapshot_lag: int = SNAPSHOT_LAG,
    ) -> None:
        if not 0 <= block_interval_s <= heartbeat_s or view_timeout_s <= 0:
            raise ValueError("PPDL timing needs 0 <= block_interval_s <= heartbeat_s and view_timeout_s > 0")
        self.genesis = genesis
        self.address = address_of(private_key)
        self._app, self._store_path = app, Path(store_path)
        self._sign: Callable[[bytes], bytes] = lambda digest: sign_digest(private_key, digest)
        self._block_interval_s, self._heartbeat_s = block_interval_s, heartbeat_s
        self._view_timeout_s, self._now_ms = view_timeout_s, now_ms
        self.transport: Transport = transport or TcpTransport(genesis, private_key, *listen, peers)
        if isinstance(self.transport, TcpTransport):
            self.transport.gate = EngineGate(lambda: self._running, lambda: self._transferring)
        self._snapshot_lag, self._intake = snapshot_lag, FairFrames()
        self._decided: Listeners[[Block, BlockResult]] = Listeners()
        self._gossiped: Listeners[[str, bytes, bytes]] = Listeners()
        self._tasks = TaskSet()
        self._moved = asyncio.Condition()  # height or failure changed
        self._height, self._first_height, self._blocks_run = 0, 1, 0
        self._malformed = 0  # transactions and gossip of other hubs
        self._blamed: set[tuple[bytes, str]] = set()  # authenticated peers only
        self._failure: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._store: PpdlStore | None = None
        self._incoming: Incoming | None = None
        self._driver: Driver | None = None
        self._stepping: asyncio.Task[None] | None = None
        self._proposer: Proposer | None = None
        self._snapshots: SnapshotService | None = None

    # life

    async def start(self) -> None:
        """Open the store, bring the application to its last block, listen, dial and take part.

        Raises StoreError, ExecutionError or TransportError, each one sentence for the operator.
        """
        self._loop = asyncio.get_running_loop()
        self._store = store = await asyncio.to_thread(open_store, self._store_path, self.genesis)
        try:
            self._incoming = await asyncio.to_thread(Incoming, incoming_path(self._store_path))
            restarted = await asyncio.to_thread(self._restart)
            self._driver = driver = self._drive(restarted.replica, store)
            timing = self._now_ms, self._block_interval_s, self._heartbeat_s
            self._proposer = Proposer(self.address, self._app, driver.threads.app, driver.inbox.put_local, *timing)
            files = self._app, driver.threads.app, store, self._incoming
            hooks = self.transport, self._install, self._blame, self._snapshot_lag
            self._snapshots = SnapshotService(self.genesis, self.address, *files, *hooks)
            await self.transport.start(self._deliver)
        except BaseException:
            self._close_files()
            raise
        self._stepping = asyncio.create_task(self._driver.run())
        pulse = self._snapshots.pulse(self._tick_s, self._standing)
        for work in (self._tick(), self._take_in(), self._snapshots.run(), pulse):
            self._tasks.spawn(work)

    def _restart(self) -> Restarted:
        """A replica where the disk left off, or on the snapshot that has come whole (blocking)."""
        assert self._store is not None and self._incoming is not None
        files = self._app, self._store, self._incoming
        restarted = restart(*files, self.genesis, self.address, self._sign)
        self._height, self._first_height = restarted.replica.tip.height, restarted.first_height
        return restarted

    def _drive(self, replica: Replica, store: PpdlStore, before: Driver | None = None) -> Driver:
        timing = self._view_timeout_s, self._heartbeat_s
        return Driver(replica, self._app, store, self.transport, self, self._now_ms, *timing, before)

    async def _install(self) -> str:
        """Stop the replica, put the snapshot that came in force, start a new replica on it."""
        before = self._running
        await end_task(self._stepping)
        await self._proposing.close()
        await before.close()
        loop = asyncio.get_running_loop()
        try:
            restarted = await loop.run_in_executor(before.threads.app, self._restart)
        except Exception as error:
            log.exception("PPDL snapshot cannot be put in force")
            self.failed(f"the snapshot that was fetched cannot be put in force: {error}")
            return str(error)
        assert self._store is not None
        self._driver = self._drive(restarted.replica, self._store, before)
        self._stepping = asyncio.create_task(self._driver.run())
        await self._announce()
        return restarted.refused

    def _close_files(self) -> None:
        for file in (self._store, self._incoming):
            if file is not None:
                file.close()

    async def stop(self) -> None:
        """Stop taking part; a block being committed is finished first."""
        self._failure = self._failure or "the engine was stopped"
        await self.transport.stop()
        await self._tasks.cancel()
        await end_task(self._stepping)
        if self._proposer is not None:
            await self._proposer.close()
        if self._driver is not None:
            await self._driver.close()
            await self._driver.threads.close()
        self._close_files()
        await self._announce()

    @property
    def _running(self) -> Driver:
        if self._driver is None:
            raise EngineFailed(NOT_STARTED)
        return self._driver

    @property
    def _transferring(self) -> SnapshotService:
        if self._snapshots is None:
            raise EngineFailed(NOT_STARTED)
        return self._snapshots

    @property
    def _proposing(self) -> Proposer:
        if self._proposer is None:
            raise EngineFailed(NOT_STARTED)
        return self._proposer

    # public interface

    async def submit(self, tx: bytes) -> bytes:
        """Check a transaction, let it wait here and at every other hub; return its keccak-256 hash.

        One that waits already is told to the others again, since they may have been behind; one that was committed lately
        is accepted without effect. Raises TxRefused with a reason.
        """
        if self._failure is not None:
            raise TxRefused(f"this hub takes part in no more blocks: {self._failure}")
        tx_hash = keccak256(tx)
        mempool = self._proposing.mempool
        if not mempool.knows(tx_hash):
            await self._admit(tx, self.address)
        if mempool.waits(tx_hash):
            self.transport.broadcast(Channel.TX, tx)
        return tx_hash

    async def query(self, path: str, data: bytes = b"") -> QueryResult:
        """Ask the application, in its own thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._running.threads.app, self._app.query, path, data)

    def headers_after(self, height: int, limit: int) -> list[SignedHeader]:
        """At most `limit` decided headers above `height` with their seals, ascending, without gaps."""
        if self._store is None:
            raise EngineFailed(NOT_STARTED)
        return self._store.headers_after(height, limit)

    def status(self) -> EngineStatus:
        """Where the engine stands now."""
        driver, snapshots = self._running, self._transferring
        replica, complaints = driver.replica, driver.complaints
        return EngineStatus(
            height=self._height,
            view=replica.view,
            view_changes=replica.view_changes_started,
            rounds=self._blocks_run + replica.view_changes_started,
            validators=len(replica.tip.validators),
            peers_connected=self.transport.connected(),
            peer_heights=tuple(sorted(replica.peer_heights.items())),
            mempool=len(self._proposing.mempool),
            mempool_bytes=self._proposing.mempool.bytes_waiting,
            quiescent=driver.quiescent,
            voting=replica.may_vote(),
            malformed=driver.malformed + self._malformed + self.transport.stats.malformed,
            refused=self.transport.stats.refused + complaints[Complaint.INVALID],
            equivocations=complaints[Complaint.EQUIVOCATION],
            failure=self._failure,
            first_height=self._first_height,
            snapshots_installed=snapshots.installed,
            snapshot_peers_dropped=snapshots.peers_dropped,
            stores_set_aside=self._store.set_aside if self._store is not None else 0,
        )

    async def wait_height(self, height: int, timeout_s: float | None = None) -> int:
        """Wait until block `height` is committed here.

        Return the height then. Raises TimeoutError or EngineFailed.
        """
        async with asyncio.timeout(timeout_s), self._moved:
            await self._moved.wait_for(lambda: self._height >= height or self._failure is not None)
        if self._height < height:
            raise EngineFailed(str(self._failure))
        return self._height

    def quiesce(self) -> None:
        """Propose no more blocks and suspect no idle proposer, until `resume`. A height under way is finished.

        Call it on every hub: one that was not told still expects heartbeats and, after its timeout, asks for a view change.
        """
        self._running.set_quiescent(True)
        self._proposing.set_quiescent(True)

    def resume(self) -> None:
        """End `quiesce`."""
        self._running.set_quiescent(False)
        self._proposing.set_quiescent(False)

    def on_decided(self, listener: DecidedListener) -> None:
        """Call `listener(block, result)` after each block this process commits, in height order.

        Not for blocks replayed at start, nor for those that a snapshot stands for.
        """
        self._decided.add(listener)

    def on_gossip(self, listener: GossipListener) -> None:
        """Call `listener(kind, payload, sender address)` for each gossip message of another hub."""
        self._gossiped.add(listener)

    def gossip(self, kind: str, payload: bytes) -> None:
        """Send a message beside consensus to every other hub.

        At most once, no order. Raises ValueError when it is too large. Safe from any thread.
        """
        if self._loop is None:
            raise EngineFailed(NOT_STARTED)
        self._loop.call_soon_threadsafe(self.transport.broadcast, Channel.GOSSIP, gossip_frame(kind, payload))

    def gossip_to(self, peer: bytes, kind: str, payload: bytes) -> None:
        """Like `gossip`, to one hub only."""
        if self._loop is None:
            raise EngineFailed(NOT_STARTED)
        self._loop.call_soon_threadsafe(self.transport.send, peer, Channel.GOSSIP, gossip_frame(kind, payload))

    # from the transport

    async def _deliver(self, sender: bytes, channel: Channel, payload: bytes) -> None:
        match channel:
            case Channel.CONSENSUS:
                await self._running.inbox.put(sender, (sender, payload), len(payload))
            case Channel.TX:
                self._intake.put(sender, payload)
            case Channel.GOSSIP:
                self._hear(sender, payload)
            case Channel.SNAPSHOT:
                self._transferring.deliver(sender, payload)

    def _hear(self, sender: bytes, payload: bytes) -> None:
        if (message := gossip_of(payload)) is None:
            self._blame(sender, "gossip")
        else:
            self._gossiped.tell(*message, sender)

    def _blame(self, sender: bytes, what: str) -> None:
        """Count a malformed message; log the first of each sender."""
        self._malformed += 1
        self.transport.blame(sender)
        if (sender, what) not in self._blamed:
            self._blamed.add((sender, what))
            log.warning("PPDL peer %s sent a malformed %s message; dropped", sender.hex(), what)

    async def _take_in(self) -> None:
        """Transactions gossiped by other hubs, in turn; a refused one is dropped, a malformed one also counted."""
        while True:
            sender, tx = await self._intake.get()
            if not self._proposing.mempool.knows(keccak256(tx)):
                try:
                    await self._admit(tx, sender)
                except TxRefused as refused:
                    if refused.malformed:
                        self._blame(sender, "transaction")
                    else:
                        self.transport.blame(sender, REFUSED_FRAMES)

    async def _admit(self, tx: bytes, origin: bytes) -> None:
        await self._proposing.admit(tx, origin)
        self._running.expect_block_soon(self._block_interval_s)

    async def _tick(self) -> None:
        while self._failure is None:  # nobody takes the ticks of a replica that stopped
            await asyncio.sleep(self._tick_s)
            self._running.inbox.put_local(Tick())

    @property
    def _tick_s(self) -> float:
        return min(MAX_TICK_S, self._view_timeout_s / TICKS_PER_TIMEOUT)

    def _standing(self) -> Standing:
        """For state transfer: whether others are far ahead."""
        replica = self._running.replica
        return Standing(self._height, replica.tip.validators, replica.peer_heights)

    # for the driver

    def proposal_wanted(self, effect: Propose) -> None:
        """The replica is proposer: a block is made when it is due."""
        self._proposing.wanted(effect)

    def executed(self, executed: Executed) -> None:
        """A block is committed: tell everybody, tidy the mempool."""
        block = executed.stored.decided.block
        self._height, self._blocks_run = block.height, self._blocks_run + 1
        self._proposing.committed(block.txs)
        if self._failure is None:  # not while stopping: the application's thread takes no more calls
            self._tasks.spawn(self._proposing.recheck())
        self._tasks.spawn(self._announce())
        self._decided.tell(block, executed.result)

    def equivocated(self, evidence: Evidence) -> None:
        """Pass proof of equivocation on to the chain."""
        self._tasks.spawn(submit_evidence(self._app, evidence, self.submit))

    def failed(self, reason: str) -> None:
        """This replica must not go on; whoever waits for a height is told."""
        log.critical("PPDL engine stops: %s", reason)
        self._failure = reason
        self._tasks.spawn(self._announce())

    async def _announce(self) -> None:
        async with self._moved:
            self._moved.notify_all()
