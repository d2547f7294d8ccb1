"""Engines over TCP with SQLite, in one process.

Transactions, gossip, quiescence, restarts, set changes, refusals.
"""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from pbft_support import Cluster, LedgerApp

from hub.ppdl.application import BlockCtx, BlockResult, Verdict
from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.certs import Domain, verify_qc
from hub.ppdl.consensus.header import Header
from hub.ppdl.consensus.messages import QuorumCert
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.engine import EngineFailed
from hub.ppdl.mempool import TxRefused
from hub.ppdl.net.memory import MemoryNetwork
from hub.ppdl.net.transport import Channel
from hub.ppdl.store import PpdlStore
from openmg.hashing import keccak256
from openmg.signing import address_of


async def test_transactions_reach_every_ledger_once_and_headers_prove_themselves(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 4)
    decided: list[tuple[Block, BlockResult]] = []
    cluster.engines[2].on_decided(lambda block, result: decided.append((block, result)))
    async with cluster:
        sent = [f"tx{i}".encode() for i in range(24)]
        for i, tx in enumerate(sent):
            assert await cluster.engines[i % 4].submit(tx) == keccak256(tx)
        await cluster.reach(6)
        async with asyncio.timeout(30):
            while not all(len(app.txs()) >= 24 for app in cluster.apps):
                await asyncio.sleep(0.05)
        assert cluster.same_chain(range(4), 6)
        for app in cluster.apps:
            assert sorted(app.txs()) == sorted(sent)
        domain = Domain(cluster.genesis.chain_id, cluster.genesis.hash)
        validators = ValidatorSet(cluster.genesis.validators)
        parent = cluster.genesis.hash
        for signed in cluster.engines[1].headers_after(0, 6):
            header = Header.decode(signed.header_bytes)
            verify_qc(domain, validators, header, QuorumCert(signed.view, signed.seals))
            assert header.parent_hash == parent
            parent = header.hash
        assert [block.height for block, _ in decided[:6]] == [1, 2, 3, 4, 5, 6]
        following = Header.decode(cluster.engines[2].headers_after(1, 1)[0].header_bytes)
        assert following.app_hash == decided[0][1].app_hash
        async with asyncio.timeout(10):  # the fourth hub is not needed for a block: its link may still be coming up
            while len((status := cluster.engines[0].status()).peers_connected) < 3:
                await asyncio.sleep(0.05)
        assert status.validators == 4 and status.voting
        assert status.malformed == status.refused == status.equivocations == 0 and status.failure is None
        result = await cluster.engines[0].query("log")
        assert result.ok and result.height >= 6


async def test_submit_refuses_with_a_reason_and_ignores_repetition(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 1)
    async with cluster:
        engine = cluster.engines[0]
        with pytest.raises(TxRefused, match="bad transaction"):
            await engine.submit(b"bad one")
        for wrong in (b"", bytes(300_000)):
            with pytest.raises(TxRefused, match="bytes"):
                await engine.submit(wrong)
        first = await engine.submit(b"once")
        assert await engine.submit(b"once") == first
        await cluster.reach(2)
        assert await engine.submit(b"once") == first
        await cluster.reach(engine.status().height + 2)
        assert cluster.apps[0].txs() == [b"once"]


async def test_quiescence_stops_blocks_without_suspicion_and_ends(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 4, view_timeout_s=0.3, heartbeat_s=0.1)
    async with cluster:
        await cluster.reach(3)
        for engine in cluster.engines:
            engine.quiesce()
        heights: list[int] = []
        async with asyncio.timeout(30):  # a height under way is finished, however long that takes here
            while len(set(heights)) != 1 or heights != [engine.status().height for engine in cluster.engines]:
                heights = [engine.status().height for engine in cluster.engines]
                await asyncio.sleep(0.6)
        height = heights[0]
        before = [engine.status().view_changes for engine in cluster.engines]
        await cluster.engines[0].submit(b"waits")
        await asyncio.sleep(1.2)  # three view timeouts
        assert [engine.status().height for engine in cluster.engines] == [height] * 4
        assert [engine.status().view_changes for engine in cluster.engines] == before
        assert all(engine.status().quiescent for engine in cluster.engines)
        for engine in cluster.engines:
            engine.resume()
        await cluster.reach(height + 2)
        assert b"waits" in cluster.apps[3].txs()


async def test_gossip_names_its_sender_and_survives_garbage(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 2)
    heard: list[tuple[str, bytes, bytes]] = []

    def broken(kind: str, payload: bytes, sender: bytes) -> None:
        raise RuntimeError("listener is broken")

    cluster.engines[1].on_gossip(broken)
    cluster.engines[1].on_gossip(lambda kind, payload, sender: heard.append((kind, payload, sender)))
    async with cluster:
        cluster.engines[0].transport.broadcast(Channel.GOSSIP, b"\xff")
        cluster.engines[0].transport.broadcast(Channel.CONSENSUS, b"\xff")
        await asyncio.to_thread(cluster.engines[0].gossip, "checkpoint.signature", b"payload")
        async with asyncio.timeout(5):
            while not heard:
                await asyncio.sleep(0.01)
        assert heard == [("checkpoint.signature", b"payload", address_of(cluster.keys[0]))]
        await cluster.reach(2)
        assert cluster.engines[1].status().malformed == 2
        with pytest.raises(ValueError, match="too large"):
            cluster.engines[0].gossip("x", bytes(300_000))


async def test_transactions_of_a_faulty_hub_are_counted_and_those_of_others_still_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Bytes that are no transaction, one that makes the application fail, and behind them a good one."""
    cluster = Cluster(tmp_path, 2, heartbeat_s=60.0, view_timeout_s=60.0)
    async with cluster:
        for tx in (b"", b"garbled 1", b"garbled 2", b"explode", b"bad but well formed"):
            cluster.engines[0].transport.broadcast(Channel.TX, tx)
        async with asyncio.timeout(10):
            while cluster.engines[1].status().malformed < 3:
                await asyncio.sleep(0.01)
        await cluster.engines[0].submit(b"good")
        await cluster.reach(1)
        assert cluster.apps[1].txs() == [b"good"]
        assert cluster.engines[1].status().malformed == 3
        with pytest.raises(TxRefused, match="failed to check"):
            await cluster.engines[1].submit(b"explode")
    assert len([r for r in caplog.records if "malformed transaction message" in r.message]) == 1


async def test_an_engine_whose_disk_fails_says_so_and_gathers_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(tmp_path, 1, view_timeout_s=0.2)
    async with cluster:
        engine = cluster.engines[0]
        await cluster.reach(1)

        def full(*vote: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(PpdlStore, "persist", full)
        with pytest.raises(EngineFailed, match="disk is full"):
            await engine.wait_height(10_000, 10)
        with pytest.raises(TxRefused, match="disk is full"):
            await engine.submit(b"too late")
        await asyncio.sleep(1.0)  # twenty ticks
        assert engine._driver is not None and len(engine._driver.inbox._local) < 5


async def test_row_15_a_dead_proposer_is_passed_over_when_nobody_wants_anything(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 4, view_timeout_s=0.3, heartbeat_s=0.1)
    async with cluster:
        await cluster.reach(2)
        await cluster.engines[3].stop()
        height = cluster.engines[0].status().height
        await cluster.reach(height + 6, (0, 1, 2))
        assert cluster.engines[0].status().view_changes >= 1
        assert cluster.same_chain((0, 1, 2), height + 6)


async def test_a_restarted_engine_replays_what_its_application_missed(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 4)
    async with cluster:
        for i in range(4):
            await cluster.engines[0].submit(f"tx{i}".encode())
        await cluster.reach(5)
        await cluster.engines[3].stop()
        store_height = cluster.engines[3].status().height
        cluster.apps[3] = LedgerApp(tmp_path / "fresh.json")  # the application lost everything
        await cluster.reach(store_height + 5, (0, 1, 2))
        cluster.engines[3] = cluster.make(3)
        await cluster.engines[3].start()
        assert cluster.apps[3].height >= store_height
        height = cluster.engines[0].status().height
        await cluster.reach(height + 2)
        assert cluster.same_chain(range(4), height)
        assert cluster.apps[3].txs()[:4] == cluster.apps[0].txs()[:4]


async def test_row_8_a_wiped_validator_rejoins_silent_and_then_votes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster(tmp_path, 4)
    async with cluster:
        await cluster.reach(4)
        await cluster.engines[1].stop()
        for path in tmp_path.glob("chain1.sqlite*"):
            path.unlink()
        cluster.apps[1] = LedgerApp(tmp_path / "app1b.json")
        cluster.engines[1] = cluster.make(1)
        await cluster.engines[1].start()
        assert not cluster.engines[1].status().voting
        assert any("vote log" in record.message for record in caplog.records)
        async with asyncio.timeout(30):
            while not cluster.engines[1].status().voting:
                await asyncio.sleep(0.05)
        height = cluster.engines[1].status().height
        await cluster.engines[2].stop()  # now its vote is needed
        await cluster.reach(height + 4, (0, 1, 3))
        assert cluster.same_chain((0, 1, 3), height + 4)


async def test_row_12_the_set_changes_two_blocks_later_and_the_newcomer_votes(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 4, spare=1)
    newcomer, leaver = address_of(cluster.keys[4]), address_of(cluster.keys[0])
    async with cluster:
        await cluster.reach(2)
        assert not cluster.engines[4].status().voting
        await cluster.engines[1].submit(b"+" + newcomer)
        await cluster.engines[1].submit(b"-" + leaver)
        async with asyncio.timeout(30):
            while not cluster.engines[4].status().voting:
                await asyncio.sleep(0.05)
        height = cluster.engines[4].status().height
        await cluster.reach(height + 5)
        assert not cluster.engines[0].status().voting
        headers = [Header.decode(h.header_bytes) for h in cluster.engines[0].headers_after(0, 100)]
        new = ValidatorSet(tuple(sorted(map(address_of, cluster.keys[1:]))))
        changed = next(h.height for h in headers if h.next_validators_hash == new.hash)
        pairs = zip(headers, headers[1:], strict=False)
        assert all(one.next_validators_hash == two.validators_hash for one, two in pairs)
        carried = next(h for h, tx in cluster.apps[0].log if tx == (b"-" + leaver).hex())
        assert changed == carried + 1  # executed in block `carried`, agrees on `carried` + 2
        await cluster.engines[4].stop()  # restart in the new set
        cluster.engines[4] = cluster.make(4)
        await cluster.engines[4].start()
        assert cluster.engines[4].status().validators == 4
        await cluster.reach(height + 9)


class Diverging(LedgerApp):
    """Computes something else at height 3."""

    def finalize_block(self, ctx: BlockCtx, txs: object) -> BlockResult:
        result = super().finalize_block(ctx, txs)  # type: ignore[arg-type]
        if ctx.height != 3:
            return result
        assert self.pending is not None
        wrong = keccak256(result.app_hash)
        self.pending = (self.pending[0], wrong, self.pending[2])
        return BlockResult(wrong, result.tx_results)


async def test_a_diverging_application_stops_its_own_engine_only(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 4)
    cluster.apps[2] = Diverging()
    cluster.engines[2] = cluster.make(2)
    async with cluster:
        await cluster.reach(8, (0, 1, 3))
        with pytest.raises(EngineFailed, match="compare the application's state"):
            await cluster.engines[2].wait_height(8, 10)
        assert cluster.engines[2].status().height == 3


class Exploding(LedgerApp):
    def finalize_block(self, ctx: BlockCtx, txs: object) -> BlockResult:
        raise RuntimeError("cannot go on")


async def test_an_application_that_cannot_execute_stops_the_engine_with_a_sentence(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 1)
    cluster.apps[0] = Exploding()
    cluster.engines[0] = cluster.make(0)
    async with cluster:
        with pytest.raises(EngineFailed, match="block 1 cannot be executed: cannot go on"):
            await cluster.engines[0].wait_height(1, 10)


async def test_a_transaction_that_no_hub_votes_for_does_not_stop_the_chain(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 4)
    async with cluster:
        for i, tx in enumerate((b"good 1", b"veto this", b"good 2")):
            await cluster.engines[i].submit(tx)
        async with asyncio.timeout(30):
            while not all(len(app.txs()) >= 2 for app in cluster.apps):
                await asyncio.sleep(0.05)
        await cluster.reach(cluster.engines[0].status().height + 4)
        assert all(sorted(app.txs()) == [b"good 1", b"good 2"] for app in cluster.apps)
        assert all(engine.status().mempool == 0 for engine in cluster.engines)


class VetoesBlindly(LedgerApp):
    """As proposer it does not notice what others refuse (a faulty hub)."""

    def process_proposal(self, ctx: BlockCtx, txs: object) -> Verdict:
        return Verdict.ACCEPT


async def test_a_rejected_proposal_is_replaced_by_the_next_proposer(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 4, view_timeout_s=0.3)
    cluster.apps[1] = VetoesBlindly()  # proposer of height 1
    cluster.engines[1] = cluster.make(1)
    async with cluster:
        await cluster.engines[1].submit(b"veto this")
        await cluster.reach(2)
        assert all(app.txs() == [] for app in cluster.apps)
        assert cluster.engines[0].headers_after(0, 1)[0].view >= 1


async def test_memory_transport_runs_the_same_engine(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 4)
    network = MemoryNetwork()
    for engine in cluster.engines:
        engine.transport = network.join(engine.address)
    async with cluster:
        await cluster.engines[0].submit(b"in memory")
        await cluster.reach(5)
        network.cut.add(cluster.engines[3].address)
        height = cluster.engines[0].status().height
        await cluster.reach(height + 3, (0, 1, 2))
        network.cut.clear()
        await cluster.reach(height + 3)
        assert cluster.same_chain(range(4), height + 3)


async def test_wait_height_times_out_and_ends_with_the_engine(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 1)
    engine = cluster.engines[0]
    with pytest.raises(EngineFailed, match="not started"):
        engine.status()
    await engine.start()
    with pytest.raises(TimeoutError):
        await engine.wait_height(10_000, 0.05)
    waiting = asyncio.create_task(engine.wait_height(10_000))
    await asyncio.sleep(0.05)
    await engine.stop()
    with pytest.raises(EngineFailed, match="stopped"):
        await waiting
