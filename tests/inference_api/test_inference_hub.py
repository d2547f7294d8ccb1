"""A whole hub with [inference]: slots that its validator decides on reach the API and the board, without chain or broker."""

from __future__ import annotations

import asyncio
import dataclasses
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
from hub.cli import main
from hub.config import HubConfig
from hub.inference import forecast_role
from hub.inference.history import HistoryStore
from hub.inference.keys import KeyStore
from hub.inference.places import InferencePlaces
from hub.keys import HubKeys
from hub.learning.price_trainer import KEY_ROLE
from hub.node import HubNode
from hub.operator_roles import OperatorRoles
from hub.ppdl.app.genesis_prices import PriceRecord, Trainer
from hub.ppdl.app.genesis_state import AppGenesis
from hub.ppdl.app.round_answers import RoundsAnswer
from hub.ppdl.genesis import make_genesis
from hub.ppdl.store import initialise_store
from openmg.config import load_toml
from openmg.forecast.spec import EXPECTED_NET, ForecastSpec
from openmg.learning.plan import LearningPlan
from openmg.messages import base
from openmg.signing import address_of

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
    return node_of(tmp_path, free_port, app_world.app_genesis())


def node_of(tmp_path: Path, free_port: Callable[[], int], state: AppGenesis) -> HubNode:
    """The one validator of its chain, put together from its files."""
    address = app_world.METERS[0].key.address.hex()
    text = CONFIG.format(t0=(END_HOUR + 1) * 3600, w0=time.time(), port=free_port(), address=address)
    (tmp_path / "hub.toml").write_text(text)
    validators = [HubKeys.load(tmp_path / "hub.key").validator]
    genesis = make_genesis(app_world.CHAIN_ID, validators, state.encode(), 1_781_485_200_000)
    (tmp_path / "genesis.cbor").write_bytes(genesis.encode())
    (tmp_path / "deployment.json").write_text(json.dumps(somewhere().to_json()))
    config = load_toml(tmp_path / "hub.toml", HubConfig)
    config.hub.state_dir.mkdir()
    initialise_store(config.ppdl_store, genesis)
    return HubNode(config)


async def test_decided_slots_reach_the_api_and_the_board(node: HubNode, monkeypatch: pytest.MonkeyPatch):
    assert node.price_trainer is None and node.metered == node.models, "this chain learns no prices"
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


PRICES = LearningPlan(
    evaluation_start_hour=app_world.START_HOUR + 672,
    min_participants=1,
    commit_blocks=2,
    committee_size=0,
    max_round_blocks=100_000,
    spec=ForecastSpec("price", 15, 24, 4, hidden=(4, 4), channels=(EXPECTED_NET,)),
    local_steps=20,
)


def with_prices(trainer: bytes) -> AppGenesis:
    """The chain's genesis, in which this hub learns prices that follow the feeder."""
    whole, slots = app_world.app_genesis(), range(4 * app_world.HISTORY_HOURS)
    prices = tuple(30 * 10**9 + 10**6 * whole.feeders[0].net_wh[slot // 4] for slot in slots)
    record = PriceRecord(1, 4 * app_world.START_HOUR, prices)
    plans = (app_world.PLAN, PRICES)
    return dataclasses.replace(whole, plans=plans, trainers=(Trainer(trainer, "hub-1"),), prices=(record,))


async def test_a_hub_that_the_genesis_names_learns_prices_and_answers_with_what_was_agreed(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(forecast_role, "STEP_SECONDS", 0.02)
    key = HubKeys.load(tmp_path / "hub.key").role_key(KEY_ROLE)
    node = node_of(tmp_path, free_port, with_prices(address_of(key)))
    name = PRICES.spec.short_name
    assert node.models == (app_world.MODEL, name) and node.metered == (app_world.MODEL,), "no meter is told of prices"
    assert node.price_trainer is not None
    keys = KeyStore(InferencePlaces(node.config.hub.state_dir).keys)
    _, secret = keys.create("utility", 10_000, 10_000, 0, 0)
    keys.close()
    stop, tasks = asyncio.Event(), []

    def spawn(call: Coroutine[Any, Any, None]) -> None:
        tasks.append(asyncio.get_running_loop().create_task(call))

    node.engine.on_decided(node.attendants.on_block)
    node.engine.on_decided(node.price_trainer.on_block)
    await node.engine.start()
    roles = OperatorRoles(node, None)
    await roles.start(stop, spawn)
    assert roles.forecasts is not None and len(roles.models) == 1
    first = roles.forecasts.desk.agreed().models[1].model_hash
    async with (
        asyncio.timeout(150),
        httpx.AsyncClient(
            base_url=roles.forecasts.server.url, headers={"Authorization": f"Bearer {secret}"}, trust_env=False
        ) as api,
    ):
        body: dict[str, Any] = {}
        while not body.get("slots"):  # until the role has taken the record over
            await asyncio.sleep(0.02)
            body = (await api.get("/v1/price?microgrid=1")).json()
        assert (body["made_by"], body["model_hash"]) == ("base forecast", "0x" + first.hex())
        spawn(node.attendants.run(stop))
        spawn(node.price_trainer.run(stop))
        while body["made_by"] != "agreed chain model":
            assert not any(task.done() for task in tasks)
            await asyncio.sleep(0.02)
            body = (await api.get("/v1/price?microgrid=1")).json()
    rounds = base.decode(RoundsAnswer, node.query(f"rounds/{name.hex()}").value).rounds
    learnt = {"0x" + item.model_hash.hex(): item for item in rounds if item.outcome == "learnt_unjudged"}
    assert learnt[body["model_hash"]].included == 1
    assert body["ppdl_height"] >= learnt[body["model_hash"]].closed_height > 0 and len(body["slots"]) == 96
    stop.set()
    node.attendants.wake()
    await roles.stop()
    await asyncio.gather(*tasks)
    await node.engine.stop()
    node.app.close()
    node.attendants.close()


def test_an_operator_holds_the_record_of_prices_against_what_its_hub_read(
    tmp_path: Path, free_port: Callable[[], int], capsys: pytest.CaptureFixture[str]
):
    node = node_of(tmp_path, free_port, with_prices(bytes(20)))
    record = AppGenesis.decode(node.genesis.app_state).prices[0]
    history = HistoryStore(InferencePlaces(node.config.hub.state_dir).history)
    history.begin_prices(1, record.start_slot + 5, record.wei_per_wh[5:100])
    command = ["history", "prices", "--config", str(tmp_path / "hub.toml")]
    assert main([*command, "--json"]) == 0
    slots = len(record.wei_per_wh)
    (row,) = json.loads(capsys.readouterr().out)
    assert row == {"microgrid": 1, "slots": slots, "same": 95, "other": 0, "unknown_here": slots - 95}
    history.add_price(1, record.start_slot + 7, record.wei_per_wh[7] + 1)
    history.close()
    assert main(command) == 1
    assert f"microgrid 1, slots {slots}, same 94, other 1, unknown here {slots - 95}" in capsys.readouterr().out
    node.app.close()
    node.attendants.close()
