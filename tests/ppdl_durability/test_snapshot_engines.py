"""State transfer between engines over TCP: new, wiped, half-wiped and set-back hubs, honest peers and liars."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from ledger_cluster import INTERVAL, LAG, LedgerCluster, SlowStart

from hub.ppdl.application import Snapshot
from hub.ppdl.net.transport import Channel
from hub.ppdl.snapshots.incoming import Incoming, incoming_path
from hub.ppdl.snapshots.messages import AskSnapshots, encode_snapshot_message
from openmg.hashing import keccak256
from openmg.signing import address_of
from workbench.ppdl_soak.ledger import Ledger
from workbench.ppdl_soak.node import ledger_path, store_path

FAR = 2 * INTERVAL + LAG


async def advanced(cluster: LedgerCluster, others: tuple[int, ...], chunks: int = 3) -> None:
    """The others are so far that a hub at the genesis wants a snapshot, which has some chunks."""
    await cluster.start(*others)
    await cluster.fill(others[0], chunks)
    await cluster.reach(cluster.height() + FAR, *others)


async def caught_up(cluster: LedgerCluster, who: int) -> None:
    """It votes, and has passed everybody's height of now."""
    await cluster.until(lambda: cluster.engines[who].status().voting)
    await cluster.reach(cluster.height() + 2)


@pytest.mark.slow
async def test_a_hub_without_data_takes_a_snapshot_votes_again_and_serves_on(tmp_path: Path) -> None:
    async with LedgerCluster(tmp_path) as cluster:
        await advanced(cluster, (0, 1, 2))
        await cluster.start(3, kind=SlowStart, provision=False)
        assert not cluster.engines[3].status().voting
        await caught_up(cluster, 3)
        status = cluster.engines[3].status()
        assert status.snapshots_installed == 1 and status.first_height > INTERVAL and status.snapshot_peers_dropped == 0
        assert cluster.same_ledgers(range(4)) and len(list(cluster.ledgers[3].entries())) == 3
        assert cluster.engines[3].headers_after(0, 10) == []
        await cluster.stop(0)  # now its vote is needed
        await cluster.engines[3].submit(b"after the snapshot")
        await cluster.reach(cluster.height() + 3)
        await cluster.stop(3)
        await cluster.start(3)  # a store that begins after a snapshot, opened again
        await cluster.reach(cluster.height() + INTERVAL)  # and it makes snapshots itself
        assert cluster.ledgers[3].list_snapshots()[-1] in cluster.ledgers[1].list_snapshots()
        await cluster.start(0)
        await cluster.reach(cluster.height() + 2)
        assert b"after the snapshot" in [tx for _, tx in cluster.ledgers[0].entries()]


class WrongChunks(Ledger):
    """Names the right snapshots and sends other bytes."""

    def load_snapshot_chunk(self, height: int, format: int, chunk: int) -> bytes:
        return b"\0" + super().load_snapshot_chunk(height, format, chunk)[1:]


class FalseSnapshots(Ledger):
    """Proves the right state and names chunks of its own."""

    def list_snapshots(self) -> Sequence[Snapshot]:
        return [Snapshot(s.height, s.format, keccak256(b"false") * s.chunks) for s in super().list_snapshots()]


@pytest.mark.slow
@pytest.mark.timeout(240)  # twenty seconds alone; a busy machine makes views change
@pytest.mark.parametrize("kind", [WrongChunks, FalseSnapshots])
async def test_beside_a_lying_peer_the_others_suffice(
    tmp_path: Path, kind: type[Ledger], caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it is asked at all depends on who answers first; that it is dropped then is in `test_snapshot_sync`."""
    async with LedgerCluster(tmp_path) as cluster:
        await cluster.start(1, kind=kind)
        await advanced(cluster, (0, 2), chunks=24)
        await cluster.start(3, kind=SlowStart)
        await caught_up(cluster, 3)
        assert cluster.engines[3].status().snapshots_installed == 1
        dropped = [record.getMessage() for record in caplog.records if "dropped from state transfer" in record.message]
        assert len(dropped) <= 1 and all(cluster.engines[1].address.hex() in message for message in dropped), dropped
        assert cluster.same_ledgers((0, 3))


@pytest.mark.slow
async def test_an_interrupted_sync_goes_on_where_it_ended(tmp_path: Path) -> None:
    async with LedgerCluster(tmp_path) as cluster:
        await advanced(cluster, (0, 1, 2), chunks=24)
        for i in (0, 1, 2):
            cluster.engines[i].quiesce()  # the snapshot stays the last one
        await cluster.start(3, kind=SlowStart)
        incoming = cluster.engines[3]._incoming
        assert incoming is not None
        await cluster.until(lambda: len(incoming.have()) > 0)
        await cluster.stop(3)
        kept = Incoming(incoming_path(store_path(cluster.home(3))))
        manifest, had = kept.manifest, kept.have()
        kept.close()
        await cluster.start(3, kind=SlowStart)
        assert cluster.engines[3].status().first_height == 1 and manifest is not None and len(had) < manifest.snapshot.chunks
        service = cluster.engines[3]._snapshots
        assert service is not None and service.sync._have == had
        await cluster.until(lambda: cluster.engines[3].status().first_height == manifest.height + 1)
        assert cluster.engines[3].status().snapshots_installed == 1
        assert cluster.same_ledgers((0, 3)) and len(list(cluster.ledgers[3].entries())) == 24


async def test_a_lost_store_beside_a_kept_application_is_refilled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An application ahead of its store was refused for good; now it begins again, silent until it has caught up."""
    async with LedgerCluster(tmp_path) as cluster:
        await advanced(cluster, (0, 1, 2, 3))
        await cluster.stop(2)
        store = store_path(cluster.home(2))
        for path in store.parent.glob(store.name + "*"):
            path.unlink()
        await cluster.start(2, provision=False)
        assert not cluster.engines[2].status().voting
        assert any("begins again" in record.message for record in caplog.records)
        await caught_up(cluster, 2)
        assert cluster.same_ledgers(range(4)) and cluster.engines[2].status().failure is None


async def test_a_lost_store_of_a_young_chain_is_refilled_from_block_1(tmp_path: Path) -> None:
    """No snapshot exists yet: the application is set back to the genesis all the same."""
    async with LedgerCluster(tmp_path) as cluster:
        await cluster.start(0, 1, 2, 3)
        await cluster.reach(4)
        await cluster.stop(2)
        shutil.move(store_path(cluster.home(2)), tmp_path / "lost")
        await cluster.start(2, provision=False)
        await caught_up(cluster, 2)
        assert cluster.engines[2].status().snapshots_installed == 0 and cluster.same_ledgers(range(4))


@pytest.mark.slow
async def test_a_lost_application_over_a_snapshot_begins_again(tmp_path: Path) -> None:
    """The blocks that made its state are not here: chain and application come from the others once more."""
    async with LedgerCluster(tmp_path) as cluster:
        await advanced(cluster, (0, 1, 2))
        await cluster.start(3, kind=SlowStart)
        await cluster.until(lambda: cluster.engines[3].status().snapshots_installed == 1)
        await cluster.stop(3)
        ledger = ledger_path(cluster.home(3))
        for path in ledger.parent.glob(ledger.name + "*"):
            path.unlink()
        await cluster.start(3, kind=SlowStart)
        assert not cluster.engines[3].status().voting  # its vote log is of no use at low heights
        await caught_up(cluster, 3)
        assert cluster.same_ledgers(range(4))


async def test_an_older_copy_of_everything_is_found_out_by_what_peers_hold(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Store, marker and application of one moment: nothing here contradicts them, but a certificate with our seal does."""
    caplog.set_level(logging.WARNING)
    async with LedgerCluster(tmp_path) as cluster:
        await cluster.start(0, 1, 2, 3)
        await cluster.reach(3)
        await cluster.stop(0)
        shutil.copytree(cluster.home(0), tmp_path / "older")
        await cluster.start(0)
        await cluster.reach(cluster.height() + 6)  # address 0 is in every certificate: they take the lowest signers
        await cluster.stop(0)
        await cluster.reach(cluster.height() + 2)
        shutil.rmtree(cluster.home(0))
        shutil.copytree(tmp_path / "older", cluster.home(0))
        await cluster.start(0)
        await cluster.until(lambda: any("is an older copy" in record.message for record in caplog.records))
        assert not cluster.engines[0].status().voting
        await caught_up(cluster, 0)


@pytest.mark.slow
async def test_a_snapshot_is_proved_across_sets_of_validators(tmp_path: Path) -> None:
    """Two of the genesis' validators are gone when an observer that knows only the genesis comes."""
    async with LedgerCluster(tmp_path, n=4, spare=3) as cluster:
        await cluster.start(0, 1, 2, 3, 4, 5)
        address = [address_of(key) for key in cluster.keys]
        for change in (b"+" + address[4], b"-" + address[0], b"+" + address[5], b"-" + address[1]):
            await cluster.engines[2].submit(change)
            await cluster.until(lambda c=change: c in [tx for _, tx in cluster.ledgers[2].entries()])
        await cluster.reach(cluster.height() + FAR)
        await cluster.stop(0, 1)
        await cluster.start(6, kind=SlowStart, provision=False)
        await cluster.until(lambda: cluster.engines[6].status().snapshots_installed == 1)
        await cluster.reach(cluster.height() + 3)
        assert cluster.engines[6].status().first_height > INTERVAL and cluster.engines[6].status().validators == 4
        assert cluster.same_ledgers((2, 6))


async def test_malformed_and_too_many_requests_are_counted_or_dropped(tmp_path: Path) -> None:
    async with LedgerCluster(tmp_path) as cluster:
        await cluster.start(0, 1, 2)
        await cluster.reach(2)
        cluster.engines[0].transport.broadcast(Channel.SNAPSHOT, b"\xff")
        for _ in range(300):
            cluster.engines[0].transport.send(
                address_of(cluster.keys[1]), Channel.SNAPSHOT, encode_snapshot_message(AskSnapshots(0))
            )
        await cluster.until(lambda: cluster.engines[1].status().malformed == 1)
        await cluster.reach(cluster.height() + 3)
