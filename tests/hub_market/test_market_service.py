"""The market role on a real chain: what meters are told follows what the chain says, once for each change."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
from evm_world import ETHER, key
from market_world import MarketWorld
from notes_world import prove_here
from plasma_world import FEED_IN, FIRST_SLOT
from token_world import DEADLINE
from token_world import World as EnergyWorld

from hub.chain.client import EvmClient
from hub.chain.errors import ChainUnreachable
from hub.chain.verifiers import circuit_set_of
from hub.market.courier import EventCourier
from hub.market.service import MarketService, Owner
from hub.market.slot_leaves import leaves_of_slot
from hub.market.view import ChainView
from hub.plasma.appender import Appender
from openmg.messages import base, topics
from openmg.messages.market import (
    PADDING,
    AccountNotice,
    ChainNotice,
    EnergyMarket,
    EnergyPoolPlace,
    MarketNotice,
    NotesBatch,
    PoolNotice,
    SlotLeavesNotice,
)

RETAIL = 140 * 10**9
FIRST = [topics.CHAIN, *(topic(microgrid) for topic in (topics.market, topics.pool) for microgrid in (1, 2))]
"""What is told of a chain on which nothing has happened yet."""


def notice(world: MarketWorld) -> ChainNotice:
    contracts = world.contracts
    markets = tuple(EnergyMarket(m.microgrid, m.token.address, m.exchange.address) for m in contracts.markets)
    places = contracts.confidential.address, contracts.registry.address
    circuits = circuit_set_of(contracts.verifiers)
    pools = tuple(EnergyPoolPlace(m.microgrid, m.pool.address, FEED_IN, 2 * FEED_IN) for m in contracts.markets)
    registry = contracts.energy_registry.address
    return ChainNotice(contracts.chain_id, *places, markets, (b"\7" * 32,), circuits, pools, registry)


@dataclass
class Told:
    """What a service handed over; `away` is a broker that takes nothing."""

    world: MarketWorld
    service: MarketService
    owners: dict[str, Owner]
    away: bool = False
    messages: list[tuple[str, bytes]] = field(default_factory=list)

    def step(self) -> list[str]:
        """Topics that one step told."""
        before = len(self.messages)
        self.world.settle()
        self.service.step()
        self.service.courier.step()
        self.service.send()
        return [topic for topic, _ in self.messages[before:]]

    def last(self, topic: str) -> bytes:
        return next(payload for name, payload in reversed(self.messages) if name == topic)

    def market(self, microgrid: int = 1) -> MarketNotice:
        return base.decode(MarketNotice, self.last(topics.market(microgrid)))

    def account(self, device: str) -> AccountNotice:
        return base.decode(AccountNotice, self.last(topics.account(device)))


def make(
    world: MarketWorld, courier: EventCourier | None = None, view: ChainView | None = None, confirmations: int = 0
) -> Told:
    owners: dict[str, Owner] = {}

    def publish(topic: str, payload: bytes) -> bool:
        if not told.away:
            told.messages.append((topic, payload))
        return not told.away

    chosen = courier or world.courier()
    leaves = partial(leaves_of_slot, world.query)
    untold = replace(notice(world), pools=())  # their limits are read from the chain
    service = MarketService(
        view or world.view(), chosen, untold, RETAIL, lambda: owners, publish, leaves, confirmations=confirmations
    )
    told = Told(world, service, owners)
    return told


@pytest.fixture
def told(world):
    told = make(world)
    told.step()
    return told


def shield(world: MarketWorld, count: int = 1) -> None:
    client = world.chain.client("shielder")
    world.chain.give(client.address, ETHER)
    for i in range(count):
        client.transact(world.contracts.confidential, "shield", bytes(20), i + 1, 77 + i, bytes([i]) * 137, value=i + 1)
    world.chain.skip(1)  # an epoch: what came before it is ripe
    appender = Appender(world.chain.client("appender"), world.contracts.confidential, prove_here)
    assert asyncio.run(appender.turn())


def mine(world: MarketWorld) -> None:
    world.client.rpc("evm_mine")


def energy(world: MarketWorld) -> EnergyWorld:
    contracts, names = world.contracts, ("operator", "utility")
    operator, utility = (world.chain.client(name) for name in names)
    token = contracts.market(1).token
    return EnergyWorld(world.chain, world.ppdl, operator, utility, contracts.relay, contracts.registry, token)


def test_the_first_step_tells_the_chain_and_every_market(world):
    told = make(world)
    assert told.step() == FIRST
    assert base.decode(ChainNotice, told.last(topics.CHAIN)) == notice(world)
    block = world.client.block_number()
    assert told.market() == MarketNotice(1, block, 0, 0, FEED_IN, RETAIL, ())


def test_nothing_is_told_when_nothing_changes(world, told):
    assert told.step() == []
    for _ in range(3):
        mine(world)
        assert told.step() == []


def test_leaves_are_told_in_batches_as_they_come(world, told):
    shield(world, 3)
    assert told.step() == [topics.notes(0)]
    shield(world, 2)
    assert told.step() == [topics.notes(0)]
    assert told.step() == []
    (batch,) = [base.decode(NotesBatch, told.last(topics.notes(0)))]
    assert batch.first_position == 0 and len(batch.notes) == 32 == told.service.notes
    notes = [(position, note.ciphertext[0]) for position, note in enumerate(batch.notes) if note != PADDING]
    assert notes == [(0, 0), (1, 1), (2, 2), (16, 0), (17, 1)]
    events = world.client.events(world.contracts.confidential, "NoteQueued", 0, world.client.block_number())
    assert [note.commitment for note in batch.notes if note != PADDING] == [event.args["cm"] for event in events]


def test_many_blocks_are_looked_through_step_by_step(world, monkeypatch):
    monkeypatch.setattr("hub.chain.cursor.MAX_BLOCKS_PER_SPAN", 5)
    shield(world, 2)
    told = make(world)
    steps = -(-(world.client.block_number() + 1) // 5)
    for _ in range(steps):
        told.step()
    assert told.service.notes == 16
    assert told.step() == []


def test_an_account_is_told_when_its_meter_comes_and_when_it_changes(world, told):
    home = b"\x21" * 20
    told.owners["home-1"] = Owner(home, 1)
    assert told.step() == [topics.account("home-1")]  # without a new block
    assert told.account("home-1").balance_wei == 0
    payer = world.chain.client("payer")
    world.chain.give(payer.address, ETHER)
    payer.send_raw_call(home, b"", value=5)
    assert told.step() == [topics.account("home-1")]
    assert told.account("home-1") == AccountNotice(world.client.block_number(), 0, 5, 0, 0)
    mine(world)
    assert told.step() == []


def test_recorded_slots_reach_the_market(world):
    courier = world.courier()
    told = make(world, courier)
    told.step()
    world.decide_slot(courier)
    world.decide()
    world.relay()
    told.step()  # delivers
    assert told.step() == [topics.market(1), topics.pool(1), topics.slot_leaves(1, FIRST_SLOT)]
    assert told.market().recorded_slots == (FIRST_SLOT,)
    assert base.decode(PoolNotice, told.last(topics.pool(1))).recorded_slots == (FIRST_SLOT,)
    leaves = base.decode(SlotLeavesNotice, told.last(topics.slot_leaves(1, FIRST_SLOT)))
    assert len(leaves.leaves) == 6 and leaves == leaves_of_slot(world.query, 1, FIRST_SLOT)
    assert told.step() == []


def test_trades_are_counted_and_change_pool_and_accounts(world, told):
    grid, exchange = energy(world), world.contracts.market(1).exchange
    maker, taker = grid.home("maker"), grid.home("taker")
    slot = grid.slot()
    grid.next_slot()
    grid.record(slot, 3_000, 2_000)
    grid.mint(maker, slot, 2_000)
    told.owners |= {"maker": Owner(maker.address, 1), "taker": Owner(taker.address, 1)}
    told.step()
    assert (told.account("maker").energy_wh, told.account("maker").delivery_wh) == (2_000, 0)
    assert told.market().recorded_slots == (slot,)
    maker.client.transact(world.contracts.market(1).token, "approve", exchange.address, 2**256 - 1)
    maker.client.transact(exchange, "addLiquidity", 0, 1_000, DEADLINE, value=10**14)
    maker.client.transact(exchange, "tokenToEthSwapInput", 300, 1, DEADLINE)
    taker.client.transact(exchange, "ethToTokenSwapOutput", 200, DEADLINE, value=10**14)
    assert set(told.step()) == {topics.market(1), topics.account("maker"), topics.account("taker")}
    service = told.service
    assert [(swap.kind, swap.amount_wh, swap.account) for swap in service.swaps] == [
        ("sell", 300, maker.address),
        ("buy", 200, taker.address),
    ]
    assert (service.swap_count, service.sold_wh, service.bought_wh) == (2, 300, 200)
    assert told.market().reserve_wh == 1_100 == service.pools[0].reserve_wh
    assert told.market().reserve_wei == world.client.balance(exchange.address)
    assert (told.account("taker").energy_wh, told.account("taker").delivery_wh) == (0, 200)  # bought: only to be burned
    assert told.account("maker").energy_wh == 700
    pool = service.pools[0]
    assert (pool.minted_wh, pool.outstanding_wh) == (2_000, 2_000)


def test_what_the_broker_does_not_take_is_sent_later_newest_only(world, told):
    told.away = True
    told.owners["home-1"] = Owner(b"\x22" * 20, 1)
    assert told.step() == []
    payer = world.chain.client("payer")
    world.chain.give(payer.address, ETHER)
    payer.send_raw_call(b"\x22" * 20, b"", value=9)
    assert told.step() == []
    told.away = False
    assert told.step() == [topics.account("home-1")]
    assert told.account("home-1").balance_wei == 9


def test_a_lost_broker_gets_everything_again(world, told):
    shield(world)
    told.owners["home-1"] = Owner(b"\x23" * 20, 2)
    told.step()
    everything = {*FIRST, topics.account("home-1"), topics.notes(0)}
    last = {topic: told.last(topic) for topic in everything}
    told.service.forget()
    assert set(told.step()) == everything
    assert {topic: told.last(topic) for topic in everything} == last
    assert told.step() == []


async def test_a_chain_that_is_away_is_said_once(world, free_port, caplog, monkeypatch):
    monkeypatch.setattr("hub.market.service.STEP_SECONDS", 0.02)
    away = ChainView(EvmClient(f"http://127.0.0.1:{free_port()}"), world.contracts)
    told, stop = make(world, view=away), asyncio.Event()
    with caplog.at_level(logging.WARNING):
        running = asyncio.create_task(told.service.run(stop))
        await asyncio.sleep(0.4)
        stop.set()
        await asyncio.wait_for(running, 30)
    assert [record.getMessage().endswith("trying again") for record in caplog.records] == [True]
    assert not told.messages


async def test_the_role_runs_until_it_is_stopped(world, monkeypatch):
    monkeypatch.setattr("hub.market.service.STEP_SECONDS", 0.02)
    told, stop = make(world), asyncio.Event()
    running = asyncio.create_task(told.service.run(stop))
    async with asyncio.timeout(60):
        while not told.messages:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(shield, world)
        while topics.notes(0) not in [topic for topic, _ in told.messages]:
            await asyncio.sleep(0.02)
    stop.set()
    await asyncio.wait_for(running, 30)
    first = list(dict.fromkeys(topic for topic, _ in told.messages))
    assert first == [*FIRST, topics.notes(0)]


async def test_a_notice_that_the_broker_lost_is_told_again(world, monkeypatch):
    """Nothing changes on chain any more, and yet the account reaches a meter that did not hear of it."""
    monkeypatch.setattr("hub.market.service.STEP_SECONDS", 0.02)
    told, stop = make(world), asyncio.Event()
    told.owners["home-1"] = Owner(b"\x24" * 20, 1)
    told.step()
    lost = told.last(topics.account("home-1"))
    told.messages.clear()
    running = asyncio.create_task(told.service.run(stop))
    async with asyncio.timeout(60):
        while (topics.account("home-1"), lost) not in told.messages:
            await asyncio.sleep(0.02)
    stop.set()
    await asyncio.wait_for(running, 30)


def test_a_notice_told_again_does_not_hide_a_newer_one(world, told):
    told.owners["home-1"] = Owner(b"\x25" * 20, 1)
    told.step()
    payer = world.chain.client("payer")
    world.chain.give(payer.address, ETHER)
    payer.send_raw_call(b"\x25" * 20, b"", value=3)
    world.settle()
    told.service.step()
    for _ in range(8):
        told.service.refresh()
    told.service.send()
    assert told.account("home-1").balance_wei == 3


def test_notices_outlast_a_step_that_fails(world, free_port):
    """Notices were collected, then the courier's node does not answer."""
    away = EvmClient(f"http://127.0.0.1:{free_port()}", key("courier"))
    told = make(world, EventCourier(away, world.contracts, world.query))
    with pytest.raises(ChainUnreachable):
        told.step()
    told.service.courier = world.courier()
    assert told.step() == FIRST
