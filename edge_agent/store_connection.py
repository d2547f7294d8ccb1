"""The store's one connection, which several threads share: transactions, and failures that are said once.

Rules: every change is one transaction, whole or not at all. What the disk refuses is a StoreError, said once until one
succeeds. Calls wait for each other. Not here: what is read and written (`store`), the file (`store_file`).
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from edge_agent.store_file import StoreError, open_store

log = logging.getLogger(__name__)


class StoreConnection:
    """One open store file; made when missing. Raises StoreError when it cannot be opened."""

    def __init__(self, path: Path, first_seq: int | None = None) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._failing = False
        self.operations = 0
        """Reads and transactions that ended, well or not."""
        try:
            self._db = self._open(first_seq)
        except (OSError, sqlite3.OperationalError) as error:
            raise StoreError(f"store {path} cannot be opened ({error}); check folder, owner and free space") from error

    def _open(self, first_seq: int | None) -> sqlite3.Connection:
        """Whoever only reads opens it in another way (`edge_agent.page.history`)."""
        return open_store(self.path, first_seq)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._guarded() as db:
            try:
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # some failures have rolled it back already
                    db.execute("ROLLBACK")
                raise
            if self._failing:
                self._failing = False
                log.info("store %s takes rows again", self.path)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                text = f"store {self.path} failed ({error}); check free space and the disk"
                if not self._failing:
                    self._failing = True
                    log.error("%s (trying again)", text)
                raise StoreError(text) from error
            finally:
                self.operations += 1

    def _rows(self, sql: str, *values: int) -> list[tuple[int, ...]]:
        with self._guarded() as db:
            return db.execute(sql, values).fetchall()

    def touch(self) -> None:
        """Waits for whoever commits, becomes the writer for a moment, and writes nothing."""
        with self._guarded() as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("ROLLBACK")
