"""How long the store keeps what, and what goes first when the disk budget is used up.

Readings are kept whole, then one a minute, then one a quarter of an hour, then not at all; every bound is a number of rows, so
that a clock that jumps wipes nothing. Of each step its first reading stays: the one at a slot's boundary closed the slot
before, so the counters of any slot's begin and end, and with them its energy, stay exact to the Wh.

    kept                      rows      at one poll a second    what for
    every reading             50,000    14 hours                doctor (its last 4,000), the owner's live view
    one a minute              43,200    30 days more            a day's course, a look back after a fault
    one a quarter             38,400    400 days more           counters at slot boundaries, as evidence of the slots
    slots                     38,400    400 days                learning (a year and more), the owner's history
    reports waiting           20,000    208 days                the hub

Near the budget (`relieve`), one step at a time and in this order: stores set aside as damaged but for the newest; readings
beyond an hour to minutes, beyond a day to quarters; the oldest readings; the oldest slots that were reported or imported;
reports that the hub refused; at last the oldest reports that wait. Readings and slots are dropped only while the store
itself is larger than FLOOR_BYTES: what other files take, dropping does not give back. Slots without report never go this way.
Every step is counted. Not here: the store's calls (`store`), its file (`store_file`).
"""

from __future__ import annotations

import sqlite3

from edge_agent.slots import IMPORTED
from edge_agent.store_file import add_counter, counter, set_counter
from openmg.units import SLOT_SECONDS

WHOLE_ROWS = 50_000
MINUTE_ROWS = 43_200
QUARTER_ROWS = 38_400
MAX_SLOTS = 400 * 96
TIDY_ROWS = 3_600
"""Readings between two looks at the bounds: an hour at one poll a second. Deleting in bulk writes a page once, not often."""
NEAR_PERCENT = 90
"""Of the budget, from which on room is made."""
PRESSED_WHOLE_ROWS = 4_000
PRESSED_MINUTE_ROWS = 1_440
DROP_ROWS = 2_880
"""30 days of quarters."""
DROP_REPORTS = 96
FLOOR_BYTES = 2 * 1024 * 1024
MINUTE_SECONDS = 60
SHRINK_PAGES = 256
"""Free pages, 1 MiB, that may lie idle; more are given back when they are a quarter of the file."""
SHRINK_AT_ONCE = 1_024


def thin(db: sqlite3.Connection, whole_rows: int, minute_rows: int) -> int:
    """Brings the readings within their bounds, inside of a transaction; returns how many went."""
    newest = _newest(db)
    removed = _thin_to(db, "minutes_to", newest, whole_rows, MINUTE_SECONDS)
    removed += _thin_to(db, "quarters_to", counter(db, "minutes_to"), minute_rows, SLOT_SECONDS)
    add_counter(db, "thinned", removed)
    sql = "SELECT id FROM readings WHERE id <= ? ORDER BY id DESC LIMIT 1 OFFSET ?"
    oldest = db.execute(sql, (counter(db, "quarters_to"), QUARTER_ROWS)).fetchone()
    if oldest is not None:
        removed += _drop(db, "dropped_readings", "DELETE FROM readings WHERE id <= ?", *oldest)
    return removed


def relieve(db: sqlite3.Connection) -> str | None:
    """One step to make room, inside of a transaction; says what went, None when nothing can."""
    if thin(db, PRESSED_WHOLE_ROWS, PRESSED_MINUTE_ROWS):
        return "readings were thinned to minutes and quarters of an hour"
    newest = _newest(db)
    oldest_readings = "DELETE FROM readings WHERE id IN (SELECT id FROM readings WHERE id < ? ORDER BY id LIMIT ?)"
    if used_bytes(db) > FLOOR_BYTES:
        if _drop(db, "dropped_readings", oldest_readings, newest, DROP_ROWS):
            return "the oldest readings were dropped"
        told = "seq NOT IN (SELECT seq FROM outbox UNION SELECT seq FROM refused) OR (seq IS NULL AND flags & ?)"
        sql = f"DELETE FROM slots WHERE slot IN (SELECT slot FROM slots WHERE {told} ORDER BY slot LIMIT ?)"
        if _drop(db, "dropped_slots", sql, IMPORTED, DROP_ROWS):
            return "the oldest slots were dropped"
    sql = "DELETE FROM {0} WHERE seq IN (SELECT seq FROM {0} ORDER BY seq LIMIT ?)"
    if _drop(db, "lost", sql.format("refused"), DROP_REPORTS):
        return "the oldest reports that the hub refused were dropped"
    if used_bytes(db) > FLOOR_BYTES and _drop(db, "lost", sql.format("outbox"), DROP_REPORTS):
        return "the oldest reports that wait for the hub were dropped"
    return None


def bound_slots(db: sqlite3.Connection, most: int) -> None:
    """Keeps the newest `most` slots. By number of rows, not by slot: a clock that jumps for a moment must not wipe the past."""
    oldest = db.execute("SELECT slot FROM slots ORDER BY slot DESC LIMIT 1 OFFSET ?", (most - 1,)).fetchone()
    if oldest is not None:
        _drop(db, "dropped_slots", "DELETE FROM slots WHERE slot < ?", *oldest)


def used_bytes(db: sqlite3.Connection) -> int:
    """Bytes of the pages that hold rows."""
    size, pages, free = (
        int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_size", "page_count", "freelist_count")
    )
    return size * (pages - free)


def shrink(db: sqlite3.Connection, pressed: bool) -> None:
    """Gives free pages back to the disk, outside of a transaction, when they are many or room is needed; so many at a time."""
    pages, free = (int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count"))
    if pressed or (free > SHRINK_PAGES and 4 * free > pages):
        db.executescript(f"PRAGMA incremental_vacuum({SHRINK_AT_ONCE})")  # `execute` would step it once, which frees one page
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _thin_to(db: sqlite3.Connection, mark: str, newest: int, keep: int, step_s: int) -> int:
    """Leaves the first reading of each step of those after the mark but for the newest `keep`, and moves the mark."""
    done = counter(db, mark)
    sql = "SELECT id FROM readings WHERE id > ? AND id <= ? ORDER BY id DESC LIMIT 1 OFFSET ?"
    cut = db.execute(sql, (done, newest, keep)).fetchone()
    if cut is None:
        return 0
    # The last reading that was left before may begin the step in which this part begins.
    before = db.execute("SELECT coalesce(max(id), 0) FROM readings WHERE id <= ?", (done,)).fetchone()[0]
    kept = "SELECT min(id) FROM readings WHERE id >= ? AND id <= ? GROUP BY sim_time / ?"
    sql = f"DELETE FROM readings WHERE id > ? AND id <= ? AND id NOT IN ({kept})"
    removed = db.execute(sql, (done, *cut, before, *cut, step_s)).rowcount
    set_counter(db, mark, *cut)
    return removed


def _newest(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT coalesce(max(id), 0) FROM readings").fetchone()[0])


def _drop(db: sqlite3.Connection, name: str, sql: str, *values: int) -> int:
    removed = db.execute(sql, values).rowcount
    add_counter(db, name, removed)
    return removed
