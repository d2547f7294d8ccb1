"""Engines over TCP in this process, with durable ledgers that make a snapshot every few blocks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hub.ppdl.application import BlockCtx, BlockResult
from hub.ppdl.engine import PbftEngine
from hub.ppdl.genesis import make_genesis
from hub.ppdl.net.transport import PeerAddress
from hub.ppdl.store import initialise_store
from openmg.hashing import keccak256
from openmg.signing import address_of
from workbench.ports import PortReservation
from workbench.ppdl_soak.ledger import Ledger
from workbench.ppdl_soak.node import ledger_path, soak_keys, store_path

INTERVAL, LAG = 8, 16
TX_BYTES = 200_000
PATIENCE_S = 90.0


class SlowStart(Ledger):
    """Executing old blocks takes long, as years of them would: a snapshot is the shorter way."""

    def finalize_block(self, ctx: BlockCtx, txs: Sequence[bytes]) -> BlockResult:
        if ctx.height <= INTERVAL + LAG:
            time.sleep(0.25)
        return super().finalize_block(ctx, txs)


class LedgerCluster:
    """`n` validators and `spare` others that are peers only. Nobody is started; `start` does."""

    def __init__(self, directory: Path, n: int = 4, spare: int = 0) -> None:
        self.keys = soak_keys(n + spare)
        genesis_ms = time.time_ns() // 1_000_000 - 1000
        self.genesis = make_genesis(4244, [address_of(key) for key in self.keys[:n]], b"", genesis_ms)
        self.reserved = PortReservation(n + spare)
        self.peers = [PeerAddress(address_of(k), "127.0.0.1", p) for k, p in zip(self.keys, self.reserved.ports, strict=True)]
        self.directory = directory
        self.engines: dict[int, PbftEngine] = {}
        self.ledgers: dict[int, Ledger] = {}

    def home(self, i: int) -> Path:
        return self.directory / f"hub{i}"

    async def start(self, *which: int, kind: type[Ledger] = Ledger, provision: bool = True) -> None:
        """Start hubs; `provision` makes the store of one that has none."""
        for i in which:
            self.home(i).mkdir(exist_ok=True)
            if provision:
                initialise_store(store_path(self.home(i)), self.genesis)
            self.ledgers[i] = kind(ledger_path(self.home(i)), INTERVAL)
            self.engines[i] = PbftEngine(
                self.genesis, self.keys[i], self.ledgers[i], store_path(self.home(i)),
                (self.peers[i].host, self.peers[i].port), self.peers, block_interval_s=0.02, heartbeat_s=0.1,
                view_timeout_s=0.6, snapshot_lag=LAG,
            )  # fmt: skip
        await asyncio.gather(*(self.engines[i].start() for i in which))

    async def stop(self, *which: int) -> None:
        await asyncio.gather(*(self.engines[i].stop() for i in which))
        for i in which:
            self.ledgers.pop(i).close()
            del self.engines[i]

    async def __aenter__(self) -> LedgerCluster:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop(*list(self.engines))
        self.reserved.close()

    def height(self) -> int:
        return max(engine.status().height for engine in self.engines.values())

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not true():
                await asyncio.sleep(0.02)

    async def reach(self, height: int, *which: int) -> None:
        await asyncio.gather(*(self.engines[i].wait_height(height, PATIENCE_S) for i in which or self.engines))

    async def fill(self, through: int, count: int) -> list[bytes]:
        """Large transactions, so that a snapshot has as many chunks."""
        txs = [keccak256(b"fill%d" % i) * (TX_BYTES // 32) for i in range(count)]
        for tx in txs:
            await self.engines[through].submit(tx)
        await self.until(lambda: len(list(self.ledgers[through].entries())) >= count)
        return txs

    def same_ledgers(self, which: Sequence[int]) -> bool:
        """Whether the ledgers agree as far as the shortest goes."""
        lists = [list(self.ledgers[i].entries()) for i in which]
        shortest = min(map(len, lists))
        return all(one[:shortest] == lists[0][:shortest] for one in lists)
