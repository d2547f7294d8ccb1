"""What the home minted, sold, bought, burned and paid, by day and billing period, from the wallet's own journals.

Rules: energy belongs to the day on which it was metered, as on the private market (`openmg.market.calendar`). An order counts
when its outcome lies in the owner's notes; one that is under way is counted as such, and one that came to nothing is not. What
a purchase cost is what its payment gave away less the PETH that came back. Nothing is guessed: where a note is missing, the
amount is unknown, and so are the day's and the period's sums.
Not here: the public market, whose journal keeps only what is due; the statement to the utility (`edge_agent.market.statement`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date, timedelta

from edge_agent.market.journal import Kind, MarketJournal, Order, SlotRow
from edge_agent.wallet.note_store import NoteStore, OwnNote, PaymentState
from openmg.market.calendar import BANDS, Calendar
from openmg.units import LOT_WH, SLOTS_PER_DAY
from openmg.zk.assets import PETH, kind_of
from openmg.zk.assets import Kind as Asset

EPOCH = date(1970, 1, 1)
DAYS_BACK = 100
"""As far as the market's journal goes back (`edge_agent.market.journal.MAX_SLOTS`)."""


@dataclass(frozen=True)
class Amounts:
    """Energy in Wh and money in wei; None: some of it is unknown. `under_way`: orders whose outcome has not come."""

    import_wh: int | None = 0
    export_wh: int | None = 0
    minted_wh: int | None = 0
    sold_wh: int | None = 0
    received_wei: int | None = 0
    bought_wh: int | None = 0
    paid_wei: int | None = 0
    burned_wh: int | None = 0
    under_way: int | None = 0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(*(_sum((getattr(self, item.name), getattr(other, item.name))) for item in fields(Amounts)))


@dataclass(frozen=True)
class Line:
    """One day, or one billing period, from `first` to `last`."""

    first: date
    last: date
    amounts: Amounts


class _Journal(MarketJournal):
    """The market's journal over a connection that cannot write."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db


class _Notes(NoteStore):
    """The wallet's notes over a connection that cannot write."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def given_away(self, purpose: str) -> int | None:
        """What the payment that was made for a purpose spent, less its own change; None when a note of it is unknown."""
        sql = "SELECT number, done_at FROM payments WHERE purpose=? AND state=? ORDER BY number DESC LIMIT 1"
        row = self._db.execute(sql, (purpose, PaymentState.DONE)).fetchone()
        if row is None or row[1] is None:
            return None
        sql = "SELECT amount FROM payment_inputs LEFT JOIN notes USING(position) WHERE payment_inputs.payment=?"
        spent = [item for (item,) in self._db.execute(sql, (row[0],))]
        change = self.notes_between(row[1], row[1])
        if not spent or None in spent or not change:
            return None
        return sum(int.from_bytes(amount, "big") for amount in spent) - change[0][0].amount


def has_market(db: sqlite3.Connection) -> bool:
    """Whether a private market was ever traded on with this wallet."""
    names = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
    return {"market_slots", "market_orders", "payments"} <= names


def days(db: sqlite3.Connection, calendar: Calendar, slot: int) -> tuple[Line, ...]:
    """Every day with a metered slot, the newest first, up to the present slot."""
    journal, notes = _Journal(db), _Notes(db)
    first = slot - DAYS_BACK * SLOTS_PER_DAY
    by_day: dict[int, Amounts] = {}
    for row in journal.slots(first, slot):
        day = calendar.day_of(row.slot)
        by_day[day] = by_day.get(day, Amounts()) + _metered(row)
    for kind in (Kind.SELL, Kind.BUY, Kind.BURN):
        for order in journal.orders(kind, first, slot):
            day = (calendar.key_of(order.slot) if kind is Kind.BUY else order.key) // BANDS
            if day in by_day:
                by_day[day] += _ordered(order, notes)
    dates = {day: EPOCH + timedelta(day) for day in by_day}
    return tuple(Line(dates[day], dates[day], by_day[day]) for day in sorted(by_day, reverse=True))


def periods(lines: Sequence[Line], calendar: Calendar) -> tuple[Line, ...]:
    """The billing periods of these days, the newest first; of each the days that are known."""
    by_period: dict[int, Amounts] = {}
    for line in lines:
        period = (line.first - EPOCH).days // calendar.period_days
        by_period[period] = by_period.get(period, Amounts()) + line.amounts
    found = []
    for period in sorted(by_period, reverse=True):
        first = EPOCH + timedelta(period * calendar.period_days)
        found.append(Line(first, first + timedelta(calendar.period_days - 1), by_period[period]))
    return tuple(found)


def _metered(row: SlotRow) -> Amounts:
    return Amounts(import_wh=row.import_wh, export_wh=row.export_wh, minted_wh=row.export_wh if row.minted else 0)


def _ordered(order: Order, notes: _Notes) -> Amounts:
    """What became of an order."""
    state = notes.state_of(order.purpose)
    if state is PaymentState.UNDER_WAY:
        return Amounts(under_way=1)
    if state is not PaymentState.DONE:
        return Amounts()
    if order.kind is Kind.BURN:
        return Amounts(burned_wh=order.amount)
    outcome = notes.received(order.purpose)
    if not outcome:
        return Amounts(under_way=1)
    if order.kind is Kind.SELL:
        return Amounts(sold_wh=order.amount * LOT_WH, received_wei=_peth(outcome))
    given = notes.given_away(order.purpose)
    bought = sum(note.amount for note in outcome if kind_of(note.asset) is Asset.DELIVERY)
    return Amounts(bought_wh=bought, paid_wei=None if given is None else given - _peth(outcome))


def _peth(notes: Iterable[OwnNote]) -> int:
    return sum(note.amount for note in notes if note.asset == PETH)


def _sum(values: Iterable[int | None]) -> int | None:
    found = list(values)
    return None if None in found else sum(item for item in found if item is not None)
