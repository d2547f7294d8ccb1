"""`openmg-agent doctor` on relays: with one alone, the hub that carries an envelope may be the one that opens it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from edge_kit import Broker, Processes, agent_toml, processes  # noqa: F401 - a fixture

from edge_agent import doctor
from edge_agent.config import AgentConfig
from openmg.config import load_toml
from openmg.messages import base, topics
from openmg.messages.market import ChainNotice
from openmg.mqtt import MqttAddress, MqttLink

WALLET = '\n[wallet]\nseed_file = "owner.seed"\ndemo = true\n'


def notice(*relays: bytes) -> bytes:
    return base.encode(ChainNotice(1, b"\1" * 20, b"\2" * 20, (), relays, b"\3" * 32, (), bytes(20)))


@pytest.fixture
async def told(tmp_path: Path, processes: Processes, free_port: Callable[[], int]) -> AsyncIterator[MqttLink]:  # noqa: F811
    """A broker, and a connection of somebody who publishes as a hub does."""
    broker, connected = Broker("amqtt", free_port(), tmp_path, processes), asyncio.Event()
    broker.start()  # a connection that comes too early is tried again only seconds later
    link = MqttLink(MqttAddress.parse(broker.url), "a-hub", lambda _topic, _payload: None, connected.set)
    link.start()
    await asyncio.wait_for(connected.wait(), 20)
    yield link
    await link.stop()


@pytest.mark.parametrize(
    ("relays", "ok", "text"),
    [
        ((b"\7" * 32, b"\x08" * 32), True, "2 relays open envelopes"),
        ((b"\7" * 32,), False, "envelopes can go to one relay only"),
        ((b"\7" * 32, b"\7" * 32), False, "envelopes can go to one relay only"),
        (None, False, "the hub has not said which relays there are"),
    ],
)
async def test_doctor_says_when_one_hub_may_see_sender_and_content(told, tmp_path, relays, ok, text):
    address = str(told.address)
    path = agent_toml(tmp_path, 1, address)
    path.write_text(path.read_text(encoding="utf-8") + WALLET, encoding="utf-8")
    config = load_toml(path, AgentConfig)
    if relays is not None:
        assert told.publish(topics.CHAIN, notice(*relays), retain=True)
    if ok:
        assert await doctor._relays(config) == text
    else:
        with pytest.raises(doctor.CheckFailed, match=text):
            await doctor._relays(config)


async def test_a_home_without_a_wallet_needs_no_relay(tmp_path):
    config = load_toml(agent_toml(tmp_path, 1, "mqtt://127.0.0.1:1"), AgentConfig)
    assert "no wallet" in await doctor._relays(config)
