"""The meter's memory: raw readings, the energy of slots, the outbox and its counters, in one SQLite file.

Rules: WAL with synchronous=FULL, so that what was committed survives a power cut; every change is one
transaction. A row leaves the outbox only when the hub said that its database holds it (`acknowledge`). `seq`
begins at the wall second in which the file was made, so that a store that had to be made anew never repeats a
number. Every table has a bound. A damaged file is set aside and a new one begun. A call that the disk refuses
changes nothing, raises StoreError and is said once until one succeeds. Calls are short and may come from any
thread.
Not here: schema tools and exports (`store_tool`), what is in an outbox row (`reporting`).
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent.slots import IMPORTED, Baseline, ClosedSlot
from openmg.units import SLOT_SECONDS

log = logging.getLogger(__name__)
SCHEMA_VERSION = 1
MAX_READINGS = 50_000
"""14 hours at one poll a second, 3 MB."""
MAX_SLOTS = 400 * 96
"""400 days."""
MAX_OUTBOX = 20_000
"""208 days of slots without a hub; beyond, the oldest report is dropped and counted as lost."""
_PARTIAL, _CARRIED = 1, 2
"""Bits of the column `baseline.partial`."""
COUNTERS = ("next_seq", "polled", "poll_errors", "stored", "acked", "lost")
_SCHEMA = """
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE readings (
    id INTEGER PRIMARY KEY, wall_ms INTEGER NOT NULL, sim_time INTEGER NOT NULL, power_w INTEGER NOT NULL,
    import_total_wh INTEGER NOT NULL, export_total_wh INTEGER NOT NULL);
CREATE TABLE slots (
    slot INTEGER PRIMARY KEY, import_wh INTEGER NOT NULL, export_wh INTEGER NOT NULL, flags INTEGER NOT NULL,
    seq INTEGER);
CREATE INDEX slots_unreported ON slots (slot) WHERE seq IS NULL;
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, payload BLOB NOT NULL, created_ms INTEGER NOT NULL);
CREATE TABLE baseline (
    id INTEGER PRIMARY KEY CHECK (id = 1), slot INTEGER NOT NULL, import_total_wh INTEGER NOT NULL,
    export_total_wh INTEGER NOT NULL, partial INTEGER NOT NULL);
"""


@dataclass(frozen=True)
class RawReading:
    """One poll: wall milliseconds, simulated second, net power and the meter's counters."""

    wall_ms: int
    sim_time: int
    power_w: int
    import_total_wh: int
    export_total_wh: int


@dataclass(frozen=True)
class SlotRow:
    """A slot as stored; `seq` is the report that carried it, None while unreported."""

    slot: int
    import_wh: int
    export_wh: int
    flags: int
    seq: int | None


@dataclass(frozen=True)
class OutboxRow:
    """A report on its way."""

    seq: int
    kind: str
    payload: bytes


@dataclass(frozen=True)
class ImportResult:
    """Slots of a file that were new, known with the same energy, and known with another (the stored one stays)."""

    new: int
    known: int
    different: int


@dataclass(frozen=True)
class Totals:
    """Counted since the store was made: polls, reports put into the outbox, acknowledged, given up."""

    polled: int
    poll_errors: int
    stored: int
    acked: int
    lost: int
    outbox_rows: int
    slots: int


class StoreError(Exception):
    """The store cannot be used; the text says which file and what to do."""


class Store:
    """One open store file; made when missing."""

    def __init__(self, path: Path, first_seq: int | None = None) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._failing = False
        self.operations = 0
        """Reads and transactions that ended, well or not."""
        self._first_seq = int(time.time()) if first_seq is None else first_seq
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = self._open_checked()
        except (OSError, sqlite3.OperationalError) as error:
            raise StoreError(f"store {path} cannot be opened ({error}); check folder, owner and free space") from error

    def _open_checked(self) -> sqlite3.Connection:
        try:
            return self._open()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            aside = self.path.with_name(f"{self.path.name}.damaged-{int(time.time())}")
            log.error("store %s is damaged (%s); set aside as %s, a new one begins", self.path, error, aside.name)
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            self.path.rename(aside)
            return self._open()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=10.0)
        try:
            result = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if result != "ok":
                raise sqlite3.DatabaseError(str(result))
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            self._migrate(db)
        except BaseException:
            db.close()
            raise
        return db

    def _migrate(self, db: sqlite3.Connection) -> None:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StoreError(f"store {self.path} was made by a newer version ({version}); update this program")
        if version < 1:
            starts = "".join(
                f"INSERT INTO counters VALUES ('{name}', {self._first_seq if name == 'next_seq' else 0});" for name in COUNTERS
            )
            db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}{starts}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")

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

    # Readings and slots

    def add_readings(self, readings: Sequence[RawReading], polled: int, poll_errors: int) -> None:
        """Commits a batch of polls and adds to the counters; the oldest readings beyond the bound go."""
        with self._transaction() as db:
            rows = [(r.wall_ms, r.sim_time, r.power_w, r.import_total_wh, r.export_total_wh) for r in readings]
            db.executemany("INSERT INTO readings VALUES (NULL, ?, ?, ?, ?, ?)", rows)
            _add(db, "polled", polled)
            _add(db, "poll_errors", poll_errors)
            db.execute("DELETE FROM readings WHERE id <= (SELECT max(id) FROM readings) - ?", (MAX_READINGS,))

    def baseline(self) -> Baseline | None:
        """Where the next slot is measured from; None before the first reading."""
        rows = self._rows("SELECT slot, import_total_wh, export_total_wh, partial FROM baseline")
        if not rows:
            return None
        slot, imported, exported, how = rows[0]
        return Baseline(slot, imported, exported, bool(how & _PARTIAL), bool(how & _CARRIED))

    def present_slot(self) -> int:
        """The slot that the meter is in, as far as the store knows: the baseline's, else the last imported one."""
        rows = self._rows("SELECT coalesce((SELECT slot FROM baseline), (SELECT max(slot) FROM slots), 0)")
        return int(rows[0][0])

    def move_baseline(self, baseline: Baseline, closed: ClosedSlot | None) -> bool:
        """Stores the slot that a reading closed together with the counters to go on from.

        False, and nothing changed, when that slot was metered before: only the past from a file is replaced.
        """
        with self._transaction() as db:
            if closed is not None:
                old = db.execute("SELECT flags FROM slots WHERE slot = ?", (closed.slot,)).fetchone()
                if old is not None and not old[0] & IMPORTED:
                    return False
                row = (closed.slot, closed.import_wh, closed.export_wh, closed.flags)
                db.execute("INSERT OR REPLACE INTO slots VALUES (?, ?, ?, ?, NULL)", row)
                # By number of rows, not by slot: a clock that jumps for a moment must not wipe the past.
                db.execute(
                    "DELETE FROM slots WHERE slot < (SELECT slot FROM slots ORDER BY slot DESC LIMIT 1 OFFSET ?)",
                    (MAX_SLOTS - 1,),
                )
            _set_baseline(db, baseline)
        return True

    def import_slots(self, slots: Sequence[ClosedSlot], baseline: Baseline | None) -> ImportResult:
        """Adds slots of the past, once; a baseline is taken only when the meter was never read."""
        new = known = 0
        with self._transaction() as db:
            for item in slots:
                old = db.execute("SELECT import_wh, export_wh FROM slots WHERE slot = ?", (item.slot,)).fetchone()
                if old is None:
                    row = (item.slot, item.import_wh, item.export_wh, item.flags | IMPORTED)
                    db.execute("INSERT INTO slots VALUES (?, ?, ?, ?, NULL)", row)
                    new += 1
                else:
                    known += old == (item.import_wh, item.export_wh)
            if baseline is not None and not db.execute("SELECT 1 FROM baseline").fetchone():
                _set_baseline(db, baseline)
        return ImportResult(new, known, len(slots) - new - known)

    def slots(self, first: int = 0, last: int = 2**62, limit: int = MAX_SLOTS) -> tuple[SlotRow, ...]:
        """Stored slots `first` to `last`, in order."""
        sql = "SELECT slot, import_wh, export_wh, flags, seq FROM slots WHERE slot BETWEEN ? AND ? ORDER BY slot LIMIT ?"
        return tuple(SlotRow(*row) for row in self._rows(sql, first, last, limit))

    def energy_wh(self, resolution_minutes: int, of: Callable[[SlotRow], int]) -> tuple[int, list[int | None]]:
        """First step (steps since 1970, UTC) and the energy in Wh of every step from there on; `of`: that of one slot.

        None where the step is not complete, or holds energy of others. Slots that a wrong clock placed in the future or
        far in the past are left out: the list spans MAX_SLOTS at most. ValueError for a step that is not a whole number
        of slots.
        """
        slots_per_step, rest = divmod(resolution_minutes * 60, SLOT_SECONDS)
        if rest or not slots_per_step:
            raise ValueError(f"store: energy is kept in slots of {SLOT_SECONDS // 60} minutes, not of {resolution_minutes}")
        energy: dict[int, list[int]] = {}
        now = self.present_slot()
        for row in self.slots(now - MAX_SLOTS, now):
            spoilt = row.flags & ~IMPORTED
            energy.setdefault(row.slot // slots_per_step, []).extend(() if spoilt else (of(row),))
        if not energy:
            return 0, []
        steps = range(min(energy), max(energy) + 1)
        parts = [energy.get(step, []) for step in steps]
        return steps.start, [sum(part) if len(part) == slots_per_step else None for part in parts]

    # Outbox

    def unreported(self, first: int, limit: int) -> tuple[SlotRow, ...]:
        """Live slots from `first` on that no report carries yet, oldest first."""
        sql = (
            "SELECT slot, import_wh, export_wh, flags, seq FROM slots "
            "WHERE seq IS NULL AND slot >= ? AND flags & ? = 0 ORDER BY slot LIMIT ?"
        )
        return tuple(SlotRow(*row) for row in self._rows(sql, first, IMPORTED, limit))

    def report(self, slot: int, kind: str, build: Callable[[int, int], bytes]) -> int:
        """Puts the report of a slot into the outbox, once, and returns its seq.

        build(seq, rows): the bytes; `rows` counts the unacknowledged reports including this one.
        Raises ValueError when the slot is not stored or already reported.
        """
        with self._transaction() as db:
            row = db.execute("SELECT seq FROM slots WHERE slot = ?", (slot,)).fetchone()
            if row is None or row[0] is not None:
                raise ValueError(f"slot {slot} is not there or was reported before")
            seq = _counter(db, "next_seq")
            waiting = db.execute("SELECT count(*) FROM outbox").fetchone()[0]
            if waiting >= MAX_OUTBOX:
                db.execute("DELETE FROM outbox WHERE seq = (SELECT min(seq) FROM outbox)")
                _add(db, "lost", 1)
                waiting -= 1
            created_ms = time.time_ns() // 1_000_000
            db.execute("INSERT INTO outbox VALUES (?, ?, ?, ?)", (seq, kind, build(seq, waiting + 1), created_ms))
            db.execute("UPDATE slots SET seq = ? WHERE slot = ?", (seq, slot))
            _add(db, "next_seq", 1)
            _add(db, "stored", 1)
        return seq

    def pending(self, after_seq: int, limit: int) -> tuple[OutboxRow, ...]:
        """Unacknowledged reports with a higher seq, in order."""
        sql = "SELECT seq, kind, payload FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?"
        with self._guarded() as db:
            return tuple(OutboxRow(*row) for row in db.execute(sql, (after_seq, limit)))

    def newest(self) -> OutboxRow | None:
        """The unacknowledged report that was made last."""
        with self._guarded() as db:
            row = db.execute("SELECT seq, kind, payload FROM outbox ORDER BY seq DESC LIMIT 1").fetchone()
        return None if row is None else OutboxRow(*row)

    def acknowledge(self, high_water: int) -> int:
        """Removes every report up to `high_water` and returns how many there were."""
        if not self._rows("SELECT 1 FROM outbox WHERE seq <= ? LIMIT 1", high_water):
            return 0
        with self._transaction() as db:
            removed = db.execute("DELETE FROM outbox WHERE seq <= ?", (high_water,)).rowcount
            _add(db, "acked", removed)
        return removed

    def totals(self) -> Totals:
        """The counters and how much is stored."""
        with self._guarded() as db:
            c = dict(db.execute("SELECT name, value FROM counters").fetchall())
            outbox, slots = (int(db.execute(f"SELECT count(*) FROM {t}").fetchone()[0]) for t in ("outbox", "slots"))
        return Totals(c["polled"], c["poll_errors"], c["stored"], c["acked"], c["lost"], outbox, slots)


def _counter(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()[0])


def _add(db: sqlite3.Connection, name: str, amount: int) -> None:
    if amount:
        db.execute("UPDATE counters SET value = value + ? WHERE name = ?", (amount, name))


def _set_baseline(db: sqlite3.Connection, baseline: Baseline) -> None:
    how = _PARTIAL * baseline.partial | _CARRIED * baseline.carried
    row = (baseline.slot, baseline.import_total_wh, baseline.export_total_wh, how)
    db.execute("INSERT OR REPLACE INTO baseline VALUES (1, ?, ?, ?, ?)", row)
