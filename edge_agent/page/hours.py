"""The cheapest hours of the next day: what an hour is likely to cost, and when one, two or four hours cost least. Pure.

Theory of operation. Nobody publishes the price of an hour that is to come. What is known are the limits between which the
microgrid's price stays, and what it was: an hour's expected price is the median of what was recorded in the same hour of the
day on the last days, within today's limits. For each hour a load of 1 kWh is priced: what the home's own expected surplus
covers of it at the lower limit (it surely earns that elsewhere), the rest at the expected price, or at the upper limit where no
price was recorded. The cheapest of all windows is the one with the lowest sum; of equal ones that with more own surplus, then
the first. Without limits nothing has a price: then the windows with the most own surplus are named, where there is any.
Rules: integers; wei per kWh and Wh. What a window rests on is told. Not here: recording prices (`edge_agent.wallet.prices`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median_low
from zoneinfo import ZoneInfo

from edge_agent.page.reasons import Unknown
from edge_agent.wallet.prices import Price
from openmg.clock import slot_of, slot_start
from openmg.units import SLOTS_PER_DAY, WH_PER_KWH

HOUR_SECONDS = 3600
HOURS_AHEAD = 23
"""A forecast of a day begins with the present hour, which is not offered any more."""
WINDOWS_HOURS = (1, 2, 4)
LOAD_WH = WH_PER_KWH
"""What is to be run in each hour."""
DAYS_OF_PRICES = 14
CURRENT_SLOTS = SLOTS_PER_DAY
"""Limits that were heard longer ago are not today's."""


@dataclass(frozen=True)
class Hour:
    """An hour to come: expected price (None: none was recorded at this hour), mean net energy that is expected (None: no
    forecast), the part of the load that own surplus covers, and what the load costs (None: there are no limits)."""

    start: int
    wei_per_kwh: int | None
    net_wh: int | None
    covered_wh: int
    cost_wei: int | None


@dataclass(frozen=True)
class Window:
    """The best `hours` in a row: price of the load (None without prices), and own surplus used, of LOAD_WH an hour."""

    hours: int
    start: int
    wei_per_kwh: int | None
    covered_wh: int
    estimated: bool
    """Whether a price was recorded for each of its hours; else the upper limit stands for it."""


@dataclass(frozen=True)
class Cheapest:
    """The hours, the limits (None: unknown), the windows, and why there is no price or no window."""

    hours: tuple[Hour, ...]
    floor_wei_per_kwh: int | None
    cap_wei_per_kwh: int | None
    windows: tuple[Window, ...]
    no_price: Unknown | None
    no_window: Unknown | None


def cheapest(
    prices: Sequence[Price], no_price: Unknown | None, net_wh: Mapping[int, int], now: float, zone: ZoneInfo
) -> Cheapest:
    """What is known at simulated second `now`. net_wh: expected mean net energy by the start of the hour."""
    limits = next((item for item in reversed(prices) if slot_of(now) - CURRENT_SLOTS <= item.slot <= slot_of(now)), None)
    if limits is None and no_price is None:
        no_price = Unknown("no_price_yet")
    usual = _usual(prices, now, zone)
    first = (int(now) // HOUR_SECONDS + 1) * HOUR_SECONDS
    starts = [first + ahead * HOUR_SECONDS for ahead in range(HOURS_AHEAD)]
    hours = tuple(_hour(start, usual.get(_hour_of_day(start, zone)), net_wh.get(start), limits) for start in starts)
    priced = limits is not None
    windows = tuple(_best(hours, length) for length in WINDOWS_HOURS) if priced or any(it.covered_wh for it in hours) else ()
    return Cheapest(
        hours,
        limits.floor_wei_per_kwh if limits else None,
        limits.cap_wei_per_kwh if limits else None,
        windows,
        None if priced else no_price,
        None if windows else Unknown("no_window"),
    )


def hourly(rows: Sequence[Sequence[int]]) -> dict[int, int]:
    """Mean net energy of whole hours from a forecast's rows [start, mean, ...]; means may be added up."""
    found: dict[int, int] = {}
    for start, mean_wh, *_ in rows:
        hour = start // HOUR_SECONDS * HOUR_SECONDS
        found[hour] = found.get(hour, 0) + mean_wh
    return found


def _hour_of_day(start: int, zone: ZoneInfo) -> int:
    return datetime.fromtimestamp(start, zone).hour


def _usual(prices: Sequence[Price], now: float, zone: ZoneInfo) -> dict[int, int]:
    """By hour of the day the median of the prices of the last days."""
    first = slot_of(now) - DAYS_OF_PRICES * SLOTS_PER_DAY
    by_hour: dict[int, list[int]] = {}
    for item in prices:
        if first <= item.slot <= slot_of(now) and item.wei_per_kwh is not None:
            by_hour.setdefault(_hour_of_day(slot_start(item.slot), zone), []).append(item.wei_per_kwh)
    return {hour: median_low(values) for hour, values in by_hour.items()}


def _hour(start: int, usual: int | None, net_wh: int | None, limits: Price | None) -> Hour:
    covered = min(LOAD_WH, max(0, -net_wh)) if net_wh is not None else 0
    if limits is None:
        return Hour(start, None, net_wh, covered, None)
    expected = None if usual is None else max(limits.floor_wei_per_kwh, min(limits.cap_wei_per_kwh, usual))
    rest = limits.cap_wei_per_kwh if expected is None else expected
    cost = (covered * limits.floor_wei_per_kwh + (LOAD_WH - covered) * rest) // WH_PER_KWH
    return Hour(start, expected, net_wh, covered, cost)


def _best(hours: Sequence[Hour], length: int) -> Window:
    def rank(first: int) -> tuple[int, int, int]:
        inside = hours[first : first + length]
        return sum(it.cost_wei or 0 for it in inside), -sum(it.covered_wh for it in inside), first

    first = min(range(len(hours) - length + 1), key=rank)
    inside = hours[first : first + length]
    priced = all(it.cost_wei is not None for it in inside)
    wei_per_kwh = sum(it.cost_wei or 0 for it in inside) // length if priced else None
    estimated = all(it.wei_per_kwh is not None for it in inside)
    return Window(length, inside[0].start, wei_per_kwh, sum(it.covered_wh for it in inside), estimated)
