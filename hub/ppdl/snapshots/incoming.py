"""A snapshot on its way in: its proved manifest and the chunks that came, in a file, so that a sync goes on after a crash.

synchronous=NORMAL: a power cut may lose the last chunks, never half of one; they are fetched again. A file that SQLite
cannot use is thrown away, it holds nothing that peers do not have.

Not here: who sends the chunks (`sync.py`), what follows when all are here (`install.py`).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from hub.ppdl.snapshots.manifest import Manifest, ManifestError, decode_manifest

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS manifest (id INTEGER PRIMARY KEY CHECK (id = 0), data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS chunk (number INTEGER PRIMARY KEY, data BLOB NOT NULL);
"""


def incoming_path(store: Path) -> Path:
    """Where the incoming snapshot of a validator with this store lies."""
    return store.with_name(store.name + ".incoming")


class Incoming:
    """The file. All calls from one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            log.warning("incoming snapshot %s is damaged (%s); it is fetched again", path, error)
            for leftover in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
                leftover.unlink(missing_ok=True)
            self._open()

    def _open(self) -> None:
        self._db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
            self._manifest = self._read_manifest()
        except sqlite3.DatabaseError:
            self._db.close()
            raise

    def _read_manifest(self) -> Manifest | None:
        row = self._db.execute("SELECT data FROM manifest").fetchone()
        try:
            return None if row is None else decode_manifest(bytes(row[0]))
        except ManifestError as error:
            raise sqlite3.DatabaseError(str(error)) from error

    @property
    def manifest(self) -> Manifest | None:
        """The snapshot on its way; None when there is none."""
        return self._manifest

    def begin(self, manifest: Manifest) -> None:
        """Take another snapshot; the chunks of the one before are forgotten."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM chunk")
            self._db.execute("INSERT OR REPLACE INTO manifest VALUES (0, ?)", (manifest.encoded,))
        self._manifest = manifest

    def keep(self, index: int, data: bytes) -> None:
        """Keep a chunk that was checked."""
        self._db.execute("INSERT OR REPLACE INTO chunk VALUES (?, ?)", (index, data))

    def have(self) -> set[int]:
        """Numbers of the chunks that are here."""
        return {row[0] for row in self._db.execute("SELECT number FROM chunk")}

    def complete(self) -> bool:
        """Whether a snapshot is here whole."""
        return self._manifest is not None and len(self.have()) == self._manifest.snapshot.chunks

    def chunks(self) -> Iterator[tuple[int, bytes]]:
        """The chunks in order, one at a time in memory."""
        for number in sorted(self.have()):
            (data,) = self._db.execute("SELECT data FROM chunk WHERE number=?", (number,)).fetchone()
            yield number, bytes(data)

    def clear(self) -> None:
        """The snapshot is in force, or of no use."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM chunk")
            self._db.execute("DELETE FROM manifest")
        self._manifest = None

    def close(self) -> None:
        """Close the file."""
        self._db.close()
