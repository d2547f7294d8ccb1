"""The PBFT engine of one hub: replica, store, transport, mempool and application behind one object.

A proposer makes a block when transactions wait (at least `block_interval_s` after the last one) and otherwise
every `heartbeat_s`, so that a silent proposer is suspected even when nobody wants anything. `quiesce()` on
every hub stops new blocks without suspicion, so that followers of the chain can reach its end. Time for
blocks and timers is wall time.

Not here: the meaning of transactions (`application.py`), consensus rules (`consensus/`), an interface over a
network.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hub.ppdl.application import Application, BlockResult, QueryResult
from hub.ppdl.chain import Executed, recover
from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.certs import Domain
from hub.ppdl.consensus.effects import Complaint, Propose, Tick
from hub.ppdl.consensus.messages import MessageError
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.driver import Driver
from hub.ppdl.genesis import Genesis
from hub.ppdl.mempool import TxRefused
from hub.ppdl.net.queues import FairFrames
from hub.ppdl.net.tcp import TcpTransport
from hub.ppdl.net.transport import Channel, PeerAddress, Transport
from hub.ppdl.proposer import Proposer
from hub.ppdl.store import PpdlStore, SignedHeader
from hub.ppdl.tasks import TaskSet
from openmg import codec
from openmg.hashing import keccak256
from openmg.signing import address_of, sign_digest

log = logging.getLogger(__name__)

DEFAULT_BLOCK_INTERVAL_S = 0.5
DEFAULT_HEARTBEAT_S = 2.0
DEFAULT_VIEW_TIMEOUT_S = 2.0
TICKS_PER_TIMEOUT = 4
MAX_TICK_S = 1.0
MAX_GOSSIP_BYTES = 256 * 1024
MAX_GOSSIP_KIND = 64
MAX_LISTENERS = 16
NOT_STARTED = "the PPDL engine was not started: call start() first"

DecidedListener = Callable[[Block, BlockResult], None]
GossipListener = Callable[[str, bytes, bytes], None]
Listener = TypeVar("Listener")


class EngineFailed(RuntimeError):
    """The engine stopped; the message is one sentence for the operator."""


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """A snapshot of the engine.

    `height`: last committed block; `rounds`: (height, view) pairs gone through since start.
    """

    height: int
    view: int
    view_changes: int
    rounds: int
    validators: int
    peers_connected: tuple[bytes, ...]
    peer_heights: tuple[tuple[bytes, int], ...]
    mempool: int
    mempool_bytes: int
    quiescent: bool
    voting: bool
    malformed: int
    refused: int
    equivocations: int
    failure: str | None


def wall_ms() -> int:
    """Wall time in unix milliseconds."""
    return time.time_ns() // 1_000_000


class PbftEngine:
    """One validator. All methods belong to one asyncio loop; `stop` before the loop ends.

    genesis: the chain.  private_key: 32 bytes; its address should be a validator (else this is a silent
    observer).  app: driven from one thread. store_path: this validator's SQLite file, made by
    `store.initialise_store`.  listen: (host, port), port 0 for a free one.  peers: the others.
    block_interval_s < heartbeat_s; view_timeout_s is T0, doubled with each view up to 2^6.  transport: TCP
    unless given.
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
        self._intake = FairFrames()
        self._decided_listeners: list[DecidedListener] = []
        self._gossip_listeners: list[GossipListener] = []
        self._tasks = TaskSet()
        self._moved = asyncio.Condition()  # height or failure changed
        self._height = 0
        self._blocks_run = 0
        self._malformed = 0  # transactions and gossip of other hubs
        self._blamed: set[tuple[bytes, str]] = set()  # authenticated peers only
        self._failure: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._store: PpdlStore | None = None
        self._driver: Driver | None = None
        self._proposer: Proposer | None = None

    # life

    async def start(self) -> None:
        """Open the store, bring the application to its last block, listen, dial and take part.

        Raises StoreError, ExecutionError or TransportError, each one sentence for the operator.
        """
        self._loop = asyncio.get_running_loop()
        self._store = await asyncio.to_thread(PpdlStore, self._store_path, self.genesis)
        try:
            tip = await asyncio.to_thread(recover, self._app, self._store, self.genesis)
            restored = self._store.restored()
            if not restored.complete:
                log.warning("PPDL vote log %s is new: silent until caught up with the other hubs", self._store_path)
            domain = Domain(self.genesis.chain_id, self.genesis.hash)
            try:
                replica = Replica(domain, self.address, self._sign, tip, restored)
            except MessageError as error:
                raise self._store.damaged("vote log", error) from error
            self._height = tip.height
            self._driver = self._make_driver(replica, self._store)
            self._proposer = self._make_proposer(self._driver)
            await self.transport.start(self._deliver)
        except BaseException:
            self._store.close()
            raise
        for work in (self._driver.run(), self._tick(), self._take_in()):
            self._tasks.spawn(work)

    def _make_driver(self, replica: Replica, store: PpdlStore) -> Driver:
        timing = self._view_timeout_s, self._heartbeat_s
        return Driver(replica, self._app, store, self.transport, self, self._now_ms, *timing)

    def _make_proposer(self, driver: Driver) -> Proposer:
        timing = self._block_interval_s, self._heartbeat_s
        answer = driver.inbox.put_local
        return Proposer(self.address, self._app, driver.app_thread, answer, self._now_ms, *timing)

    async def stop(self) -> None:
        """Stop taking part; a block being committed is finished first."""
        self._failure = self._failure or "the engine was stopped"
        await self.transport.stop()
        await self._tasks.cancel()
        if self._proposer is not None:
            await self._proposer.close()
        if self._driver is not None:
            await self._driver.close()
        if self._store is not None:
            self._store.close()
        await self._announce()

    @property
    def _running(self) -> Driver:
        if self._driver is None:
            raise EngineFailed(NOT_STARTED)
        return self._driver

    @property
    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise EngineFailed(NOT_STARTED)
        return self._loop

    @property
    def _proposing(self) -> Proposer:
        if self._proposer is None:
            raise EngineFailed(NOT_STARTED)
        return self._proposer

    # public interface

    async def submit(self, tx: bytes) -> bytes:
        """Check a transaction, let it wait here and at every other hub; return its keccak-256 hash.

        A transaction that waits already or was committed lately is accepted again without effect. Raises
        TxRefused with a reason.
        """
        if self._failure is not None:
            raise TxRefused(f"this hub takes part in no more blocks: {self._failure}")
        tx_hash = keccak256(tx)
        if not self._proposing.mempool.knows(tx_hash):
            await self._admit(tx, self.address)
            self.transport.broadcast(Channel.TX, tx)
        return tx_hash

    async def query(self, path: str, data: bytes = b"") -> QueryResult:
        """Ask the application, in its own thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._running.app_thread, self._app.query, path, data)

    def headers_after(self, height: int, limit: int) -> list[SignedHeader]:
        """At most `limit` decided headers above `height` with their seals, ascending, without gaps."""
        if self._store is None:
            raise EngineFailed(NOT_STARTED)
        return self._store.headers_after(height, limit)

    def status(self) -> EngineStatus:
        """Where the engine stands now."""
        driver = self._running
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

        Call it on every hub: a hub that was not told still expects heartbeats and, after its timeout, asks
        for a view change.
        """
        self._running.set_quiescent(True)
        self._proposing.set_quiescent(True)

    def resume(self) -> None:
        """End `quiesce`."""
        self._running.set_quiescent(False)
        self._proposing.set_quiescent(False)

    def on_decided(self, listener: DecidedListener) -> None:
        """Call `listener(block, result)` after each block this process commits, in height order.

        Not for blocks replayed at start.
        """
        _add_listener(self._decided_listeners, listener)

    def on_gossip(self, listener: GossipListener) -> None:
        """Call `listener(kind, payload, sender address)` for each gossip message of another hub."""
        _add_listener(self._gossip_listeners, listener)

    def gossip(self, kind: str, payload: bytes) -> None:
        """Send a message beside consensus to every other hub.

        At most once, no order. Raises ValueError when it is too large. Safe from any thread.
        """
        if len(payload) > MAX_GOSSIP_BYTES or not 1 <= len(kind) <= MAX_GOSSIP_KIND:
            raise ValueError(f"gossip {kind!r} of {len(payload)} bytes is too large: at most {MAX_GOSSIP_BYTES}")
        frame = codec.encode([kind, payload])
        self._running_loop.call_soon_threadsafe(self.transport.broadcast, Channel.GOSSIP, frame)

    # from the transport

    async def _deliver(self, sender: bytes, channel: Channel, payload: bytes) -> None:
        match channel:
            case Channel.CONSENSUS:
                await self._running.inbox.put(sender, (sender, payload))
            case Channel.TX:
                self._intake.put(sender, payload)
            case Channel.GOSSIP:
                self._hear(sender, payload)

    def _hear(self, sender: bytes, payload: bytes) -> None:
        try:
            kind, body = codec.decode(payload, max_bytes=MAX_GOSSIP_BYTES + 2 * MAX_GOSSIP_KIND, max_items=3)
        except (codec.DecodeError, TypeError, ValueError):
            kind, body = None, None
        if not isinstance(kind, str) or not isinstance(body, bytes):
            self._blame(sender, "gossip")
            return
        for listener in self._gossip_listeners:
            _call(listener, kind, body, sender)

    def _blame(self, sender: bytes, what: str) -> None:
        """Count a malformed message; log the first of each sender."""
        self._malformed += 1
        if (sender, what) not in self._blamed:
            self._blamed.add((sender, what))
            log.warning("PPDL peer %s sent a malformed %s message; dropped", sender.hex(), what)

    async def _take_in(self) -> None:
        """Transactions gossiped by other hubs, one after the other; a refused one is dropped, a malformed one also
        counted.
        """
        while True:
            sender, tx = await self._intake.get()
            if not self._proposing.mempool.knows(keccak256(tx)):
                try:
                    await self._admit(tx, sender)
                except TxRefused as refused:
                    if refused.malformed:
                        self._blame(sender, "transaction")

    async def _admit(self, tx: bytes, origin: bytes) -> None:
        await self._proposing.admit(tx, origin)
        self._running.expect_block_soon(self._block_interval_s)

    async def _tick(self) -> None:
        interval = min(MAX_TICK_S, self._view_timeout_s / TICKS_PER_TIMEOUT)
        while self._failure is None:  # nobody takes the ticks of a replica that stopped
            await asyncio.sleep(interval)
            self._running.inbox.put_local(Tick())

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
        for listener in self._decided_listeners:
            _call(listener, block, executed.result)

    def failed(self, reason: str) -> None:
        """This replica must not go on; whoever waits for a height is told."""
        log.critical("PPDL engine stops: %s", reason)
        self._failure = reason
        self._tasks.spawn(self._announce())

    async def _announce(self) -> None:
        async with self._moved:
            self._moved.notify_all()


def _add_listener(listeners: list[Listener], listener: Listener) -> None:
    if len(listeners) >= MAX_LISTENERS:
        raise ValueError(f"more than {MAX_LISTENERS} listeners: combine some")
    listeners.append(listener)


def _call(listener: Callable[..., None], *arguments: object) -> None:
    """A listener's failure is its own: logged, never the engine's."""
    try:
        listener(*arguments)
    except Exception:
        log.exception("PPDL listener failed")
