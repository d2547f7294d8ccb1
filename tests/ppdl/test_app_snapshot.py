"""Snapshots of the PPDL application: the same bytes at every replica, proved when restored, and refused when bent."""

from __future__ import annotations

from pathlib import Path

import app_world as world
import pytest

from hub.ppdl.app import snapshot as snapshot_module
from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.application import SNAPSHOT_INTERVAL, SNAPSHOTS_KEPT, ChunkResult, OfferResult, Snapshot, SnapshotApplication
from openmg.hashing import keccak256

INTERVAL = 4


@pytest.fixture(autouse=True)
def short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SNAPSHOT_INTERVAL & (SNAPSHOT_INTERVAL - 1) == 0
    monkeypatch.setattr(snapshot_module, "SNAPSHOT_INTERVAL", INTERVAL)


def lived(path: Path, blocks: int) -> PpdlApplication:
    """An application with a slot on its chain and some rounds behind it."""
    application = world.started(path)
    commits = [world.commit(meter, model_of(application)) for meter in world.METERS[:5]]
    txs = {2: [world.slot_tx(world.FIRST_SLOT)], 3: commits}
    for height in range(1, blocks + 1):
        results = world.block(application, txs.get(height, ())).tx_results
        assert all(result.ok for result in results), results
    return application


def model_of(application: PpdlApplication) -> bytes:
    return application._view().state.models[0].model.model_hash


def chunks_of(application: PpdlApplication, snapshot: Snapshot) -> list[bytes]:
    return [application.load_snapshot_chunk(snapshot.height, snapshot.format, i) for i in range(snapshot.chunks)]


def give(application: PpdlApplication, snapshot: Snapshot, app_hash: bytes, chunks: list[bytes]) -> list[ChunkResult]:
    assert application.offer_snapshot(snapshot, app_hash) is OfferResult.ACCEPT
    return [application.apply_snapshot_chunk(i, chunk, b"") for i, chunk in enumerate(chunks)]


def test_two_replicas_make_the_same_and_keep_the_last_two(tmp_path: Path) -> None:
    one, other = lived(tmp_path / "a", 14), lived(tmp_path / "b", 14)
    assert isinstance(one, SnapshotApplication)
    assert [s.height for s in one.list_snapshots()] == [8, 12] and SNAPSHOTS_KEPT == 2
    assert one.list_snapshots() == other.list_snapshots()
    for snapshot in one.list_snapshots():
        chunks = chunks_of(one, snapshot)
        assert chunks == chunks_of(other, snapshot)
        assert snapshot.metadata == b"".join(map(keccak256, chunks))
    assert one.load_snapshot_chunk(4, 1, 0) == b"" == one.load_snapshot_chunk(8, 9, 0)


@pytest.mark.parametrize("before", [0, 3])
def test_a_restored_replica_goes_on_like_the_others(tmp_path: Path, before: int) -> None:
    """Into a new application, and into one with a state of its own; also after it was opened again."""
    source = lived(tmp_path / "a", 8)
    snapshot, app_hash = source.list_snapshots()[-1], source.info().app_hash
    target = lived(tmp_path / "b", before)
    assert set(give(target, snapshot, app_hash, chunks_of(source, snapshot))) == {ChunkResult.ACCEPT}
    assert target.info() == source.info() and target.list_snapshots()[-1] == snapshot
    slot = f"slot-leaves/1/{world.FIRST_SLOT}"
    assert target.query(slot, b"").ok and target.query(slot, b"") == source.query(slot, b"")
    target.close()
    target = PpdlApplication(tmp_path / "b")
    for slot_number in (1, 2, 3, 4):
        txs = [world.slot_tx(world.FIRST_SLOT + slot_number)]
        assert world.block(target, txs) == world.block(source, txs)
    assert target.list_snapshots()[-1] == source.list_snapshots()[-1]


def test_a_state_that_is_not_the_proved_one_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    source, target = lived(tmp_path / "a", 8), lived(tmp_path / "b", 3)
    snapshot, before = source.list_snapshots()[-1], target.info()
    chunks = chunks_of(source, snapshot)
    assert give(target, snapshot, keccak256(b"another"), chunks)[-1] is ChunkResult.REJECT_SNAPSHOT
    bent = bytearray(b"".join(chunks))
    bent[len(bent) // 2] ^= 1
    forged = Snapshot(snapshot.height, snapshot.format, keccak256(bytes(bent)))
    assert give(target, forged, source.info().app_hash, [bytes(bent)])[-1] is ChunkResult.REJECT_SNAPSHOT
    assert target.offer_snapshot(Snapshot(8, 77, bytes(32)), b"") is OfferResult.REJECT_FORMAT
    assert target.apply_snapshot_chunk(0, chunks[0], b"") is ChunkResult.REJECT_SNAPSHOT  # nothing is on its way
    assert give(target, snapshot, source.info().app_hash, [b"no chunk of it"]) == [ChunkResult.REJECT_SNAPSHOT]
    assert target.info() == before
    world.block(target)


def test_height_0_makes_it_as_new(tmp_path: Path) -> None:
    application = lived(tmp_path / "a", 9)
    first = world.started(tmp_path / "b").init_chain(world.genesis())
    assert application.offer_snapshot(Snapshot(0, 0, b""), b"") is OfferResult.ACCEPT
    assert application.info().last_height == 0 and application.list_snapshots() == ()
    application.close()
    application = PpdlApplication(tmp_path / "a")
    assert application.info().last_height == 0 and application.init_chain(world.genesis()) == first
    world.block(application)
