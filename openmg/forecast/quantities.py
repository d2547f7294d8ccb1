"""Which series a meter at a home's border has, and whether there is anything in them to learn.

Such a meter has two registers. What it imports is the load less what the home's own panels cover at that moment, what it
exports is the generation less what the home uses at that moment. Neither load nor generation can be told from them, so neither
is a quantity here.
Rules: integer Wh; utility and meter judge by the same rule whether a home feeds in.
Not here: reading registers (the agent), who is registered for what (the chain's genesis).
"""

from __future__ import annotations

from collections.abc import Iterable

from openmg.forecast.spec import EXPORT_ENERGY, IMPORT_ENERGY, NET_ENERGY

METERED = tuple(sorted(spec.quantity for spec in (NET_ENERGY, IMPORT_ENERGY, EXPORT_ENERGY)))
FEEDS_IN_DEN = 20
"""A home feeds in when it did in one of so many steps: an hour and a bit of each day. Below is leakage, or a day's test."""


def metered_wh(quantity: str, import_wh: int, export_wh: int) -> int:
    """The quantity's energy in a slot with these registers. ValueError for one that a meter does not have."""
    if quantity == NET_ENERGY.quantity:
        return import_wh - export_wh
    if quantity == IMPORT_ENERGY.quantity:
        return import_wh
    if quantity == EXPORT_ENERGY.quantity:
        return export_wh
    raise ValueError(f"{quantity!r} is not metered at a home's border; use one of {', '.join(METERED)}")


def feeds_in(exported_wh: Iterable[int | None]) -> bool:
    """Whether a home with these exports, step by step (None: unknown), has feed-in to learn from."""
    known = [value for value in exported_wh if value is not None]
    return sum(value > 0 for value in known) * FEEDS_IN_DEN >= max(1, len(known))


def quantities_of(exported_wh: Iterable[int | None]) -> tuple[str, ...]:
    """The quantities that a home with these exports learns from, ascending."""
    seldom = () if feeds_in(exported_wh) else (EXPORT_ENERGY.quantity,)
    return tuple(quantity for quantity in METERED if quantity not in seldom)
