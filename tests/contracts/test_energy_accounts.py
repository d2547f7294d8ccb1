"""EnergyToken across microgrids and through a random life: every Wh is accounted for."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from evm_world import ETHER, Chain, refused
from token_world import DEADLINE, FEED_IN, World, create, new_world, open_exchange

from hub.chain.deploy import contract_at
from hub.chain.errors import CallReverted


@pytest.fixture
def world(chain: Chain) -> World:
    return new_world(chain)


def test_token_to_token_between_two_microgrids(world):
    """A tie line sells energy of one microgrid and receives energy of the other."""
    seller = world.home("seller")
    far = world.home("far", microgrid=2)
    slot = world.slot()
    world.next_slot()
    world.record(slot, 0, 2_000)
    world.record(slot, 0, 2_000, microgrid=2)
    world.mint(seller, slot, 2_000)
    here = open_exchange(world, seller, 1_000, ETHER)
    token2 = create(world.operator, "EnergyToken", "Energy", "MG2", world.registry.address, 2, FEED_IN)
    world2 = World(world.chain, world.ppdl, world.operator, world.utility, world.relay, world.registry, token2, microgrid=2)
    world2.mint(far, slot, 2_000)
    factory = world.operator.call(here, "factoryAddress")
    factory_contract = contract_at("ExchangeFactory", factory)
    world.operator.transact(factory_contract, "createExchange", token2.address)
    there = contract_at("Exchange", world.operator.call(factory_contract, "getExchange", token2.address))
    world.utility.transact(world.registry, "registerExchange", there.address)
    far.client.transact(token2, "approve", there.address, 2**256 - 1)
    far.client.transact(there, "addLiquidity", 0, 1_500, DEADLINE, value=ETHER)
    swap = (200, 1, 1, DEADLINE)
    with refused("TransferNotAllowed"):
        seller.client.transact(here, "tokenToTokenSwapInput", *swap, token2.address)
    with refused("PaymentFailed"):  # the other exchange would buy for this one, and its token refuses that
        seller.client.transact(here, "tokenToEthTransferInput", 200, 1, DEADLINE, there.address)
    seller.client.transact(here, "tokenToTokenTransferInput", *swap, far.address, token2.address)
    assert world.operator.call(token2, "deliveryOf", far.address) > 200
    world.utility.transact(world.registry, "registerTieLine", world.operator.address)
    seller.client.transact(world.token, "transfer", world.operator.address, 100)
    world.operator.transact(world.token, "approve", here.address, 2**256 - 1)
    world.operator.transact(here, "tokenToTokenSwapInput", 100, 1, 1, DEADLINE, token2.address)
    assert world.operator.call(token2, "balanceOf", world.operator.address) > 0


@pytest.mark.parametrize("seed", [1, 2])
def test_every_wh_is_accounted_for_whatever_happens(world, seed):
    """Random life of a microgrid. After every step: minted = burned + redeemed + expired + outstanding, balances add up to
    the outstanding, no delivery exceeds its balance, and no slot is used beyond its agreed sums."""
    rng, done = random.Random(seed), Counter[str]()
    homes = [world.home("prosumer"), world.home("producer", 3_000, 0), world.home("consumer", 0, 1_000), world.home("late")]
    tie = world.chain.client("tie line")
    world.chain.give(tie.address, ETHER)
    world.utility.transact(world.registry, "registerTieLine", tie.address)
    world.utility.transact(world.token, "fund", value=2_000 * FEED_IN)
    slot = world.slot()
    world.next_slot()
    world.record(slot, 900, 2_500)
    world.mint(homes[0], slot, 1_500)
    exchange = open_exchange(world, homes[0], 800, ETHER)
    for client in (*(home.client for home in homes[1:]), tie):
        client.transact(world.token, "approve", exchange.address, 2**256 - 1)
    slots = [slot]

    def step(action: str) -> None:
        home, other, wh = rng.choice(homes), rng.choice(homes), rng.randrange(1, 400)
        used = rng.choice(slots[-3:])
        match action:
            case "slot":
                world.next_slot(rng.choice((1, 1, 1, 1, 30, 97)))
                slots.append(world.slot() - 1)
                world.record(slots[-1], rng.randrange(1_500), rng.randrange(3_000))
            case "mint":
                world.mint(home, used, wh)
            case "burn":
                world.burn(home, used, wh, 400)
            case "redeem":
                home.client.transact(world.token, "redeem", wh)
            case "expire":
                world.operator.transact(world.token, "expire", rng.choice([home.address, tie.address, exchange.address]))
            case "pass on":
                home.client.transact(world.token, "transfer", other.address, wh)
            case "to the tie line":
                home.client.transact(world.token, "transfer", tie.address, wh)
            case "from the tie line":
                tie.transact(world.token, "transfer", other.address, wh)
            case "sell":
                home.client.transact(exchange, "tokenToEthSwapInput", wh, 1, DEADLINE)
            case "buy":
                home.client.transact(exchange, "ethToTokenSwapOutput", wh, DEADLINE, value=ETHER)
            case "provide":
                home.client.transact(exchange, "addLiquidity", 0, wh, DEADLINE, value=ETHER // 20)
            case "withdraw":
                home.client.transact(exchange, "removeLiquidity", ETHER // 40, 1, 1, DEADLINE)

    # fmt: off
    actions = ["slot", "mint", "mint", "burn", "burn", "redeem", "expire", "pass on", "to the tie line", "from the tie line",
               "sell", "buy", "buy", "provide", "withdraw"]
    # fmt: on
    for _ in range(120):
        action = rng.choice(actions)
        try:
            step(action)
            done[action] += 1
        except CallReverted:
            done["refused"] += 1
        assert world.supply_is_accounted_for()
        holders = [*(home.address for home in homes), tie.address, exchange.address]
        assert sum(world.balance(holder) for holder in holders) == world.operator.call(world.token, "totalSupply")
        for home in homes:
            assert world.operator.call(world.token, "deliveryOf", home.address) <= world.balance(home.address)
        assert world.balance(exchange.address) == world.operator.call(exchange, "getReserves")[1]
    for used in slots:
        minted, burned = world.operator.call(world.token, "slotUse", used)
        agreed = world.operator.call(world.registry, "slotSum", 1, used)
        assert minted <= agreed[4] and burned <= agreed[3]
    world.next_slot(98)  # at the end all expires but what lies in the exchange
    for holder in holders[:-1]:
        if world.balance(holder) > 0:
            world.operator.transact(world.token, "expire", holder)
    assert world.operator.call(world.token, "totalSupply") == world.balance(exchange.address)
    assert world.supply_is_accounted_for()
    assert done.total() - done["refused"] > 20, done
