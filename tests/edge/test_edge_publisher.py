"""The outbox's way out over a real broker: a hub that is slow or silent is not given more work by those who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from edge_kit import CHAIN_ID, OPERATOR_KEY, T0, Broker, agent_toml, until

from edge_agent.agent import load_device_key
from edge_agent.config import AgentConfig
from edge_agent.publisher import AGAIN, Publisher
from edge_agent.reporting import Reporter
from edge_agent.slot_prover import slot_prover
from edge_agent.slots import Baseline, ClosedSlot
from edge_agent.store import Store
from openmg.clock import slot_of
from openmg.config import load_toml
from openmg.messages import base, topics
from openmg.messages.feeder import FEEDER, FeederReport
from openmg.messages.telemetry import Ack
from openmg.mqtt import MqttLink
from openmg.tasks import end_tasks

REPORTS = 40


class Hub:
    """Hears one feeder's reports, and acknowledges them while it is not silent."""

    def __init__(self, config: AgentConfig) -> None:
        self.silent = True
        self.heard: list[int] = []
        self.link = MqttLink(config.mqtt.address, "hub", self._hear, lambda: None)
        self.link.subscribe(topics.from_meter("home-1", FEEDER))
        self.link.start()

    def _hear(self, _topic: str, payload: bytes) -> None:
        self.heard.append(base.open_signed(FeederReport, payload, CHAIN_ID).message.seq)
        if not self.silent:
            self.link.publish(topics.ack("home-1"), base.sign(Ack("home-1", max(self.heard)), CHAIN_ID, OPERATOR_KEY))


class Feeder:
    """A publisher with forty reports in its outbox, and its connection."""

    def __init__(self, config: AgentConfig) -> None:
        self.store = Store(config.store_path, first_seq=1)
        slot = slot_of(T0)
        for number in range(REPORTS):
            self.store.move_baseline(Baseline(slot + number + 1, 0, 0), ClosedSlot(slot + number, 1, 1, 0))
        Reporter(config, load_device_key(config), self.store, slot_prover(config)).report_due()
        self.link = MqttLink(config.mqtt.address, "home-1", self._hear, self._connected)
        self.link.subscribe(topics.ack("home-1"))
        self.publisher = Publisher(config, self.store, self.link)
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._spawn(self.publisher.run())
        self._spawn(self.publisher.pace())
        self.link.start()

    def _spawn(self, call) -> None:
        self.tasks.add(asyncio.get_running_loop().create_task(call))

    def _hear(self, topic: str, payload: bytes) -> None:
        self._spawn(self.publisher.on_answer(topic, payload))

    def _connected(self) -> None:
        self._spawn(self.publisher.restart())

    async def stop(self) -> None:
        await end_tasks(self.tasks)
        await self.link.stop()
        self.store.close()


@pytest.fixture
async def street(broker: Broker, tmp_path: Path) -> AsyncIterator[tuple[Hub, Feeder]]:
    path = agent_toml(tmp_path, 1502, broker.url, role="feeder")
    path.write_text(path.read_text(encoding="utf-8").replace("resend_seconds = 0.5", "resend_seconds = 0.1"), encoding="utf-8")
    config = load_toml(path, AgentConfig)
    hub, feeder = Hub(config), Feeder(config)
    await until(lambda: hub.link.connected)
    feeder.start()
    yield hub, feeder
    await feeder.stop()
    await hub.link.stop()


async def test_a_silent_hub_hears_ever_less_and_all_of_it_once_it_answers(street: tuple[Hub, Feeder]) -> None:
    hub, feeder = street
    await until(lambda: feeder.publisher.resends == 4)
    await until(lambda: len(hub.heard) >= REPORTS + 4 * AGAIN)
    assert set(hub.heard) == set(range(1, REPORTS + 1))
    assert len(hub.heard) == REPORTS + 4 * AGAIN, "it heard each report, and the oldest once more each time"
    hub.silent = False
    await until(lambda: feeder.store.totals().outbox_rows == 0)
    assert feeder.store.totals().acked == REPORTS
