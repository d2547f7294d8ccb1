"""Two models over everything that is real: four engines, a broker, a hub's ingest, and nine meters that train on their stores.

Two homes have no panels: the chain's genesis does not register them for the exported energy, and their meters find out by
themselves that they have nothing to learn of it.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from round_homes import home
from round_hubs import Hubs
from round_world import CHAIN_ID, HISTORY_HOURS, METERS, PLAN, START_HOUR, VALIDATOR_KEYS

from edge_agent.config import AgentConfig, DeviceSection, HomeSection, HubSection, MeterSection, MqttSection
from edge_agent.learning.service import LearningService
from edge_agent.services import AgentContext, ServiceRunner
from edge_agent.slots import IMPORTED, ClosedSlot
from edge_agent.store import Store
from hub.ingest.broker import serve_broker
from hub.ingest.events import IngestEvents
from hub.ingest.registry import Device, Registry
from hub.ingest.service import IngestService
from hub.ingest.status import IngestSettings
from hub.ingest.store import IngestStore
from hub.learning.publisher import ModelPublisher
from hub.ppdl.app.transactions import ballot_tx, commit_tx, evaluation_tx
from openmg.clock import VirtualClock
from openmg.forecast.spec import EXPORT_ENERGY, NET_ENERGY
from openmg.identity import DeviceKey
from openmg.messages.learning import Ballot, Evaluation, UpdateCommit, UpdateReveal
from openmg.mqtt import MqttAddress, MqttLink

NET, EXPORT = NET_ENERGY.short_name, EXPORT_ENERGY.short_name
LONG = dataclasses.replace(
    PLAN, commit_blocks=10, reveal_blocks=60, aggregate_blocks=60, committee_blocks=60, max_round_blocks=2000
)
PLANS = (LONG, dataclasses.replace(LONG, spec=EXPORT_ENERGY, commit_blocks=14))
NO_PANELS = METERS[-2:]
LIMIT_S = 240.0


def past(number: int, panels: bool) -> list[ClosedSlot]:
    """The slots of a home: its load, less what panels give by day."""
    hours = np.arange(HISTORY_HOURS)
    sun = np.clip(np.sin(((START_HOUR + hours + 9) % 24 - 6) / 12 * np.pi), 0, None)
    clouds = np.random.default_rng(100 + number).uniform(0.4, 1.0, HISTORY_HOURS // 24 + 1)[hours // 24]
    net = np.array(home(number)) - np.rint(2500 * panels * sun * clouds).astype(int)
    return [
        ClosedSlot((START_HOUR + hour) * 4 + quarter, max(0, int(wh)) // 4, max(0, -int(wh)) // 4, IMPORTED)
        for hour, wh in enumerate(net)
        for quarter in range(4)
    ]


class Meter:
    """An agent's learning: store, MQTT link and service, as `edge_agent.agent` puts them together."""

    def __init__(self, folder: Path, key: DeviceKey, number: int, address: MqttAddress) -> None:
        folder.mkdir()
        self.key, self.store = key, Store(folder / "store.sqlite")
        self.store.import_slots(past(number, key not in NO_PANELS), None)
        self.service = LearningService()
        self.runner = ServiceRunner(self.service)
        self.link = MqttLink(address, f"meter-{number}", self._heard, lambda: None)
        config = AgentConfig(
            DeviceSection(f"home-{number}", folder / "key", folder),
            MeterSection("127.0.0.1", 5020),
            MqttSection(str(address)),
            HubSection("0x" + "11" * 20, CHAIN_ID),
            HomeSection(1),
        )
        self.context = AgentContext(config, key, self.store, VirtualClock.real(), self.link.publish, self._subscribe)

    def _heard(self, topic: str, payload: bytes) -> None:
        if self.runner.wants(topic):
            self.runner.offer((topic, payload))

    def _subscribe(self, topic_filter: str) -> None:
        self.runner.filters.append(topic_filter)
        self.link.subscribe(topic_filter)

    def start(self) -> None:
        self.runner.start(self.context)
        self.link.start()

    @property
    def trained(self) -> set[str]:
        """The files of the updates that it kept, one for each model that it has trained."""
        return {path.name for path in self.store.path.parent.glob("*.pending")}

    async def stop(self) -> None:
        await self.runner.stop()
        await self.link.stop()
        self.store.close()


class Operator(IngestEvents):
    """The first hub's broker side: what meters say becomes transactions, the open rounds are told to them."""

    def __init__(self, folder: Path, hubs: Hubs, address: MqttAddress) -> None:
        self.hubs = hubs
        registry = Registry(Device(f"home-{i}", meter.address, 1, "home") for i, meter in enumerate(METERS, 1))
        settings = IngestSettings(address, "hub-1", CHAIN_ID, VALIDATOR_KEYS[0])
        self.store = IngestStore(folder / "ingest.sqlite")
        app = hubs.hubs[0].app
        self.ingest = IngestService(settings, registry, self.store, VirtualClock.real(), self, app.open_report)
        self.publishers = [
            ModelPublisher(
                plan.spec.short_name,
                lambda path: app.query(path, b""),
                lambda topic, payload: self.ingest.publish(topic, payload, retain=True),
                lambda name=plan.spec.short_name: len(hubs.hubs[0].attendants[name].exchange.missing()),
            )
            for plan in hubs.plans
        ]
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        await self.ingest.start()
        while not stop.is_set():
            for publisher in self.publishers:
                publisher.step()
            await asyncio.sleep(0.1)
        await self.ingest.stop()
        self.store.close()

    def _submit(self, tx: bytes) -> None:
        task = asyncio.create_task(self.hubs.submit(0, tx))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def on_commit(self, device: Device, signed: object, raw: bytes) -> None:
        assert isinstance(signed.message, UpdateCommit)  # type: ignore[attr-defined]
        self._submit(commit_tx(raw))

    def on_ballot(self, device: Device, signed: object, raw: bytes) -> None:
        assert isinstance(signed.message, Ballot)  # type: ignore[attr-defined]
        self._submit(ballot_tx(raw))

    def on_evaluation(self, device: Device, signed: object, raw: bytes) -> None:
        assert isinstance(signed.message, Evaluation)  # type: ignore[attr-defined]
        self._submit(evaluation_tx(raw))

    def on_reveal(self, device: Device, reveal: UpdateReveal) -> None:
        self.hubs.hubs[0].attendants.on_reveal(device.address, reveal.model, reveal.round, reveal.blob)


async def learnt(hubs: Hubs, hub: int, place: int) -> None:
    """Until the hub has two learnt rounds of the model, and every loss of its first one."""
    learners = len(METERS) if place == 0 else len(METERS) - len(NO_PANELS)
    while True:
        state = hubs.hubs[hub].model(place)
        if state.round.completed >= 2 and state.records[0].loss_count == learners:
            return
        await hubs.hubs[hub].engine.wait_height(hubs.hubs[hub].app.info().last_height + 1)


@pytest.mark.slow
async def test_four_hubs_and_nine_meters_learn_two_models_over_a_broker(tmp_path: Path, free_port: Callable[[], int]) -> None:
    port, stop = free_port(), asyncio.Event()
    address = MqttAddress.parse(f"mqtt://127.0.0.1:{port}")
    broker = asyncio.create_task(serve_broker("127.0.0.1", port, stop))
    meters = [Meter(tmp_path / f"home-{i}", key, i, address) for i, key in enumerate(METERS, 1)]
    async with Hubs(tmp_path, PLANS, free_port) as hubs:
        ingest = asyncio.create_task(Operator(tmp_path, hubs, address).run(stop))
        for meter in meters:
            meter.start()
        async with asyncio.timeout(LIMIT_S):
            for hub in range(4):
                for place in (0, 1):
                    await learnt(hubs, hub, place)
            while any(len(meter.trained) < (1 if meter.key in NO_PANELS else 2) for meter in meters):
                await asyncio.sleep(0.1)  # who judged in every round so far trains in a later one
        stop.set()
        await ingest
        for meter in meters:
            await meter.stop()
        await hubs.same_app_hash()
        views = [[hub.model(place) for place in (0, 1)] for hub in hubs.hubs]
    await broker
    panelled = {meter.address for meter in METERS} - {meter.address for meter in NO_PANELS}
    for net, export in views:
        assert net.records[0] == views[0][0].records[0] and export.records[0] == views[0][1].records[0]
        assert all(set(record.participants) <= panelled for record in export.records)
        first = export.records[0]
        assert len(first.included) >= LONG.min_participants and first.outcome in ("learnt", "learnt_unjudged")
    for meter in meters:
        service = meter.service
        assert service.answered > 0 and service.malformed == 0
        assert ("hardly feeds in" in service._complaints.get(EXPORT, "")) == (meter.key in NO_PANELS)
        names = [NET] if meter.key in NO_PANELS else [NET, EXPORT]
        assert meter.trained == {f"learning-{name.hex()}.pending" for name in names}
