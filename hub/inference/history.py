"""The hub's long history of public sums: hourly energy of each microgrid, and the price of its pool in each slot.

Rules: an hour is stored once under (microgrid, hour), with where it comes from; what is better vouched for takes the place
of what is there, the same again changes nothing. Agreed slots (SOURCE_AGREED) count only when all four are known: an hour
with less is a gap, and gaps are None, never made up here. The past that an operator imports (SOURCE_IMPORTED) comes
second; the chain's own hourly history (SOURCE_CHAIN) knows net energy only and may hold hours that the chain made up by
its rule, so it comes last.
Bounds: the latest MAX_HOURS hours and MAX_PRICE_SLOTS slots of at most MAX_MICROGRIDS microgrids.
Not here: reading the chain (`recorder`) and files (`past_file`), filling gaps for a forecast (`openmg.forecast.gaps`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hub.inference.database import Database
from hub.ppdl.app.genesis_prices import MAX_PRICE_WEI_PER_WH, NO_PRICE
from openmg.forecast.fixedpoint import MAX_ENERGY_WH
from openmg.units import SLOTS_PER_DAY

SOURCE_CHAIN, SOURCE_IMPORTED, SOURCE_AGREED = 1, 2, 3
"""In ascending order of what takes the place of what."""
HOURS_PER_YEAR = 8_766
MAX_HOURS = 5 * HOURS_PER_YEAR
MAX_PRICE_SLOTS = 180 * SLOTS_PER_DAY
MAX_MICROGRIDS = 64
MAX_HOUR = 2**32

_SCHEMA = """
CREATE TABLE hours (
    microgrid INTEGER NOT NULL, hour INTEGER NOT NULL, source INTEGER NOT NULL, net_wh INTEGER NOT NULL,
    import_wh INTEGER, export_wh INTEGER, PRIMARY KEY (microgrid, hour)) WITHOUT ROWID;
CREATE TABLE prices (
    microgrid INTEGER NOT NULL, slot INTEGER NOT NULL, wei_per_wh INTEGER NOT NULL,
    PRIMARY KEY (microgrid, slot)) WITHOUT ROWID;
CREATE TABLE made (
    microgrid INTEGER NOT NULL, hour INTEGER NOT NULL, as_of_hour INTEGER NOT NULL, model_hash BLOB NOT NULL,
    mean_wh INTEGER NOT NULL, p10_wh INTEGER NOT NULL, p50_wh INTEGER NOT NULL, p90_wh INTEGER NOT NULL,
    PRIMARY KEY (microgrid, hour)) WITHOUT ROWID
"""
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Hour:
    """Energy of one hour (whole hours since 1970, UTC) in Wh; import and export are None where only their difference is
    known. ValueError for values that cannot be."""

    hour: int
    net_wh: int
    import_wh: int | None = None
    export_wh: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.hour < MAX_HOUR:
            raise ValueError(f"history: hour {self.hour} is not within 0..{MAX_HOUR}")
        if any(abs(value) > MAX_ENERGY_WH for value in (self.net_wh, self.import_wh or 0, self.export_wh or 0)):
            raise ValueError(f"history: hour {self.hour} has more than {MAX_ENERGY_WH} Wh")
        if (self.import_wh is None) != (self.export_wh is None):
            raise ValueError(f"history: hour {self.hour} has import or export alone; give both or none")

    @classmethod
    def of_sums(cls, hour: int, import_wh: int, export_wh: int) -> Hour:
        return cls(hour, import_wh - export_wh, import_wh, export_wh)


@dataclass(frozen=True, slots=True)
class HourlySeries:
    """Values from `start_hour` on, oldest first; None is a gap."""

    start_hour: int
    values: tuple[int | None, ...]

    @property
    def end_hour(self) -> int:
        return self.start_hour + len(self.values)

    @property
    def known(self) -> int:
        return sum(value is not None for value in self.values)


@dataclass(frozen=True, slots=True)
class Added:
    """How many hours were new or better, and how many were there already."""

    stored: int
    known: int


@dataclass(frozen=True, slots=True)
class MadeForecast:
    """What was forecast for an hour, when it was first forecast (`as_of_hour` is the first hour not known then)."""

    hour: int
    as_of_hour: int
    model_hash: bytes
    mean_wh: int
    p10_wh: int
    p50_wh: int
    p90_wh: int


class TooManyMicrogrids(ValueError):
    """The history is full."""


class HistoryStore:
    """One open history; made when missing. Calls may come from any thread. Raises InferenceStoreError."""

    def __init__(self, path: Path) -> None:
        self._db = Database(path, _SCHEMA, _VERSION)

    def close(self) -> None:
        self._db.close()

    def add_hours(self, microgrid: int, hours: Iterable[Hour], source: int) -> Added:
        """Store hours in one transaction. Raises TooManyMicrogrids."""
        rows = [(microgrid, item.hour, source, item.net_wh, item.import_wh, item.export_wh) for item in hours]
        with self._db.transaction() as db:
            self._room(microgrid)
            before = db.total_changes
            db.executemany(
                "INSERT INTO hours VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (microgrid, hour)"
                " DO UPDATE SET source = excluded.source, net_wh = excluded.net_wh,"
                " import_wh = excluded.import_wh, export_wh = excluded.export_wh"
                " WHERE excluded.source > hours.source",
                rows,
            )
            stored = db.total_changes - before
            db.execute(
                "DELETE FROM hours WHERE microgrid = ? AND hour <= (SELECT max(hour) FROM hours WHERE microgrid = ?) - ?",
                (microgrid, microgrid, MAX_HOURS),
            )
        return Added(stored, len(rows) - stored)

    def _room(self, microgrid: int) -> None:
        if microgrid not in self.microgrids() and len(self.microgrids()) >= MAX_MICROGRIDS:
            raise TooManyMicrogrids(f"history: {MAX_MICROGRIDS} microgrids are kept, no more; use another hub for {microgrid}")

    def microgrids(self) -> list[int]:
        return [_int(row[0]) for row in self._db.rows("SELECT DISTINCT microgrid FROM hours ORDER BY microgrid")]

    def known_hours(self, microgrid: int, first: int, source: int) -> set[int]:
        """Hours from `first` on that are known from this source or a better one."""
        sql = "SELECT hour FROM hours WHERE microgrid = ? AND hour >= ? AND source >= ?"
        return {_int(row[0]) for row in self._db.rows(sql, (microgrid, first, source))}

    def net(self, microgrid: int, latest: int = MAX_HOURS) -> HourlySeries:
        """Net energy, import less export, of the latest hours up to the last that is known."""
        return self._series("net_wh", microgrid, latest)

    def exported(self, microgrid: int, latest: int = MAX_HOURS) -> HourlySeries:
        """Exported energy of the latest hours; those of which only the net energy is known are gaps."""
        return self._series("export_wh", microgrid, latest)

    def _series(self, column: str, microgrid: int, latest: int) -> HourlySeries:
        known = f"FROM hours WHERE microgrid = ? AND {column} IS NOT NULL"
        sql = f"SELECT hour, {column} {known} AND hour > (SELECT max(hour) {known}) - ? ORDER BY hour"
        rows = self._db.rows(sql, (microgrid, microgrid, latest))
        return _dense({_int(hour): _int(value) for hour, value in rows}, latest)

    def add_price(self, microgrid: int, slot: int, wei_per_wh: int) -> None:
        """The slot's price; a later one of the same slot takes its place. What is beyond MAX_PRICE_WEI_PER_WH is left out."""
        if not 0 <= wei_per_wh <= MAX_PRICE_WEI_PER_WH or not 0 <= slot < MAX_HOUR:
            return
        with self._db.transaction() as db:
            db.execute(
                "INSERT INTO prices VALUES (?, ?, ?)"
                " ON CONFLICT (microgrid, slot) DO UPDATE SET wei_per_wh = excluded.wei_per_wh",
                (microgrid, slot, wei_per_wh),
            )
            db.execute(
                "DELETE FROM prices WHERE microgrid = ? AND slot <= (SELECT max(slot) FROM prices WHERE microgrid = ?) - ?",
                (microgrid, microgrid, MAX_PRICE_SLOTS),
            )

    def begin_prices(self, microgrid: int, start_slot: int, wei_per_wh: Sequence[int]) -> None:
        """A past of prices from elsewhere: what is known stays, NO_PRICE is left out."""
        rows = [(microgrid, slot, price) for slot, price in enumerate(wei_per_wh, start_slot) if price != NO_PRICE]
        with self._db.transaction() as db:
            db.executemany("INSERT INTO prices VALUES (?, ?, ?) ON CONFLICT DO NOTHING", rows)

    def prices(self, microgrid: int, latest: int = MAX_PRICE_SLOTS) -> HourlySeries:
        """Price of each of the latest slots in wei per Wh; here `start_hour` is the first slot."""
        sql = (
            "SELECT slot, wei_per_wh FROM prices WHERE microgrid = ?"
            " AND slot > (SELECT max(slot) FROM prices WHERE microgrid = ?) - ? ORDER BY slot"
        )
        rows = self._db.rows(sql, (microgrid, microgrid, latest))
        return _dense({_int(slot): _int(value) for slot, value in rows}, latest)

    def keep_forecasts(self, microgrid: int, made: Iterable[MadeForecast]) -> None:
        """Remember what was forecast, the first time for each hour; as long as the hours themselves."""
        with self._db.transaction() as db:
            db.executemany(
                "INSERT INTO made VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [
                    (microgrid, m.hour, m.as_of_hour, m.model_hash, m.mean_wh, m.p10_wh, m.p50_wh, m.p90_wh)
                    for m in made
                    if 0 <= m.hour < MAX_HOUR
                ],
            )
            db.execute(
                "DELETE FROM made WHERE microgrid = ? AND hour <= (SELECT max(hour) FROM made WHERE microgrid = ?) - ?",
                (microgrid, microgrid, MAX_HOURS),
            )

    def forecasts(self, microgrid: int, first: int, end: int) -> dict[int, MadeForecast]:
        """What was forecast for the hours first..end-1, by hour."""
        sql = (
            "SELECT hour, as_of_hour, model_hash, mean_wh, p10_wh, p50_wh, p90_wh FROM made"
            " WHERE microgrid = ? AND hour >= ? AND hour < ?"
        )
        found = {}
        for hour, as_of, name, *values in self._db.rows(sql, (microgrid, first, end)):
            assert isinstance(name, bytes)
            found[_int(hour)] = MadeForecast(_int(hour), _int(as_of), name, *(_int(value) for value in values))
        return found


def _dense(known: Mapping[int, int], most: int) -> HourlySeries:
    """The latest `most` places up to the last that is known, with None where nothing is."""
    if not known:
        return HourlySeries(0, ())
    last = max(known)
    first = max(min(known), last - most + 1)
    return HourlySeries(first, tuple(known.get(place) for place in range(first, last + 1)))


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value
