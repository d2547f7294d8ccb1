"""What a home must not forget of the slots it reported: one roster and one self mask, and one survivor set, for each slot.

Rules: one SQLite file, WAL and synchronous=FULL: a row is durable when its call returns, and only then does a report go into
the outbox or an answer leave. A row is written once and its set once; nothing overwrites either. A slot without a row is
answered to nobody, so a file that is lost or set aside as damaged costs openings and never secrecy. One that was copied
back from a backup would not know the sets answered since: it is known by its inode, and begins empty. Rosters are kept as they
were signed while a row names them, for answers after a restart. The newest MAX_PROMISES slots are kept.
Not here: what may be promised (`openmg.masking.member`).
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_agent.store import StoreError
from openmg.masking.member import Promise

log = logging.getLogger(__name__)
SCHEMA_VERSION = 1
MAX_PROMISES = 20_000
"""As many as an outbox holds reports (208 days), 3 MB."""
_SCHEMA = """
CREATE TABLE rosters (roster_id BLOB PRIMARY KEY, payload BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE promises (
    slot INTEGER PRIMARY KEY, roster_id BLOB NOT NULL, self_commitment BLOB NOT NULL, survivors BLOB NOT NULL);
CREATE TABLE place (id INTEGER PRIMARY KEY CHECK (id = 1), inode INTEGER NOT NULL);
CREATE TABLE refusals (kind TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
"""


class Promises:
    """One open file; made when missing. Calls are short, from any thread, and raise StoreError when the disk refuses."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = self._open_checked()
        except (OSError, sqlite3.OperationalError) as error:
            raise StoreError(f"{path} cannot be opened ({error}); check folder, owner and free space") from error

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def of(self, slot: int) -> Promise | None:
        """What was promised of a slot; None when it was not reported, or is no longer remembered."""
        sql = "SELECT slot, roster_id, self_commitment, survivors FROM promises WHERE slot = ?"
        row = self._run(sql, slot)
        return Promise(*row[0]) if row else None

    def roster(self, roster_id: bytes) -> bytes | None:
        """The signed roster that a promise names."""
        rows = self._run("SELECT payload FROM rosters WHERE roster_id = ?", roster_id)
        return rows[0][0] if rows else None

    def report(self, promise: Promise, roster: bytes) -> Promise:
        """Promises the roster (as it was signed) and the self mask of a slot; returns the first promise when there is one."""
        with self._lock, self._guarded():
            self._db.execute("BEGIN IMMEDIATE")
            row = promise.slot, promise.roster_id, promise.self_commitment, b""
            self._db.execute("INSERT OR IGNORE INTO promises VALUES (?, ?, ?, ?)", row)
            if self._db.execute("INSERT OR IGNORE INTO rosters VALUES (?, ?)", (promise.roster_id, roster)).rowcount:
                self._db.execute("DELETE FROM rosters WHERE roster_id NOT IN (SELECT roster_id FROM promises)")
            oldest = "SELECT slot FROM promises ORDER BY slot DESC LIMIT 1 OFFSET ?"
            self._db.execute(f"DELETE FROM promises WHERE slot < ({oldest})", (MAX_PROMISES - 1,))
            self._db.execute("COMMIT")
        return self.of(promise.slot) or promise

    def answer(self, promise: Promise) -> bool:
        """Promises the survivor set of a slot; False, and nothing changed, when another one was promised before."""
        sql = "UPDATE promises SET survivors = ? WHERE slot = ? AND roster_id = ? AND survivors IN (X'', ?)"
        with self._lock, self._guarded():
            changed = self._db.execute(sql, (promise.survivors, promise.slot, promise.roster_id, promise.survivors)).rowcount
        return changed == 1

    def refuse(self, kind: str) -> None:
        """Counts a refused question of the hub."""
        self._run("INSERT INTO refusals VALUES (?, 1) ON CONFLICT (kind) DO UPDATE SET count = count + 1", kind)

    def refusals(self) -> dict[str, int]:
        """Refused questions by kind, since the file was made."""
        return dict(self._run("SELECT kind, count FROM refusals ORDER BY kind"))

    def _run(self, sql: str, *values: object) -> list[Any]:
        with self._lock, self._guarded():
            return self._db.execute(sql, values).fetchall()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):  # some failures have rolled it back already
                self._db.execute("ROLLBACK")
            raise StoreError(f"{self.path} cannot be used ({error}); check its disk") from error

    def _open_checked(self) -> sqlite3.Connection:
        try:
            return _open(self.path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            aside = self.path.with_name(f"{self.path.name}.damaged-{int(time.time())}")
            log.error("%s is damaged (%s); set aside as %s: slots reported before are not opened", self.path, error, aside.name)
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            self.path.rename(aside)
            return _open(self.path)


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
    try:
        if (result := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(str(result))
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        if db.execute("PRAGMA user_version").fetchone()[0] < SCHEMA_VERSION:
            db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
        _forget_if_copied(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _forget_if_copied(db: sqlite3.Connection, path: Path) -> None:
    """Empties a file that stands in another place of the disk than the one it was written to."""
    inode = path.stat().st_ino
    known = db.execute("SELECT inode FROM place").fetchone()
    if known is not None and known[0] != inode:
        log.warning("%s was copied, so it may be of the past; slots reported before are not opened", path)
    if known is None or known[0] != inode:
        emptied = f"DELETE FROM promises; DELETE FROM rosters; INSERT OR REPLACE INTO place VALUES (1, {inode});"
        db.executescript(f"BEGIN IMMEDIATE; {emptied} COMMIT;")
