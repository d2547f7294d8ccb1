"""EnergyToken: who may buy, burn, pass on and redeem metered energy, and what expires."""

from __future__ import annotations

import pytest
from evm_world import ETHER, Chain, key, refused
from token_world import DEADLINE, EXPORT, FEED_IN, FIRST_SLOT, SLOT_MILLIS, Home, World, create, new_world, open_exchange

from hub.chain.deploy import MeterPlan, register_meters
from openmg.signing import address_of


@pytest.fixture
def world(chain: Chain) -> World:
    return new_world(chain)


def test_sell_buy_and_burn(world):
    seller, buyer = world.home("seller"), world.home("buyer", export_wh=0, import_wh=400)
    slot = world.slot()
    world.next_slot()
    world.record(slot, 350, 2_000)
    world.mint(seller, slot, 2_000)
    exchange = open_exchange(world, seller, 1_000, ETHER)
    seller.client.transact(exchange, "tokenToEthSwapInput", 500, 1, DEADLINE)
    buyer.client.transact(exchange, "ethToTokenSwapOutput", 300, DEADLINE, value=ETHER)
    assert world.operator.call(world.token, "deliveryOf", buyer.address) == 300
    world.burn(buyer, slot, 200, 350)
    world.burn(buyer, slot, 100, 350)
    with refused("OverReading"):
        world.burn(buyer, slot, 51, 350)
    with refused("ReadingChanged"):
        world.burn(buyer, slot, 10, 400)
    assert world.balance(buyer.address) == 0
    assert world.operator.call(world.token, "deliveryOf", buyer.address) == 0
    assert world.operator.call(world.token, "burnedAgainst", buyer.device, slot) == 300
    assert world.supply_is_accounted_for()


def test_burn_never_exceeds_the_agreed_import(world):
    seller = world.home("seller")
    one, two = world.home("one", 0, 1_000), world.home("two", 0, 1_000)
    slot = world.slot()
    world.next_slot()
    world.record(slot, 500, 2_000)
    world.mint(seller, slot, 2_000)
    exchange = open_exchange(world, seller, 1_500, ETHER)
    for home in (one, two):
        home.client.transact(exchange, "ethToTokenSwapOutput", 300, DEADLINE, value=2 * ETHER)
    world.burn(one, slot, 300, 300)
    with refused("OverAgreedSum"):
        world.burn(two, slot, 201, 300)
    with refused("OverCapacity"):
        world.burn(two, slot, 100, 1_001)
    world.burn(two, slot, 200, 1_000)


def test_buyers_need_an_importing_meter_of_this_microgrid(world):
    seller, producer = world.home("seller"), world.home("producer", 5_000, 0)
    far = world.home("far", microgrid=2)
    slot = world.slot()
    world.next_slot()
    world.record(slot, 0, 2_000)
    world.mint(seller, slot, 2_000)
    exchange = open_exchange(world, seller, 1_500, ETHER)
    trader = world.chain.client("trader without a meter")
    world.chain.give(trader.address, ETHER)
    for client, error in ((trader, "TransferNotAllowed"), (far.client, "TransferNotAllowed")):
        with refused(error):
            client.transact(exchange, "ethToTokenSwapOutput", 10, DEADLINE, value=ETHER // 10)
    with refused("BuyerWithoutImport"):
        producer.client.transact(exchange, "ethToTokenSwapOutput", 10, DEADLINE, value=ETHER // 10)


def test_a_buyer_takes_no_more_per_slot_than_its_meters_can_import(world):
    seller, buyer = world.home("seller"), world.home("buyer", 0, 400)
    slot = world.slot()
    world.next_slot()
    world.record(slot, 0, 2_000)
    world.mint(seller, slot, 2_000)
    exchange = open_exchange(world, seller, 1_500, ETHER)
    with refused("OverImportCapacity"):
        buyer.client.transact(exchange, "ethToTokenSwapOutput", 401, DEADLINE, value=ETHER)
    buyer.client.transact(exchange, "ethToTokenSwapOutput", 400, DEADLINE, value=ETHER)


def test_bought_energy_is_neither_sold_nor_redeemed(world):
    seller, buyer = world.home("seller"), world.home("buyer")
    slot = world.slot()
    world.next_slot()
    world.record(slot, 0, 2_100)
    world.mint(seller, slot, 2_000)
    world.mint(buyer, slot, 100)
    exchange = open_exchange(world, seller, 1_500, ETHER)
    world.utility.transact(world.token, "fund", value=ETHER)
    buyer.client.transact(exchange, "ethToTokenSwapOutput", 300, DEADLINE, value=ETHER)
    buyer.client.transact(world.token, "approve", exchange.address, 2**256 - 1)
    with refused("BoughtEnergyNotForSale"):
        buyer.client.transact(exchange, "tokenToEthSwapInput", 101, 1, DEADLINE)
    with refused("BoughtEnergyNotForSale"):
        buyer.client.transact(world.token, "redeem", 101)
    accomplice = world.home("accomplice", 0, 400)
    buyer.client.transact(world.token, "transfer", accomplice.address, 400)
    assert world.operator.call(world.token, "deliveryOf", accomplice.address) == 300
    accomplice.client.transact(world.token, "approve", exchange.address, 2**256 - 1)
    with refused("BoughtEnergyNotForSale"):
        accomplice.client.transact(exchange, "tokenToEthSwapInput", 101, 1, DEADLINE)
    accomplice.client.transact(exchange, "tokenToEthSwapInput", 100, 1, DEADLINE)


def test_energy_moves_only_between_owners_exchanges_and_tie_lines(world):
    home, neighbour, far = world.home("home"), world.home("neighbour"), world.home("far", microgrid=2)
    slot = world.slot()
    world.next_slot()
    world.record(slot, 0, 1_000)
    world.mint(home, slot, 1_000)
    home.client.transact(world.token, "transfer", neighbour.address, 100)
    for stranger in (far.address, b"\3" * 20, world.operator.address):
        with refused("TransferNotAllowed"):
            home.client.transact(world.token, "transfer", stranger, 1)
    with refused("NotUtility"):
        world.operator.transact(world.registry, "registerTieLine", world.operator.address)
    world.utility.transact(world.registry, "registerTieLine", world.operator.address)
    home.client.transact(world.token, "transfer", world.operator.address, 50)
    world.operator.transact(world.token, "transfer", neighbour.address, 20)
    with refused("TransferNotAllowed"):
        world.operator.transact(world.token, "transfer", b"\3" * 20, 1)


def test_unsold_supply_is_redeemed_at_feed_in(world):
    home = world.home("home")
    slot = world.slot()
    world.next_slot()
    world.record(slot, 0, 1_000)
    world.mint(home, slot, 1_000)
    with refused("EscrowTooLow"):
        home.client.transact(world.token, "redeem", 10)
    world.utility.transact(world.token, "fund", value=10 * FEED_IN)
    before = home.client.balance(home.address)
    home.client.transact(world.token, "redeem", 10)
    assert home.client.balance(home.address) - before == 10 * FEED_IN
    with refused("EscrowTooLow"):
        home.client.transact(world.token, "redeem", 1)
    with refused("ZeroAmount"):
        home.client.transact(world.token, "redeem", 0)
    with refused("NotAnOwner"):
        world.operator.transact(world.token, "redeem", 1)
    assert world.supply_is_accounted_for()


def test_a_payee_cannot_redeem_again_while_it_is_paid(world):
    """The owner is a contract that calls back into `redeem` when the payment arrives."""
    owner = create(world.operator, "testing/HostileReceiver")
    device = key("device of a contract")
    plan = MeterPlan(address_of(device), owner.address, 1, FIRST_SLOT, 2_000, 2_000)
    register_meters(world.operator, world.utility, world.registry, [plan])
    slot = world.slot()
    world.next_slot()
    world.record(slot, 0, 1_000)
    home = Home("contract", world.operator, device)
    mint = (home.device, slot, 1_000, world.sign(home, EXPORT, slot, 1_000))
    act = lambda *call: world.operator.transact(  # noqa: E731
        owner, "act", world.token.address, 0, world.operator.call_data(world.token, *call)
    )
    act("mint", *mint)
    world.utility.transact(world.token, "fund", value=1_000 * FEED_IN)
    again = world.operator.call_data(world.token, "redeem", 500)
    world.operator.transact(owner, "callBack", world.token.address, again)
    act("redeem", 500)
    assert world.operator.call(owner, "lastCallbackSucceeded") is False
    assert world.operator.balance(owner.address) == 500 * FEED_IN
    assert world.balance(owner.address) == 500


def test_a_balance_untouched_for_a_day_expires(world):
    home, neighbour = world.home("home"), world.home("neighbour")
    slot = world.slot()
    minted_at = world.next_slot()
    world.record(slot, 0, 1_000)
    world.mint(home, slot, 1_000)
    minted_at = world.operator.call(world.token, "lastIncomingSlot", home.address)
    world.chain.skip((minted_at + 50 - world.slot()) * SLOT_MILLIS // 1000)
    home.client.transact(world.token, "transfer", neighbour.address, 300)
    home.client.transact(world.token, "transfer", home.address, 100)
    assert world.operator.call(world.token, "lastIncomingSlot", neighbour.address) == minted_at
    world.chain.skip((minted_at + 96 - world.slot()) * SLOT_MILLIS // 1000)
    assert world.slot() == minted_at + 96
    with refused("NotExpired"):
        world.operator.transact(world.token, "expire", home.address)
    world.chain.skip(2 * SLOT_MILLIS // 1000)
    world.operator.transact(world.token, "expire", home.address)
    world.operator.transact(world.token, "expire", neighbour.address)
    with refused("NotExpired"):
        world.operator.transact(world.token, "expire", home.address)
    assert world.operator.call(world.token, "totalExpired") == 1_000
    assert world.supply_is_accounted_for()


def test_expired_energy_leaves_no_delivery_behind(world):
    """What was bought and expired must not tie up what is minted afterwards."""
    seller, buyer = world.home("seller"), world.home("buyer")
    slot = world.slot()
    world.next_slot()
    world.record(slot, 0, 2_000)
    world.mint(seller, slot, 2_000)
    exchange = open_exchange(world, seller, 1_500, ETHER)
    buyer.client.transact(exchange, "ethToTokenSwapOutput", 300, DEADLINE, value=ETHER)
    slot = world.next_slot(97) - 1
    world.operator.transact(world.token, "expire", buyer.address)
    assert world.operator.call(world.token, "deliveryOf", buyer.address) == 0
    world.record(slot, 0, 200)
    world.mint(buyer, slot, 200)
    buyer.client.transact(world.token, "approve", exchange.address, 2**256 - 1)
    buyer.client.transact(exchange, "tokenToEthSwapInput", 200, 1, DEADLINE)
    assert world.supply_is_accounted_for()


def test_a_revoked_owner_can_neither_pass_on_nor_redeem(world):
    home, neighbour = world.home("home"), world.home("neighbour")
    slot = world.slot()
    world.next_slot()
    world.record(slot, 0, 1_000)
    world.mint(home, slot, 1_000)
    world.utility.transact(world.token, "fund", value=ETHER)
    home.client.transact(world.token, "redeem", 1)
    home.client.transact(world.token, "transfer", neighbour.address, 1)
    world.utility.transact(world.registry, "revokeMeter", home.device)
    with refused("MeterNotActive"):
        world.utility.transact(world.registry, "revokeMeter", home.device)
    with refused("NotAnOwner"):
        home.client.transact(world.token, "redeem", 1)
    with refused("TransferNotAllowed"):
        home.client.transact(world.token, "transfer", neighbour.address, 1)
    with refused("TransferNotAllowed"):
        neighbour.client.transact(world.token, "transfer", home.address, 1)
    world.next_slot(97)
    world.operator.transact(world.token, "expire", home.address)
    assert world.supply_is_accounted_for()


def test_a_day_is_96_slots_and_no_more(world):
    """The last slot in which a balance lives, and the first in which it may be removed."""
    home = world.home("home")
    slot = world.slot()
    world.next_slot()
    world.record(slot, 0, 1_000)
    world.mint(home, slot, 1_000)
    minted_at = world.operator.call(world.token, "lastIncomingSlot", home.address)
    world.next_slot(minted_at + 96 - world.slot())
    with refused("NotExpired"):
        world.operator.transact(world.token, "expire", home.address)
    assert world.next_slot() == minted_at + 97
    world.operator.transact(world.token, "expire", home.address)


def test_the_exchanges_energy_does_not_expire(world):
    seller = world.home("seller")
    slot = world.slot()
    world.next_slot()
    world.record(slot, 0, 1_000)
    world.mint(seller, slot, 1_000)
    exchange = open_exchange(world, seller, 1_000, ETHER)
    world.next_slot(100)
    with refused("NotExpired"):
        world.operator.transact(world.token, "expire", exchange.address)
