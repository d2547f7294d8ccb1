"""A pool on a chain: its clearing is `openmg.market.collar` to the wei, its PETH is always all accounted for, providers' rules.

Batches are numbers here (`CurveHarness`); orders with proofs are tried in tests/edge_market.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from energy_world import CALENDAR, KEY, SLOT, RegistryWorld, new_pool, new_registry
from evm_world import ETHER, Chain, refused
from pool_world import create

from hub.chain.client import Contract, EvmClient
from openmg.market.collar import Collar, Reserves, clear, opened, redeemed, room_lots
from openmg.zk.meters import LOT_WH

GWEI = 10**9
ESCROW = 10 * ETHER
COLLAR = Collar(20 * GWEI, 40 * GWEI)
ODD = Collar(20 * GWEI + 1, 40 * GWEI + 3)
CASES = [
    ("the documentation's collar", 10**17, COLLAR),
    ("hardly enough PETH", 100 * ODD.cap_wei_per_lot, ODD),
    ("too little PETH by a wei", 100 * ODD.cap_wei_per_lot - 1, ODD),
    ("a wei of PETH", 1, COLLAR),
    ("a wide collar of odd numbers", 3 * 10**16 + 1, Collar(10**6 + 3, 10**11 + 7)),
    ("a narrow collar", 10**17 + 11, Collar(10**10, 10**10 + 10**7 + 1)),
    ("no liquidity", 0, COLLAR),
]
GROWN_FEES = ((17_676, 0), (17_803, 0), (0, 17_825), (17_866, 0), (13_440, 0))
"""Batches after which a curve that had kept its fees owed more than it had (first case)."""
AFTER_TRADE = CALENDAR.last_slot_of(KEY) + 97


@pytest.fixture(scope="module")
def made(node: Chain) -> Iterator[RegistryWorld]:
    with node.undone():
        yield new_registry(node)


@pytest.fixture
def world(made: RegistryWorld, node: Chain) -> Iterator[RegistryWorld]:
    with node.undone():
        yield made
    for client in (made.operator, made.utility):
        client.forget_nonce()  # what it counted was taken back


def provider(world: RegistryWorld, pool: Contract, name: str, amount_wei: int, key: int = KEY) -> EvmClient:
    client = world.chain.client(name)
    world.chain.give(client.address, 2 * amount_wei + ETHER)
    client.transact(pool, "provide", key, value=amount_wei)
    return client


def trade(world: RegistryWorld, pool: Contract, slot: int, sold: int, wanted: int, key: int = KEY) -> None:
    world.operator.transact(pool, "trade", key, slot, sold, wanted)


def held(world: RegistryWorld, pool: Contract, key: int = KEY) -> tuple[int, int]:
    """PETH and energy of a key."""
    wei, wh, _virtual_wei, _virtual_wh = world.operator.call(pool, "reserves", key)
    return wei, wh


def batches(pool: Reserves, draw: random.Random) -> tuple[int, int]:
    """Lots offered and wanted: all sold, all bought, neither, and often up to the pool's ends."""
    room, lots = room_lots(pool), pool.wh // LOT_WH
    sold = draw.choice((0, 1, 7, room // 3, room, room + 5))
    return sold, draw.choice((0, 0, 1, sold, sold + lots // 2, sold + lots, sold + lots + 9))


@pytest.mark.parametrize(("case", "provided", "collar"), CASES, ids=[case[0] for case in CASES])
def test_contract_and_reference_agree_to_the_wei(world, case, provided, collar):
    draw, chain_pool = random.Random(case), new_pool(world, collar, ESCROW)
    if provided:
        provider(world, chain_pool, "provider", provided)
    pool, escrow = opened(provided, collar) if provided else Reserves(), ESCROW
    planned = list(GROWN_FEES) if provided == 10**17 else []
    for slot in range(SLOT, SLOT + 30):
        sold, wanted = planned.pop(0) if planned else batches(pool, draw)
        result = clear(pool, sold, wanted, collar)
        trade(world, chain_pool, slot, sold, wanted)
        pool, escrow = result.reserves, escrow - result.escrow_wei
        stated = (result.wei_per_lot, result.cleared_lots, abs(result.pool_lots), result.escrow_lots)
        assert tuple(world.operator.call(chain_pool, "last")) == stated, (slot, sold, wanted)
        offsets = pool.virtual_wei, pool.virtual_wh
        assert tuple(world.operator.call(chain_pool, "reserves", KEY)) == (pool.wei, pool.wh, *offsets)
        assert world.operator.call(chain_pool, "escrow") == escrow
        assert world.operator.call(chain_pool, "reservedWei") == pool.wh * collar.floor_wei_per_wh <= escrow
    world.to_slot(AFTER_TRADE)
    world.operator.transact(chain_pool, "closeKey", KEY)
    assert held(world, chain_pool) == (redeemed(pool, collar).wei, 0)
    assert world.operator.call(chain_pool, "escrow") == escrow - pool.wh * collar.floor_wei_per_wh
    assert world.operator.call(chain_pool, "reservedWei") == 0


def test_a_pool_out_of_peth_leaves_the_rest_to_the_escrow_at_the_floor(world):
    pool = new_pool(world, COLLAR, ESCROW)
    provider(world, pool, "provider", 10**15)
    room = room_lots(opened(10**15, COLLAR))
    trade(world, pool, SLOT, room + 1_000, 0)
    assert world.operator.call(pool, "escrow") == ESCROW - 1_000 * COLLAR.floor_wei_per_lot
    assert held(world, pool)[1] == room * LOT_WH
    trade(world, pool, SLOT + 1, 50, 0)  # nothing is left that it could pay with
    assert world.operator.call(pool, "last")[0] == COLLAR.floor_wei_per_lot
    assert world.operator.call(pool, "escrow") == ESCROW - 1_050 * COLLAR.floor_wei_per_lot


@pytest.mark.parametrize(("dust", "without"), [(1, True), (100 * COLLAR.cap_wei_per_lot - 1, True), (10**17, False)])
def test_dust_liquidity_names_no_price_and_comes_back(world, dust, without):
    """Where sales meet purchases, where nothing is left for a pool, and where all is left for it."""
    pool = new_pool(world, COLLAR, ESCROW)
    ada = provider(world, pool, "provider", dust)
    middle = (COLLAR.floor_wei_per_lot + COLLAR.cap_wei_per_lot) // 2
    for slot, (sold, wanted, price) in enumerate(((5, 5, middle), (5, 9, middle), (5, 0, COLLAR.floor_wei_per_lot)), SLOT):
        trade(world, pool, slot, sold, wanted)
        paid = world.operator.call(pool, "last")[0]
        assert (paid == price) == (without or price == middle), (sold, wanted)
    if without:
        world.to_slot(AFTER_TRADE)
        ada.transact(pool, "closeKey", KEY)
        assert held(world, pool) == (dust, 0)


def test_a_sale_that_the_escrow_could_not_redeem_is_not_taken(world):
    """Neither now nor while it keeps the floor of energy that a pool holds: no batch ever waits for the utility."""
    pool = new_pool(world, COLLAR, 100 * COLLAR.floor_wei_per_lot)
    provider(world, pool, "provider", 10**17)
    with refused("EscrowTooLow"):
        trade(world, pool, SLOT, 101, 0)
    trade(world, pool, SLOT, 60, 0)
    with refused("EscrowTooLow"):
        trade(world, pool, SLOT + 1, 41, 0)
    trade(world, pool, SLOT + 1, 40, 60)  # 20 leave the pool, and their floor is free again
    trade(world, pool, SLOT + 2, 60, 0)
    with refused("EscrowTooLow"):
        trade(world, pool, SLOT + 3, 1, 0)
    world.utility.transact(pool, "fund", value=COLLAR.floor_wei_per_lot)
    trade(world, pool, SLOT + 3, 1, 0)
    world.to_slot(AFTER_TRADE)
    world.operator.transact(pool, "closeKey", KEY)  # all of it is there
    assert world.operator.call(pool, "escrow") == 0


def test_one_keys_energy_does_not_use_what_is_kept_for_anothers(world):
    other = KEY + 256
    pool = new_pool(world, COLLAR, 100 * COLLAR.floor_wei_per_lot)
    for key in (KEY, other):
        provider(world, pool, "provider", 10**17, key)
    trade(world, pool, SLOT, 60, 0)
    with refused("EscrowTooLow"):
        trade(world, pool, SLOT, 41, 0, other)
    trade(world, pool, SLOT, 40, 0, other)
    world.to_slot(AFTER_TRADE + 96)
    for key in (KEY, other):
        world.operator.transact(pool, "closeKey", key)
        assert held(world, pool, key)[1] == 0


def test_providers_share_by_what_they_brought_and_leave_nothing_behind(world):
    pool = new_pool(world, COLLAR, ESCROW)
    shares = {"ada": 3 * 10**16 + 1, "ben": 10**16, "cho": 7}
    clients = {name: provider(world, pool, name, amount) for name, amount in shares.items()}
    trade(world, pool, SLOT, 3_000, 1_000)
    trade(world, pool, SLOT + 1, 0, 500)
    # What buyers paid and sellers got is the market's; here nobody brings or takes it, so it is made good.
    world.to_slot(AFTER_TRADE)
    world.operator.transact(pool, "closeKey", KEY)
    total, _ = held(world, pool)
    world.chain.give(pool.address, total + world.operator.call(pool, "escrow"))
    paid = []
    for client in clients.values():
        before = client.balance(client.address)
        client.transact(pool, "withdraw", KEY)
        paid.append(client.balance(client.address) - before)
        with refused("ZeroAmount"):
            client.transact(pool, "withdraw", KEY)
    assert held(world, pool) == (0, 0)
    assert world.operator.balance(pool.address) == world.operator.call(pool, "escrow")
    events = world.operator.events(pool, "Withdrawn", 0, world.operator.block_number())
    amounts = [int(event.args["amount"]) for event in events]
    assert sum(amounts) == total
    for amount, share in zip(amounts, shares.values(), strict=True):
        assert abs(amount * sum(shares.values()) - share * total) <= 2 * sum(shares.values())
    assert all(0 <= amount - got < 10**16 for amount, got in zip(amounts, paid, strict=True))  # the fee of the call


def test_providers_come_before_the_first_order_and_on_the_keys_day(world):
    pool = new_pool(world, COLLAR, ESCROW)
    ada = provider(world, pool, "ada", 10**15)
    with refused("ZeroAmount"):
        ada.transact(pool, "provide", KEY)
    with refused("TooMuch"):
        world.chain.give(ada.address, 2**98)
        ada.transact(pool, "provide", KEY, value=2**96)
    with refused("KeyNotClosed"):
        ada.transact(pool, "withdraw", KEY)
    trade(world, pool, SLOT, 1, 0)
    with refused("TooLate"):
        ada.transact(pool, "provide", KEY, value=1)
    world.to_slot(CALENDAR.last_slot_of(KEY) + 1)
    with refused("TooLate"):
        ada.transact(pool, "provide", KEY + 1, value=1)
    world.to_slot(AFTER_TRADE - 1)
    with refused("KeyNotOver"):
        ada.transact(pool, "closeKey", KEY)
    world.to_slot(AFTER_TRADE)
    ada.transact(pool, "closeKey", KEY)
    with refused("KeyAlreadyClosed"):
        ada.transact(pool, "closeKey", KEY)
    with refused("KeyAlreadyClosed"):
        trade(world, pool, AFTER_TRADE, 1, 0)


@pytest.mark.parametrize(
    ("floor", "cap"), [(10**6 - 1, 10**9), (10**9, 10**9), (10**9, 10**9 + 10**6), (10**9, 2**64)], ids=str
)
def test_a_collar_without_room_for_a_curve_is_refused(world, floor, cap):
    with refused("InvalidCollar"):
        create(world.operator, "testing/CurveHarness", world.registry.address, floor, cap)
    with pytest.raises(ValueError):
        Collar(floor, cap)
