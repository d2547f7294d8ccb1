"""What the page knows of its home: one reading of the agent's files for each question.

Rules: files are opened read-only, for one question, and closed; calls block for milliseconds and belong into a thread. What
cannot be read is unknown with its reason, and the other sections go on. Not here: the forecast (`forecasts`), HTTP (`pages`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from edge_agent.config import AgentConfig
from edge_agent.page import energy, hours, statements
from edge_agent.page.history import History
from edge_agent.page.readonly import reading
from edge_agent.page.reasons import Unknown
from edge_agent.status import is_running, read_status
from edge_agent.store import RawReading, StoreError
from edge_agent.wallet.journal import DATABASE
from edge_agent.wallet.prices import prices_of
from openmg.clock import slot_of
from openmg.units import SLOTS_PER_DAY


@dataclass(frozen=True)
class Energy:
    """Now, today and the last days; `unknown` when the store tells nothing."""

    now: energy.Now
    today: tuple[energy.Interval, ...]
    days: tuple[energy.Day, ...]
    unknown: Unknown | None


@dataclass(frozen=True)
class Statements:
    """Days and billing periods, the newest first; `unknown` says why there are none."""

    days: tuple[statements.Line, ...]
    periods: tuple[statements.Line, ...]
    unknown: Unknown | None


class Home:
    """One home's files."""

    def __init__(self, config: AgentConfig) -> None:
        self.config = config
        self.zone = ZoneInfo(config.home.timezone)
        self.clock = config.clock.clock()

    def energy(self, wall: float) -> Energy:
        """At a wall second."""
        now = self.clock.at(wall)
        status = read_status(self.config.device.state_dir)
        running = status is not None and is_running(self.config.device.state_dir, status)
        try:
            with History(self.config.store_path) as history:
                stored = history.last_reading()
                rows = history.slots(energy.first_slot(now, self.zone), slot_of(now))
        except StoreError:
            unknown = Unknown("no_store")
            return Energy(energy.Now(None, None, unknown), (), (), unknown)
        last = _newest(stored, status.get("last_reading") if status is not None and running else None)
        return Energy(
            energy.current(last, running, wall), energy.today(rows, now, self.zone), energy.days(rows, now, self.zone), None
        )

    def cheapest(self, wall: float, forecast: Sequence[Sequence[int]]) -> hours.Cheapest:
        """`forecast`: rows of net energy [start, mean, ...]; empty without one."""
        now = self.clock.at(wall)
        prices, unknown = [], None
        if self.config.wallet is None:
            unknown = Unknown("no_wallet")
        elif (self.config.device.state_dir / DATABASE).exists():
            try:
                with reading(self.config.device.state_dir / DATABASE) as db:
                    prices = prices_of(db, slot_of(now) - hours.DAYS_OF_PRICES * SLOTS_PER_DAY, slot_of(now))
            except StoreError:
                unknown = Unknown("wallet_unreadable")
        return hours.cheapest(prices, unknown, hours.hourly(forecast), now, self.zone)

    def statements(self, wall: float) -> Statements:
        config = self.config
        if config.wallet is None or config.market is None:
            return Statements((), (), Unknown("no_market" if config.wallet is None else "public_market"))
        if not (config.device.state_dir / DATABASE).exists():
            return Statements((), (), Unknown("no_trade_yet"))
        calendar = config.market.calendar()
        try:
            with reading(config.device.state_dir / DATABASE) as db:
                if not statements.has_market(db):
                    return Statements((), (), Unknown("no_trade_yet"))
                lines = statements.days(db, calendar, slot_of(self.clock.at(wall)))
        except StoreError:
            return Statements((), (), Unknown("wallet_unreadable"))
        if not lines:
            return Statements((), (), Unknown("no_trade_yet"))
        return Statements(lines, statements.periods(lines, calendar), None)


def _newest(stored: RawReading | None, said: object) -> RawReading | None:
    """The reading of the store, or the one that a running agent told since."""
    if not isinstance(said, dict):
        return stored
    try:
        told = RawReading(**said)
        return told if stored is None or told.wall_ms > stored.wall_ms else stored
    except TypeError:  # another version's
        return stored
