"""A SQLite file of the inference role: made 0600, opened with one schema version, used from any thread.

Rules: WAL, one transaction a change, BUSY_MS of patience because the command line may use the file beside the hub. A file
of another version or a damaged one is an error with a remedy, never overwritten.
Not here: any table.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from hub.inference import InferenceError

BUSY_MS = 5_000


class InferenceStoreError(InferenceError):
    """A database cannot be used; the text says which file and what to do."""


class Database:
    """One open file with the tables of `schema`; `synchronous` FULL where a lost row would be a lost fact."""

    def __init__(self, path: Path, schema: str, version: int, synchronous: str = "NORMAL") -> None:
        self.path = path
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            os.chmod(path, 0o600)  # its -wal and -shm take the same mode
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=BUSY_MS / 1000)
            self._open(schema, version, synchronous)
        except (OSError, sqlite3.Error) as error:
            todo = "check folder, owner and free space; restore a damaged file from backup or move it away"
            raise InferenceStoreError(f"database {path} cannot be opened ({error}); {todo}") from error

    def _open(self, schema: str, version: int, synchronous: str) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(f"PRAGMA synchronous = {synchronous}")
        with self.transaction() as db:
            found = int(db.execute("PRAGMA user_version").fetchone()[0])
            if found not in (0, version):
                raise InferenceStoreError(
                    f"database {self.path} has version {found}, not {version}; use the program that made it"
                )
            if found == 0:
                for statement in schema.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {version}")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; other threads wait. InferenceStoreError when the disk refuses."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException as error:
                with contextlib.suppress(sqlite3.Error):  # it may be closed
                    if self._db.in_transaction:  # some failures have rolled it back already
                        self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise InferenceStoreError(f"database {self.path}: {error}; check free space and owner") from error
                raise

    def rows(self, sql: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        """The answer to a read."""
        with self._lock:
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise InferenceStoreError(f"database {self.path}: {error}; check free space and owner") from error

    def close(self) -> None:
        with self._lock:
            self._db.close()
