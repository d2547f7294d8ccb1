"""The application's disk: one SQLite file with the state's sections, the events of recent blocks and the slots' leaves.

Rules: a commit is one SQLite transaction over everything that changed; synchronous=NORMAL in WAL mode may lose the
last commits in a power cut but never half of one, and the engine then replays those blocks. Reads may come from any
thread, one lock orders them. Leaves are kept as long as the state records their slot; they are no section, since a full
group's two days would be hashed again with every slot, and the root in the state commits to them.
Not here: votes and blocks (the engine's store), the meaning of the bytes (`state`).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hub.ppdl.app.state import RECORDED_SLOTS
from openmg import codec
from openmg.messages.base import encode
from openmg.messages.market import SlotLeavesNotice

SCHEMA_VERSION = 6
BLOCKS_KEPT = 20_000
"""Blocks whose events can still be proven; eleven hours of blocks at one every two seconds, a day of slots in a demo.
"""
_SCHEMA = """
CREATE TABLE section (name TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE chain (id INTEGER PRIMARY KEY CHECK (id = 0), genesis BLOB NOT NULL,
                    height INTEGER NOT NULL, app_hash BLOB NOT NULL);
CREATE TABLE block (height INTEGER PRIMARY KEY, app_hash BLOB NOT NULL, state_hash BLOB NOT NULL,
                    model_hash BLOB NOT NULL, events BLOB NOT NULL);
CREATE TABLE leaves (microgrid INTEGER NOT NULL, slot INTEGER NOT NULL, notice BLOB NOT NULL,
                     PRIMARY KEY (microgrid, slot)) WITHOUT ROWID;
"""


class StorageError(RuntimeError):
    """The application's database cannot be used; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class BlockRow:
    """What proves the events of a block: `app_hash` stands in header height + 1."""

    height: int
    app_hash: bytes
    state_hash: bytes
    model_hash: bytes
    events: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The last commit: the chain's genesis bytes, height, app hash, and every section's bytes."""

    genesis: bytes
    height: int
    app_hash: bytes
    sections: Mapping[str, bytes]


class Storage:
    """One database file. Raises StorageError when it cannot be opened or has another layout."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._prepare()
        except sqlite3.Error as error:
            raise StorageError(f"application database {path} cannot be opened ({error}); check the folder") from error

    def _prepare(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
        elif version != SCHEMA_VERSION:
            raise StorageError(
                f"application database {self.path} has layout {version} instead of {SCHEMA_VERSION}; move it away,"
                " the engine replays the chain"
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def load(self) -> Snapshot | None:
        """The last commit; None before the first."""
        with self._lock:
            row = self._db.execute("SELECT genesis, height, app_hash FROM chain").fetchone()
            sections = dict(self._db.execute("SELECT name, data FROM section"))
        return None if row is None else Snapshot(row[0], row[1], row[2], sections)

    def save(self, genesis: bytes, sections: Mapping[str, bytes], block: BlockRow, leaves: Sequence[SlotLeavesNotice]) -> None:
        """Makes a commit durable: the changed sections, the height, the block's events and leaves, all or nothing."""
        with self._transaction() as db:
            self._write(db, genesis, sections, block, leaves)

    def restore(
        self, genesis: bytes, sections: Mapping[str, bytes], block: BlockRow, leaves: Sequence[SlotLeavesNotice]
    ) -> None:
        """Puts a snapshot's state in the place of everything here; on disk when it returns."""
        with self._transaction() as db:
            self._delete_all(db)
            self._write(db, genesis, sections, block, leaves)
        self._sync()

    def wipe(self) -> None:
        """Forgets everything, on disk when it returns."""
        with self._transaction() as db:
            self._delete_all(db)
        self._sync()

    @staticmethod
    def _delete_all(db: sqlite3.Connection) -> None:
        for table in ("section", "chain", "block", "leaves"):
            db.execute(f"DELETE FROM {table}")

    def _sync(self) -> None:
        with self._lock:
            self._db.execute("PRAGMA wal_checkpoint(FULL)")

    @staticmethod
    def _write(
        db: sqlite3.Connection,
        genesis: bytes,
        sections: Mapping[str, bytes],
        block: BlockRow,
        leaves: Sequence[SlotLeavesNotice],
    ) -> None:
        db.executemany(
            "INSERT INTO section VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET data = excluded.data",
            sections.items(),
        )
        db.execute(
            "INSERT INTO chain VALUES (0, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET height = excluded.height, app_hash = excluded.app_hash",
            (genesis, block.height, block.app_hash),
        )
        db.execute(
            "INSERT OR REPLACE INTO block VALUES (?, ?, ?, ?, ?)",
            (block.height, block.app_hash, block.state_hash, block.model_hash, codec.encode(list(block.events))),
        )
        db.execute("DELETE FROM block WHERE height <= ?", (block.height - BLOCKS_KEPT,))
        for notice in leaves:
            row = (notice.microgrid, notice.slot, encode(notice))
            db.execute("INSERT OR REPLACE INTO leaves VALUES (?, ?, ?)", row)
            db.execute(
                "DELETE FROM leaves WHERE microgrid = ?1 AND slot <= (SELECT max(slot) FROM leaves WHERE microgrid = ?1) - ?2",
                (notice.microgrid, RECORDED_SLOTS),
            )

    def block(self, height: int) -> BlockRow | None:
        """The block's row; None when it is not committed yet or no longer kept."""
        with self._lock:
            row = self._db.execute(
                "SELECT height, app_hash, state_hash, model_hash, events FROM block WHERE height = ?", (height,)
            ).fetchone()
        return None if row is None else BlockRow(row[0], row[1], row[2], row[3], tuple(codec.decode(row[4])))

    def leaves(self, microgrid: int, slot: int) -> bytes | None:
        """The encoded SlotLeavesNotice of a recorded slot; None when it is not recorded or no longer kept."""
        with self._lock:
            row = self._db.execute("SELECT notice FROM leaves WHERE microgrid = ? AND slot = ?", (microgrid, slot)).fetchone()
        return None if row is None else bytes(row[0])

    def all_leaves(self) -> list[bytes]:
        """The encoded notices of all recorded slots, by microgrid and slot."""
        with self._lock:
            return [bytes(row[0]) for row in self._db.execute("SELECT notice FROM leaves ORDER BY microgrid, slot")]

    def close(self) -> None:
        with self._lock:
            self._db.close()
