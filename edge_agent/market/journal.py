"""What the trade must not forget, in the wallet's database: metered slots, orders, and calls that may have left.

Rules: an order's lots are written before its notes are set aside, and its call before it leaves, so that after a crash at any
instant the same call is sent again, or an order is tried again with the same lots and notes. Whether a spend is under way or
done, the note store says (`edge_agent.wallet.note_store`), which is the same file, mode 0600.
Not here: what is due (`planner`), notes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from edge_agent.wallet.journal import open_private
from openmg.units import SLOTS_PER_DAY

MAX_SLOTS = 100 * SLOTS_PER_DAY
"""A billing period of three months can be stated after its last burn deadline; older slots are dropped."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS market_slots (
    slot INTEGER PRIMARY KEY, import_wh INTEGER NOT NULL, export_wh INTEGER NOT NULL,
    agreed INTEGER NOT NULL DEFAULT 0, minted INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS market_orders (
    purpose TEXT PRIMARY KEY, kind TEXT NOT NULL, slot INTEGER NOT NULL, key INTEGER NOT NULL, amount INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS market_orders_by_slot ON market_orders(kind, slot);
CREATE TABLE IF NOT EXISTS market_calls (
    purpose TEXT PRIMARY KEY, target BLOB NOT NULL, data BLOB NOT NULL, valid_until INTEGER NOT NULL, circuit_set BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS market_recovery (
    only INTEGER PRIMARY KEY CHECK (only = 1), next_slot INTEGER NOT NULL
) STRICT;
"""


class Kind(StrEnum):
    """What a purpose is about."""

    MINT = "mint"
    BUY = "buy"
    SELL = "sell"
    BURN = "burn"
    GATHER = "gather"


@dataclass(frozen=True)
class Order:
    """One thing that is to happen once. `amount`: lots of a sale or purchase, Wh of a burn, else 0."""

    kind: Kind
    slot: int
    key: int
    amount: int

    @property
    def purpose(self) -> str:
        """Its name in note store and outbox; the same after a restore."""
        if self.kind == Kind.BURN:
            return f"burn {self.key}"
        return f"sell {self.key} {self.slot}" if self.kind == Kind.SELL else f"{self.kind} {self.slot}"


@dataclass(frozen=True)
class SlotRow:
    """A metered slot; `agreed`: our leaf was seen among its leaves; `minted`: its note was seen in the tree."""

    slot: int
    import_wh: int
    export_wh: int
    agreed: bool
    minted: bool


@dataclass(frozen=True)
class SentCall:
    """A call that may have left the meter; no contract takes it after `valid_until` or under another circuit set."""

    purpose: str
    target: bytes
    data: bytes
    valid_until: int
    circuit_set: bytes


class MarketJournal:
    """The trade's tables."""

    def __init__(self, path: Path) -> None:
        self._db = open_private(path)
        self._db.executescript(_SCHEMA)

    def add_slot(self, slot: int, import_wh: int, export_wh: int) -> None:
        """A closed slot; one that is known stays as it was first told, as its commitments do."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "INSERT OR IGNORE INTO market_slots(slot, import_wh, export_wh) VALUES(?,?,?)", (slot, import_wh, export_wh)
            )
            self._db.execute("DELETE FROM market_slots WHERE slot<=?", (slot - MAX_SLOTS,))
            self._db.execute("DELETE FROM market_orders WHERE slot<=?", (slot - MAX_SLOTS,))

    def slots(self, first: int, last: int) -> list[SlotRow]:
        """Metered slots from `first` to `last`."""
        rows = self._db.execute("SELECT * FROM market_slots WHERE slot BETWEEN ? AND ? ORDER BY slot", (first, last))
        return [SlotRow(row[0], row[1], row[2], bool(row[3]), bool(row[4])) for row in rows]

    def slot(self, slot: int) -> SlotRow | None:
        return next(iter(self.slots(slot, slot)), None)

    def mark_agreed(self, slot: int) -> None:
        self._db.execute("UPDATE market_slots SET agreed=1 WHERE slot=?", (slot,))

    def mark_minted(self, slot: int) -> None:
        self._db.execute("UPDATE market_slots SET minted=1 WHERE slot=?", (slot,))

    def place(self, order: Order) -> Order:
        """Write an order down, before its notes are set aside; one of this purpose that was placed before counts instead."""
        row = (order.purpose, order.kind, order.slot, order.key, order.amount)
        self._db.execute("INSERT OR IGNORE INTO market_orders VALUES(?,?,?,?,?)", row)
        return self.order(order.purpose) or order

    def replace(self, order: Order) -> None:
        """Write an order down in place of an attempt that can no longer be made."""
        row = (order.purpose, order.kind, order.slot, order.key, order.amount)
        self._db.execute("INSERT OR REPLACE INTO market_orders VALUES(?,?,?,?,?)", row)

    def order(self, purpose: str) -> Order | None:
        sql = "SELECT kind, slot, key, amount FROM market_orders WHERE purpose=?"
        row = self._db.execute(sql, (purpose,)).fetchone()
        return None if row is None else Order(Kind(row[0]), *row[1:])

    def orders(self, kind: Kind, first: int, last: int) -> list[Order]:
        """Orders of a kind by their slot."""
        sql = "SELECT slot, key, amount FROM market_orders WHERE kind=? AND slot BETWEEN ? AND ? ORDER BY slot, key"
        return [Order(kind, *row) for row in self._db.execute(sql, (kind, first, last))]

    def keep_call(self, call: SentCall) -> None:
        """Write a call down, before it leaves, in place of an earlier one of the purpose."""
        row = (call.purpose, call.target, call.data, call.valid_until, call.circuit_set)
        self._db.execute("INSERT OR REPLACE INTO market_calls VALUES(?,?,?,?,?)", row)

    def call(self, purpose: str) -> SentCall | None:
        row = self._db.execute("SELECT * FROM market_calls WHERE purpose=?", (purpose,)).fetchone()
        return None if row is None else SentCall(*row)

    def calls(self) -> list[SentCall]:
        """Calls that may still have to be sent again."""
        return [SentCall(*row) for row in self._db.execute("SELECT * FROM market_calls ORDER BY valid_until, purpose")]

    def drop_call(self, purpose: str) -> None:
        """The call took effect, or can no longer."""
        self._db.execute("DELETE FROM market_calls WHERE purpose=?", (purpose,))

    def recovered_to(self) -> int | None:
        """The first slot whose outcomes a restored wallet has yet to look for; None when it never had to."""
        row = self._db.execute("SELECT next_slot FROM market_recovery").fetchone()
        return None if row is None else int(row[0])

    def recover_from(self, slot: int) -> None:
        """Outcomes before this slot were looked for."""
        self._db.execute("INSERT OR REPLACE INTO market_recovery VALUES(1,?)", (slot,))

    def close(self) -> None:
        self._db.close()
