"""Rows of the table of known bugs that need a real engine: time, mempool and several hubs."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pbft_support import Cluster

from hub.ppdl.net.memory import MemoryNetwork

PATIENCE_S = 30.0


async def test_row_13_a_proposer_that_delays_a_waiting_transaction_is_passed_over(tmp_path: Path) -> None:
    """Blocks without transactions are due in ten minutes only; a waiting transaction makes silence suspicious at once."""
    cluster = Cluster(tmp_path, 4, heartbeat_s=600.0, view_timeout_s=0.5)
    network = MemoryNetwork()
    for engine in cluster.engines:
        engine.transport = network.join(engine.address)
    up = (0, 2, 3)
    await asyncio.gather(*(cluster.engines[i].start() for i in up))  # number 1, the proposer of height 1, never starts
    try:
        await cluster.engines[0].submit(b"wanted")
        await cluster.reach(1, up, PATIENCE_S)
        assert all(cluster.apps[i].txs() == [b"wanted"] for i in up)
        assert cluster.engines[0].headers_after(0, 1)[0].view >= 1
    finally:
        await asyncio.gather(*(cluster.engines[i].stop() for i in up))
