"""The wallet's database of things to settle: slots and shieldings that are due, and the envelope under way.

Rules: an envelope's signed transactions are written before they leave, so that after a crash the same ones are sent
again, which the chain takes once, instead of others. Money is decided immediately, so every commit is synchronous; the
file is 0600 and belongs to one owner: with another's seed it is refused. Not here: notes
(`edge_agent.wallet.note_store`), readings (`edge_agent.store`).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from edge_agent.store import StoreError
from openmg.units import SLOTS_PER_DAY

DATABASE = "wallet.sqlite"
"""Journal, notes and prices, in the agent's state folder."""
MAX_DUE_SLOTS = SLOTS_PER_DAY
"""A reading older than a day is refused by the energy token, so older rows are dropped."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS due_slots (
    slot INTEGER PRIMARY KEY, import_wh INTEGER NOT NULL, export_wh INTEGER NOT NULL, sent INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS shieldings (
    number INTEGER PRIMARY KEY, amount_wei TEXT NOT NULL, sent INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS progress (
    only INTEGER PRIMARY KEY CHECK (only = 1), last_slot INTEGER NOT NULL, slots INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS envelope (
    only INTEGER PRIMARY KEY CHECK (only = 1), first_nonce INTEGER NOT NULL, valid_until INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS envelope_transactions (
    place INTEGER PRIMARY KEY, raw BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS owner (
    only INTEGER PRIMARY KEY CHECK (only = 1), account BLOB NOT NULL, restored INTEGER NOT NULL
) STRICT;
"""


class WalletError(StoreError):
    """The wallet's database cannot be used; the text says which and what to do."""


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


@dataclass(frozen=True)
class UnderWay:
    """Signed transactions with consecutive nonces that left in one envelope; no relay submits them after `valid_until`."""

    first_nonce: int
    valid_until: int
    raw: tuple[bytes, ...]


def open_private(path: Path) -> sqlite3.Connection:
    """A database file that only this user can read, with synchronous commits."""
    # A file that exists is not opened here: closing it would drop the locks of every connection that this process has.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    os.chmod(path, 0o600)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


class Journal:
    """What is due and what is under way, on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = open_private(path)
        self._db.executescript(_SCHEMA)

    def claim(self, account: bytes, *, restored: bool = False) -> None:
        """The database is this owner's from now on; WalletError when it is another's. Changes nothing the second time.

        `restored`: it begins empty although the owner's wallet existed before, on another meter.
        """
        row = self._db.execute("SELECT account FROM owner").fetchone()
        if row is None:
            self._db.execute("INSERT INTO owner VALUES(1, ?, ?)", (account, int(restored)))
        elif row[0] != account:
            raise WalletError(
                f"{self._path} is the wallet of 0x{row[0].hex()}, and the seed is that of 0x{account.hex()}; move one away"
            )

    def is_restored(self) -> bool:
        """Whether payments of the time before this database may still be under way."""
        return self._db.execute("SELECT 1 FROM owner WHERE restored=1").fetchone() is not None

    def settle_restored(self) -> None:
        """What was under way before this database is over."""
        self._db.execute("UPDATE owner SET restored=0")

    def begin(self, last_slot: int) -> None:
        """At the wallet's first start: nobody looks in the meter's store for slots up to `last_slot`."""
        self._db.execute("INSERT OR IGNORE INTO progress VALUES(1, ?, 0)", (last_slot,))

    def last_slot(self) -> int:
        """The newest slot that was taken over; what the meter's store holds beyond it was missed."""
        row = self._db.execute("SELECT last_slot FROM progress").fetchone()
        return -1 if row is None else int(row[0])

    def slots_seen(self) -> int:
        """How many slots were ever taken over."""
        row = self._db.execute("SELECT slots FROM progress").fetchone()
        return 0 if row is None else int(row[0])

    def add_slot(self, slot: int, import_wh: int, export_wh: int) -> None:
        """A closed slot, due when it has energy; the one that was taken over last changes nothing."""
        if self.slots_seen() and slot == self.last_slot():
            return
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "INSERT INTO progress VALUES(1, ?, 1) ON CONFLICT DO UPDATE SET last_slot=excluded.last_slot, slots=slots+1",
                (slot,),
            )
            if import_wh or export_wh:
                row = (slot, import_wh, export_wh)
                self._db.execute("INSERT OR IGNORE INTO due_slots(slot, import_wh, export_wh) VALUES(?,?,?)", row)
            self._db.execute("DELETE FROM due_slots WHERE slot <= ?", (slot - MAX_DUE_SLOTS,))

    def add_shielding(self, amount_wei: int, *, done: bool = False) -> int:
        """An amount to shield with the next envelope, or one that is found to be shielded; returns its number."""
        cursor = self._db.execute("INSERT INTO shieldings(amount_wei, done) VALUES(?,?)", (str(amount_wei), int(done)))
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

    def submit(self, slots: tuple[int, ...], shieldings: tuple[int, ...], envelope: UnderWay) -> None:
        """These leave now in one envelope."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("UPDATE due_slots SET sent=1 WHERE slot=?", [(slot,) for slot in slots])
            self._db.executemany("UPDATE shieldings SET sent=1 WHERE number=?", [(item,) for item in shieldings])
            self._db.execute("INSERT INTO envelope VALUES(1, ?, ?)", (envelope.first_nonce, envelope.valid_until))
            self._db.executemany("INSERT INTO envelope_transactions VALUES(?,?)", enumerate(envelope.raw))

    def under_way(self) -> UnderWay | None:
        """The envelope that waits for the chain, if one does."""
        row = self._db.execute("SELECT first_nonce, valid_until FROM envelope").fetchone()
        if row is None:
            return None
        raw = self._db.execute("SELECT raw FROM envelope_transactions ORDER BY place")
        return UnderWay(row[0], row[1], tuple(item[0] for item in raw))

    def finish(self) -> None:
        """The envelope under way has executed."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM due_slots WHERE sent=1")
            self._db.execute("UPDATE shieldings SET done=1 WHERE sent=1")
            self._close_envelope()

    def give_up(self) -> None:
        """The envelope under way was lost: what it carried is due again."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("UPDATE due_slots SET sent=0")
            self._db.execute("UPDATE shieldings SET sent=0 WHERE done=0")
            self._close_envelope()

    def _close_envelope(self) -> None:
        self._db.execute("DELETE FROM envelope")
        self._db.execute("DELETE FROM envelope_transactions")

    def drop_slots(self, slots: tuple[int, ...]) -> None:
        """These slots need nothing on chain."""
        self._db.executemany("DELETE FROM due_slots WHERE slot=?", [(slot,) for slot in slots])

    def close(self) -> None:
        self._db.close()
