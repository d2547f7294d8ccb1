"""What an owner does with the energy of a slot: pure decisions, without keys, chain or clock.

Rules: surplus is sold when the pool pays at least the feed-in tariff, else redeemed at it; the short side is bought
when the pool asks at most the retail tariff, else it stays on the utility's bill. Every order carries a limit, so that
a pool that moved in the meantime cannot hurt. Only metered energy is ever offered or asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

from openmg.market.uniswap import FEE_DENOMINATOR, FEE_NUMERATOR, input_for, output_for

SALE_SHARE = 3
"""One sale takes at most a third of the room above the feed-in tariff, since neighbours sell in the same slot."""
PURCHASE_SHARE = 4
"""One purchase takes at most a quarter of the pool, which would raise its price by three quarters."""


@dataclass(frozen=True)
class Pool:
    """The pool as the last notice showed it, and the tariffs around it."""

    reserve_wei: int
    reserve_wh: int
    feed_in_wei_per_wh: int
    retail_wei_per_wh: int

    @property
    def open(self) -> bool:
        return self.reserve_wei > 0 and self.reserve_wh > 0


@dataclass(frozen=True)
class Sell:
    """Give `energy_wh` to the pool for at least `min_wei`."""

    energy_wh: int
    min_wei: int


@dataclass(frozen=True)
class Share:
    """Give `energy_wh` to a partner in another microgrid: for at least `min_wei`, and that for `min_wh` of its energy."""

    energy_wh: int
    min_wh: int
    min_wei: int


@dataclass(frozen=True)
class Redeem:
    """Give `energy_wh` back to the utility at the feed-in tariff."""

    energy_wh: int


@dataclass(frozen=True)
class Provide:
    """Open the pool with `energy_wh` and `value_wei` as its first liquidity."""

    energy_wh: int
    value_wei: int


@dataclass(frozen=True)
class Buy:
    """Take `energy_wh` from the pool for at most `max_wei`."""

    energy_wh: int
    max_wei: int


def _energy_at(pool: Pool, tariff_wei_per_wh: int) -> int:
    """The pool's energy when its price is the tariff: on a constant product k the price is k / energy^2."""
    return isqrt(pool.reserve_wei * pool.reserve_wh // max(1, tariff_wei_per_wh))


def _purchasable_wh(pool: Pool) -> int:
    """What can be bought until the pool's marginal price is the retail tariff."""
    low, high = 0, pool.reserve_wh - 1
    while low < high:
        middle = (low + high + 1) // 2
        held_wei = pool.reserve_wei + input_for(middle, pool.reserve_wei, pool.reserve_wh)
        if held_wei <= pool.retail_wei_per_wh * (pool.reserve_wh - middle):
            low = middle
        else:
            high = middle - 1
    return low


def _saleable_wh(energy_wh: int, pool: Pool) -> int:
    """The part of `energy_wh` to sell: it leaves the pool's marginal price at or above the feed-in tariff."""
    low, high = 0, energy_wh
    while low < high:
        middle = (low + high + 1) // 2
        left_wei = pool.reserve_wei - output_for(middle, pool.reserve_wh, pool.reserve_wei)
        if left_wei >= pool.feed_in_wei_per_wh * (pool.reserve_wh + middle):
            low = middle
        else:
            high = middle - 1
    return low if low == energy_wh and low * SALE_SHARE <= pool.reserve_wh else low // SALE_SHARE


def _sale_limit_wei(energy_wh: int, pool: Pool) -> int:
    """Limit of a sale: it executes while the price after it is at or above feed-in, however the pool moved meanwhile.

    A sale of q ends at the feed-in price f when the pool then holds Y = sqrt(k / f), and pays q f Y / (Y - q) in doing so.
    The pool's fee is taken off; never more than what the pool pays now.
    """
    pays_wei, held_wh = output_for(energy_wh, pool.reserve_wh, pool.reserve_wei), _energy_at(pool, pool.feed_in_wei_per_wh)
    if held_wh <= energy_wh:
        return pays_wei
    limit_wei = energy_wh * pool.feed_in_wei_per_wh * held_wh // (held_wh - energy_wh)
    return min(limit_wei * FEE_NUMERATOR // FEE_DENOMINATOR, pays_wei)


def _purchase_limit_wei(energy_wh: int, pool: Pool) -> int:
    """Limit of a purchase: it executes while the price after it is at or below retail, however the pool moved meanwhile.

    A purchase of q ends at the retail price r when the pool then holds Y = sqrt(k / r), and costs q r Y / (Y + q). The
    pool's fee is put on; never less than what the pool asks now.
    """
    held_wh = _energy_at(pool, pool.retail_wei_per_wh)
    limit_wei = energy_wh * pool.retail_wei_per_wh * held_wh // (held_wh + energy_wh)
    asks_wei = input_for(energy_wh, pool.reserve_wei, pool.reserve_wh)
    return max(limit_wei * FEE_DENOMINATOR // FEE_NUMERATOR, asks_wei)


def offer(energy_wh: int, pool: Pool, *, provides: bool, balance_wei: int) -> tuple[Sell | Redeem | Provide, ...]:
    """What to do with `energy_wh` tokens that the owner holds; empty when it is best to wait for a pool."""
    if energy_wh <= 0:
        return ()
    if not pool.open:
        middle_wei = energy_wh * (pool.feed_in_wei_per_wh + pool.retail_wei_per_wh) // 2
        return (Provide(energy_wh, middle_wei),) if provides and 0 < middle_wei <= balance_wei else ()
    sold_wh = _saleable_wh(energy_wh, pool)
    if output_for(sold_wh, pool.reserve_wh, pool.reserve_wei) < sold_wh * pool.feed_in_wei_per_wh:
        sold_wh = 0  # the pool stands above the tariff by less than its fee
    orders: list[Sell | Redeem | Provide] = []
    if sold_wh:
        orders.append(Sell(sold_wh, max(sold_wh * pool.feed_in_wei_per_wh, _sale_limit_wei(sold_wh, pool))))
    if sold_wh < energy_wh:
        orders.append(Redeem(energy_wh - sold_wh))
    return tuple(orders)


def share(energy_wh: int, here: Pool, there: Pool) -> Share | None:
    """A gift of `energy_wh` to a partner in the microgrid of pool `there`; None when a pool is too small for it."""
    if not (here.open and there.open) or energy_wh <= 0:
        return None
    given_wh = _saleable_wh(energy_wh, here)
    if not given_wh:
        return None
    between_wei = output_for(given_wh, here.reserve_wh, here.reserve_wei)
    arrives_wh = output_for(between_wei, there.reserve_wei, there.reserve_wh)
    if not 0 < arrives_wh <= min(there.reserve_wh // PURCHASE_SHARE, _purchasable_wh(there)):
        return None
    min_wh = arrives_wh * between_wei // _purchase_limit_wei(arrives_wh, there)
    return Share(given_wh, max(1, min_wh), _sale_limit_wei(given_wh, here)) if min_wh else None


def demand(energy_wh: int, pool: Pool, balance_wei: int) -> Buy | None:
    """An order for the part of `energy_wh` that the pool sells below the retail tariff; None when there is none."""
    if not pool.open:
        return None
    wanted_wh = min(energy_wh, pool.reserve_wh // PURCHASE_SHARE, _purchasable_wh(pool))
    while wanted_wh > 0:
        asks_wei = input_for(wanted_wh, pool.reserve_wei, pool.reserve_wh)
        ceiling_wei = min(wanted_wh * pool.retail_wei_per_wh, balance_wei)
        if asks_wei <= ceiling_wei:
            return Buy(wanted_wh, min(_purchase_limit_wei(wanted_wh, pool), ceiling_wei))
        wanted_wh //= 2
    return None
