"""When this hub makes a block: waits for transactions or the heartbeat, then lets the application choose (`choice.py`).

A fresh block of view 0 is due when transactions wait and `block_interval_s` has passed since the last block,
or when `heartbeat_s` has passed; never while quiescent. A later view needs its block at once. All calls of
the application go through the thread given.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from hub.ppdl.application import Application, BlockCtx, TxVerdict
from hub.ppdl.choice import choose
from hub.ppdl.consensus.block import MAX_BLOCK_TX_BYTES, MAX_BLOCK_TXS
from hub.ppdl.consensus.effects import Propose, Proposed
from hub.ppdl.mempool import Mempool, TxRefused
from openmg.hashing import keccak256

log = logging.getLogger(__name__)

RECHECKED_PER_BLOCK = 256  # oldest waiting transactions that the application sees again after a block


class Proposer:
    """Owns the mempool and the moment of proposing. `answer` gets the block that the replica asked for."""

    def __init__(
        self,
        address: bytes,
        app: Application,
        app_thread: Executor,
        answer: Callable[[Proposed], None],
        now_ms: Callable[[], int],
        block_interval_s: float,
        heartbeat_s: float,
    ) -> None:
        self.mempool = Mempool()
        self._address, self._app, self._thread = address, app, app_thread
        self._answer, self._now_ms = answer, now_ms
        self._block_interval_s, self._heartbeat_s = block_interval_s, heartbeat_s
        self._last_block_s = asyncio.get_running_loop().time()
        self._stirred = asyncio.Event()
        self._quiescent = False
        self._task: asyncio.Task[None] | None = None

    async def admit(self, tx: bytes, origin: bytes) -> None:
        """Check a transaction and let it wait. Raises TxRefused."""
        self.mempool.check_size(tx, origin)
        loop = asyncio.get_running_loop()
        verdict = await loop.run_in_executor(self._thread, self._check, tx)
        if not verdict.ok:
            raise TxRefused(verdict.reason or "the application refused the transaction", verdict.malformed)
        self.mempool.add(tx, origin, verdict.subject)
        self._stirred.set()

    def set_quiescent(self, quiescent: bool) -> None:
        """Stop or allow fresh blocks of view 0."""
        self._quiescent = quiescent
        self._stirred.set()

    def wanted(self, effect: Propose) -> None:
        """The replica is proposer of (height, view)."""
        self.cancel()
        self._task = asyncio.create_task(self._propose(effect))

    def cancel(self) -> None:
        """Stop waiting for a due block."""
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """Cancel and wait."""
        self.cancel()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    def committed(self, txs: Sequence[bytes]) -> None:
        """A block with these transactions is committed.

        Called before the replica moves to the next height.
        """
        self._last_block_s = asyncio.get_running_loop().time()
        self.mempool.committed(keccak256(tx) for tx in txs)

    async def recheck(self) -> None:
        """Forget waiting transactions that the new state refuses."""
        oldest = self.mempool.oldest(MAX_BLOCK_TX_BYTES, RECHECKED_PER_BLOCK)
        if oldest:
            loop = asyncio.get_running_loop()
            self.mempool.drop(await loop.run_in_executor(self._thread, self._stale, oldest))

    def _stale(self, txs: list[bytes]) -> list[bytes]:
        return [keccak256(tx) for tx in txs if not self._check(tx).ok]

    def _check(self, tx: bytes) -> TxVerdict:
        """The application's word; a transaction that it fails on is refused like any bad one."""
        try:
            return self._app.check_tx(tx)
        except Exception:
            log.exception("application failed to check a transaction; it is refused")
            return TxVerdict(False, "the application failed to check the transaction")

    async def _propose(self, effect: Propose) -> None:
        loop, tried = asyncio.get_running_loop(), -1
        while True:
            if effect.view == 0 and not self._due(tried):
                await self._wait(tried)
                continue
            heartbeat_due = loop.time() >= self._last_block_s + self._heartbeat_s
            tried = self.mempool.revision
            ctx = BlockCtx(effect.height, max(self._now_ms(), effect.earliest_ms), self._address)
            waiting = self.mempool.oldest(MAX_BLOCK_TX_BYTES, MAX_BLOCK_TXS)
            txs, refused = await loop.run_in_executor(self._thread, choose, self._app, ctx, waiting, MAX_BLOCK_TX_BYTES)
            self.mempool.drop(keccak256(tx) for tx in refused)
            if txs or effect.view > 0 or heartbeat_due:
                self._answer(Proposed(effect.height, effect.view, txs, ctx.timestamp_ms))
                return

    def _due_at(self, tried: int) -> float | None:
        """Loop time at which a block is due; None while quiescent. Transactions of revision `tried` make none
        due: the application did not want them.
        """
        if self._quiescent:
            return None
        wanted = len(self.mempool) > 0 and self.mempool.revision != tried
        return self._last_block_s + (self._block_interval_s if wanted else self._heartbeat_s)

    def _due(self, tried: int) -> bool:
        due_at = self._due_at(tried)
        return due_at is not None and asyncio.get_running_loop().time() >= due_at

    async def _wait(self, tried: int) -> None:
        """Until the block is due or something changed."""
        self._stirred.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._due_at(tried)):
                await self._stirred.wait()
