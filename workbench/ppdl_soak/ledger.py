"""The application of the soak: a durable list of transactions, whose hash is the state.

root' = keccak(root | height | keccak(tx)) for each transaction; app hash = keccak(genesis hash | height | root). So a
snapshot, which holds the list, proves itself. `+` or `-` and an address as a transaction changes the validators.

One SQLite file with synchronous=NORMAL: a power cut may take the last commits, and the engine replays them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from hub.ppdl.application import (
    SNAPSHOT_INTERVAL,
    AppInfo,
    BlockCtx,
    BlockResult,
    ChunkResult,
    InitResult,
    OfferResult,
    QueryResult,
    Snapshot,
    TxResult,
    TxVerdict,
    ValidatorUpdate,
    Verdict,
)
from hub.ppdl.genesis import Genesis
from hub.ppdl.snapshots.archive import Restoring, SnapshotArchive
from openmg import codec
from openmg.hashing import keccak256, word

FORMAT = 1
MAX_SNAPSHOT_ITEMS = 1 << 24
_ADDRESS_CHANGE_BYTES = 21
_SCHEMA = """
CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY CHECK (id = 0), genesis BLOB NOT NULL, height INTEGER NOT NULL,
                                  root BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS tx (number INTEGER PRIMARY KEY, height INTEGER NOT NULL, tx BLOB NOT NULL UNIQUE);
"""
_Entry = tuple[int, bytes]


def _app_hash(genesis: bytes, height: int, root: bytes) -> bytes:
    return keccak256(genesis + word(height) + root)


def _extended(root: bytes, entries: Sequence[_Entry]) -> bytes:
    for height, tx in entries:
        root = keccak256(root + word(height) + keccak256(tx))
    return root


class Ledger:
    """The ledger in one file, its snapshots in another. `interval`: blocks between snapshots."""

    def __init__(self, path: Path, interval: int = SNAPSHOT_INTERVAL) -> None:
        self._interval = interval
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        self._archive = SnapshotArchive(path.with_name(path.name + ".snapshots"))
        row = self._db.execute("SELECT genesis, height, root FROM state").fetchone()
        self._genesis, self._height, self._root = b"", 0, bytes(32)
        if row is not None:
            self._genesis, self._height, self._root = bytes(row[0]), int(row[1]), bytes(row[2])
        self._pending: tuple[int, bytes, list[_Entry]] | None = None
        self._restoring: Restoring | None = None

    def close(self) -> None:
        """Close the files."""
        self._db.close()
        self._archive.close()

    # consensus

    def info(self) -> AppInfo:
        return AppInfo(self._height, _app_hash(self._genesis, self._height, self._root) if self._height else b"")

    def init_chain(self, genesis: Genesis) -> InitResult:
        self._genesis = genesis.hash
        return InitResult(_app_hash(genesis.hash, 0, bytes(32)))

    def check_tx(self, tx: bytes) -> TxVerdict:
        known = self._db.execute("SELECT 1 FROM tx WHERE tx=?", (tx,)).fetchone() is not None
        return TxVerdict(not known, "is on the ledger already" if known else "")

    def prepare_proposal(self, ctx: BlockCtx, txs: Sequence[bytes], max_bytes: int) -> list[bytes]:
        return [tx for tx in txs if self.check_tx(tx).ok]

    def process_proposal(self, ctx: BlockCtx, txs: Sequence[bytes]) -> Verdict:
        return Verdict.ACCEPT if len(set(txs)) == len(txs) and all(self.check_tx(tx).ok for tx in txs) else Verdict.REJECT

    def finalize_block(self, ctx: BlockCtx, txs: Sequence[bytes]) -> BlockResult:
        if ctx.height != self._height + 1:
            raise RuntimeError(f"block {ctx.height} cannot follow height {self._height} of the ledger")
        results, entries, seen = [], [], set()
        for tx in txs:
            fresh = tx not in seen and self.check_tx(tx).ok
            seen.add(tx)
            results.append(TxResult(fresh))
            if fresh:
                entries.append((ctx.height, tx))
        root = _extended(self._root, entries)
        self._pending = ctx.height, root, entries
        changes = [tx for _, tx in entries if len(tx) == _ADDRESS_CHANGE_BYTES and tx[:1] in (b"+", b"-")]
        updates = tuple(ValidatorUpdate(tx[1:], tx[:1] == b"+") for tx in changes)
        return BlockResult(_app_hash(self._genesis, ctx.height, root), tuple(results), updates)

    def commit(self) -> None:
        assert self._pending is not None
        height, root, entries = self._pending
        self._write(height, root, entries)
        self._pending = None
        if height % self._interval == 0:
            entries_now = [[h, tx] for h, tx in self.entries()]
            self._archive.keep(height, FORMAT, codec.encode([height, entries_now]))

    def _write(self, height: int, root: bytes, entries: Sequence[_Entry], whole: bool = False) -> None:
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            if whole:
                self._db.execute("DELETE FROM tx")
            self._db.execute("INSERT OR REPLACE INTO state VALUES (0, ?, ?, ?)", (self._genesis, height, root))
            self._db.executemany("INSERT INTO tx (height, tx) VALUES (?, ?)", entries)
        self._height, self._root = height, root

    def query(self, path: str, data: bytes) -> QueryResult:
        return QueryResult(True, codec.encode(self._height), self._height)

    def entries(self) -> Iterator[_Entry]:
        """(height, transaction) in order."""
        for height, tx in self._db.execute("SELECT height, tx FROM tx ORDER BY number"):
            yield height, bytes(tx)

    # snapshots

    def list_snapshots(self) -> Sequence[Snapshot]:
        return self._archive.list()

    def load_snapshot_chunk(self, height: int, format: int, chunk: int) -> bytes:
        return self._archive.chunk(height, format, chunk)

    def offer_snapshot(self, snapshot: Snapshot, app_hash: bytes) -> OfferResult:
        if snapshot.height == 0:
            self._forget()
            return OfferResult.ACCEPT
        if snapshot.format != FORMAT:
            return OfferResult.REJECT_FORMAT
        self._restoring = Restoring(snapshot, app_hash)
        return OfferResult.ACCEPT

    def apply_snapshot_chunk(self, index: int, chunk: bytes, sender: bytes) -> ChunkResult:
        if self._restoring is None or not self._restoring.add(index, chunk):
            return ChunkResult.REJECT_SNAPSHOT
        data = self._restoring.data
        if data is None:
            return ChunkResult.ACCEPT
        restoring, self._restoring = self._restoring, None
        try:
            height, listed = codec.decode(data, max_bytes=len(data), max_items=MAX_SNAPSHOT_ITEMS)
            entries = [(h, tx) for h, tx in listed]
            root = _extended(bytes(32), entries)
            proved = _app_hash(self._genesis, height, root) == restoring.app_hash
        except (TypeError, ValueError):
            return ChunkResult.REJECT_SNAPSHOT
        if height != restoring.snapshot.height or not proved:
            return ChunkResult.REJECT_SNAPSHOT
        self._write(height, root, entries, whole=True)
        self._db.execute("PRAGMA wal_checkpoint(FULL)")  # on disk, whatever synchronous=NORMAL would allow
        self._archive.keep(height, FORMAT, data)
        return ChunkResult.ACCEPT

    def _forget(self) -> None:
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM tx")
            self._db.execute("DELETE FROM state")
        self._db.execute("PRAGMA wal_checkpoint(FULL)")
        self._archive.forget_all()
        self._height, self._root, self._pending = 0, bytes(32), None
