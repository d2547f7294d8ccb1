"""The wallet's database of things to settle: slots and shieldings that are due, and the envelope under way.

Rules: a row is written before its envelope leaves, so that after a crash the wallet knows which nonces may have been
used and never buys or shields twice. Money is decided immediately, so every commit is synchronous; the file is 0600.
Not here: notes (`edge_agent.wallet.note_store`), readings (`edge_agent.store`).
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from openmg.units import SLOTS_PER_DAY

MAX_DUE_SLOTS = SLOTS_PER_DAY
"""A reading older than a day is refused by the energy token, so older rows are dropped."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS due_slots (
    slot INTEGER PRIMARY KEY, import_wh INTEGER NOT NULL, export_wh INTEGER NOT NULL, sent INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS shieldings (
    number INTEGER PRIMARY KEY, amount_wei TEXT NOT NULL, sent INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS under_way (
    only INTEGER PRIMARY KEY CHECK (only = 1), next_nonce INTEGER NOT NULL
) STRICT;
"""


@dataclass(frozen=True)
class DueSlot:
    """Metered energy of a closed slot that is not yet settled."""

    slot: int
    import_wh: int
    export_wh: int


@dataclass(frozen=True)
class DueShielding:
    """PETH to turn into a note; `number` makes its blinding unique."""

    number: int
    amount_wei: int


def open_private(path: Path) -> sqlite3.Connection:
    """A database file that only this user can read, with synchronous commits."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


class Journal:
    """What is due and what is under way, on disk."""

    def __init__(self, path: Path) -> None:
        self._db = open_private(path)
        self._db.executescript(_SCHEMA)

    def add_slot(self, slot: int, import_wh: int, export_wh: int) -> None:
        """A closed slot; one that is known already keeps its row."""
        self._db.execute(
            "INSERT OR IGNORE INTO due_slots(slot, import_wh, export_wh) VALUES(?,?,?)", (slot, import_wh, export_wh)
        )
        self._db.execute("DELETE FROM due_slots WHERE slot <= ?", (slot - MAX_DUE_SLOTS,))

    def add_shielding(self, amount_wei: int) -> int:
        """An amount to shield with the next envelope; returns its number."""
        cursor = self._db.execute("INSERT INTO shieldings(amount_wei) VALUES(?)", (str(amount_wei),))
        return cursor.lastrowid or 0

    def due_slots(self) -> tuple[DueSlot, ...]:
        """Slots not yet in an envelope, oldest first."""
        rows = self._db.execute("SELECT slot, import_wh, export_wh FROM due_slots WHERE sent=0 ORDER BY slot")
        return tuple(DueSlot(*row) for row in rows)

    def due_shieldings(self) -> tuple[DueShielding, ...]:
        """Shieldings not yet in an envelope."""
        rows = self._db.execute("SELECT number, amount_wei FROM shieldings WHERE sent=0 AND done=0 ORDER BY number")
        return tuple(DueShielding(number, int(amount)) for number, amount in rows)

    def shieldings(self) -> int:
        """How many shieldings were ever asked for."""
        return int(self._db.execute("SELECT COUNT(*) FROM shieldings").fetchone()[0])

    def submit(self, slots: tuple[int, ...], shieldings: tuple[int, ...], next_nonce: int) -> None:
        """These leave now in one envelope whose transactions end before `next_nonce`."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("UPDATE due_slots SET sent=1 WHERE slot=?", [(slot,) for slot in slots])
            self._db.executemany("UPDATE shieldings SET sent=1 WHERE number=?", [(item,) for item in shieldings])
            self._db.execute("INSERT OR REPLACE INTO under_way VALUES(1, ?)", (next_nonce,))

    def under_way(self) -> int | None:
        """Nonce that the account has once the envelope under way has executed; None when none is."""
        row = self._db.execute("SELECT next_nonce FROM under_way").fetchone()
        return None if row is None else int(row[0])

    def finish(self) -> None:
        """The envelope under way has executed."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM due_slots WHERE sent=1")
            self._db.execute("UPDATE shieldings SET done=1 WHERE sent=1")
            self._db.execute("DELETE FROM under_way")

    def give_up(self) -> None:
        """The envelope under way was lost: what it carried is due again."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("UPDATE due_slots SET sent=0")
            self._db.execute("UPDATE shieldings SET sent=0 WHERE done=0")
            self._db.execute("DELETE FROM under_way")

    def drop_slots(self, slots: tuple[int, ...]) -> None:
        """These slots need nothing on chain."""
        self._db.executemany("DELETE FROM due_slots WHERE slot=?", [(slot,) for slot in slots])

    def close(self) -> None:
        self._db.close()
