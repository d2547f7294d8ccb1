"""State transfer of an engine when its own files fail: the sync ends, its two tasks go on."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from chain_maker import ADDRESSES, KEYS, Chain, genesis

from hub.ppdl.application import CHUNK_BYTES
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.net.tcp import TcpTransport
from hub.ppdl.snapshots.incoming import Incoming, incoming_path
from hub.ppdl.snapshots.messages import AskSnapshots, Offer, encode_snapshot_message
from hub.ppdl.snapshots.service import RETRY_TICKS, START_TICKS, SnapshotService, Standing
from hub.ppdl.snapshots.sync import OFFER_TICKS, Phase
from hub.ppdl.store import PpdlStore, initialise_store
from workbench.ppdl_soak.ledger import Ledger

ME, A, B, _ = ADDRESSES[:4]
STANDING = Standing(0, ValidatorSet(ADDRESSES[:4]), {A: 100, B: 100})


async def never() -> str:
    raise AssertionError("nothing is installed here")


async def ticks(service: SnapshotService, count: int) -> None:
    for _ in range(count):
        await service.tick(STANDING)


async def chosen(service: SnapshotService) -> None:
    """Tick until offers are waited for no longer."""
    for _ in range(OFFER_TICKS):
        if service.sync.phase is Phase.OFFERS:
            await service.tick(STANDING)


async def offered(service: SnapshotService) -> None:
    """Two peers offer the snapshot at height 10, once it is asked for."""
    offer = encode_snapshot_message(Offer(Chain(genesis()).grow(12).manifest(10, bytes(3 * CHUNK_BYTES))))
    for peer in (A, B):
        service.deliver(peer, offer)
    async with asyncio.timeout(20):
        while len(service.sync._candidates) == 0 or len(next(iter(service.sync._candidates.values())).vouchers) < 2:
            await asyncio.sleep(0.01)


async def test_a_file_of_no_use_ends_a_sync_and_the_next_one_succeeds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "chain.sqlite"
    initialise_store(path, genesis())
    store, incoming = PpdlStore(path, genesis()), Incoming(incoming_path(path))
    ledger, transport = Ledger(tmp_path / "ledger.sqlite"), TcpTransport(genesis(), KEYS[ME], "127.0.0.1", 0)
    with ThreadPoolExecutor(1) as thread:
        blamed: list[bytes] = []
        service = SnapshotService(
            genesis(), ME, ledger, thread, store, incoming, transport, never, lambda peer, what: blamed.append(peer), 1
        )  # fmt: skip
        running = asyncio.create_task(service.run())
        incoming.close()  # as after an error of the disk: every write of a chunk fails
        await ticks(service, START_TICKS)
        await offered(service)
        await chosen(service)
        assert service.sync.phase is Phase.IDLE and "check the disk" in caplog.text and not running.done()
        service.deliver(A, encode_snapshot_message(AskSnapshots(0)))  # others are served as before
        incoming._open()
        for _ in range(RETRY_TICKS):
            if service.sync.phase is Phase.IDLE:
                await service.tick(STANDING)
        await offered(service)
        await chosen(service)
        assert service.sync.phase is Phase.FETCH and incoming.manifest is not None and not running.done()
        running.cancel()
    for file in (store, incoming, ledger):
        file.close()
    assert not blamed


async def test_what_others_ask_for_delays_nothing_of_what_this_hub_fetches(tmp_path: Path) -> None:
    """The application's thread executes a block that takes long, and answers nobody meanwhile."""
    path = tmp_path / "chain.sqlite"
    initialise_store(path, genesis())
    store, incoming = PpdlStore(path, genesis()), Incoming(incoming_path(path))
    ledger, transport = Ledger(tmp_path / "ledger.sqlite"), TcpTransport(genesis(), KEYS[ME], "127.0.0.1", 0)
    executed = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        service = SnapshotService(genesis(), ME, ledger, thread, store, incoming, transport, never, lambda *_: None, 1)
        running = asyncio.create_task(service.run())
        try:
            thread.submit(executed.wait)
            service.deliver(A, encode_snapshot_message(AskSnapshots(0)))
            async with asyncio.timeout(20):
                await ticks(service, START_TICKS)
                await offered(service)
                await chosen(service)
            assert service.sync.phase is Phase.FETCH and incoming.manifest is not None
        finally:
            executed.set()
            running.cancel()
    for file in (store, incoming, ledger):
        file.close()
