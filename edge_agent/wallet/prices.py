"""What energy cost in the microgrid, slot by slot, as the hub's notices said: for the owner's page, in the wallet's database.

Rules: a slot's row has the newest price that was heard in it and the limits of the market, in wei per kWh; no price before
the first trade. A slot is written when it begins and, if the price moved, once more when the next one does: two writes a
slot, whatever the chain does. What was heard last before a power cut may be lost. The oldest rows beyond the bound go.
Nothing is decided by it: notices are unsigned. Not here: what the page makes of it (`edge_agent.page.hours`).
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from edge_agent.wallet.journal import open_private
from openmg.messages.market import EnergyPoolPlace, MarketNotice, PoolNotice
from openmg.units import LOT_WH, SLOTS_PER_DAY, WH_PER_KWH

MAX_PRICES = 35 * SLOTS_PER_DAY
"""Five weeks."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS prices (
    slot INTEGER PRIMARY KEY, wei_per_kwh TEXT, floor_wei_per_kwh TEXT NOT NULL, cap_wei_per_kwh TEXT NOT NULL
) STRICT;
"""
# Amounts are texts: they may pass 64 bits.


@dataclass(frozen=True)
class Price:
    """Price (None: nothing was traded yet), lowest and highest possible price in a slot, in wei per kWh."""

    slot: int
    wei_per_kwh: int | None
    floor_wei_per_kwh: int
    cap_wei_per_kwh: int


def pool_price(slot: int, notice: PoolNotice, place: EnergyPoolPlace) -> Price:
    """What the private market's notice says."""
    floor, cap = place.floor_wei_per_wh * WH_PER_KWH, place.cap_wei_per_wh * WH_PER_KWH
    price = notice.price_wei_per_lot * WH_PER_KWH // LOT_WH
    return Price(slot, price if floor <= price <= cap and price else None, floor, cap)


def exchange_price(slot: int, notice: MarketNotice) -> Price:
    """What the public market's notice says: what a little energy would cost now."""
    traded = notice.reserve_wh > 0 and notice.reserve_wei > 0
    price = notice.reserve_wei * WH_PER_KWH // notice.reserve_wh if traded else None
    return Price(slot, price, notice.feed_in_wei_per_wh * WH_PER_KWH, notice.retail_wei_per_wh * WH_PER_KWH)


class PriceRecord:
    """The rows of one wallet's database."""

    def __init__(self, path: Path) -> None:
        self._db = open_private(path)
        self._db.executescript(_SCHEMA)
        self._newest: Price | None = None
        self._written: Price | None = None
        self._closed = False

    def hear(self, price: Price) -> None:
        """The newest price of its slot; an older slot's, and what comes after the end, is left out."""
        before = self._newest
        if self._closed or (before is not None and price.slot < before.slot):
            return
        if before is None or price.slot > before.slot:
            self.flush()
            self._write(price)
        self._newest = price

    def flush(self) -> None:
        """Writes what was only heard."""
        if self._newest is not None and self._newest != self._written:
            self._write(self._newest)

    def _write(self, price: Price) -> None:
        known = None if price.wei_per_kwh is None else str(price.wei_per_kwh)
        row = (price.slot, known, str(price.floor_wei_per_kwh), str(price.cap_wei_per_kwh))
        self._db.execute("INSERT OR REPLACE INTO prices VALUES(?,?,?,?)", row)
        self._db.execute("DELETE FROM prices WHERE slot<=?", (price.slot - MAX_PRICES,))
        self._written = price

    def close(self) -> None:
        self.flush()
        self._closed = True
        self._db.close()


def prices_of(db: sqlite3.Connection, first: int, last: int) -> list[Price]:
    """The rows from slot `first` to `last`; none where no price was ever recorded."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name='prices'").fetchone():
        return []
    rows = db.execute("SELECT * FROM prices WHERE slot BETWEEN ? AND ? ORDER BY slot", (first, last))
    return [Price(row[0], None if row[1] is None else int(row[1]), int(row[2]), int(row[3])) for row in rows]
