"""The price that a pool would have had: opened by who exports most, moved by the homes' own orders, kept between tariffs."""

from __future__ import annotations

import numpy as np
import pytest

from openmg.market.uniswap import input_for, output_for, spot_price
from workbench.pool_past import NO_PRICE, pool_prices

FEED_IN, RETAIL = 20_000_000_000, 40_000_000_000
MIDDLE = (FEED_IN + RETAIL) // 2


def test_there_is_no_price_before_the_home_that_exports_most_opens_the_pool():
    small, large = [(0, 10), (0, 0), (0, 0)], [(0, 0), (0, 0), (0, 900)]
    assert pool_prices([small, large], FEED_IN, RETAIL) == [NO_PRICE, NO_PRICE, MIDDLE]


def test_sales_and_purchases_move_it_by_the_exchanges_arithmetic():
    opener, seller, buyer = [(0, 9000), (0, 0), (0, 0)], [(0, 0), (0, 100), (0, 0)], [(0, 0), (0, 0), (200, 0)]
    opened, sold, bought = pool_prices([opener, seller, buyer], FEED_IN, RETAIL)
    wei, wh = 9000 * MIDDLE, 9000
    assert opened == spot_price(wei, wh) == MIDDLE
    wei, wh = wei - output_for(100, wh, wei), wh + 100
    assert sold == spot_price(wei, wh) < opened
    wei, wh = wei + input_for(200, wei, wh), wh - 200
    assert bought == spot_price(wei, wh) > sold


def test_it_stays_between_the_tariffs_whatever_homes_do():
    random = np.random.default_rng(5)
    homes = [
        [(int(i) * (k % 2), int(e) * (1 - k % 2)) for k, (i, e) in enumerate(random.integers(0, 2000, (400, 2)))]
        for _ in range(6)
    ]
    prices = pool_prices(homes, FEED_IN, RETAIL)
    assert NO_PRICE not in prices and len(set(prices)) > 100
    assert all(FEED_IN * 0.99 <= price <= RETAIL * 1.01 for price in prices)  # the fee is on top of what is kept


def test_homes_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        pool_prices([[(0, 1), (0, 1)], [(0, 1)]], FEED_IN, RETAIL)
