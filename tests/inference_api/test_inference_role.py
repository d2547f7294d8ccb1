"""The role put together: blocks become history and forecasts on the board, the API answers, and it all ends; configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from forecast_world import END_HOUR, MICROGRIDS, VOUCHED, Chain, past_csv

from hub.cli import main
from hub.config import HubConfig, InferenceSection
from hub.console.board import StatusBoard
from hub.console.server import ConsoleError
from hub.inference import InferenceError, forecast_role, trainer_job
from hub.inference.database import Database
from hub.inference.desk import BY_CHAIN_MODEL, BY_HUB
from hub.inference.forecast_role import ForecastRole
from hub.inference.keys import KeyStore
from hub.inference.models import DEMAND, PRICE, ModelKey
from openmg.clock import VirtualClock
from openmg.config import ConfigError, load_toml

HOUR = 3600


class StillClock(VirtualClock):
    """A clock that a test sets: simulated time is `t0`."""

    def now(self) -> float:
        return float(self.t0)


def at_hour(hour: int) -> StillClock:
    return StillClock(hour * HOUR, 0.0, 1.0)


def role_of(tmp_path: Path, chain: Chain, board: StatusBoard, **section: object) -> ForecastRole:
    settings = InferenceSection(port=0, training_steps=2, horizons_hours=(24,), **section)  # type: ignore[arg-type]
    prices = [(1, 40_000_000_000)]
    return ForecastRole(
        settings, tmp_path / "state", at_hour(END_HOUR + 1), chain.query, MICROGRIDS, lambda: prices, VOUCHED, board
    )


def shown(board: StatusBoard, microgrid: int = 1) -> dict:
    rows = board.snapshot()["sections"]["forecast"]["microgrids"]
    return next(row for row in rows if row["id"] == microgrid)


async def test_agreed_hours_reach_the_board_beside_what_was_forecast_for_them(chain: Chain, tmp_path: Path):
    board = StatusBoard()
    role = role_of(tmp_path, chain, board)
    role.step()
    first = shown(board)
    assert first["made_by"] == BY_CHAIN_MODEL and first["as_of"] == END_HOUR * HOUR
    assert len(first["actual"]) == 48 and first["day_ahead"] == [] and len(first["next"]) == 24
    assert all(row[1] <= row[2] <= row[3] for row in first["next"])
    for slot in range(4 * END_HOUR, 4 * END_HOUR + 8):
        chain.agree(1, slot)
    role.step()
    assert shown(board) == first  # nobody said that a block was decided
    role.on_block()
    role.step()
    second = shown(board)
    assert second["as_of"] == (END_HOUR + 2) * HOUR and len(second["actual"]) == 48
    assert second["day_ahead"] == first["next"][:2]  # what had been said of the two hours that are known now
    assert second["actual"][-2:][0][0] == END_HOUR * HOUR
    assert role.desk.height == chain.height
    await role.stop()


async def test_prices_are_kept_by_slot_after_those_of_the_genesis(chain: Chain, tmp_path: Path):
    role = role_of(tmp_path, chain, StatusBoard())
    role.step()
    role.step()
    known = role.history.prices(1)
    record = chain.env.genesis.prices[0]
    assert known.start_hour == record.start_slot
    assert known.values == (*record.wei_per_wh, None, None, None, None, 40_000_000_000)
    assert not any(key.kind == PRICE for key in role.job.keys), "the model of prices is the chain's"
    await role.stop()


async def test_it_trains_what_was_imported_serves_it_and_knows_it_after_a_restart(
    chain: Chain, tmp_path: Path, hub_toml: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setattr(forecast_role, "STEP_SECONDS", 0.02)
    monkeypatch.setattr(trainer_job, "STEP_SECONDS", 0.02)
    past = past_csv(tmp_path / "past.csv")
    assert main(["history", "import", "--config", str(hub_toml()), "--microgrid", "1", str(past)]) == 0
    keys = KeyStore(tmp_path / "state" / "api-keys.sqlite")
    _, key = keys.create("utility", 1000, 1000, 0, 0)
    keys.close()
    board, stop = StatusBoard(), asyncio.Event()
    role = role_of(tmp_path, chain, board, capacity_w={"1": 20_000})
    await role.start()
    running = asyncio.create_task(role.run(stop))
    async with asyncio.timeout(120), httpx.AsyncClient(base_url=role.server.url, trust_env=False) as client:
        body: dict = {}
        while body.get("made_by") != BY_HUB:
            await asyncio.sleep(0.05)
            assert not running.done()
            answer = await client.get("/v1/demand?microgrid=1", headers={"Authorization": f"Bearer {key}"})
            body = answer.json()
        assert body["capacity_w"] == 20_000 and body["smallest_reserve_margin"] is not None
        while shown(board)["made_by"] != BY_HUB:
            await asyncio.sleep(0.05)
        stop.set()
        await running
    await role.stop()
    again = role_of(tmp_path, chain, StatusBoard())
    again.step()
    assert shown(again._board)["model_hash"] == body["model_hash"]
    await again.stop()


async def test_a_port_in_use_is_a_sentence(chain: Chain, tmp_path: Path):
    first = role_of(tmp_path, chain, StatusBoard())
    await first.start()
    second = ForecastRole(
        InferenceSection(port=first.server.port),
        tmp_path / "other",
        at_hour(END_HOUR),
        chain.query,
        MICROGRIDS,
        lambda: [],
        VOUCHED,
        StatusBoard(),
    )
    with pytest.raises(ConsoleError, match=r"inference: port \d+ on 127.0.0.1 is in use; .* another inference port"):
        await second.start()
    await first.stop()
    await second.stop()


def test_a_country_without_a_calendar_is_a_sentence(chain: Chain, tmp_path: Path):
    with pytest.raises(InferenceError, match="holiday_country: calendar: no public holidays are known for 'ZZ'"):
        role_of(tmp_path, chain, StatusBoard(), holiday_country="ZZ")
    assert not (tmp_path / "state").exists()


def test_the_section_is_read(hub_toml: Callable[..., Path]):
    config = load_toml(hub_toml("port = 0\nhorizons_hours = [24, 72]\n[inference.capacity_w]\n1 = 60000\n"), HubConfig)
    assert config.inference is not None and config.inference.capacities_w == {1: 60_000}
    assert config.inference.horizons_hours == (24, 72)


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ("port = 70000", "port is 70000"),
        ('host = "0.0.0.0"', "behind_proxy = true"),
        ("horizons_hours = []", "choose among 24, 48, 72"),
        ("horizons_hours = [24, 24]", "names one twice"),
        ("horizons_hours = [25]", "choose among"),
        ("training_steps = 0", "training_steps is 0"),
        ('holiday_country = "Korea"', "write a code like KR"),
        ("utc_offset_hours = 15", "utc_offset_hours is 15"),
        ("[inference.capacity_w]\n1 = 0", "capacity_w is 0 for microgrid 1"),
        ("[inference.capacity_w]\nfirst = 5", "microgrids count from 1"),
        ("ports = 5", "did you mean 'port'"),
    ],
)
def test_a_wrong_section_is_one_sentence(hub_toml: Callable[..., Path], section: str, sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        load_toml(hub_toml(section), HubConfig)


def test_behind_a_proxy_any_address_is_served(hub_toml: Callable[..., Path]):
    config = load_toml(hub_toml('host = "0.0.0.0"\nbehind_proxy = true'), HubConfig)
    assert config.inference is not None and config.inference.host == "0.0.0.0"


def test_the_section_needs_the_role(hub_toml: Callable[..., Path]):
    path = hub_toml()
    path.write_text(path.read_text().replace('"ingest", "inference"', '"ingest"'))
    with pytest.raises(ConfigError, match="add the role or remove"):
        load_toml(path, HubConfig)


async def test_an_hour_that_the_chain_closed_with_a_gap_moves_its_forecast_on_too(chain: Chain, tmp_path: Path):
    """The history keeps the gap, so nothing is stored, but the agreed model already sees the hour that was made up."""
    board = StatusBoard()
    role = role_of(tmp_path, chain, board)
    role.step()
    for slot in (0, 1, 2, 12):  # the fourth quarter is missing; two hours later the hour is closed without it
        chain.agree(1, 4 * END_HOUR + slot)
    role.on_block()
    role.step()
    assert role.history.net(1).end_hour == END_HOUR
    assert shown(board)["as_of"] == (END_HOUR + 2) * HOUR
    body = role.desk.outlook(ModelKey(DEMAND, 1, 24))
    assert (body.made_by, body.gaps_filled) == (BY_CHAIN_MODEL, 2)
    await role.stop()


async def test_a_step_that_failed_is_done_again(chain: Chain, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    role = role_of(tmp_path, chain, StatusBoard())
    broken = role.history._db
    role.history._db = Database(tmp_path / "other.sqlite", "CREATE TABLE other (x)", 1)
    await role._guarded_step()
    await role._guarded_step()
    assert [record.levelname for record in caplog.records] == ["WARNING"]  # said once
    role.history._db.close()
    role.history._db = broken
    await role._guarded_step()
    assert role.history.net(1).known == 840
    await role.stop()
