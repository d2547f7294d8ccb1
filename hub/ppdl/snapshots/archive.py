"""The snapshots that an application keeps: made in one piece, cut into chunks, the last SNAPSHOTS_KEPT on disk.

One SQLite file beside the application's own; it may be lost without harm, a hub without snapshots only serves none.
So synchronous=NORMAL does. The same bytes are cut the same way everywhere, which is what makes two hubs' snapshots one.

`Restoring` is the other side: the chunks of an offered snapshot, put together again and checked as they come.

Not here: what the bytes mean (the application), who is asked for them (`sync.py`).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hub.ppdl.application import CHUNK_BYTES, MAX_CHUNKS, SNAPSHOTS_KEPT, Snapshot
from openmg.hashing import keccak256

_SCHEMA = """
CREATE TABLE IF NOT EXISTS snapshot (height INTEGER PRIMARY KEY, format INTEGER NOT NULL, metadata BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS chunk (height INTEGER, number INTEGER, data BLOB NOT NULL, PRIMARY KEY (height, number));
"""


def cut(data: bytes) -> list[bytes]:
    """The chunks of a snapshot. Raises ValueError for an empty one and above MAX_CHUNKS."""
    chunks = [data[i : i + CHUNK_BYTES] for i in range(0, len(data), CHUNK_BYTES)]
    if not 1 <= len(chunks) <= MAX_CHUNKS:
        raise ValueError(f"a snapshot of {len(data)} bytes cannot be offered: 1 to {MAX_CHUNKS * CHUNK_BYTES} can")
    return chunks


class SnapshotArchive:
    """One file of snapshots. All calls from one thread at a time. Raises sqlite3.Error when the file is of no use."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")

    def keep(self, height: int, format: int, data: bytes) -> Snapshot:
        """Keep a snapshot; forget those before the last SNAPSHOTS_KEPT and any above it, which another history made."""
        chunks = cut(data)
        snapshot = Snapshot(height, format, b"".join(map(keccak256, chunks)))
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._forget("height>=?", height)
            self._db.execute("INSERT INTO snapshot VALUES (?, ?, ?)", (height, format, snapshot.metadata))
            self._db.executemany("INSERT INTO chunk VALUES (?, ?, ?)", [(height, i, c) for i, c in enumerate(chunks)])
            kept = [row[0] for row in self._db.execute("SELECT height FROM snapshot ORDER BY height DESC")]
            if len(kept) > SNAPSHOTS_KEPT:
                self._forget("height<?", kept[SNAPSHOTS_KEPT - 1])
        return snapshot

    def _forget(self, which: str, height: int) -> None:
        for table in ("snapshot", "chunk"):
            self._db.execute(f"DELETE FROM {table} WHERE {which}", (height,))

    def forget_all(self) -> None:
        """The state they were made of is gone."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._forget("height>=?", 0)

    def list(self) -> tuple[Snapshot, ...]:
        """What is kept, ascending."""
        return tuple(Snapshot(*row) for row in self._db.execute("SELECT * FROM snapshot ORDER BY height"))

    def chunk(self, height: int, format: int, number: int) -> bytes:
        """One chunk; empty when it is not kept."""
        row = self._db.execute(
            "SELECT data FROM chunk JOIN snapshot USING (height) WHERE height=? AND format=? AND number=?",
            (height, format, number),
        ).fetchone()
        return b"" if row is None else bytes(row[0])

    def close(self) -> None:
        """Close the file."""
        self._db.close()


class Restoring:
    """An offered snapshot on its way into an application. `add` takes the chunks in order."""

    def __init__(self, snapshot: Snapshot, app_hash: bytes) -> None:
        self.snapshot, self.app_hash = snapshot, app_hash
        self._chunks: list[bytes] = []

    def add(self, index: int, chunk: bytes) -> bool:
        """Take the next chunk; false when it is another one than the snapshot's next."""
        if index != len(self._chunks) or index >= self.snapshot.chunks:
            return False
        if keccak256(chunk) != self.snapshot.chunk_hash(index):
            return False
        self._chunks.append(chunk)
        return True

    @property
    def data(self) -> bytes | None:
        """The whole snapshot; None before the last chunk."""
        return b"".join(self._chunks) if len(self._chunks) == self.snapshot.chunks else None
