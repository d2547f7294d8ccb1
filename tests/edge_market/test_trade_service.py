"""The trade as the agent runs it beside the wallet: notices in, envelopes out, which a relay's key opens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from trade_cases import CALENDAR, CALLS, HOMES, MICROGRID, SLOT, registry_notice, slot_notice

from edge_agent.config import AgentConfig, DeviceSection, HomeSection, HubSection, MeterSection, MqttSection, WalletSection
from edge_agent.market import service as market_service
from edge_agent.market.calls import MINT
from edge_agent.market.service import MarketService
from edge_agent.services import AgentContext
from edge_agent.slots import Baseline, ClosedSlot
from edge_agent.store import Store
from edge_agent.wallet.service import WalletService
from openmg.clock import VirtualClock
from openmg.envelope import Action, Envelope, unseal
from openmg.evm.abi import selector
from openmg.messages import base, topics
from openmg.messages.market import ChainNotice, EnergyMarket, EnergyPoolPlace, PoolNotice
from openmg.signing import address_of

ADA = HOMES[0]
RELAY = X25519PrivateKey.from_private_bytes(b"\x07" * 32)
CHAIN = ChainNotice(
    CALLS.chain_id,
    b"\x31" * 20,
    b"\x32" * 20,
    (EnergyMarket(MICROGRID, b"\x01" * 20, b"\x02" * 20),),
    (RELAY.public_key().public_bytes_raw(),),
    CALLS.circuit_set,
    (EnergyPoolPlace(MICROGRID, CALLS.pool, 1, 1_000),),
    b"\x33" * 20,
)
POOL = PoolNotice(MICROGRID, 1, CALENDAR.key_of(SLOT), (SLOT,), 0, 0, 0, 0, 0)
SPEED = 900.0
"""A slot lasts a second."""
IMPORT_WH, EXPORT_WH = 40, 700


class Meter:
    """Wallet and market over real files, and the wire on which what was published waits to be looked at."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.sent, self.filters = folder, [], []
        self.clock = VirtualClock((SLOT + 1) * 900, time.time(), SPEED)
        self.store = Store(folder / "store.sqlite")
        self.section = WalletSection(folder / "seed", demo=True)
        self.config = AgentConfig(
            DeviceSection("home-1", folder / "key", folder),
            MeterSection("127.0.0.1", 5020),
            MqttSection("mqtt://127.0.0.1:1883"),
            HubSection("0x" + address_of(b"\x44" * 32).hex(), 77),
            HomeSection(MICROGRID),
            wallet=self.section,
        )

    async def start(self) -> MarketService:
        context = AgentContext(self.config, ADA.device, self.store, self.clock, self.publish, self.filters.append)
        self.wallet = WalletService(self.section, ADA.keys, self.folder)
        self.market = MarketService(self.wallet, ADA.keys, self.folder, CALENDAR)
        await self.wallet.start(context)
        await self.market.start(context)
        return self.market

    async def stop(self) -> None:
        await self.market.stop()
        await self.wallet.stop()

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> bool:
        self.sent.append(payload)
        return True

    async def hear(self, topic: str, message: object) -> None:
        payload = message if isinstance(message, bytes) else base.encode(message)
        for service in (self.wallet, self.market):
            await service.on_message(topic, payload)

    async def hear_all(self) -> None:
        await self.hear(topics.CHAIN, CHAIN)
        await self.hear(topics.REGISTRY, registry_notice([home.leaf() for home in HOMES]))
        await self.hear(topics.pool(MICROGRID), POOL)
        leaves = slot_notice(SLOT, {HOMES[1]: (1, 2), ADA: (IMPORT_WH, EXPORT_WH)})
        await self.hear(topics.slot_leaves(MICROGRID, SLOT), leaves)

    def actions(self) -> list[Action]:
        contents = [unseal(RELAY, base.decode(Envelope, payload)) for payload in self.sent]
        return [action for content in contents for action in content.actions]

    def closes(self) -> None:
        """The meter stores the slot while no service listens."""
        closed = ClosedSlot(SLOT, IMPORT_WH, EXPORT_WH, 0)
        assert self.store.move_baseline(Baseline(SLOT + 1, 10, 10), closed)


@pytest.fixture
async def meter(tmp_path: Path) -> AsyncIterator[Meter]:
    made = Meter(tmp_path)
    yield made
    await made.stop()
    made.store.close()


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


async def test_a_slot_is_proved_and_leaves_in_an_envelope_and_after_a_restart_byte_for_byte_again(meter):
    """The order of news does not matter: the meter closes the slot last."""
    market = await meter.start()
    await meter.hear_all()
    assert not meter.actions()
    await market.on_slot(SLOT, IMPORT_WH, EXPORT_WH)
    await until(lambda: len(meter.actions()) >= 1)
    (action,) = meter.actions()
    assert action.target == CALLS.pool and action.data[:4] == selector(MINT)
    await meter.stop()
    meter.sent.clear()
    await meter.start()
    await meter.hear_all()
    await until(lambda: len(meter.actions()) >= 1)
    assert meter.actions() == [action], "no second proof: the same call"


async def test_a_slot_that_was_closed_while_nobody_listened_is_traded(meter):
    meter.closes()
    await meter.start()
    await meter.hear_all()
    await until(lambda: market_has_job(meter))


def market_has_job(meter: Meter) -> bool:
    return meter.market._job is not None or bool(meter.market._journal.calls())


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (topics.REGISTRY, b"\xff"),
        (topics.REGISTRY, base.encode(replace(registry_notice([ADA.leaf()]), leaves=()))),
        (topics.pool(MICROGRID), base.encode(replace(POOL, microgrid=8))),
        (topics.slot_leaves(MICROGRID, SLOT), base.encode(replace(slot_notice(SLOT, {ADA: (1, 2)}), microgrid=8))),
        (topics.slot_leaves(MICROGRID, SLOT), base.encode(slot_notice(SLOT, {ADA: (IMPORT_WH, EXPORT_WH + 1)}))),
    ],
    ids=("garbage", "registry without its leaves", "pool elsewhere", "leaves elsewhere", "another reading under our name"),
)
async def test_what_is_malformed_or_not_ours_is_counted_told_once_and_dropped(meter, caplog, topic, payload):
    meter.closes()
    market = await meter.start()
    await meter.hear(topics.CHAIN, CHAIN)
    for _ in range(3):
        await meter.market.on_message(topic, payload)
    assert market.malformed == 3 and len(caplog.records) == 1
    await meter.hear_all()
    await until(lambda: market_has_job(meter))


async def test_made_up_slots_do_not_fill_memory(meter):
    market = await meter.start()
    await meter.hear(topics.CHAIN, CHAIN)
    for slot in range(SLOT, SLOT + market_service.MAX_WAITING_SLOTS + 20):
        await market.on_message(topics.slot_leaves(MICROGRID, slot), base.encode(slot_notice(slot, {})))
    assert len(market._waiting) == market_service.MAX_WAITING_SLOTS


async def test_a_microgrid_without_a_pool_trades_nothing_and_says_so_once(meter, caplog):
    meter.closes()
    market = await meter.start()
    await meter.hear(topics.CHAIN, replace(CHAIN, pools=()))
    for _ in range(3):
        market._step()
    assert market._trade is None and "no private market" in caplog.text and len(caplog.records) == 1
