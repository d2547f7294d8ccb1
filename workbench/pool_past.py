"""The price that a microgrid's public pool would have had, slot by slot, had its homes traded a recorded past there.

Each home decides by its own rules (`edge_agent.wallet.trading`), and the pool answers with the exchange's arithmetic
(`openmg.market.uniswap`), in the order of the homes: whoever exported offers it, whoever imported asks for it. The home that
exports most opens the pool with its first energy.
Rules: pure; integers. It is computed from homes' readings, which only a simulation has all of. Not here: gifts across a tie
line, orders that come late or are refused, where the past comes from.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.wallet.trading import Buy, Pool, Provide, Sell, demand, offer
from openmg.market.uniswap import input_for, output_for, spot_price

BALANCE_WEI = 2 * 10**18
"""Of a home, at each order: five weeks of a home's energy cost a hundredth of it."""
NO_PRICE = 0

Slots = Sequence[tuple[int, int]]
"""Import and export of one home in Wh, slot by slot."""


def pool_prices(homes: Sequence[Slots], feed_in_wei_per_wh: int, retail_wei_per_wh: int) -> list[int]:
    """Price at the end of each slot in wei per Wh; NO_PRICE until the pool is open. ValueError for homes of unequal length."""
    tariffs = feed_in_wei_per_wh, retail_wei_per_wh
    pool, held_wh = Pool(0, 0, *tariffs), [0] * len(homes)
    exported = [sum(export for _, export in home) for home in homes]
    opener = exported.index(max(exported))
    prices = []
    for slot in zip(*homes, strict=True):
        for number, (import_wh, export_wh) in enumerate(slot):
            held_wh[number] += export_wh
            if held_wh[number]:
                pool, held_wh[number] = _offered(pool, held_wh[number], number == opener)
            if import_wh:
                pool = _bought(pool, import_wh)
        prices.append(spot_price(pool.reserve_wei, pool.reserve_wh) if pool.open else NO_PRICE)
    return prices


def _offered(pool: Pool, energy_wh: int, provides: bool) -> tuple[Pool, int]:
    """The pool after a home's orders for energy that it holds, and what it holds still."""
    orders = offer(energy_wh, pool, provides=provides, balance_wei=BALANCE_WEI)
    for order in orders:
        if isinstance(order, Provide):
            pool = _with(pool, pool.reserve_wei + order.value_wei, pool.reserve_wh + order.energy_wh)
        elif isinstance(order, Sell):
            paid = output_for(order.energy_wh, pool.reserve_wh, pool.reserve_wei)
            pool = _with(pool, pool.reserve_wei - paid, pool.reserve_wh + order.energy_wh)
    return pool, 0 if orders else energy_wh


def _bought(pool: Pool, energy_wh: int) -> Pool:
    order: Buy | None = demand(energy_wh, pool, BALANCE_WEI)
    if order is None:
        return pool
    paid = input_for(order.energy_wh, pool.reserve_wei, pool.reserve_wh)
    return _with(pool, pool.reserve_wei + paid, pool.reserve_wh - order.energy_wh)


def _with(pool: Pool, reserve_wei: int, reserve_wh: int) -> Pool:
    return Pool(reserve_wei, reserve_wh, pool.feed_in_wei_per_wh, pool.retail_wei_per_wh)
