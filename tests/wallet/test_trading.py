"""Orders of an owner: never below feed-in, never above retail, never more than was metered."""

from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.wallet.trading import Buy, Pool, Provide, Redeem, Sell, demand, offer
from openmg.market.uniswap import input_for, output_for

FEED_IN, RETAIL = 20 * 10**9, 40 * 10**9
pools = st.builds(lambda wh, price: Pool(wh * price, wh, FEED_IN, RETAIL), st.integers(1, 10**7), st.integers(10**9, 10**11))


@given(st.integers(1, 10**6), pools)
@example(1, Pool(8348 * 20_004_784_666, 8348, FEED_IN, RETAIL))  # above feed-in by less than the pool's fee
def test_surplus_is_sold_or_redeemed_whole_and_never_below_feed_in(energy_wh, pool):
    orders = offer(energy_wh, pool, provides=False, balance_wei=0)
    assert sum(order.energy_wh for order in orders) == energy_wh
    for order in orders:
        if isinstance(order, Sell):
            assert output_for(order.energy_wh, pool.reserve_wh, pool.reserve_wei) >= order.min_wei
            assert order.min_wei >= order.energy_wh * FEED_IN


@given(st.integers(1, 10**6), pools, st.integers(0, 10**18))
def test_purchase_stays_below_retail_metered_energy_and_balance(energy_wh, pool, balance_wei):
    order = demand(energy_wh, pool, balance_wei)
    if order is not None:
        asks = input_for(order.energy_wh, pool.reserve_wei, pool.reserve_wh)
        assert asks <= order.max_wei <= min(order.energy_wh * RETAIL, balance_wei)
        assert 0 < order.energy_wh <= energy_wh


def test_a_pool_above_retail_sells_nothing_and_one_below_feed_in_buys_nothing():
    dear, cheap = Pool(10**6 * 50 * 10**9, 10**6, FEED_IN, RETAIL), Pool(10**6 * 10**10, 10**6, FEED_IN, RETAIL)
    assert demand(100, dear, 10**18) is None
    assert offer(100, cheap, provides=False, balance_wei=0) == (Redeem(100),)


def test_an_empty_pool_is_opened_by_a_provider_only():
    empty = Pool(0, 0, FEED_IN, RETAIL)
    assert offer(100, empty, provides=True, balance_wei=10**18) == (Provide(100, 100 * 30 * 10**9),)
    assert offer(100, empty, provides=True, balance_wei=1) == ()
    assert offer(100, empty, provides=False, balance_wei=10**18) == ()
    assert demand(100, empty, 10**18) is None


def test_a_deep_pool_takes_a_whole_order():
    deep = Pool(10**8 * 30 * 10**9, 10**8, FEED_IN, RETAIL)
    assert [type(order) for order in offer(100, deep, provides=False, balance_wei=0)] == [Sell]
    assert isinstance(demand(100, deep, 10**18), Buy)


@given(st.integers(1, 10**6), pools)
def test_a_purchase_leaves_the_pool_at_or_below_retail(energy_wh, pool):
    order = demand(energy_wh, pool, 10**24)
    if order is not None:
        paid_wei = input_for(order.energy_wh, pool.reserve_wei, pool.reserve_wh)
        assert pool.reserve_wei + paid_wei <= RETAIL * (pool.reserve_wh - order.energy_wh)


@given(st.lists(st.integers(1, 4000), min_size=1, max_size=8), st.integers(1, 10**5), st.integers(20, 40))
def test_sales_of_one_slot_together_never_push_the_price_below_feed_in(surpluses_wh, reserve_wh, gwei):
    """Every seller decides on the same notice; the orders execute one after the other, or fail at their limit."""
    seen = Pool(reserve_wh * gwei * 10**9, reserve_wh, FEED_IN, RETAIL)
    held_wei, held_wh = seen.reserve_wei, seen.reserve_wh
    for energy_wh in surpluses_wh:
        for order in offer(energy_wh, seen, provides=False, balance_wei=0):
            if isinstance(order, Sell) and output_for(order.energy_wh, held_wh, held_wei) >= order.min_wei:
                held_wei -= output_for(order.energy_wh, held_wh, held_wei)
                held_wh += order.energy_wh
    assert held_wei >= (FEED_IN - FEED_IN // 100) * held_wh


@given(st.lists(st.integers(1, 4000), min_size=1, max_size=8), st.integers(100, 10**5), st.integers(20, 40))
def test_purchases_of_one_slot_together_never_push_the_price_above_retail(wants_wh, reserve_wh, gwei):
    seen = Pool(reserve_wh * gwei * 10**9, reserve_wh, FEED_IN, RETAIL)
    held_wei, held_wh = seen.reserve_wei, seen.reserve_wh
    for energy_wh in wants_wh:
        order = demand(energy_wh, seen, 10**24)
        if order is not None and order.energy_wh < held_wh:
            asks_wei = input_for(order.energy_wh, held_wei, held_wh)
            if asks_wei <= order.max_wei:
                held_wei, held_wh = held_wei + asks_wei, held_wh - order.energy_wh
    assert held_wei <= (RETAIL + RETAIL // 50) * held_wh
