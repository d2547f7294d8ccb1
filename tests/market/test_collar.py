"""The private market's price: always inside the collar, for the pool's good, and nothing is made or lost."""

from fractions import Fraction
from math import isqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmg.market.collar import (
    MIN_LIQUIDITY_LOTS,
    Collar,
    Reserves,
    clear,
    cost_wei,
    fills,
    opened,
    redeemed,
    revenue_wei,
    room_lots,
    spot_wei_per_lot,
)
from openmg.zk.meters import LOT_WH

COLLAR = Collar(20_000_000_000, 40_000_000_000)
POOL = opened(10**17, COLLAR)
"""A tenth of an ETH: some 3.5 MWh at the floor."""

LEAST = MIN_LIQUIDITY_LOTS * COLLAR.cap_wei_per_lot
"""PETH that a curve needs."""

collars = st.builds(
    lambda floor, above: Collar(floor, floor + floor // 1000 + above), st.integers(10**6, 10**12), st.integers(1, 10**12)
)
batches = st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 3_000)), min_size=1, max_size=12)


def test_the_curve_spans_the_collar():
    """Full of PETH the price is the cap, out of PETH it is the floor, each but for rounding."""
    assert COLLAR.cap_wei_per_lot * (1 - Fraction(3, 10**6)) < spot_wei_per_lot(POOL) < COLLAR.cap_wei_per_lot
    empty_wh = room_lots(POOL) * LOT_WH
    left = POOL.curve_wei(empty_wh)
    price = Fraction((left + POOL.virtual_wei) * LOT_WH, POOL.virtual_wh + empty_wh)
    assert COLLAR.floor_wei_per_lot < price < COLLAR.floor_wei_per_lot * (1 + Fraction(1, 10**3))


def test_buyers_and_sellers_meet_at_the_spot_price_of_a_pool_with_energy():
    pool = clear(POOL, 2_000, 0, COLLAR).reserves
    result = clear(pool, 30, 30, COLLAR)
    assert result.cleared_lots == 30 and result.reserves == pool and result.escrow_lots == 0
    assert result.wei_per_lot == spot_wei_per_lot(pool) not in (COLLAR.middle_wei_per_lot, spot_wei_per_lot(POOL))


@settings(max_examples=200, deadline=None)
@given(collars, st.integers(0, 10**20), st.integers(1, 3_000), st.integers(0, 3_000))
def test_a_stake_that_buys_nothing_moves_no_price(collar, provided, sold, more):
    """All that is sold is wanted, and the pool has no energy: a stake is not used and comes back, so it names nothing."""
    result = clear(opened(provided, collar), sold, sold + more, collar)
    assert result.wei_per_lot == clear(Reserves(), sold, sold + more, collar).wei_per_lot == collar.middle_wei_per_lot
    assert result.cleared_lots == sold and result.reserves == opened(provided, collar)


@settings(max_examples=200, deadline=None)
@given(collars, st.data(), batches)
def test_dust_liquidity_moves_no_price(collar, data, orders):
    """1 wei lowered the price by a twentieth, and what is less than a lot's worth raised it to the cap."""
    least = MIN_LIQUIDITY_LOTS * collar.cap_wei_per_lot
    dust = data.draw(st.one_of(st.integers(1, 9), st.integers(1, least - 1), st.just(least - 1)))
    pool = opened(dust, collar)
    for sold, wanted in orders:
        result, without = clear(pool, sold, wanted, collar), clear(Reserves(), sold, wanted, collar)
        assert result.wei_per_lot == without.wei_per_lot and result.escrow_lots == without.escrow_lots
        assert result.reserves == pool, "the PETH lies there as it came"
    assert redeemed(pool, collar).wei == dust


def test_the_least_liquidity_takes_whole_lots():
    assert not opened(LEAST - 1, COLLAR).product
    pool = opened(LEAST, COLLAR)
    assert room_lots(pool) >= MIN_LIQUIDITY_LOTS
    assert clear(pool, MIN_LIQUIDITY_LOTS, 0, COLLAR).pool_lots == MIN_LIQUIDITY_LOTS


def test_nobody_gets_what_is_not_there():
    """A pool begins without energy: what is wanted beyond what is sold in the slot stays on the tariff."""
    result = clear(POOL, 10, 90, COLLAR)
    assert result.cleared_lots == 10 and result.reserves.wh == 0
    assert clear(Reserves(), 0, 5, COLLAR).cleared_lots == 0


def test_a_sale_always_fills_if_only_by_the_escrow():
    result = clear(Reserves(), 12, 2, COLLAR)
    assert (result.cleared_lots, result.pool_lots, result.escrow_lots) == (2, 0, 10)
    assert result.wei_per_lot == COLLAR.floor_wei_per_lot and result.escrow_wei == 10 * COLLAR.floor_wei_per_lot


def test_a_pool_out_of_peth_leaves_the_rest_to_the_escrow():
    many = room_lots(POOL) + 5_000
    result = clear(POOL, many, 0, COLLAR)
    assert result.escrow_lots == 5_000 and 0 <= result.reserves.wei < POOL.wei // 100
    assert result.wei_per_lot >= COLLAR.floor_wei_per_lot


def test_selling_and_buying_back_earns_nothing():
    sold = clear(POOL, 500, 0, COLLAR)
    bought = clear(sold.reserves, 0, 500, COLLAR)
    assert bought.cleared_lots == 500 and bought.wei_per_lot > sold.wei_per_lot


def _conserved(before: Reserves, sold: int, result) -> None:
    """Buyers' and the escrow's money goes to sellers and pool, sellers' and the pool's energy to buyers and escrow."""
    paid, got = result.cleared_lots * result.wei_per_lot, sold * result.wei_per_lot
    assert paid + result.escrow_wei - got == result.reserves.wei - before.wei
    assert (sold - result.cleared_lots - result.escrow_lots) * LOT_WH == result.reserves.wh - before.wh


@settings(max_examples=300, deadline=None)
@given(collars, st.integers(0, 10**20), batches)
def test_money_and_energy_are_conserved_and_the_pool_never_loses(collar, provided, orders):
    pool = opened(provided, collar) if provided else Reserves()
    for sold, wanted in orders:
        result = clear(pool, sold, wanted, collar)
        assert collar.floor_wei_per_lot <= result.wei_per_lot <= collar.cap_wei_per_lot
        assert 0 <= result.cleared_lots <= wanted and result.escrow_lots >= 0
        _conserved(pool, sold, result)
        assert result.reserves.wei >= 0 and result.reserves.wh >= 0 and result.reserves.wh % LOT_WH == 0
        assert result.reserves.product == pool.product and result.reserves.fees_wei >= pool.fees_wei >= 0
        pool = result.reserves
    assert redeemed(pool, collar).wh == 0


sweeps = st.tuples(st.booleans(), st.sampled_from((1, 2, 4, 20)), st.integers(0, 5))
"""Whether it is sold, which part of what there is room or energy for, and lots beyond it."""


@settings(max_examples=300, deadline=None)
@given(collars, st.integers(0, 10**20), st.lists(sweeps, min_size=1, max_size=40))
def test_a_pool_that_is_traded_to_its_ends_never_owes_more_than_it_has(collar, provided, steps):
    """However much the fees have grown: a batch that the pool cannot pay could never be closed."""
    pool = opened(MIN_LIQUIDITY_LOTS * collar.cap_wei_per_lot + provided, collar)
    for selling, part, more in steps:
        lots = (room_lots(pool) if selling else pool.wh // LOT_WH) // part + more
        sold, wanted = (lots, 0) if selling else (0, lots)
        result = clear(pool, sold, wanted, collar)
        assert collar.floor_wei_per_lot <= result.wei_per_lot <= collar.cap_wei_per_lot
        _conserved(pool, sold, result)
        assert result.reserves.curve_wei(result.reserves.wh) >= 0 and result.reserves.fees_wei >= pool.fees_wei >= 0
        pool = result.reserves


@settings(max_examples=200, deadline=None)
@given(collars, st.integers(1, 10**9), st.booleans(), st.integers(0, 3))
def test_every_price_on_the_curve_lies_in_the_collar(collar, lots, whole, more):
    """At both ends, and tight where the offsets need no rounding: what the clamps may then cost is never the pool's."""
    floor, cap = collar.floor_wei_per_wh, collar.cap_wei_per_wh
    step = cap - isqrt(floor * cap - 1) - whole
    provided = (MIN_LIQUIDITY_LOTS * collar.cap_wei_per_lot // step + lots) * step + more
    pool = opened(provided, collar)
    assert provided + pool.virtual_wei <= cap * pool.virtual_wh
    assert floor * pool.product <= pool.virtual_wei**2


def test_fees_move_no_price():
    """They are the providers', and stay beside the curve: where the energy is as before, so is the price."""
    sold = clear(POOL, 5_000, 0, COLLAR).reserves
    back = clear(sold, 0, 5_000, COLLAR).reserves
    assert back.wh == POOL.wh and back.wei > POOL.wei
    assert spot_wei_per_lot(back) == spot_wei_per_lot(POOL)
    assert clear(back, 777, 0, COLLAR).wei_per_lot == clear(POOL, 777, 0, COLLAR).wei_per_lot


def test_a_price_at_the_floor_after_grown_fees_is_paid_in_full():
    """Five batches after which a curve that had kept its fees owed more than it had."""
    pool = POOL
    for sold, wanted in ((17_676, 0), (17_803, 0), (0, 17_825), (17_866, 0), (13_440, 0)):
        pool = clear(pool, sold, wanted, COLLAR).reserves
        assert pool.wei >= 0


@settings(max_examples=200, deadline=None)
@given(st.integers(LEAST, 10**20), st.lists(st.integers(1, 2_000), min_size=1, max_size=8))
def test_whoever_provides_loses_nothing_but_what_prices_move(provided, sales):
    """Everything sold and bought back again in any steps leaves the pool with at least its PETH: the fee is its own."""
    pool = opened(provided, COLLAR)
    for lots in sales:
        pool = clear(pool, min(lots, room_lots(pool)), 0, COLLAR).reserves
    while pool.wh:
        pool = clear(pool, 0, max(1, pool.wh // LOT_WH // 3), COLLAR).reserves
    assert pool.wei >= provided


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from((1, 2, 5, 10, 20, 50)), min_size=1, max_size=40), st.data())
def test_shares_add_up_and_nobody_gets_more_than_it_wanted(wanted, data):
    cleared = data.draw(st.integers(0, sum(wanted)))
    parts = fills(wanted, cleared)
    assert sum(parts) == cleared and all(0 <= part <= lots for part, lots in zip(parts, wanted, strict=True))
    exact = [Fraction(lots * cleared, sum(wanted)) for lots in wanted]
    assert all(abs(part - share) < 1 for part, share in zip(parts, exact, strict=True))


@settings(max_examples=200, deadline=None)
@given(st.integers(LEAST, 10**20), st.integers(1, 500))
def test_the_fee_is_a_thousandth_times_three(provided, lots):
    pool = clear(opened(provided, COLLAR), 1_000, 0, COLLAR).reserves
    wh = min(lots * LOT_WH, pool.wh)
    if wh:
        moved = pool.curve_wei(pool.wh - wh) - pool.curve_wei(pool.wh)
        assert cost_wei(pool, wh) == -(-Fraction(moved) * 1000 // 997)
    assert revenue_wei(pool, 0) == 0


@pytest.mark.parametrize(("floor", "cap"), [(10**5, 10**6), (10**7, 10**7), (10**6, 10**6 + 1000), (10**6, 1 << 64)])
def test_a_collar_has_room(floor, cap):
    with pytest.raises(ValueError, match="cap of a collar"):
        Collar(floor, cap)


def test_the_example_of_the_documentation():
    result = clear(Reserves(), 12, 2, COLLAR)
    gwei = 10**9
    assert result.wei_per_lot == 2_000 * gwei and result.escrow_wei == 20_000 * gwei
    assert 12 * result.wei_per_lot == 24_000 * gwei == result.cleared_lots * result.wei_per_lot + result.escrow_wei
    assert 2 * COLLAR.cap_wei_per_lot - 2 * result.wei_per_lot == 4_000 * gwei
