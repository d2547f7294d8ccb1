"""What the operator's page says of the chains, gathered by a whole hub from a real plasma chain."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import app_world
import pytest
from evm_world import ETHER
from market_world import MarketWorld
from notes_world import prove_here

from hub.chain.deploy import RootContracts, contract_at
from hub.chain.deployment import Deployment
from hub.config import HubConfig
from hub.keys import HubKeys
from hub.node import HubNode
from hub.operator_roles import OperatorRoles
from hub.plasma.appender import Appender
from hub.ppdl.genesis import make_genesis
from hub.ppdl.store import initialise_store
from openmg.config import load_toml
from openmg.signing import address_of

CONFIG = """\
[hub]
name = "hub-1"
key_file = "hub.key"
state_dir = "state"
roles = ["ingest", "market", "appender", "clearing", "console"]

[ppdl]
genesis_file = "genesis.cbor"
listen = "127.0.0.1:{port}"
peers = []

[mqtt]
url = "mqtt://127.0.0.1:1"

[chains]
root_url = "http://127.0.0.1:1"
plasma_url = "{plasma_url}"
deployment_file = "deployment.json"

[zk]
demo = true
"""


@pytest.fixture
async def node(world: MarketWorld, tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[HubNode]:
    """The operator's hub, put together from its files; its roles do what a test says, and only the validator runs."""
    (tmp_path / "hub.toml").write_text(CONFIG.format(plasma_url=world.chain.url, port=free_port()))
    validators = [HubKeys.load(tmp_path / "hub.key").validator, *map(address_of, app_world.VALIDATOR_KEYS[:3])]
    genesis = make_genesis(app_world.CHAIN_ID, validators, app_world.app_genesis().encode(), 1_781_485_200_000)
    (tmp_path / "genesis.cbor").write_bytes(genesis.encode())
    root = RootContracts(1_337, contract_at("PlasmaRoot", b"\1" * 20))
    (tmp_path / "deployment.json").write_text(json.dumps(Deployment(root, world.contracts).to_json()))
    config = load_toml(tmp_path / "hub.toml", HubConfig)
    config.hub.state_dir.mkdir()
    initialise_store(config.ppdl_store, genesis)
    made = HubNode(config)
    await made.engine.start()
    yield made
    await made.engine.stop()
    made.app.close()


async def test_notes_nullifiers_and_contracts_are_the_chains(world, node, caplog):
    client = world.chain.client("shielder")
    world.chain.give(client.address, ETHER)
    for value in (1, 2, 3):
        client.transact(world.contracts.confidential, "shield", bytes(20), value, 77, bytes(114), value=value)
    world.chain.skip(1)
    assert await Appender(world.chain.client("appender"), world.contracts.confidential, prove_here).turn()
    roles = OperatorRoles(node, None)
    assert roles.market is not None
    roles.market.step()
    with caplog.at_level(logging.WARNING):
        roles.overview.refresh()
    assert caplog.records == []  # a section that cannot be read is logged and left out
    plasma = roles.board.snapshot()["sections"]["plasma"]
    assert (plasma["notes"], plasma["nullifiers"], plasma["shielded_wei"]) == (3, 0, "6")
    assert plasma["contracts"] == world.contracts.addresses()
    assert {"VerifierSet", "EnergyRegistry", "EnergyPool1", "AppendVerifier"} <= plasma["contracts"].keys()
    roles.store.close()


async def test_the_store_stays_open_until_the_console_has_read_it(node, monkeypatch, caplog):
    roles, stop, begun, go_on = OperatorRoles(node, None), asyncio.Event(), threading.Event(), threading.Event()
    refresh = roles.overview.refresh

    def slowly() -> None:
        begun.set()
        assert go_on.wait(30)
        refresh()

    monkeypatch.setattr(roles.overview, "refresh", slowly)
    looking = asyncio.create_task(roles._look_after(stop))
    assert await asyncio.to_thread(begun.wait, 30)
    stop.set()
    stopping = asyncio.create_task(roles.stop())
    ended, _ = await asyncio.wait({stopping}, timeout=0.5)
    assert not ended
    go_on.set()
    await asyncio.gather(looking, stopping)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_the_report_counts_batches_and_clearing(world, node):
    appender, clearing = node._make_appender(), node._make_clearing()
    roles = OperatorRoles(node, None)
    roles.overview.refresh()
    report = roles.overview.report()
    assert (report["appender"]["batches"], report["clearing"]["waiting"]) == (0, 0)
    client = world.chain.client("shielder")
    world.chain.give(client.address, ETHER)
    client.transact(world.contracts.confidential, "shield", bytes(20), 1, 77, bytes(114), value=1)
    world.chain.skip(1)
    assert await appender.turn()  # proves in a child process, as on a hub
    clearing.step()
    roles.overview.refresh()
    counted = roles.overview.report()["appender"]
    assert (counted["queued"], counted["batches"], counted["overtaken"], counted["failed"]) == (1, 1, 0, 0)
    roles.store.close()
