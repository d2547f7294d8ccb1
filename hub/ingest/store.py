"""The hub's reports on disk: every report once, under the key (device, seq), before it is acknowledged.

Rules: WAL, synchronous=FULL, one transaction a batch. `high_water` of a device is the number up to which
every report is here or was acknowledged before: a report tells how many are waiting at the meter, so what
lies below them is settled even when this database is new. What is older than KEEP_SLOTS, both by the newest
report and by the hub's clock, goes. The same (device, seq) with other bytes is a conflict, kept out and
counted. Which slots' sums were handed on is remembered, so that a restart hands on the others; so is each slot's survivor set,
because members answer one set only. Not here:
signatures, MQTT, sums.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SCHEMA_VERSION = 3
KEEP_SLOTS = 400 * 96
"""400 days."""
KEEP_GROUPINGS = 64
"""Of each microgrid."""
_SCHEMA_1 = """
CREATE TABLE reports (
    device TEXT NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, slot INTEGER NOT NULL, payload BLOB NOT NULL,
    received_ms INTEGER NOT NULL, PRIMARY KEY (device, seq)) WITHOUT ROWID;
CREATE INDEX reports_by_slot ON reports (slot);
CREATE TABLE devices (
    device TEXT PRIMARY KEY, first_seq INTEGER NOT NULL, high_water INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE rosters (
    microgrid INTEGER NOT NULL, from_slot INTEGER NOT NULL, payload BLOB NOT NULL,
    PRIMARY KEY (microgrid, from_slot)) WITHOUT ROWID;
CREATE TABLE groups (
    microgrid INTEGER NOT NULL, slot INTEGER NOT NULL, import_wh INTEGER NOT NULL, export_wh INTEGER NOT NULL,
    PRIMARY KEY (microgrid, slot)) WITHOUT ROWID;
"""
_SCHEMA_2 = """
CREATE TABLE sets (
    roster_id BLOB NOT NULL, slot INTEGER NOT NULL, notice BLOB NOT NULL, PRIMARY KEY (roster_id, slot)) WITHOUT ROWID;
"""
_SCHEMA_3 = """
CREATE TABLE groupings (
    microgrid INTEGER NOT NULL, from_slot INTEGER NOT NULL, place INTEGER NOT NULL, payload BLOB NOT NULL,
    PRIMARY KEY (microgrid, from_slot, place)) WITHOUT ROWID;
INSERT INTO groupings SELECT microgrid, from_slot, 0, payload FROM rosters;
DROP TABLE rosters;
"""
_SCHEMAS = (_SCHEMA_1, _SCHEMA_2, _SCHEMA_3)
"""What each version adds to the one before."""


@dataclass(frozen=True)
class IncomingReport:
    """A verified report on its way into the database; `waiting`: how many numbers there are from
    the meter's oldest unacknowledged report to this one."""

    device: str
    seq: int
    kind: str
    slot: int
    payload: bytes
    waiting: int


@dataclass(frozen=True)
class BatchResult:
    """What a batch brought: reports that are new, and how many were known or contradicted a stored one."""

    new: tuple[IncomingReport, ...]
    duplicates: int
    conflicts: tuple[IncomingReport, ...]
    high_water: dict[str, int]


class IngestStoreError(Exception):
    """The database cannot be opened; the text says which file and what to do."""


class IngestStore:
    """One open database; made when missing. Calls are serialised and may come from any thread.

    Raises IngestStoreError: what to do with a damaged database of acknowledged reports, the operator decides.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = _open(path)
        except (OSError, sqlite3.Error) as error:
            todo = "check folder, owner and free space; restore a damaged file from backup or move it away"
            raise IngestStoreError(f"reports database {path} cannot be opened ({error}); {todo}") from error

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # some failures have rolled it back already
                    self._db.execute("ROLLBACK")
                raise

    def add(self, batch: Sequence[IncomingReport], received_ms: int, current_slot: int) -> BatchResult:
        """Stores what is new and returns, for every device of the batch, what may be acknowledged."""
        new, conflicts, duplicates = [], [], 0
        with self._transaction() as db:
            for report in batch:
                sql = "SELECT payload FROM reports WHERE device = ? AND seq = ?"
                old = db.execute(sql, (report.device, report.seq)).fetchone()
                if old is None:
                    row = (report.device, report.seq, report.kind, report.slot, report.payload, received_ms)
                    db.execute("INSERT INTO reports VALUES (?, ?, ?, ?, ?, ?)", row)
                    _settle(db, report)
                    new.append(report)
                elif old[0] == report.payload:
                    duplicates += 1
                else:
                    conflicts.append(report)
            devices = sorted({report.device for report in batch})
            high_water = {device: _advance(db, device) for device in devices}
            if new:
                _forget(db, min(max(r.slot for r in new), current_slot) - KEEP_SLOTS)
        return BatchResult(tuple(new), duplicates, tuple(conflicts), high_water)

    def reports(self, kind: str, first_slot: int) -> tuple[tuple[str, int, bytes], ...]:
        """(device, slot, payload) of the stored reports of a kind from a slot on, oldest first."""
        sql = "SELECT device, slot, payload FROM reports WHERE kind = ? AND slot >= ? ORDER BY slot, device"
        with self._lock:
            return tuple(self._db.execute(sql, (kind, first_slot)))

    def stored(self) -> int:
        """Number of reports in the database."""
        with self._lock:
            return int(self._db.execute("SELECT count(*) FROM reports").fetchone()[0])

    def counts(self) -> dict[str, int]:
        """Reports held of each device."""
        with self._lock:
            return dict(self._db.execute("SELECT device, count(*) FROM reports GROUP BY device").fetchall())

    def lost(self) -> int:
        """Reports that the meters numbered but that are neither here nor were acknowledged before."""
        sql = (
            "SELECT coalesce(sum(last - first_seq + 1 - held), 0) FROM (SELECT d.first_seq, max(r.seq) AS last, "
            "count(*) AS held FROM devices d JOIN reports r ON r.device = d.device AND r.seq >= d.first_seq "
            "GROUP BY d.device)"
        )
        with self._lock:
            return int(self._db.execute(sql).fetchone()[0])

    # Groupings and groups

    def save_grouping(self, microgrid: int, from_slot: int, rosters: Sequence[bytes]) -> None:
        """Keeps the signed rosters of a grouping; those that would have begun then or later go."""
        rows = [(microgrid, from_slot, place, payload) for place, payload in enumerate(rosters)]
        with self._transaction() as db:
            db.execute("DELETE FROM groupings WHERE microgrid = ? AND from_slot >= ?", (microgrid, from_slot))
            db.executemany("INSERT INTO groupings VALUES (?, ?, ?, ?)", rows)
            db.execute(
                "DELETE FROM groupings WHERE microgrid = ? AND from_slot < (SELECT DISTINCT from_slot FROM groupings"
                " WHERE microgrid = ? ORDER BY from_slot DESC LIMIT 1 OFFSET ?)",
                (microgrid, microgrid, KEEP_GROUPINGS - 1),
            )

    def groupings(self) -> tuple[tuple[int, int, tuple[bytes, ...]], ...]:
        """(microgrid, from_slot, signed rosters) of each grouping, oldest first."""
        sql = "SELECT from_slot, microgrid, payload FROM groupings ORDER BY from_slot, microgrid, place"
        with self._lock:
            rows = self._db.execute(sql).fetchall()
        found: dict[tuple[int, int], list[bytes]] = {}
        for from_slot, microgrid, payload in rows:
            found.setdefault((microgrid, from_slot), []).append(payload)
        return tuple((*place, tuple(payloads)) for place, payloads in found.items())

    def save_sets(self, sets: Sequence[tuple[bytes, int, bytes]], first_slot: int) -> None:
        """Keeps survivor sets (roster id, slot, notice), each the first of its slot; forgets those before `first_slot`."""
        with self._transaction() as db:
            db.executemany("INSERT OR IGNORE INTO sets VALUES (?, ?, ?)", sets)
            db.execute("DELETE FROM sets WHERE slot < ?", (first_slot,))

    def sets(self, first_slot: int) -> tuple[bytes, ...]:
        """The notices of the survivor sets from a slot on."""
        with self._lock:
            rows = self._db.execute("SELECT notice FROM sets WHERE slot >= ? ORDER BY slot", (first_slot,)).fetchall()
        return tuple(row[0] for row in rows)

    def save_delivered(self, microgrid: int, slot: int, import_wh: int, export_wh: int) -> None:
        """Notes that the sums of a slot were handed on."""
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO groups VALUES (?, ?, ?, ?)", (microgrid, slot, import_wh, export_wh))

    def delivered(self, first_slot: int) -> frozenset[tuple[int, int]]:
        """(microgrid, slot) of the slots whose sums were handed on."""
        with self._lock:
            rows = self._db.execute("SELECT microgrid, slot FROM groups WHERE slot >= ?", (first_slot,)).fetchall()
        return frozenset(rows)


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"made by a newer version of this program, schema {version}")
        if version < SCHEMA_VERSION:
            added = "".join(_SCHEMAS[version:])
            db.executescript(f"BEGIN IMMEDIATE;{added}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
    except BaseException:
        db.close()
        raise
    return db


def _forget(db: sqlite3.Connection, first_slot: int) -> None:
    """Deletes the reports before a slot; a device's numbers are counted from what is left."""
    if db.execute("DELETE FROM reports WHERE slot < ?", (first_slot,)).rowcount:
        db.execute(
            "UPDATE devices SET first_seq = max(first_seq, coalesce("
            "(SELECT min(seq) FROM reports WHERE reports.device = devices.device), high_water + 1))"
        )


def _settle(db: sqlite3.Connection, report: IncomingReport) -> None:
    """A report proves that everything below the meter's waiting ones was acknowledged earlier.

    Numbers that leap by more than could have been reported in KEEP_SLOTS are those of a meter that began anew.
    """
    settled = report.seq - max(report.waiting, 1)
    db.execute("INSERT OR IGNORE INTO devices VALUES (?, ?, ?)", (report.device, settled + 1, settled))
    leap = "UPDATE devices SET first_seq = ? WHERE device = ? AND high_water < ?"
    db.execute(leap, (settled + 1, report.device, settled - KEEP_SLOTS))
    db.execute("UPDATE devices SET high_water = max(high_water, ?) WHERE device = ?", (settled, report.device))


def _advance(db: sqlite3.Connection, device: str) -> int:
    """Moves the device's high water over every report that follows without a gap."""
    row = db.execute("SELECT high_water FROM devices WHERE device = ?", (device,)).fetchone()
    if row is None:
        return 0
    high_water = int(row[0])
    for (seq,) in db.execute("SELECT seq FROM reports WHERE device = ? AND seq > ? ORDER BY seq", (device, high_water)):
        if seq != high_water + 1:
            break
        high_water = seq
    db.execute("UPDATE devices SET high_water = ? WHERE device = ?", (high_water, device))
    return high_water
