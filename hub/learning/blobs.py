"""The store of one model's blobs: an SQLite file in the hub's state folder, keyed by commitment, which opens to one blob.

Rules: only blobs that open their commitment are put in, and what is read is checked again: a row that no longer opens its
commitment is dropped and fetched anew. Bytes are bounded; rounds before the last KEPT_ROUNDS are pruned. Nothing here is
precious: a damaged file is set aside and an empty one begun, because other hubs hold the blobs too.
Not here: who sends a blob (`exchange`), whether its form is good (`openmg.learning.blobs.open_blob`).
"""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from openmg.learning.blobs import MAX_BLOB_BYTES, blob_hash, commitment_of

log = logging.getLogger(__name__)

MAX_STORE_BYTES = 512 * 1024 * 1024
"""Two rounds of 4096 devices with updates of the largest size; a round of 60 homes has 1.3 MB."""
KEPT_ROUNDS = 2
"""The open round and the one before it, for a hub that is a block behind."""
LAYOUT = 1
_SCHEMA = """
CREATE TABLE blob (commitment BLOB PRIMARY KEY, round INTEGER NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;
"""


class BlobStoreError(ValueError):
    """The file cannot be used and a new one would fare no better; one sentence says why."""


@dataclass(frozen=True, slots=True)
class Promise:
    """A commit on the chain, with everything that its commitment binds."""

    device: bytes
    round: int
    base_hash: bytes
    commitment: bytes

    def opened_by(self, hash_of_blob: bytes) -> bool:
        """Whether the blob with this hash is the promised one."""
        return commitment_of(self.device, self.round, self.base_hash, hash_of_blob) == self.commitment


class BlobStore:
    """Blobs of the latest rounds; used in one thread. Raises BlobStoreError when the folder cannot be used."""

    def __init__(self, path: Path, max_bytes: int = MAX_STORE_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes
        try:
            self._db = _open(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise BlobStoreError(
                    f"blob store {path} cannot be opened ({error}); check the folder and its free space"
                ) from error
            aside = path.with_name(path.name + ".damaged")
            log.warning("blob store %s is damaged (%s); it is set aside as %s and begun anew", path, error, aside.name)
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            path.replace(aside)
            self._db = _open(path)
        self._sizes = {
            bytes(key): (int(number), int(size))
            for key, number, size in self._db.execute("SELECT commitment, round, length(data) FROM blob")
        }
        self.bytes_held = sum(size for _, size in self._sizes.values())
        """Sum of the lengths of all blobs."""

    def holds(self, promise: Promise) -> bool:
        """Whether the blob is here (its bytes are checked when they are read)."""
        return promise.commitment in self._sizes

    def put(self, promise: Promise, blob: bytes) -> bool:
        """Keep the blob; False when it does not open the commitment or there is no room for it."""
        if promise.commitment in self._sizes:
            return True
        if not 1 <= len(blob) <= MAX_BLOB_BYTES or not promise.opened_by(blob_hash(blob)):
            return False
        if self.bytes_held + len(blob) > self._max_bytes:
            log.warning("blob store %s is full; a blob of round %d is not kept", self.path, promise.round)
            return False
        self._db.execute("INSERT INTO blob VALUES (?, ?, ?)", (promise.commitment, promise.round, blob))
        self._sizes[promise.commitment] = (promise.round, len(blob))
        self.bytes_held += len(blob)
        return True

    def get(self, promise: Promise) -> bytes | None:
        """The promised blob; None when it is not here."""
        if promise.commitment not in self._sizes:
            return None
        row = self._db.execute("SELECT data FROM blob WHERE commitment = ?", (promise.commitment,)).fetchone()
        if row is not None and promise.opened_by(blob_hash(row[0])):
            return bytes(row[0])
        log.warning("blob store %s: a blob of round %d is damaged; it is fetched again", self.path, promise.round)
        self._db.execute("DELETE FROM blob WHERE commitment = ?", (promise.commitment,))
        self.bytes_held -= self._sizes.pop(promise.commitment)[1]
        return None

    def prune(self, open_round: int) -> None:
        """Forget the blobs of rounds that nobody asks for any more."""
        oldest = open_round - KEPT_ROUNDS + 1
        if any(number < oldest for number, _ in self._sizes.values()):
            self._db.execute("DELETE FROM blob WHERE round < ?", (oldest,))
            self._sizes = {key: value for key, value in self._sizes.items() if value[0] >= oldest}
            self.bytes_held = sum(size for _, size in self._sizes.values())

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={LAYOUT}; COMMIT;")
        elif version != LAYOUT:
            raise sqlite3.DatabaseError(f"it has layout {version} instead of {LAYOUT}")
        if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("it does not pass the check of its pages")
    except BaseException:
        db.close()
        raise
    return db
