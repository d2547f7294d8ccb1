"""The section [market]: what it needs beside it, and that a home with it trades privately and in no other way."""

from __future__ import annotations

import asyncio

import pytest
from edge_kit import agent_toml

from edge_agent.compose import make_agent
from edge_agent.config import AgentConfig
from openmg.config import ConfigError, load_toml
from openmg.market.calendar import Calendar

WALLET = '\n[wallet]\nseed_file = "owner.seed"\ndemo = true\n'
BANDS = [0] * 9 + [1] * 12 + [0] * 3
MARKET = f"\n[market]\nutc_offset_slots = 36\nperiod_days = 30\nband_of_hour = {BANDS}\n"
KEYS = "".join(
    f'[[wallet.proving_keys]]\ncircuit = "{name}"\nfile = "k"\nsha256 = "{"ab" * 32}"\n' for name in ("transfer", "merge")
)


@pytest.fixture
def written(tmp_path):
    path = agent_toml(tmp_path, 1, "mqtt://127.0.0.1:1")

    def write(more: str):
        path.write_text(path.read_text(encoding="utf-8") + more, encoding="utf-8")
        return path

    return write


async def services(config: AgentConfig) -> list[str]:
    """Names of what an agent of this configuration runs; it is started and ended."""
    agent, stop = make_agent(config), asyncio.Event()
    stop.set()
    await agent.run(stop)
    return [runner.service.name for runner in agent._runners]


async def test_a_home_with_the_section_trades_privately(written):
    config = load_toml(written(WALLET + MARKET), AgentConfig)
    assert config.market.calendar() == Calendar(36, 30, bytes(BANDS))
    assert await services(config) == ["wallet", "market"]


async def test_without_the_section_nothing_of_it_runs(written):
    assert await services(load_toml(written(WALLET), AgentConfig)) == ["wallet"]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (MARKET, "market needs a wallet"),
        (WALLET + "[market]\nband_of_hour = [1, 2]\n", "a day has 24 hours"),
        (WALLET + f"[market]\nband_of_hour = {[256] * 24}\n", "bands from 0 to 255"),
        (WALLET + "[market]\nperiod_days = 0\n", "at least one day"),
        (WALLET.replace("demo = true", "") + KEYS + MARKET, "market proves mint too"),
    ],
)
def test_a_section_that_cannot_work_is_one_sentence(written, more, why):
    with pytest.raises(ConfigError, match=why):
        load_toml(written(more), AgentConfig)
