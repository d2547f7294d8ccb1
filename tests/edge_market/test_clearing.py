"""The clearing role on a chain: batches are closed when their slot is over and settled in parts, by whoever is first."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace

import pytest
from test_pool_attacks import KEY, SLOT, market, orders
from trade_cases import CALENDAR, MICROGRID

from hub.chain.client import EvmClient
from hub.chain.cursor import ChainRewritten
from hub.market.clearing import Clearing

pytestmark = pytest.mark.slow

__all__ = ["market", "orders"]  # fixtures: a sale and a purchase, proved and not submitted

BATCH = SLOT + 2


def clearing(market, name: str, url: str | None = None) -> Clearing:
    contracts = SimpleNamespace(
        energy_registry=market.registry, markets=[SimpleNamespace(microgrid=MICROGRID, pool=market.pool)]
    )
    client = market.chain.client(name) if url is None else EvmClient(url, b"\1" * 32)
    return Clearing(client, contracts)  # type: ignore[arg-type]


def place_orders(orders, market) -> None:
    for order in ("sell", "buy"):
        market.submit(orders[order])


def events(market, name: str) -> list[object]:
    return market.operator.events(market.pool, name, 0, market.operator.block_number())


def test_a_batch_is_cleared_when_its_slot_is_over_and_once(orders, market, monkeypatch):
    monkeypatch.setattr("hub.market.clearing.SETTLE_ORDERS", 1)
    role = clearing(market, "clearing")
    place_orders(orders, market)
    role.step()
    assert role.status().waiting == 1 and events(market, "BatchClosed") == []  # more orders may come
    market.to_slot(BATCH + 1)
    role.step()
    status = role.status()
    assert (status.waiting, status.closed, status.settled_orders, status.failures) == (0, 1, 2, 0)
    assert len(events(market, "BatchSettled")) == 2  # one order a call
    for again in (role, clearing(market, "restarted")):
        again.step()
        assert (again.status().waiting, again.status().failures) == (0, 0)
    assert len(events(market, "BatchClosed")) == 1
    balance, said = market.holdings()
    assert balance == said


def test_who_comes_second_has_done_nothing_wrong(orders, market, caplog):
    """Two hubs see the batch open; the slower one is told so by the contract and goes on."""
    slow, fast = clearing(market, "slow"), clearing(market, "fast")
    place_orders(orders, market)
    market.to_slot(BATCH + 1)
    counts = slow._client.call(market.pool, "orderCounts", KEY, BATCH)
    fast.step()
    seen = slow._client.call

    def as_it_was(contract, function, *arguments, **options):
        """What the slower hub had read before the faster one's transactions."""
        return counts if function == "orderCounts" else seen(contract, function, *arguments, **options)

    slow._client.call = as_it_was  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING):
        slow.step()
    assert caplog.records == []
    assert (slow.status().waiting, slow.status().closed, slow.status().settled_orders, slow.status().failures) == (0, 0, 0, 0)
    assert fast.status().closed == 1


def test_a_key_is_closed_after_its_last_order_could_have_come(orders, market):
    role = clearing(market, "clearing")
    place_orders(orders, market)
    market.to_slot(CALENDAR.last_slot_of(KEY) + 96)
    role.step()
    assert events(market, "KeyClosed") == [] and role.status().closed == 1
    market.to_slot(CALENDAR.last_slot_of(KEY) + 97)
    role.step()
    assert len(events(market, "KeyClosed")) == 1 and role.status().closed_keys == 1
    role.step()
    assert role.status().closed_keys == 1


async def test_a_chain_that_is_away_is_said_once(market, free_port, caplog, monkeypatch):
    monkeypatch.setattr("hub.market.clearing.STEP_SECONDS", 0.02)
    stop = asyncio.Event()
    with caplog.at_level(logging.WARNING):
        running = asyncio.create_task(clearing(market, "clearing", f"http://127.0.0.1:{free_port()}").run(stop))
        await asyncio.sleep(0.3)
        stop.set()
        await asyncio.wait_for(running, 5)
    assert [record.getMessage().endswith("trying again") for record in caplog.records] == [True]


def test_orders_of_a_rewritten_chain_are_forgotten(orders, market):
    """The blocks with the orders vanish: that is said, nothing is closed for them, and later ones are found."""
    role = clearing(market, "clearing")
    taken = market.operator.rpc("evm_snapshot")
    place_orders(orders, market)
    role.step()
    assert role.status().waiting == 1
    assert market.operator.rpc("evm_revert", taken)
    market.operator.forget_nonce()
    for _ in range(3):
        market.operator.rpc("evm_mine")
    with pytest.raises(ChainRewritten):
        role.step()
    role.step()
    assert role.status().waiting == 0
    place_orders(orders, market)
    market.to_slot(BATCH + 1)
    role.step()
    assert (role.status().closed, role.status().settled_orders, role.status().failures) == (1, 2, 0)
