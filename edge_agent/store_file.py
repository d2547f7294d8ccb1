"""The store's file: opened and checked, its tables made or brought up to date, its numbers begun, a damaged one rebuilt.

Rules: WAL with synchronous=FULL. Pages that are free can be given back (auto_vacuum incremental). The numbers of reports never
repeat in a state folder: the file `store.start` beside it, synced before a store is made, holds where the last one began,
and a later one begins at the wall second or LEAP above that, whichever is higher, so also when the clock was set back. A file
that is damaged is set aside whole, and what can be read of it is taken over as from a backup (`take_over`).
Not here: rows and their rules (`store`), what is kept for how long (`retention`), backups (`edge_agent.backup`).
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from pathlib import Path

from edge_agent.slots import IMPORTED
from openmg.durable import replace_durably

log = logging.getLogger(__name__)
SCHEMA_VERSION = 2
LEAP = 2**20
"""Numbers left out when a store begins anew: more than a meter uses in 29 years of slots. A hub that sees more than 400 days of
slots left out knows that they were never used (`hub.ingest.store`)."""
START_NAME = "store.start"
WAL_LIMIT_BYTES = 4 * 1024 * 1024
DAMAGED = ".damaged-"
MAX_DAMAGED = 3
"""Files set aside that are kept."""
COUNTERS_1 = ("next_seq", "polled", "poll_errors", "stored", "acked", "lost")
COUNTERS_2 = ("start", "refused", "minutes_to", "quarters_to", "thinned", "dropped_readings", "dropped_slots", "replaced")
"""start: the first number of this store. minutes_to, quarters_to: the last reading that is thinned so far. replaced: 1 when
another meter is expected."""
COUNTERS = COUNTERS_1 + COUNTERS_2
_SCHEMA_1 = """
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
_SCHEMA_2 = """
CREATE TABLE refused (
    seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, payload BLOB NOT NULL, created_ms INTEGER NOT NULL,
    reason TEXT NOT NULL, refused_ms INTEGER NOT NULL);
"""
_TAKEN_OVER = {"slots": 5, "outbox": 4, "refused": 6}
"""Tables of another store's file that are taken over, with their columns."""


class StoreError(Exception):
    """The store cannot be used; the text says which file and what to do."""


def open_store(path: Path, first_seq: int | None = None) -> sqlite3.Connection:
    """The store in the file, made when missing, rebuilt when damaged.

    first_seq: of a store that is made here; by default the rule of the module. Raises StoreError, OSError, OperationalError.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        return _open(path, first_seq)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        aside = _set_aside(path)
        log.error("store %s is damaged (%s); set aside as %s, a new one begins", path, error, aside.name)
        db = _open(path, first_seq)
        _salvage(db, aside)
        return db


def begin_numbers(folder: Path, above: int = 0) -> int:
    """Where a store that is made now begins to number its reports, noted durably; at least `above`. OSError, StoreError."""
    note = folder / START_NAME
    before = _noted_start(note)
    start = max(int(time.time()), above, 0 if before is None else before + LEAP)
    replace_durably(note, f"{start}\n".encode("ascii"))
    return start


def take_over(db: sqlite3.Connection) -> int:
    """Makes the rows of another store's past those of this one; returns the slots that will not be reported for it.

    What was put into the outbox keeps number and bytes, so a hub that has it from the lost store takes it for the same. A slot
    without report may have been reported since, so it becomes history; so may the energy since, so the baseline begins anew.
    """
    sql = "UPDATE slots SET flags = flags | ? WHERE seq IS NULL AND flags & ? = 0"
    withheld = db.execute(sql, (IMPORTED, IMPORTED)).rowcount
    db.execute("DELETE FROM baseline")
    return withheld


def damaged_files(path: Path) -> list[Path]:
    """The stores that were set aside, newest first, without what belongs to each (`-wal`)."""
    found = [file for file in path.parent.glob(f"{path.name}{DAMAGED}*") if file.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=lambda file: int(file.name.rpartition("-")[2]), reverse=True)


def remove_damaged(file: Path) -> None:
    """Removes a store that was set aside, and what belongs to it."""
    for suffix in ("", "-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)


def add_counter(db: sqlite3.Connection, name: str, amount: int) -> None:
    if amount:
        db.execute("UPDATE counters SET value = value + ? WHERE name = ?", (amount, name))


def counter(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()[0])


def set_counter(db: sqlite3.Connection, name: str, value: int) -> None:
    db.execute("UPDATE counters SET value = ? WHERE name = ?", (value, name))


def _open(path: Path, first_seq: int | None) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
    try:
        result = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if result != "ok":
            raise sqlite3.DatabaseError(str(result))
        db.execute("PRAGMA auto_vacuum=INCREMENTAL")  # of a file that has no table yet
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute(f"PRAGMA journal_size_limit={WAL_LIMIT_BYTES}")
        _migrate(db, path, first_seq)
    except BaseException:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection, path: Path, first_seq: int | None) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StoreError(f"store {path} was made by a newer version ({version}); update this program")
    if version < 1:
        start = begin_numbers(path.parent) if first_seq is None else first_seq
        db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA_1}{_counters(COUNTERS_1, start)}PRAGMA user_version=1;COMMIT;")
    if version < 2:
        db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA_2}{_counters(COUNTERS_2, 0)}PRAGMA user_version=2;COMMIT;")
    if not (path.parent / START_NAME).exists():  # a store of an older version, or with a number that was given
        replace_durably(path.parent / START_NAME, f"{counter(db, 'next_seq')}\n".encode("ascii"))
    if db.execute("PRAGMA auto_vacuum").fetchone()[0] == 0:  # of an older version, at most some megabytes
        with contextlib.suppress(sqlite3.OperationalError):  # no room, or another program reads: the next start tries again
            db.execute("VACUUM")


def _counters(names: tuple[str, ...], next_seq: int) -> str:
    return "".join(f"INSERT INTO counters VALUES ('{name}', {next_seq if name == 'next_seq' else 0});" for name in names)


def _noted_start(note: Path) -> int | None:
    try:
        text = note.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    if not text.isdigit():
        raise StoreError(f"{note} holds no number; write into it the highest number that the hub knows of this meter")
    return int(text)


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}{DAMAGED}{int(time.time())}")
    for suffix in ("-wal", "-shm"):  # the journal first: without it a file is only older
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.rename(aside.with_name(aside.name + suffix))
    path.rename(aside)
    for old in damaged_files(path)[MAX_DAMAGED:]:
        remove_damaged(old)
    return aside


def _salvage(db: sqlite3.Connection, damaged: Path) -> None:
    """Takes over what can be read of a damaged file, row by row."""
    db.execute("BEGIN IMMEDIATE")
    taken = {}
    try:
        with contextlib.closing(sqlite3.connect(damaged, timeout=1.0)) as old:
            for table, columns in _TAKEN_OVER.items():
                taken[table] = _copy_rows(old, db, table, columns)
        withheld = take_over(db)
        set_counter(db, "start", counter(db, "next_seq"))
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # some failures have rolled it back already
            db.execute("ROLLBACK")
        raise
    log.warning("taken over of %s: %s; %d slots will not be reported", damaged.name, taken, withheld)


def _copy_rows(old: sqlite3.Connection, db: sqlite3.Connection, table: str, columns: int) -> int:
    """Rows from both ends up to a damaged page; returns how many."""
    count = 0
    places = ", ".join("?" * columns)
    for order in ("", " DESC"):
        with contextlib.suppress(sqlite3.DatabaseError):
            for row in old.execute(f"SELECT * FROM {table} NOT INDEXED ORDER BY 1{order}"):
                if db.execute(f"INSERT OR IGNORE INTO {table} VALUES ({places})", row).rowcount == 0:
                    break
                count += 1
    return count
