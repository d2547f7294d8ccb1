"""The price of a slot's orders on the private market: a constant product between two prices, one price for all.

The pool of a key trades on (X + Vx)(Y + Vy) = k, X its PETH in wei and Y its energy in Wh. The virtual offsets come from
the PETH it opens with, so that its price is the cap while it has no energy and the floor when its PETH is used up, each but
for rounding. k is fixed then, and X on the curve follows from Y alone, rounded up; fees and what rounding leaves are PETH
beyond that and never priced. (On the curve they would make k grow, the curve would leave the collar, and a price held at the
floor would take more PETH than the pool has.) A pool with too little PETH has no curve, and its PETH only comes back: one
that could buy next to nothing must not name prices. For the same reason the price of a batch in which the pool has no energy
and takes none is the middle of the collar, with or without a curve.
What is sold in a slot is always taken: by buyers, by the pool as far as its PETH goes, the rest by the utility's escrow at
the floor. What is wanted is served as far as sellers and pool have energy, each order its share. Only the difference touches
the curve, and everybody pays or gets the same price for a lot.
Rules: integers; rounding is always for the pool, so its fees never fall; what comes in is what goes out.
Source: `CollarCurve.sol` and `EnergyPool.sol`, number for number; Uniswap v1 for the fee of 0.3 %.
Not here: notes and proofs (`openmg.zk`), when a batch is cleared (`hub.market.clearing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isqrt

from openmg.zk.meters import LOT_WH

FEE_NUMERATOR, FEE_DENOMINATOR = 997, 1000
MIN_LIQUIDITY_LOTS = 100
"""Lots at the cap that a curve needs PETH for."""
MIN_FLOOR = 1_000_000
"""Lowest floor, wei for one Wh; with a cap a thousandth above it there is room for a curve."""


@dataclass(frozen=True)
class Collar:
    """Lowest and highest price, wei for one Wh. ValueError for a range that has no room for a curve."""

    floor_wei_per_wh: int
    cap_wei_per_wh: int

    def __post_init__(self) -> None:
        floor, cap = self.floor_wei_per_wh, self.cap_wei_per_wh
        if floor < MIN_FLOOR or floor + floor // 1000 >= cap or cap >= 1 << 64:
            raise ValueError(f"the cap of a collar is over a thousandth above its floor, which is {MIN_FLOOR} wei or more")

    @property
    def floor_wei_per_lot(self) -> int:
        return self.floor_wei_per_wh * LOT_WH

    @property
    def cap_wei_per_lot(self) -> int:
        return self.cap_wei_per_wh * LOT_WH

    def clamp(self, wei_per_lot: int) -> int:
        """The price, or the nearer end of the collar."""
        return max(self.floor_wei_per_lot, min(self.cap_wei_per_lot, wei_per_lot))

    @property
    def middle_wei_per_lot(self) -> int:
        """The price that no pool has a part in."""
        return (self.floor_wei_per_lot + self.cap_wei_per_lot) // 2


@dataclass(frozen=True)
class Reserves:
    """A key's pool: its PETH, fees among it, and energy; the virtual offsets and k (0 without a curve)."""

    wei: int = 0
    wh: int = 0
    virtual_wei: int = 0
    virtual_wh: int = 0
    product: int = 0

    def curve_wei(self, wh: int) -> int:
        """PETH that the curve wants beside so much energy of the pool."""
        return _ceil_div(self.product, wh + self.virtual_wh) - self.virtual_wei if self.product else 0

    @property
    def fees_wei(self) -> int:
        """PETH beyond the curve, which never falls."""
        return self.wei - self.curve_wei(self.wh)


@dataclass(frozen=True)
class Clearing:
    """What becomes of a batch: the price of a lot, the lots that buyers get, those that pool and escrow take.

    `pool_lots` is negative when the pool gives. `reserves` is the pool afterwards, `escrow_wei` what the escrow paid.
    """

    wei_per_lot: int
    cleared_lots: int
    pool_lots: int
    escrow_lots: int
    escrow_wei: int
    reserves: Reserves


def _ceil_div(value: int, by: int) -> int:
    return -(-value // by)


def opened(wei: int, collar: Collar) -> Reserves:
    """A pool that begins with so much PETH and no energy; without a curve where it is too little."""
    if wei < MIN_LIQUIDITY_LOTS * collar.cap_wei_per_lot:
        return Reserves(wei)
    middle = isqrt(collar.floor_wei_per_wh * collar.cap_wei_per_wh - 1) + 1
    virtual_wh = _ceil_div(wei, collar.cap_wei_per_wh - middle)
    virtual_wei = middle * virtual_wh
    return Reserves(wei, 0, virtual_wei, virtual_wh, (wei + virtual_wei) * virtual_wh)


def cost_wei(pool: Reserves, wh: int) -> int:
    """PETH that so much of the pool's energy costs, with the fee."""
    moved = pool.curve_wei(pool.wh - wh) - pool.curve_wei(pool.wh)
    return _ceil_div(moved * FEE_DENOMINATOR, FEE_NUMERATOR)


def revenue_wei(pool: Reserves, wh: int) -> int:
    """PETH that the pool pays for so much energy, after the fee."""
    return (pool.curve_wei(pool.wh) - pool.curve_wei(pool.wh + wh)) * FEE_NUMERATOR // FEE_DENOMINATOR


def room_lots(pool: Reserves) -> int:
    """Lots that the pool can take before its PETH is used up."""
    return (pool.product // pool.virtual_wei - pool.virtual_wh - pool.wh) // LOT_WH if pool.product else 0


def spot_wei_per_lot(pool: Reserves) -> int:
    """Price of a lot at the margin of a pool with a curve."""
    return (pool.curve_wei(pool.wh) + pool.virtual_wei) * LOT_WH // (pool.wh + pool.virtual_wh)


def clear(pool: Reserves, sold_lots: int, wanted_lots: int, collar: Collar) -> Clearing:
    """The outcome of a batch in which so many lots are offered and wanted."""
    cleared = min(wanted_lots, sold_lots + pool.wh // LOT_WH)
    if cleared > sold_lots:
        given = cleared - sold_lots
        price = collar.clamp(_ceil_div(cost_wei(pool, given * LOT_WH), given))
        after = replace(pool, wei=pool.wei + given * price, wh=pool.wh - given * LOT_WH)
        return Clearing(price, cleared, -given, 0, 0, after)
    surplus = sold_lots - cleared
    if not surplus:
        price = collar.clamp(spot_wei_per_lot(pool)) if pool.wh else collar.middle_wei_per_lot
        return Clearing(price, cleared, 0, 0, 0, pool)
    taken = min(surplus, room_lots(pool))
    escrow_wei = (surplus - taken) * collar.floor_wei_per_lot
    price = collar.clamp((revenue_wei(pool, taken * LOT_WH) + escrow_wei) // surplus)
    after = replace(pool, wei=pool.wei - (surplus * price - escrow_wei), wh=pool.wh + taken * LOT_WH)
    return Clearing(price, cleared, taken, surplus - taken, escrow_wei, after)


def fills(wanted: Sequence[int], cleared_lots: int) -> tuple[int, ...]:
    """What each order gets of the cleared lots, in the order in which they came; the parts add up."""
    total, before, parts = sum(wanted), 0, []
    for lots in wanted:
        parts.append((before + lots) * cleared_lots // total - before * cleared_lots // total)
        before += lots
    return tuple(parts)


def redeemed(pool: Reserves, collar: Collar) -> Reserves:
    """The pool after its day: its energy went to the utility at the floor."""
    return replace(pool, wei=pool.wei + pool.wh * collar.floor_wei_per_wh, wh=0)
