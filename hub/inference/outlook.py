"""How much of a microgrid's connection stays free: the reserve margin of an hour, in integers.

margin = (capacity x 1 h - P90 of the demand) / (capacity x 1 h), in thousandths, rounded down, so that a margin is never
told too large. Relative to the capacity and not to the demand: a net demand may be nought or negative. Below 0 the hour
is expected to need more than there is in one case of ten; above 1000 the microgrid feeds in.
Not here: forecasts (`hub_model`), where the capacity comes from (`hub.config`).
"""

from __future__ import annotations

from collections.abc import Sequence

MILLI = 1_000
MAX_CAPACITY_W = 10**12


def reserve_margin_milli(capacity_w: int, p90_wh: int) -> int:
    """Margin of one hour. ValueError for a capacity outside 1..MAX_CAPACITY_W."""
    if not 1 <= capacity_w <= MAX_CAPACITY_W:
        raise ValueError(f"reserve margin: a capacity of {capacity_w} W; give 1 to {MAX_CAPACITY_W}")
    return (capacity_w - p90_wh) * MILLI // capacity_w


def tightest(margins_milli: Sequence[int]) -> int:
    """Place of the smallest margin, the first of equals. ValueError for none."""
    if not margins_milli:
        raise ValueError("reserve margin: no hour is given")
    return min(range(len(margins_milli)), key=margins_milli.__getitem__)
