"""The meter's memory: raw readings, the energy of slots, the outbox and its counters, in one SQLite file.

Rules: what was committed survives a power cut; every change is one transaction. A row leaves the outbox only when the hub said
that its database holds it (`acknowledge`), or that it takes it never (`set_aside`: it is kept, and its slot can be reported
anew). Numbers of reports are never used twice; where they leap, no report follows before all older ones have left. Every table
has a bound, and the state folder a budget (`retention`). A call that the disk refuses changes nothing and raises StoreError.
Calls are short and may come from any thread.
Not here: transactions and threads (`store_connection`), the file, damaged ones (`store_file`), schema tools and exports
(`store_tool`), an outbox row's content (`reporting`).
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent import retention
from edge_agent.retention import MAX_SLOTS as MAX_SLOTS
from edge_agent.slots import IMPORTED, Baseline, ClosedSlot
from edge_agent.state_folder import folder_bytes
from edge_agent.store_connection import StoreConnection
from edge_agent.store_file import StoreError as StoreError
from edge_agent.store_file import add_counter, counter, damaged_files, remove_damaged, set_counter
from openmg.units import SLOT_SECONDS

log = logging.getLogger(__name__)
MAX_OUTBOX = 20_000
"""208 days of slots without a hub; beyond, the oldest report is dropped and counted as lost."""
MAX_REFUSED = 1_000
"""Reports that the hub refused; beyond, they stay in the outbox: a hub that refuses so many is the one that is wrong."""
MAX_RELIEFS = 16
"""Steps to make room at a time: the metering waits for them."""
_PARTIAL, _CARRIED, _RESET = 1, 2, 4
"""Bits of the column `baseline.partial`."""


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
    """Counted since the store was made: polls, reports put into the outbox, acknowledged, given up, refused; readings that
    were thinned, and readings and slots that were dropped. refused_rows: refused reports that are still there."""

    polled: int
    poll_errors: int
    stored: int
    acked: int
    lost: int
    outbox_rows: int
    slots: int
    refused: int = 0
    refused_rows: int = 0
    thinned: int = 0
    dropped_readings: int = 0
    dropped_slots: int = 0


class Store(StoreConnection):
    """One open store file; made when missing."""

    def __init__(self, path: Path, first_seq: int | None = None, budget_bytes: int | None = None) -> None:
        """budget_bytes: what the file's folder may take of the disk; None: as much as it does. Raises StoreError."""
        self.budget_bytes = budget_bytes
        self._pressed = False
        self._untidy = retention.TIDY_ROWS
        """Readings since the bounds were looked at; the first batch has them looked at, for agents that often restart."""
        super().__init__(path, first_seq)

    # Readings and slots

    def add_readings(
        self, readings: Sequence[RawReading], polled: int, poll_errors: int, rebased: Baseline | None = None
    ) -> None:
        """Commits a batch of polls and adds to the counters; at times also keeps the bounds.

        rebased: what the next slot is measured from when the last of these readings is the first of other counters.
        """
        with self._transaction() as db:
            rows = [(r.wall_ms, r.sim_time, r.power_w, r.import_total_wh, r.export_total_wh) for r in readings]
            db.executemany("INSERT INTO readings VALUES (NULL, ?, ?, ?, ?, ?)", rows)
            add_counter(db, "polled", polled)
            add_counter(db, "poll_errors", poll_errors)
            if rebased is not None:
                _set_baseline(db, rebased)
                set_counter(db, "replaced", 0)
        self._untidy += len(readings)
        if self._untidy >= retention.TIDY_ROWS:
            self._untidy = 0
            with contextlib.suppress(StoreError):  # it was said, and these readings are stored; the next hour tries again
                self.tidy()

    def last_reading(self) -> RawReading | None:
        """The reading that was committed last."""
        columns = "wall_ms, sim_time, power_w, import_total_wh, export_total_wh"
        rows = self._rows(f"SELECT {columns} FROM readings ORDER BY id DESC LIMIT 1")
        return RawReading(*rows[0]) if rows else None

    def tidy(self) -> None:
        """Brings the readings within their bounds and, near the disk budget, makes room in the order of `retention`."""
        with self._transaction() as db:
            retention.thin(db, retention.WHOLE_ROWS, retention.MINUTE_ROWS)
        pressed = False
        for _ in range(MAX_RELIEFS):
            if not self._near_budget():
                self._pressed = False
                break
            what, pressed = self._relieve(), True
            if not self._pressed:
                self._pressed = True
                log.warning(
                    "%s nears its budget of %d MB: %s (further steps are only counted); raise disk_budget_mb in [store] or"
                    " make room", self.path.parent, (self.budget_bytes or 0) // 10**6, what or "nothing is left to thin",
                )  # fmt: skip
            if what is None:
                break
        with self._guarded() as db:
            retention.shrink(db, pressed)

    def _near_budget(self) -> bool:
        if self.budget_bytes is None:
            return False
        with self._guarded() as db:
            free = int(db.execute("PRAGMA freelist_count").fetchone()[0]) * int(db.execute("PRAGMA page_size").fetchone()[0])
        return (folder_bytes(self.path.parent) - free) * 100 > self.budget_bytes * retention.NEAR_PERCENT

    def _relieve(self) -> str | None:
        old = damaged_files(self.path)[1:]
        for file in old:
            remove_damaged(file)
        if old:
            return "stores that were set aside as damaged were removed, but for the newest"
        with self._transaction() as db:
            return retention.relieve(db)

    # A meter that is replaced

    def expect_replacement(self, last: RawReading | None) -> None:
        """Another meter comes: the next reading is the first of its counters. last: what the old meter showed at the end."""
        with self._transaction() as db:
            if last is not None:
                row = (last.wall_ms, last.sim_time, last.power_w, last.import_total_wh, last.export_total_wh)
                db.execute("INSERT INTO readings VALUES (NULL, ?, ?, ?, ?, ?)", row)
            set_counter(db, "replaced", 1)

    def expects_replacement(self) -> bool:
        with self._guarded() as db:
            return counter(db, "replaced") == 1

    # Slots

    def baseline(self) -> Baseline | None:
        """Where the next slot is measured from; None before the first reading."""
        rows = self._rows("SELECT slot, import_total_wh, export_total_wh, partial FROM baseline")
        if not rows:
            return None
        slot, imported, exported, how = rows[0]
        return Baseline(slot, imported, exported, bool(how & _PARTIAL), bool(how & _CARRIED), bool(how & _RESET))

    def present_slot(self) -> int:
        """The slot that the meter is in, as far as the store knows: the baseline's, else the last imported one."""
        rows = self._rows("SELECT coalesce((SELECT slot FROM baseline), (SELECT max(slot) FROM slots), 0)")
        return int(rows[0][0])

    def newest_slot(self) -> int | None:
        """The newest slot that was metered; None before the first."""
        rows = self._rows("SELECT slot FROM slots WHERE flags & ? = 0 ORDER BY slot DESC LIMIT 1", IMPORTED)
        return int(rows[0][0]) if rows else None

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
                retention.bound_slots(db, MAX_SLOTS)
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
        """Live slots from `first` on that no report carries yet, oldest first.

        There are none while reports wait that were numbered before the numbers leapt: the hub takes them for one row.
        """
        sql = (
            "SELECT slot, import_wh, export_wh, flags, seq FROM slots "
            "WHERE seq IS NULL AND slot >= ? AND flags & ? = 0 AND NOT EXISTS "
            "(SELECT 1 FROM outbox WHERE seq < (SELECT value FROM counters WHERE name = 'start')) ORDER BY slot LIMIT ?"
        )
        return tuple(SlotRow(*row) for row in self._rows(sql, first, IMPORTED, limit))

    def report(self, slot: int, kind: str, build: Callable[[int, int], bytes]) -> int:
        """Puts the report of a slot into the outbox, once, and returns its seq.

        build(seq, rows): the bytes; `rows` counts the numbers from the oldest unacknowledged report to this one.
        Raises ValueError when the slot is not stored or already reported.
        """
        with self._transaction() as db:
            row = db.execute("SELECT seq FROM slots WHERE slot = ?", (slot,)).fetchone()
            if row is None or row[0] is not None:
                raise ValueError(f"slot {slot} is not there or was reported before")
            seq = counter(db, "next_seq")
            if db.execute("SELECT count(*) FROM outbox").fetchone()[0] >= MAX_OUTBOX:
                add_counter(db, "lost", db.execute("DELETE FROM outbox WHERE seq = (SELECT min(seq) FROM outbox)").rowcount)
            # Not the number of rows: one that was set aside leaves a hole, and the hub takes all that lie lower for settled.
            waiting = seq - int(db.execute("SELECT coalesce(min(seq), ?) FROM outbox", (seq,)).fetchone()[0])
            created_ms = time.time_ns() // 1_000_000
            db.execute("INSERT INTO outbox VALUES (?, ?, ?, ?)", (seq, kind, build(seq, waiting + 1), created_ms))
            db.execute("UPDATE slots SET seq = ? WHERE slot = ?", (seq, slot))
            add_counter(db, "next_seq", 1)
            add_counter(db, "stored", 1)
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
            add_counter(db, "acked", removed)
        return removed

    def set_aside(self, seq: int, reason: str) -> bool:
        """Takes a report that the hub refuses out of the outbox, so that those behind it are acknowledged.

        False when it is not there, or MAX_REFUSED are set aside already.
        """
        with self._transaction() as db:
            now_ms = time.time_ns() // 1_000_000
            sql = (
                "INSERT INTO refused SELECT seq, kind, payload, created_ms, ?, ? FROM outbox "
                "WHERE seq = ? AND (SELECT count(*) FROM refused) < ?"
            )
            if not db.execute(sql, (reason, now_ms, seq, MAX_REFUSED)).rowcount:
                return False
            db.execute("DELETE FROM outbox WHERE seq = ?", (seq,))
            add_counter(db, "refused", 1)
        return True

    def retry_refused(self) -> int:
        """Has the slots of the refused reports reported anew, under new numbers; returns how many are."""
        with self._transaction() as db:
            again = db.execute("UPDATE slots SET seq = NULL WHERE seq IN (SELECT seq FROM refused)").rowcount
            db.execute("DELETE FROM refused")
        return again

    def totals(self) -> Totals:
        """The counters and how much is stored."""
        with self._guarded() as db:
            c = dict(db.execute("SELECT name, value FROM counters").fetchall())
            tables = ("outbox", "slots", "refused")
            outbox, slots, refused = (int(db.execute(f"SELECT count(*) FROM {t}").fetchone()[0]) for t in tables)
        counts = c["polled"], c["poll_errors"], c["stored"], c["acked"], c["lost"], outbox, slots, c["refused"], refused
        return Totals(*counts, c["thinned"], c["dropped_readings"], c["dropped_slots"])


def _set_baseline(db: sqlite3.Connection, baseline: Baseline) -> None:
    how = _PARTIAL * baseline.partial | _CARRIED * baseline.carried | _RESET * baseline.reset
    row = (baseline.slot, baseline.import_total_wh, baseline.export_total_wh, how)
    db.execute("INSERT OR REPLACE INTO baseline VALUES (1, ?, ?, ?, ?)", row)
