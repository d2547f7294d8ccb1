"""CometBFT behind the interface of `engines/base.py`.

The node runs as a child process. It calls our application over a Unix socket (`server.py`, `bridge.py`), we call it over
another (`rpc.py`); both lie in a folder of this user made for one run. After each committed block its header and commit
are copied into the chain file, then listeners and waiters are told, so whoever waits for a height finds its header.

A block that CometBFT replays at start is told to nobody: CometBFT opens its RPC only after the replay, so a commit
before the RPC socket answers is one.
Not here: gossip beside consensus, quiescence, snapshots.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hub.ppdl.application import Application, BlockResult, QueryResult
from hub.ppdl.engine import (
    DEFAULT_BLOCK_INTERVAL_S,
    DEFAULT_HEARTBEAT_S,
    DEFAULT_VIEW_TIMEOUT_S,
    NOT_STARTED,
    EngineFailed,
)
from hub.ppdl.engines.cometbft import home as node_home
from hub.ppdl.engines.cometbft.binary import find_binary
from hub.ppdl.engines.cometbft.bridge import MALFORMED, OK, Bridge, CometBlock
from hub.ppdl.engines.cometbft.chainfile import ChainFile
from hub.ppdl.engines.cometbft.home import CometPeer, Timing
from hub.ppdl.engines.cometbft.process import CometProcess
from hub.ppdl.engines.cometbft.rpc import Rpc, RpcError, RpcUnavailable
from hub.ppdl.engines.cometbft.server import AbciServer
from hub.ppdl.genesis import Genesis
from hub.ppdl.listeners import Listeners
from hub.ppdl.mempool import TxRefused
from hub.ppdl.store import SignedHeader
from openmg.hashing import keccak256
from openmg.signing import address_of
from openmg.tasks import end_task

log = logging.getLogger(__name__)

START_S = 600.0  # the application may have a whole chain to replay
START_POLL_S, PROGRESS_S = 0.02, 5.0
UNTOLD_BLOCKS = 64  # committed blocks whose header is still being copied; then the application's thread waits
IN_CACHE = "tx already exists in cache"
POOL_FULL = "mempool is full"
CATCHING_UP = "catching up"

DecidedListener = Callable[[CometBlock, BlockResult], None]


@dataclass(frozen=True, slots=True)
class CometStatus:
    """A snapshot of the engine. `mempool` counts as of the last block."""

    height: int
    validators: int
    mempool: int
    malformed: int
    failure: str | None


class CometEngine:
    """One node. All methods belong to one asyncio loop; `stop` before the loop ends.

    genesis, private_key, app: as for `PbftEngine`.  public_keys: address -> 33-byte key of every validator, the same
    on every node (`home.public_key_of`).  home: made by `home.initialise_home`.  binary: else `binary.find_binary`.
    """

    def __init__(
        self,
        genesis: Genesis,
        private_key: bytes,
        app: Application,
        home: Path,
        listen: tuple[str, int],
        peers: Sequence[CometPeer],
        public_keys: Mapping[bytes, bytes],
        *,
        block_interval_s: float = DEFAULT_BLOCK_INTERVAL_S,
        heartbeat_s: float = DEFAULT_HEARTBEAT_S,
        view_timeout_s: float = DEFAULT_VIEW_TIMEOUT_S,
        binary: Path | None = None,
    ) -> None:
        self.genesis, self.address = genesis, address_of(private_key)
        self._key, self._app, self._home, self._listen = private_key, app, Path(home), listen
        self._peers, self._public_keys, self._binary = tuple(peers), dict(public_keys), binary
        self._timing = Timing(block_interval_s, heartbeat_s, view_timeout_s)
        self._app_thread = ThreadPoolExecutor(1, thread_name_prefix="comet-app")
        self._listeners: Listeners[[CometBlock, BlockResult]] = Listeners()
        self._untold: asyncio.Queue[tuple[CometBlock, BlockResult]] = asyncio.Queue(UNTOLD_BLOCKS)
        self._moved = asyncio.Condition()  # height or failure changed
        self._copying = asyncio.Lock()
        self._height = self._mempool = 0
        self._validators = len(genesis.validators)
        self._failure: str | None = None
        self._live = False  # the RPC answered once: what is committed now is new
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._run: _Run | None = None

    # life

    async def start(self) -> None:
        """Raises StoreError, BinaryError, ProcessError, EngineFailed or ValueError, each one sentence for the operator."""
        node_home.check_home(self._home)
        binary = self._binary or find_binary()
        self._loop = asyncio.get_running_loop()
        self._run = _Run(self, binary)
        try:
            await self._run.start()
            self._tasks.append(asyncio.create_task(self._watch(self._run.process)))
            self._tasks.append(asyncio.create_task(self._follow(self._run)))
            await self._ready(self._run)
            node_home.key_file(self._home).unlink(missing_ok=True)
            height = (await self._loop.run_in_executor(self._app_thread, self._app.info)).last_height
            await self._copy_headers(self._run, height)
            self._height = max(self._height, height)
        except BaseException:
            await self.stop()
            raise

    async def _ready(self, run: _Run) -> None:
        """Until the RPC answers; CometBFT replays the application first."""
        start = said = self._loop.time()
        while self._failure is None:
            try:
                await run.rpc.call("status")
            except (RpcUnavailable, RpcError):
                now = self._loop.time()
                if now - start > START_S:
                    raise EngineFailed(f"CometBFT did not start in {START_S:.0f} s: {run.process.last_words()}") from None
                if now - said > PROGRESS_S:
                    said = now
                    log.info("CometBFT replays the chain: %.0f s", now - start)
                await asyncio.sleep(START_POLL_S)
            else:
                return
        raise EngineFailed(f"CometBFT did not start: {self._failure}")

    async def _watch(self, process: CometProcess) -> None:
        words = await process.wait()
        if not self._stopping:
            self._fail(f"CometBFT ended by itself: {words}")

    async def stop(self) -> None:
        """Stop taking part. The node ends first, so that nothing waits for an application that is gone."""
        self._stopping = True
        self._failure = self._failure or "the engine was stopped"
        if self._run is not None:
            await self._run.stop()
            await asyncio.to_thread(self._app_thread.shutdown)
            for task in self._tasks:
                await end_task(task)
            self._run.close()
            self._run = None
        await self._announce()

    @property
    def _running(self) -> _Run:
        if self._run is None:
            raise EngineFailed(self._failure or NOT_STARTED)
        return self._run

    # public interface

    async def submit(self, tx: bytes) -> bytes:
        """Check a transaction and let it wait here and at the other nodes; return its keccak-256 hash.

        Raises TxRefused with a reason.
        """
        if self._failure is not None:
            raise TxRefused(f"this hub takes part in no more blocks: {self._failure}")
        run, tx_hash = self._running, keccak256(tx)
        if run.bridge.knows(tx_hash):
            return tx_hash
        if not tx:
            raise TxRefused("transaction has 0 bytes: send at least one", malformed=True)
        run.bridge.own.add(tx_hash)
        try:
            code, reason = await run.rpc.submit(tx)
        except RpcError as error:
            if IN_CACHE in error.detail:
                return tx_hash
            if POOL_FULL in error.detail:
                raise TxRefused("mempool is full: try again after the next block") from error
            if CATCHING_UP in error.detail:
                raise TxRefused("this node still catches up with the others: try again in a moment") from error
            raise TxRefused(
                f"CometBFT refused the transaction: {error.detail}", malformed="too large" in error.detail
            ) from error
        except RpcUnavailable as error:
            raise TxRefused(f"this hub cannot take the transaction now: {error}") from error
        finally:
            run.bridge.own.discard(tx_hash)
        if code == OK or run.bridge.knows(tx_hash):
            return tx_hash
        raise TxRefused(reason, malformed=code == MALFORMED)

    async def query(self, path: str, data: bytes = b"") -> QueryResult:
        """Ask the application, in its own thread."""
        if self._run is None:
            raise EngineFailed(self._failure or NOT_STARTED)
        return await asyncio.get_running_loop().run_in_executor(self._app_thread, self._app.query, path, data)

    def headers_after(self, height: int, limit: int) -> list[SignedHeader]:
        """At most `limit` decided headers above `height` with their commits, ascending, without gaps."""
        return self._running.chain.headers_after(height, limit)

    def status(self) -> CometStatus:
        """Where the engine stands now."""
        return CometStatus(self._height, self._validators, self._mempool, self._running.bridge.malformed, self._failure)

    async def wait_height(self, height: int, timeout_s: float | None = None) -> int:
        """Wait until block `height` is committed here.

        Return the height then. Raises TimeoutError or EngineFailed.
        """
        async with asyncio.timeout(timeout_s), self._moved:
            await self._moved.wait_for(lambda: self._height >= height or self._failure is not None)
        if self._height < height:
            raise EngineFailed(str(self._failure))
        return self._height

    def on_decided(self, listener: DecidedListener) -> None:
        """Call `listener(block, result)` after each block this process commits, in height order.

        Not for blocks replayed at start.
        """
        self._listeners.add(listener)

    # after each block

    def committed(self, block: CometBlock, result: BlockResult) -> None:
        """From the application's thread: waits while too many blocks are untold."""
        if self._live or self._rpc_listens():
            asyncio.run_coroutine_threadsafe(self._untold.put((block, result)), self._loop).result()

    def _rpc_listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self._running.rpc_socket))
            except OSError:
                return False
        self._live = True
        return True

    async def _follow(self, run: _Run) -> None:
        """Copy the header of each new block, then tell of the block.

        A node that no longer answers has failed (`_watch` says why); its blocks are still told, their headers are
        copied at the next start.
        """
        while True:
            block, result = await self._untold.get()
            try:
                await self._copy_headers(run, block.height)
                if self._untold.empty():
                    self._mempool = int((await run.rpc.call("num_unconfirmed_txs"))["total"])
            except (RpcUnavailable, RpcError) as error:
                if not self._stopping:
                    log.warning("header %d is not copied from CometBFT yet: %s", block.height, error)
            self._validators = len(run.chain.set_before(block.height - 1) or self.genesis.validators)
            self._height = max(self._height, block.height)
            await self._announce()
            self._listeners.tell(block, result)

    async def _copy_headers(self, run: _Run, height: int) -> None:
        async with self._copying:
            for missing in range(run.chain.last_header() + 1, height + 1):
                run.chain.save_header(missing, await run.rpc.signed_header(missing))

    def failed(self, reason: str) -> None:
        """From the ABCI server: the application or CometBFT broke the contract."""
        self._fail(f"block cannot be executed: {reason}")
        if self._run is not None:
            self._run.process.kill()  # a node whose consensus has failed may live on without it

    def _fail(self, reason: str) -> None:
        if self._failure is None:
            log.critical("PPDL engine stops: %s", reason)
            self._failure = reason
            self._tasks.append(asyncio.create_task(self._announce()))

    async def _announce(self) -> None:
        async with self._moved:
            self._moved.notify_all()


class _Run:
    """What lives from one start to its stop: sockets, child process, chain file."""

    def __init__(self, engine: CometEngine, binary: Path) -> None:
        self._engine = engine
        self._folder = Path(tempfile.mkdtemp(prefix="openmg-comet-"))  # short: a socket's path has 107 bytes at most
        self.rpc_socket = self._folder / "rpc"
        self.chain = ChainFile(node_home.chain_file(engine._home), engine.genesis.hash)
        self.rpc = Rpc(self.rpc_socket)
        self.bridge = Bridge(engine._app, engine.genesis, engine._public_keys, self.chain, engine.committed)
        abci_socket = self._folder / "abci"
        self._server = AbciServer(abci_socket, self.bridge.answer, engine._app_thread, engine.failed)
        self.process = CometProcess(binary, engine._home)
        self._settings = node_home.settings(abci_socket, self.rpc_socket, engine._listen, engine._peers, engine._timing)

    async def start(self) -> None:
        """Write the node's files, listen, start the node."""
        engine = self._engine
        await self._server.start()
        keys = engine._public_keys
        node_home.write_node_files(engine._home, engine.genesis, keys, engine._key, self._settings)
        await self.process.start()

    async def stop(self) -> None:
        """End the node, then what it talked to."""
        await self.process.stop()
        await self._server.stop()
        node_home.key_file(self._engine._home).unlink(missing_ok=True)

    def close(self) -> None:
        """Release files and threads."""
        self.rpc.close()
        self.chain.close()
        shutil.rmtree(self._folder, ignore_errors=True)
