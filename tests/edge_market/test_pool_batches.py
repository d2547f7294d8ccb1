"""Batches of proved orders: who clears chooses nothing, nothing waits for the utility, and all PETH is accounted for.

The arithmetic of a batch is compared in tests/contracts/test_energy_pool.py.
"""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import decode
from evm_world import ETHER, refused
from test_pool_attacks import BUY_NULLIFIER, KEY, SLOT, attempt, changed, market, orders, types_of
from trade_cases import MICROGRID
from trade_world import CAP, FLOOR, MarketChain

from edge_agent.market.calls import BUY, SELL
from openmg.market.collar import Collar, clear, opened

pytestmark = pytest.mark.slow

__all__ = ["market", "orders"]  # fixtures: a sale and a purchase, proved and not submitted

LOTS, BATCH, DELIVERY = 5, SLOT + 2, 2
"""Lots of the sale and of the purchase, their slot, and the kind of delivered energy."""
LOT_AT_CAP, LOT_AT_FLOOR = 100 * CAP, 100 * FLOOR


def number(market: MarketChain, name: str, *arguments: int) -> int:
    return int(market.operator.call(market.pool, name, *arguments))


def close(market: MarketChain, batch: int) -> dict[str, Any]:
    """What the contract says of the batch."""
    market.operator.transact(market.pool, "close", KEY, batch)
    events = market.operator.events(market.pool, "BatchClosed", 0, market.operator.block_number())
    return dict(events[-1].args)


def all_is_accounted_for(market: MarketChain) -> None:
    balance, said = market.holdings()
    assert balance == said


def open_notes(market: MarketChain, first: int) -> list[tuple[int, int]]:
    """(asset, amount) of the notes that were queued since."""
    events = market.operator.events(market.token, "NoteQueued", 0, market.operator.block_number())
    told = [bytes(event.args["ciphertext"]) for event in events if event.args["index"] >= first]
    return [(int.from_bytes(data[:21]), int.from_bytes(data[21:33])) for data in told if len(data) == 65]


def test_a_sale_and_a_purchase_of_one_slot_meet_and_every_wei_is_accounted_for(orders, market):
    all_is_accounted_for(market)
    for order in ("sell", "buy"):
        market.submit(orders[order])
        all_is_accounted_for(market)
    assert number(market, "lockedWei") == LOTS * LOT_AT_CAP
    market.to_slot(BATCH + 1)
    first = int(market.operator.call(market.token, "queuedCount"))
    price = close(market, BATCH)["priceWeiPerLot"]
    assert price == (LOT_AT_FLOOR + LOT_AT_CAP) // 2  # no liquidity: the middle
    all_is_accounted_for(market)
    for _ in range(2):
        market.operator.transact(market.pool, "settle", KEY, BATCH, 1)
        all_is_accounted_for(market)
    delivery = DELIVERY + 4 * (MICROGRID << 40 | KEY)
    change = LOTS * (LOT_AT_CAP - price)
    assert open_notes(market, first) == [(0, LOTS * price), (delivery, LOTS * 100), (0, change)]
    assert number(market, "lockedWei") == 0


def test_whoever_closes_does_not_choose_who_gets_energy(orders, market):
    """A purchase one slot after a sale gets what the pool took; cleared before that sale it would get nothing."""
    collar = Collar(FLOOR, CAP)
    market.utility.transact(market.pool, "provide", KEY, value=10 * ETHER)
    market.submit(orders["sell"])
    market.to_slot(SLOT + 3)
    market.submit(orders["buy"])
    market.to_slot(SLOT + 4)
    with refused("NotTheOldest"):
        market.operator.transact(market.pool, "close", KEY, SLOT + 3)
    sold = clear(opened(10 * ETHER, collar), LOTS, 0, collar)
    bought = clear(sold.reserves, 0, LOTS, collar)
    for batch, expected in ((SLOT + 2, sold), (SLOT + 3, bought)):
        said = close(market, batch)
        assert (said["priceWeiPerLot"], said["clearedLots"]) == (expected.wei_per_lot, expected.cleared_lots)
        all_is_accounted_for(market)
    assert bought.cleared_lots == LOTS
    # Settled in any order: what a batch pays was fixed when it was closed.
    for batch in (SLOT + 3, SLOT + 2):
        market.operator.transact(market.pool, "settle", KEY, batch, 9)
        all_is_accounted_for(market)
    assert number(market, "lockedWei") == 0


def test_a_proved_sale_that_the_escrow_could_not_redeem_is_not_taken(orders, market):
    """Otherwise its batch could not be closed, and everybody's money in it would wait for the utility."""
    slot, needed = escrow_place(market), LOTS * LOT_AT_FLOOR
    market.chain.set_storage(market.pool, slot, needed - 1)
    with refused("EscrowTooLow"):
        market.submit(orders["sell"])
    market.chain.set_storage(market.pool, slot, needed)
    market.submit(orders["sell"])
    assert number(market, "reservedWei") == needed
    market.to_slot(BATCH + 1)
    assert close(market, BATCH)["priceWeiPerLot"] == LOT_AT_FLOOR
    assert number(market, "reservedWei") == 0 == number(market, "escrow")


def escrow_place(market: MarketChain) -> int:
    """Where the pool's storage has its escrow."""
    escrow, address = number(market, "escrow"), market.pool.checksum_address
    words = (market.operator.rpc("eth_getStorageAt", address, hex(place), "latest") for place in range(16))
    return [int(word, 16) for word in words].index(escrow)


def test_a_purchase_that_got_nothing_may_be_tried_again_but_its_payment_not(orders, market):
    """Nobody sold and the pool has no energy: all of the payment comes back, and N is free for another order."""
    nullifier = decode(types_of(BUY), orders["buy"].data[4:])[BUY_NULLIFIER]
    market.submit(orders["buy"])
    assert market.operator.call(market.pool, "isUsed", nullifier)
    market.to_slot(BATCH + 1)
    assert close(market, BATCH)["clearedLots"] == 0
    first = int(market.operator.call(market.token, "queuedCount"))
    market.operator.transact(market.pool, "settle", KEY, BATCH, 9)
    assert open_notes(market, first) == [(0, LOTS * LOT_AT_CAP)]  # change, and no delivery
    assert not market.operator.call(market.pool, "isUsed", nullifier)
    all_is_accounted_for(market)
    with refused("AlreadySpent"):
        attempt(market, orders["buy"].data)


def test_the_alias_of_a_days_key_is_no_key(orders, market):
    """2^27 days later the slots are the same modulo 2^32."""
    with refused("InvalidKey"):
        attempt(market, changed(SELL, orders["sell"].data, 1, lambda key: key + (2**27 << 8)))
