"""A whole hub with [inference]: slots that its validator decides on reach the API and the board, without chain or broker."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any

import app_world
import httpx
import pytest

from hub.chain.deploy import EnergyMarket, PlasmaContracts, RootContracts, contract_at
from hub.chain.deployment import Deployment
from hub.chain.verifiers import CIRCUITS, contract_name
from hub.config import HubConfig
from hub.inference import forecast_role
from hub.inference.keys import KeyStore
from hub.inference.places import InferencePlaces
from hub.keys import HubKeys
from hub.node import HubNode
from hub.operator_roles import OperatorRoles
from hub.ppdl.genesis import make_genesis, save_genesis
from hub.ppdl.store import initialise_store
from openmg.config import load_toml

END_HOUR = app_world.START_HOUR + app_world.HISTORY_HOURS
CONFIG = """\
[hub]
name = "hub-1"
key_file = "hub.key"
state_dir = "state"
roles = ["ingest", "inference"]

[clock]
t0 = {t0}
w0 = {w0}

[ppdl]
genesis_file = "genesis.cbor"
listen = "127.0.0.1:{port}"
block_interval_s = 0.02
heartbeat_s = 0.2

[mqtt]
url = "mqtt://127.0.0.1:1"

[chains]
root_url = "http://127.0.0.1:1"
plasma_url = "http://127.0.0.1:1"
deployment_file = "deployment.json"

[zk]
demo = true

[inference]
port = 0

[inference.capacity_w]
1 = 9000

[[device]]
name = "home-1"
address = "0x{address}"
microgrid = 1
"""


def somewhere() -> Deployment:
    """Contracts at addresses of a chain that nobody runs."""
    names = iter(range(1, 100))

    def at(name: str) -> Any:
        return contract_at(name, bytes([next(names)]) * 20)

    plain = ("PethBridge", "ConfidentialToken", "MeterRegistry", "PpdlRelay", "ExchangeFactory", "Inference", "VerifierSet")
    verifiers = tuple(at(contract_name(circuit)) for circuit in CIRCUITS)
    market = EnergyMarket(1, at("EnergyToken"), at("Exchange"), at("EnergyPool"))
    contracts = PlasmaContracts(900, *map(at, plain), verifiers, at("EnergyRegistry"), (market,), at("SealBonds"))
    return Deployment(RootContracts(1_337, at("PlasmaRoot")), contracts)


@pytest.fixture
def node(tmp_path: Path, free_port: Callable[[], int]) -> HubNode:
    """The one validator of its chain, put together from its files."""
    address = app_world.METERS[0].key.address.hex()
    text = CONFIG.format(t0=(END_HOUR + 1) * 3600, w0=time.time(), port=free_port(), address=address)
    (tmp_path / "hub.toml").write_text(text)
    validators = [HubKeys.load(tmp_path / "hub.key").validator]
    genesis = make_genesis(app_world.CHAIN_ID, validators, app_world.app_genesis().encode(), 1_781_485_200_000)
    save_genesis(tmp_path / "genesis.cbor", genesis)
    (tmp_path / "deployment.json").write_text(json.dumps(somewhere().to_json()))
    config = load_toml(tmp_path / "hub.toml", HubConfig)
    config.hub.state_dir.mkdir()
    initialise_store(config.ppdl_store, genesis)
    return HubNode(config)


async def test_decided_slots_reach_the_api_and_the_board(node: HubNode, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(forecast_role, "STEP_SECONDS", 0.02)
    keys = KeyStore(InferencePlaces(node.config.hub.state_dir).keys)
    _, key = keys.create("utility", 10_000, 10_000, 0, 0)
    keys.close()
    stop, tasks = asyncio.Event(), []

    def spawn(call: Coroutine[Any, Any, None]) -> None:
        tasks.append(asyncio.get_running_loop().create_task(call))

    await node.engine.start()
    roles = OperatorRoles(node, None)
    await roles.start(stop, spawn)
    assert roles.forecasts is not None
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        asyncio.timeout(90),
        httpx.AsyncClient(base_url=roles.forecasts.server.url, headers=headers, trust_env=False) as api,
    ):
        before = (await api.get("/v1/demand?microgrid=1")).json()
        for slot in range(app_world.FIRST_SLOT, app_world.FIRST_SLOT + 4):
            await node.engine.submit(app_world.slot_tx(slot))
        after = before
        while after["as_of"] == before["as_of"]:
            assert not any(task.done() for task in tasks)
            await asyncio.sleep(0.02)
            after = (await api.get("/v1/demand?microgrid=1")).json()
        board: dict[str, Any] = {}
        while not board or board["as_of"] == END_HOUR * 3600:
            await asyncio.sleep(0.02)
            board = roles.board.snapshot()["sections"].get("forecast", {"microgrids": [{}]})["microgrids"][0]
    stop.set()
    await roles.stop()
    await asyncio.gather(*tasks)
    await node.engine.stop()
    node.app.close()
    times = [datetime.fromisoformat(body["as_of"]).timestamp() for body in (before, after)]
    assert times == [END_HOUR * 3600, (END_HOUR + 1) * 3600]
    assert after["ppdl_height"] > before["ppdl_height"] and after["capacity_w"] == 9_000
    assert after["where_vouched"]["plasma_chain_id"] == 900 and after["where_vouched"]["ppdl_chain_id"] == app_world.CHAIN_ID
    import_wh, export_wh = sum(100 + i for i in range(6)), sum(range(6))  # what `slot_tx` reports for a slot
    assert board["actual"][-1] == [END_HOUR * 3600, 4 * (import_wh - export_wh)]
