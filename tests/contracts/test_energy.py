"""MeterRegistry and EnergyToken: metered energy only, once, never above what the PPDL chain agreed on."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import pytest
from evm_world import ETHER, Chain, PpdlChain, key, refused, slot_event, validator_keys

from hub.chain.artifacts import load_artifact
from hub.chain.client import Contract, EvmClient
from hub.chain.deploy import MeterPlan, contract_at, register_meters
from hub.chain.errors import CallReverted
from openmg.evm.eip712 import domain_separator, typed_digest
from openmg.signing import address_of, sign_digest

DEADLINE = 2**40
SLOT_MILLIS = 600_000
"""Long against the wall time of a test, so that no slot ends by itself; time is skipped, not waited for."""
FIRST_SLOT = 1_979_428
FEED_IN = 70 * 10**9
EXPORT, IMPORT = 1, 2
READING = "MeterReading(uint8 kind,address meter,uint256 slot,uint256 energyWh)"


@dataclass
class Home:
    name: str
    client: EvmClient
    device_key: bytes

    @property
    def device(self) -> bytes:
        return address_of(self.device_key)

    @property
    def address(self) -> bytes:
        return self.client.address


@dataclass
class World:
    chain: Chain
    ppdl: PpdlChain
    operator: EvmClient
    utility: EvmClient
    relay: Contract
    registry: Contract
    token: Contract
    microgrid: int = 1

    def home(self, name: str, export_wh: int = 2_000, import_wh: int = 3_000, microgrid: int = 1) -> Home:
        home = Home(name, self.chain.client(name), key("device of " + name))
        self.chain.give(home.address, 10 * ETHER)
        plan = MeterPlan(home.device, home.address, microgrid, FIRST_SLOT, export_wh, import_wh)
        register_meters(self.operator, self.utility, self.registry, [plan])
        return home

    def slot(self) -> int:
        return int(self.operator.call(self.registry, "currentSlot"))

    def next_slot(self, slots: int = 1) -> int:
        self.chain.skip(slots * int(self.operator.call(self.registry, "slotWallMillis")) // 1000)
        return self.slot()

    def record(self, slot: int, import_wh: int, export_wh: int, microgrid: int = 1, members: int = 6) -> None:
        """A PPDL block with the slot's event, relayed and recorded."""
        event = slot_event(microgrid, slot, members, import_wh, export_wh)
        self.ppdl.extend([event])
        height = len(self.ppdl.headers)
        self.ppdl.extend()
        self.ppdl.relay(self.operator, self.relay, height, height + 1)
        proof = self.ppdl.proof(height, [event], 0)
        self.operator.transact(self.registry, "recordSlot", (microgrid, slot, members, import_wh, export_wh), proof)

    def sign(self, home: Home, kind: int, slot: int, energy_wh: int) -> bytes:
        domain = domain_separator("OpenMG EnergyToken", "1", self.operator.chain_id(), self.token.address)
        return sign_digest(home.device_key, typed_digest(domain, READING, kind, home.device, slot, energy_wh))

    def mint(self, home: Home, slot: int, wh: int) -> None:
        signature = self.sign(home, EXPORT, slot, wh)
        home.client.transact(self.token, "mint", home.device, slot, wh, signature)

    def burn(self, home: Home, slot: int, amount_wh: int, import_wh: int) -> None:
        signature = self.sign(home, IMPORT, slot, import_wh)
        home.client.transact(self.token, "burn", home.device, slot, amount_wh, import_wh, signature)

    def balance(self, account: bytes) -> int:
        return int(self.operator.call(self.token, "balanceOf", account))

    def supply_is_accounted_for(self) -> bool:
        read = lambda name: int(self.operator.call(self.token, name))  # noqa: E731
        gone = read("totalBurned") + read("totalRedeemed") + read("totalExpired")
        return read("totalMinted") == gone + read("totalSupply")


def create(client: EvmClient, name: str, *args: object) -> Contract:
    contract, tx_hash = client.create(load_artifact(name), *args)
    client.wait(tx_hash)
    return contract


@pytest.fixture
def world(chain: Chain) -> World:
    ppdl = PpdlChain(validator_keys(4))
    operator, utility = chain.client("operator"), chain.client("utility")
    chain.give(utility.address, 100 * ETHER)
    members = [address_of(k) for k in ppdl.keys]
    relay = create(operator, "PpdlRelay", 770_077, ppdl.last_hash, members, 0, 10**9)
    now_ms = operator.block("latest").timestamp * 1000
    clock = (FIRST_SLOT, now_ms, SLOT_MILLIS)
    registry = create(operator, "MeterRegistry", operator.address, utility.address, relay.address, *clock)
    token = create(operator, "EnergyToken", "Energy", "MG1", registry.address, 1, FEED_IN)
    return World(chain, ppdl, operator, utility, relay, registry, token)


def open_exchange(world: World, provider: Home, tokens: int, wei: int) -> Contract:
    factory = create(world.operator, "ExchangeFactory")
    world.operator.transact(factory, "createExchange", world.token.address)
    exchange = contract_at("Exchange", world.operator.call(factory, "getExchange", world.token.address))
    world.utility.transact(world.registry, "registerExchange", exchange.address)
    provider.client.transact(world.token, "approve", exchange.address, 2**256 - 1)
    provider.client.transact(exchange, "addLiquidity", 0, tokens, DEADLINE, value=wei)
    return exchange


# ---- registry ---------------------------------------------------------------------------------------------------


def test_a_meter_needs_both_roles_and_the_same_content(world):
    plan = MeterPlan(b"\1" * 20, b"\2" * 20, 1, FIRST_SLOT, 100, 100)
    other = MeterPlan(b"\1" * 20, b"\2" * 20, 1, FIRST_SLOT, 101, 100)
    with refused("NotOperator"):
        world.utility.transact(world.registry, "proposeMeters", [plan.as_abi()])
    with refused("NotProposed"):
        world.utility.transact(world.registry, "approveMeters", [plan.as_abi()])
    world.operator.transact(world.registry, "proposeMeters", [plan.as_abi()])
    with refused("NotUtility"):
        world.operator.transact(world.registry, "approveMeters", [plan.as_abi()])
    with refused("NotProposed"):
        world.utility.transact(world.registry, "approveMeters", [other.as_abi()])
    with refused("MeterNotActive"):
        world.operator.call(world.registry, "activeMeter", plan.device)
    world.utility.transact(world.registry, "approveMeters", [plan.as_abi()])
    assert world.operator.call(world.registry, "isOwner", 1, plan.owner)
    with refused("MeterAlreadyActive"):
        world.operator.transact(world.registry, "proposeMeters", [plan.as_abi()])
    with refused("NotProposed"):
        world.utility.transact(world.registry, "approveMeters", [plan.as_abi()])


def test_nonsense_meters_are_refused(world):
    good = MeterPlan(b"\1" * 20, b"\2" * 20, 1, FIRST_SLOT, 100, 100).as_abi()
    for wrong in (
        (bytes(20), *good[1:]),
        (good[0], bytes(20), *good[2:]),
        (*good[:4], 0, 0, True),
        (*good[:6], False),
    ):
        with refused("InvalidMeter"):
            world.operator.transact(world.registry, "proposeMeters", [wrong])


def test_revoked_meter_no_longer_counts(world):
    home = world.home("home")
    slot = world.slot()
    world.next_slot()
    world.record(slot, 500, 500)
    with refused("NotUtility"):
        home.client.transact(world.registry, "revokeMeter", home.device)
    world.operator.transact(world.registry, "revokeMeter", home.device)
    with refused("MeterNotActive"):
        world.mint(home, slot, 10)
    assert world.operator.call(world.registry, "importCapWh", 1, home.address) == 0


def test_slots_follow_the_virtual_clock(world):
    genesis_ms, slot_seconds = world.operator.call(world.registry, "genesisMillis"), SLOT_MILLIS // 1000
    to_next = slot_seconds - (world.operator.block("latest").timestamp - genesis_ms // 1000) % slot_seconds
    expected = world.slot()
    for ahead, slots in ((to_next - 1, 0), (1, 1), (slot_seconds - 1, 0), (1, 1), (3 * slot_seconds, 3)):
        block, _ = world.chain.block_at(ahead)
        expected += slots
        assert world.operator.call(world.registry, "currentSlot", at=block) == expected


def test_slot_sums_need_a_proof_and_enter_once(world):
    slot = world.slot()
    event = slot_event(1, slot, 6, 700, 300)
    world.ppdl.extend([event])
    world.ppdl.extend()
    world.ppdl.relay(world.operator, world.relay, 1, 2)
    proof = world.ppdl.proof(1, [event], 0)
    for wrong in (
        (2, slot, 6, 700, 300),
        (1, slot + 1, 6, 700, 300),
        (1, slot, 7, 700, 300),
        (1, slot, 6, 701, 300),
        (1, slot, 6, 700, 301),
        (1, slot, 0, 700, 300),
    ):
        with refused("EventNotProved"):
            world.operator.transact(world.registry, "recordSlot", wrong, proof)
    with refused("SlotNotRecorded"):
        world.operator.call(world.registry, "slotSum", 1, slot)
    world.operator.transact(world.registry, "recordSlot", (1, slot, 6, 700, 300), proof)
    with refused("SlotAlreadyRecorded"):
        world.operator.transact(world.registry, "recordSlot", (1, slot, 6, 700, 300), proof)
    assert world.operator.call(world.registry, "slotSum", 1, slot) == (1, slot, 6, 700, 300)


# ---- mint -------------------------------------------------------------------------------------------------------


def test_mint_once_and_only_up_to_the_agreed_sum(world):
    one, two = world.home("one"), world.home("two")
    slot = world.slot()
    world.next_slot()
    with refused("SlotNotRecorded"):
        world.mint(one, slot, 600)
    world.record(slot, 0, 1_000)
    world.mint(one, slot, 600)
    with refused("AlreadyMinted"):
        world.mint(one, slot, 1)
    with refused("OverAgreedSum"):
        world.mint(two, slot, 401)
    world.mint(two, slot, 400)
    assert world.balance(one.address) == 600
    assert world.operator.call(world.token, "slotUse", slot) == (1_000, 0)
    assert world.supply_is_accounted_for()


def test_mint_respects_capacity_owner_and_microgrid(world):
    home, other = world.home("home", export_wh=500), world.home("other")
    far = world.home("far", microgrid=2)
    slot = world.slot()
    world.next_slot()
    world.record(slot, 0, 10_000)
    with refused("OverCapacity"):
        world.mint(home, slot, 501)
    with refused("ZeroAmount"):
        world.mint(home, slot, 0)
    signature = world.sign(home, EXPORT, slot, 500)
    with refused("NotMeterOwner"):
        other.client.transact(world.token, "mint", home.device, slot, 500, signature)
    with refused("WrongMicrogrid"):
        world.mint(far, slot, 10)
    home.client.transact(world.token, "mint", home.device, slot, 500, signature)


def test_mint_needs_the_meters_own_signature(world):
    home, other = world.home("home"), world.home("other")
    slot = world.slot()
    world.next_slot()
    world.record(slot, 10_000, 10_000)
    for signature in (
        world.sign(home, IMPORT, slot, 500),
        world.sign(home, EXPORT, slot + 1, 500),
        world.sign(home, EXPORT, slot, 501),
        world.sign(other, EXPORT, slot, 500),
    ):
        with refused("WrongMeterSignature"):
            home.client.transact(world.token, "mint", home.device, slot, 500, signature)
    twin = create(world.operator, "EnergyToken", "Energy", "MG1", world.registry.address, 1, FEED_IN)
    with refused("WrongMeterSignature"):
        home.client.transact(twin, "mint", home.device, slot, 500, world.sign(home, EXPORT, slot, 500))


def test_mint_only_for_ended_slots_of_the_last_day(world):
    home = world.home("home")
    slot = world.next_slot()
    with refused("SlotOutOfRange"):
        world.mint(home, slot + 2, 5)
    with refused("SlotOutOfRange"):
        world.mint(home, FIRST_SLOT - 1, 5)
    world.next_slot()
    world.record(slot, 0, 500)
    with world.chain.undone():
        world.chain.skip((slot + 96 - world.slot()) * SLOT_MILLIS // 1000)
        assert world.slot() - slot == 96
        world.mint(world_home(world, home), slot, 5)
    world.chain.skip((slot + 98 - world.slot()) * SLOT_MILLIS // 1000)
    with refused("SlotOutOfRange"):
        world.mint(world_home(world, home), slot, 5)


def world_home(world: World, home: Home) -> Home:
    """The same home with a client that knows nothing of taken back transactions."""
    return Home(home.name, world.chain.client(home.name), home.device_key)


# ---- market, burn, redeem, expiry -----------------------------------------------------------------------------


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
