"""The files of one hub and what waits in it: store, genesis, mempool."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from pbft_support import Cluster, LedgerApp, genesis_of

from hub.ppdl import store as store_module
from hub.ppdl.chain import ExecutionError
from hub.ppdl.consensus.effects import VoteRecord
from hub.ppdl.consensus.messages import Kind
from hub.ppdl.engine import PbftEngine
from hub.ppdl.genesis import GenesisError, load_genesis, make_genesis
from hub.ppdl.mempool import Mempool, TxRefused
from hub.ppdl.sim.world import validator_keys
from hub.ppdl.store import PpdlStore, StoreError, initialise_store
from openmg.hashing import keccak256
from openmg.signing import address_of


def test_store_refuses_a_second_vote_and_another_chain(tmp_path: Path) -> None:
    genesis = genesis_of(validator_keys(4), 5000)
    path = tmp_path / "s.sqlite"
    initialise_store(path, genesis)
    store = PpdlStore(path, genesis)
    vote = VoteRecord(Kind.PREPARE, 1, 0, b"a" * 32, b"wire")
    store.persist([vote, vote], None)
    with pytest.raises(StoreError, match="refusing to sign twice"):
        store.persist([VoteRecord(Kind.PREPARE, 1, 0, b"b" * 32, b"other")], None)
    assert [record.wire for record in store.restored().votes] == [b"wire"]
    assert store.log_complete()
    store.close()
    with pytest.raises(StoreError, match="another chain"):
        PpdlStore(path, make_genesis(7, genesis.validators, b"", 0))
    (tmp_path / "junk").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="is damaged .file is not a database"):
        PpdlStore(tmp_path / "junk", genesis)


def test_a_store_that_appears_by_itself_is_not_trusted(tmp_path: Path) -> None:
    genesis = genesis_of(validator_keys(4), 5000)
    store = PpdlStore(tmp_path / "new" / "s.sqlite", genesis)
    assert not store.log_complete()
    store.mark_log_complete()
    assert store.log_complete()
    store.close()


async def test_blocks_for_a_peer_are_cut_to_what_fits_one_message(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 1, heartbeat_s=0.1)
    async with cluster:
        await cluster.engines[0].submit(bytes(5000))
        await cluster.reach(4)
    store = PpdlStore(cluster.store_path(0), cluster.genesis)
    whole = store.blocks_from(1, 4)
    sizes = [len(one.decided.block.encoded) for one in whole]
    assert len(whole) == 4 and max(sizes) > 5000
    for wanted in range(1, 5):
        assert store.blocks_from(1, 4, sum(sizes[:wanted])) == whole[:wanted]
    assert store.blocks_from(1, 4, 1) == whole[:1]
    assert store.blocks_from(9_999, 4, 1) == []
    store.close()


def test_provisioning_that_was_cut_off_is_simply_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-made file would be taken for a validator's store and then be of no use."""
    genesis, path = genesis_of(validator_keys(4), 5000), tmp_path / "s.sqlite"
    with monkeypatch.context() as patched:
        patched.setattr(store_module, "_SCHEMA", store_module._SCHEMA + "CREATE TABLE cut off;")
        with pytest.raises(sqlite3.Error):
            initialise_store(path, genesis)
    initialise_store(path, genesis)
    store = PpdlStore(path, genesis)
    assert store.log_complete()
    store.close()
    assert {file.name for file in tmp_path.iterdir()} == {"s.sqlite", "s.sqlite.mark"}


async def test_a_store_of_another_layout_or_with_damaged_rows_is_refused_with_a_sentence(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 1)
    async with cluster:
        await cluster.reach(2)
    damage = (
        ("PRAGMA user_version=9", "layout 9 instead of 2"),
        ("PRAGMA user_version=2", None),
        ("INSERT INTO votes VALUES (2, 1000, 0, x'00', x'00')", None),  # of no height that is worked on
        ("UPDATE blocks SET wire=x'00'", "damaged"),
    )
    for statement, sentence in damage:
        with sqlite3.connect(cluster.store_path(0)) as db:
            db.execute(statement)
        db.close()
        cluster.apps[0] = LedgerApp()
        engine = cluster.make(0)
        if sentence is None:
            await engine.start()
            await engine.stop()
        else:
            with pytest.raises(StoreError, match=sentence):
                await engine.start()
    genesis = cluster.genesis
    initialise_store(tmp_path / "votes.sqlite", genesis)
    store = PpdlStore(tmp_path / "votes.sqlite", genesis)
    store.persist([VoteRecord(Kind.PREPARE, 1, 0, bytes(32), b"no message")], None)
    store.close()
    engine = PbftEngine(genesis, cluster.keys[0], LedgerApp(), tmp_path / "votes.sqlite", ("127.0.0.1", 0), [])
    with pytest.raises(StoreError, match="vote log .* damaged"):
        await engine.start()


def test_votes_are_synced_to_disk(tmp_path: Path) -> None:
    """synchronous=FULL (2) on the writer: a commit that returns is on disk."""
    genesis = genesis_of(validator_keys(1), 5000)
    store = PpdlStore(tmp_path / "s.sqlite", genesis)
    assert store._writer.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert store._writer.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert sqlite3.threadsafety == 3
    store.close()


async def test_an_application_ahead_of_its_store_is_told_apart(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 1)
    cluster.apps[0].height = 9
    with pytest.raises(ExecutionError, match="application is at block 9"):
        await cluster.engines[0].start()


def test_mempool_bounds_and_shares() -> None:
    pool = Mempool()
    for i in range(2048):
        pool.add(b"flood%d" % i, b"flooder")
    with pytest.raises(TxRefused, match="share"):
        pool.add(b"one more", b"flooder")
    pool.add(b"mine", b"me")
    assert len(pool) == 2049 and pool.knows(keccak256(b"mine"))
    assert pool.oldest(13, 10) == [b"flood0", b"flood1"]
    pool.committed([keccak256(b"flood0"), keccak256(b"never seen")])
    assert pool.add(b"flood0", b"flooder") == keccak256(b"flood0") and len(pool) == 2048
    pool.drop([keccak256(b"mine")])
    assert pool.bytes_waiting == sum(len(b"flood%d" % i) for i in range(1, 2048))


def test_one_subject_waits_once_until_its_transaction_is_gone() -> None:
    """Else one meter could fill the mempool with different updates, of which one block admits one."""
    pool = Mempool()
    pool.add(b"first", b"me", b"meter 1, round 5")
    with pytest.raises(TxRefused, match="waits already"):
        pool.add(b"second", b"peer", b"meter 1, round 5")
    assert pool.add(b"first", b"me", b"meter 1, round 5") == keccak256(b"first")
    for tx in (b"a", b"b"):
        pool.add(tx, b"me")  # without a subject they do not exclude each other
    pool.add(b"other", b"me", b"meter 2, round 5")
    pool.drop([keccak256(b"first")])
    pool.add(b"second", b"peer", b"meter 1, round 5")
    pool.committed([keccak256(b"second")])
    pool.add(b"third", b"peer", b"meter 1, round 5")
    assert len(pool) == 4


def test_genesis_file_round_trip_and_sentences(tmp_path: Path) -> None:
    keys = validator_keys(4)
    genesis = make_genesis(3, [address_of(k) for k in reversed(keys)], b"state", 123)
    (tmp_path / "g").write_bytes(genesis.encode())
    assert load_genesis(tmp_path / "g") == genesis
    assert load_genesis(tmp_path / "g").hash == keccak256(genesis.encode())
    (tmp_path / "bad").write_bytes(genesis.encode()[:-1])
    for name in ("bad", "missing"):
        with pytest.raises(GenesisError, match=name):
            load_genesis(tmp_path / name)
    address = address_of(keys[0])
    for fields in ((0, [address]), (1, []), (1, [address, address]), (1, [b"short"])):
        with pytest.raises(GenesisError):
            make_genesis(fields[0], fields[1], b"", 0)
