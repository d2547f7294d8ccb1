"""The outbox's way out over a real broker: a hub that is slow or silent is not given more work by those who wait for it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from edge_kit import CHAIN_ID, OPERATOR_KEY, T0, Broker, agent_toml, until

from edge_agent import publisher as publisher_module
from edge_agent.agent import load_device_key
from edge_agent.config import AgentConfig
from edge_agent.publisher import AGAIN, Publisher
from edge_agent.reporting import Reporter
from edge_agent.slot_prover import slot_prover
from edge_agent.slots import Baseline, ClosedSlot
from edge_agent.store import Store, StoreError
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
        self._reporter = Reporter(config, load_device_key(config), self.store, slot_prover(config))
        self._next_slot = slot_of(T0)
        self.report(REPORTS)
        self.link = MqttLink(config.mqtt.address, "home-1", self._hear, self._connected)
        self.link.subscribe(topics.ack("home-1"))
        self.publisher = Publisher(config, self.store, self.link)
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._spawn(self.publisher.run())
        self._spawn(self.publisher.pace())
        self.link.start()

    def report(self, slots: int) -> None:
        """Closes so many slots and puts their reports into the outbox."""
        for _ in range(slots):
            self._next_slot += 1
            self.store.move_baseline(Baseline(self._next_slot, 0, 0), ClosedSlot(self._next_slot - 1, 1, 1, 0))
        self._reporter.report_due()

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


async def come_to_rest(hub: Hub, feeder: Feeder) -> None:
    """Has everything acknowledged, and waits for longer than anything is then still looked at."""
    hub.silent = False
    await until(lambda: feeder.store.totals().outbox_rows == 0)
    await asyncio.sleep(0.4)


async def test_at_rest_the_store_is_left_alone_and_news_is_sent_at_once_and_again(
    street: tuple[Hub, Feeder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "LOOK_ANYWAY", 10_000)
    hub, feeder = street
    await come_to_rest(hub, feeder)
    asked, resends = feeder.store.operations, feeder.publisher.resends
    await asyncio.sleep(1.0)
    assert feeder.store.operations == asked, "for ten times resend_seconds nobody asked the store for anything"
    hub.silent = True
    feeder.report(1)
    await feeder.publisher.send()
    await until(lambda: hub.heard.count(REPORTS + 1) == 3)
    assert feeder.publisher.resends >= resends + 2, "sent once at once, and again since nobody acknowledged it"
    await come_to_rest(hub, feeder)
    assert feeder.store.totals().acked == REPORTS + 1


async def test_a_report_that_nobody_was_told_of_is_found(street: tuple[Hub, Feeder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "LOOK_ANYWAY", 3)
    hub, feeder = street
    await come_to_rest(hub, feeder)
    feeder.report(2)
    await until(lambda: feeder.store.totals().acked == REPORTS + 2)


async def test_a_store_that_fails_when_news_comes_is_asked_again(
    street: tuple[Hub, Feeder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "LOOK_ANYWAY", 10_000)
    hub, feeder = street
    await come_to_rest(hub, feeder)
    feeder.report(1)
    with closing(sqlite3.connect(feeder.store.path)) as other:
        other.execute("ALTER TABLE outbox RENAME TO elsewhere")
        with pytest.raises(StoreError):
            await feeder.publisher.send()
        await asyncio.sleep(0.3)
        other.execute("ALTER TABLE elsewhere RENAME TO outbox")
    await until(lambda: feeder.store.totals().acked == REPORTS + 1)
