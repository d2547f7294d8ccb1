"""A store that went back in time, was cut off or swapped is noticed at start, and an honest crash is not suspected."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from chain_maker import Chain, genesis

from hub.ppdl.application import Snapshot
from hub.ppdl.chain import _tip_at
from hub.ppdl.consensus.effects import VoteRecord
from hub.ppdl.consensus.header import Header
from hub.ppdl.consensus.messages import Kind
from hub.ppdl.marker import Mark, Marker, marker_path
from hub.ppdl.snapshots.manifest import verify
from hub.ppdl.snapshots.service import make_manifest
from hub.ppdl.store import PpdlStore, SetChange, StoreError, initialise_store

GENESIS = genesis()


def vote(height: int, view: int = 0) -> VoteRecord:
    return VoteRecord(Kind.COMMIT, height, view, bytes([height]) * 32, b"wire")


def killed_copy(store: PpdlStore, to: Path) -> Path:
    """The files of an open store as `kill -9` leaves them (shared memory is rebuilt from the log)."""
    to.mkdir()
    for suffix in ("", "-wal", ".mark"):
        source = store.path.with_name(store.path.name + suffix)
        if source.exists():
            shutil.copyfile(source, to / source.name)
    return to / store.path.name


@pytest.fixture
def store(tmp_path: Path):
    path = tmp_path / "live" / "s.sqlite"
    initialise_store(path, GENESIS)
    store = PpdlStore(path, GENESIS)
    store.persist([vote(1)], None)
    store.persist([vote(1, view=1)], None)
    yield store
    store.close()


def suspicion(path: Path) -> str:
    store = PpdlStore(path, GENESIS)
    try:
        assert store.log_complete() == (not store.suspicion)
        return store.suspicion
    finally:
        store.close()


def test_kill_9_is_not_suspected_and_keeps_every_vote(store: PpdlStore, tmp_path: Path) -> None:
    copy = PpdlStore(killed_copy(store, tmp_path / "copy"), GENESIS)
    assert copy.suspicion == "" and copy.log_complete()
    assert copy.knows_vote(Kind.COMMIT, 1, 0) and copy.knows_vote(Kind.COMMIT, 1, 1)
    assert not copy.knows_vote(Kind.PREPARE, 1, 1)
    copy.close()


def test_a_power_cut_that_loses_the_markers_last_writes_is_not_suspected(store: PpdlStore, tmp_path: Path) -> None:
    old = marker_path(store.path).read_bytes()
    store.persist([vote(1, view=2)], None)
    path = killed_copy(store, tmp_path / "copy")
    marker_path(path).write_bytes(old)
    assert suspicion(path) == ""


def remove_log(path: Path) -> None:
    path.with_name(path.name + "-wal").unlink()


def cut_log(path: Path) -> None:
    """The last transaction's frames are gone; SQLite takes the rest for the whole."""
    log = path.with_name(path.name + "-wal")
    log.write_bytes(log.read_bytes()[:-3000])


def remove_marker(path: Path) -> None:
    marker_path(path).unlink()


def tear_marker(path: Path) -> None:
    marker_path(path).write_bytes(bytes(len(marker_path(path).read_bytes())))


def take_another_store(path: Path) -> None:
    mark = marker_path(path).read_bytes()
    for suffix in ("", "-wal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    initialise_store(path, GENESIS)
    marker_path(path).write_bytes(mark)


@pytest.mark.parametrize(
    "harm, sentence",
    [
        (remove_log, "were made durable"),
        (cut_log, "were made durable"),
        (remove_marker, "missing or damaged"),
        (tear_marker, "missing or damaged"),
        (take_another_store, "belongs to another store"),
    ],
)
def test_a_store_that_is_not_the_one_last_written_is_not_trusted(
    store: PpdlStore, tmp_path: Path, harm: Callable[[Path], None], sentence: str
) -> None:
    path = killed_copy(store, tmp_path / "copy")
    harm(path)
    assert sentence in suspicion(path)
    again = PpdlStore(path, GENESIS)  # said once; the log stays lost until it is complete again
    assert again.suspicion == "" and not again.log_complete()
    again.mark_log_complete()
    again.close()
    assert suspicion(path) == ""


def test_an_older_copy_in_its_place_is_noticed(store: PpdlStore, tmp_path: Path) -> None:
    older = killed_copy(store, tmp_path / "older")
    store.persist([vote(1, view=2)], None)
    newer = killed_copy(store, tmp_path / "newer")
    for suffix in ("", "-wal"):
        shutil.copyfile(older.with_name(older.name + suffix), newer.with_name(newer.name + suffix))
    assert "were made durable" in suspicion(newer)


def test_a_torn_slot_of_the_marker_leaves_the_other_one(tmp_path: Path) -> None:
    marker = Marker(tmp_path / "m")
    assert marker.read() is None
    marker.begin(Mark(b"n" * 16, 6))
    marker.write(Mark(b"n" * 16, 7))
    assert marker.read() == Mark(b"n" * 16, 7)
    data = bytearray((tmp_path / "m").read_bytes())
    for slot, left in ((1, 6), (0, 7)):
        torn = bytearray(data)
        torn[slot * len(data) // 2 + 20] ^= 1
        (tmp_path / "m").write_bytes(torn)
        found = marker.read()
        assert found is not None and found.number == left
    marker.close()
    marker.close()


def test_a_torn_page_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    initialise_store(path, GENESIS)
    store = PpdlStore(path, GENESIS)
    Chain(GENESIS).grow(60).store_into(store)
    store.close()
    size = sqlite3.connect(path).execute("PRAGMA page_size").fetchone()[0]
    whole = path.read_bytes()
    refused = 0
    for page in range(2, len(whole) // size):
        torn = bytearray(whole)
        torn[page * size : page * size + 512] = bytes(512)
        path.write_bytes(torn)
        try:
            PpdlStore(path, GENESIS).close()
        except StoreError as error:
            refused += "damaged" in str(error) or "cannot open" in str(error)
    assert refused >= (len(whole) // size - 2) * 9 // 10  # a page of nothing but a large row's bytes cannot show it
    path.write_bytes(whole[: len(whole) // 2 // size * size])
    with pytest.raises(StoreError, match="damaged|cannot open"):
        PpdlStore(path, GENESIS)


SETS = {5: tuple(sorted(GENESIS.validators[:3])), 9: GENESIS.validators, 12: tuple(sorted(GENESIS.validators[1:]))}


def test_another_thread_sees_only_what_is_committed(tmp_path: Path) -> None:
    chain = Chain(GENESIS, SETS).grow(16)
    manifest = chain.manifest(10)
    initialise_store(tmp_path / "s.sqlite", GENESIS)
    store = PpdlStore(tmp_path / "s.sqlite", GENESIS)
    chain.store_into(store)
    seen: list[tuple[int, int, int]] = []

    def read() -> None:
        seen.append((store.last_height(), store.base_height(), len(store.blocks_from(1, 20))))

    def half_way() -> Iterator[SetChange]:
        with ThreadPoolExecutor(1) as other:
            other.submit(read).result()
        yield from manifest.changes

    store.adopt(verify(chain.domain, GENESIS, manifest), manifest.header, half_way())
    read()
    store.close()
    assert seen == [(16, 0, 16), (10, 10, 0)]


def test_a_chain_that_begins_after_a_snapshot(tmp_path: Path) -> None:
    """Blocks before it are gone, votes up to it too; later votes, the history of sets and what follows are there."""
    chain = Chain(GENESIS, SETS).grow(16)
    manifest = chain.manifest(10)
    base = verify(chain.domain, GENESIS, manifest)
    initialise_store(tmp_path / "s.sqlite", GENESIS)
    store = PpdlStore(tmp_path / "s.sqlite", GENESIS)
    for block in chain.blocks[:3]:
        store.save_block(block)
    store.persist([vote(9), vote(11)], None)
    store.adopt(base, manifest.header, manifest.changes)
    assert store.last_height() == store.base_height() == 10 and store.base() == base
    assert not store.knows_vote(Kind.COMMIT, 9, 0) and store.knows_vote(Kind.COMMIT, 11, 0)
    assert [record.height for record in store.restored().votes] == [11]
    assert store.blocks_from(1, 5) == [] and store.headers_after(0, 5) == [] and store.log_complete()
    chain.store_into(store, first=11)
    store.close()
    store = PpdlStore(tmp_path / "s.sqlite", GENESIS)
    assert store.last_height() == 16 and store.base_height() == 10
    assert [Header.decode(h.header_bytes).height for h in store.headers_after(10, 3)] == [11, 12, 13]
    for gone in range(10):
        assert store.headers_after(gone, 3) == [] == store.blocks_from(gone, 3)
    assert [b.decided.height for b in store.blocks_from(11, 2)] == [11, 12]
    assert [change.header.height for change in store.set_changes(16)] == [4, 8, 11]
    for height in (11, 12, 13, 14, 15):  # this store can itself offer what it was given, proved from the genesis
        made = make_manifest(store, GENESIS, chain.manifest(height).snapshot)
        assert made == chain.manifest(height) and made is not None
        assert verify(chain.domain, GENESIS, made) == _tip_at(store, GENESIS, height)
    assert _tip_at(store, GENESIS, 10) == base
    assert make_manifest(store, GENESIS, chain.manifest(10).snapshot) is None  # the block itself is not here
    assert make_manifest(store, GENESIS, Snapshot(16, 1, bytes(32))) is None  # nothing proves the last block's state yet
    store.forget_chain()
    assert store.last_height() == 0 and store.base() is None and not store.log_complete()
    assert store.set_changes(99) == ()
    store.close()
