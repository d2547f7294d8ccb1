"""What waited while broker and hub were away: delivered in order, at a bounded rate, past a report that the hub refuses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from edge_kit import CHAIN_ID, OPERATOR_KEY, T0, Broker, Hubs, agent_toml, until

from edge_agent import publisher as publisher_module
from edge_agent.agent import Agent
from edge_agent.config import AgentConfig
from edge_agent.slots import Baseline
from hub.ingest.events import IngestEvents
from hub.ingest.registry import Device, Registry
from hub.ingest.service import IngestService
from hub.ingest.status import IngestSettings
from openmg.clock import VirtualClock, slot_of
from openmg.config import load_toml
from openmg.messages import base
from openmg.messages.feeder import FeederReport
from openmg.mqtt import MqttAddress

SLOT = slot_of(T0)


class Feeder:
    """An agent of a feeder with closed slots, which runs in this process."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        path = agent_toml(folder, 9, broker.url, "feeder-1", w0=time.time(), role="feeder")
        self.agent = Agent(load_toml(path, AgentConfig))
        self._stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def close_slots(self, slots: range) -> None:
        """Slots that closed, each with an energy of its own."""
        store = self.agent.store
        with store._transaction() as db:
            db.executemany("INSERT INTO slots VALUES (?, ?, 1, 0, NULL)", [(slot, slot % 1000) for slot in slots])
        store.move_baseline(Baseline(slots.stop, 0, 0), None)

    def start(self) -> None:
        self._running = asyncio.create_task(self.agent.run(self._stop))

    async def end(self) -> None:
        self._stop.set()
        if self._running is not None:
            await self._running


@pytest.fixture
async def feeder(tmp_path: Path, broker: Broker) -> AsyncIterator[Feeder]:
    made = Feeder(tmp_path, broker)
    yield made
    await made.end()


class Arrivals(IngestEvents):
    """Slots of the feeder in the order in which they came, with energy and time."""

    def __init__(self) -> None:
        self.reports: list[tuple[float, FeederReport]] = []

    def on_feeder(self, device: Device, report: FeederReport) -> None:
        self.reports.append((time.monotonic(), report))


def hub_of(hubs: Hubs, broker: Broker, folder: Path, feeder: Feeder, events: IngestEvents) -> IngestService:
    settings = IngestSettings(MqttAddress.parse(broker.url), "hub-1", CHAIN_ID, OPERATOR_KEY)
    registry = Registry([Device("feeder-1", feeder.agent.key.address, 1, "feeder")])
    return hubs.make(settings, registry, folder / "i.sqlite", VirtualClock(T0, time.time(), 1.0), events, ())


@pytest.mark.parametrize("broker", ["mosquitto"], indirect=True)
async def test_a_backlog_arrives_in_order_at_a_bounded_rate(
    broker: Broker, hubs: Hubs, feeder: Feeder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "PER_SECOND", 40)
    count, heard = 160, Arrivals()
    feeder.close_slots(range(SLOT - count, SLOT))
    hub = hub_of(hubs, broker, tmp_path, feeder, heard)
    await feeder.agent._report()  # without a broker in reach
    assert feeder.agent.store.totals().outbox_rows == count
    await hub.start()
    await until(lambda: hub.connected)
    await asyncio.sleep(0.1)  # its subscription reached the broker
    feeder.start()
    await until(lambda: feeder.agent.store.totals().outbox_rows == 0, 60)
    slots = [report.slot for _at, report in heard.reports]
    assert slots == list(range(SLOT - count, SLOT))  # none twice, none missing, in order
    assert (hub.stats().lost, hub.stats().conflicts, feeder.agent.store.totals().lost) == (0, 0, 0)
    # A full allowance at first, then the rate: so many at least took this long.
    took = heard.reports[-1][0] - heard.reports[0][0]
    assert took >= (count - 2 * 40) / 40


async def test_a_report_that_the_hub_refuses_stops_none_behind_it(
    broker: Broker, hubs: Hubs, feeder: Feeder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What an agent of an earlier version left in its outbox, in a form that the hub reads no more."""
    agent, heard = feeder.agent, Arrivals()
    feeder.close_slots(range(SLOT - 6, SLOT))
    await agent._report()
    rows = agent.store.pending(0, 9)
    old = base.encode(base.open_signed(FeederReport, rows[2].payload, CHAIN_ID).message)  # unsigned, as if that were the form
    agent.store._rows("UPDATE outbox SET payload = ? WHERE seq = ?", old, rows[2].seq)
    hub = hub_of(hubs, broker, tmp_path, feeder, heard)
    await hub.start()
    feeder.start()
    await until(lambda: agent.store.totals().refused_rows == 1, 30)
    feeder.close_slots(range(SLOT, SLOT + 1))  # the next report says from which number on reports wait
    await agent._report()
    await until(lambda: agent.store.totals().outbox_rows == 0, 30)
    totals = agent.store.totals()
    assert (totals.acked, totals.refused, totals.lost) == (6, 1, 0) and "is set aside" in caplog.text
    assert sorted({report.slot for _at, report in heard.reports}) == [*range(SLOT - 6, SLOT - 4), *range(SLOT - 3, SLOT + 1)]
    (row,) = agent.store._rows("SELECT seq, reason FROM refused")
    assert row[0] == rows[2].seq and "FeederReport" in str(row[1])
    assert agent.store.retry_refused() == 1  # in today's form, under a new number
    await agent._report()
    await until(lambda: agent.store.totals().outbox_rows == 0, 30)
    slots = [report.slot for _at, report in heard.reports]
    assert sorted(slots) == list(range(SLOT - 6, SLOT + 1)) and slots[-1] == SLOT - 4
    assert agent.store.totals().refused_rows == 0 and hub.stats().conflicts == 0
