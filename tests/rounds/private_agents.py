"""The MQTT side of a private round: a hub's ingest and publishers beside one engine, and meters' services on a broker."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from private_world import NAMES
from round_homes import home
from round_hubs import Hub
from round_world import CHAIN_ID, MODEL, START_HOUR
from slot_reports import ReportOpener

from edge_agent.config import AgentConfig, DeviceSection, HomeSection, HubSection, MeterSection, MqttSection
from edge_agent.learning.service import LearningService
from edge_agent.services import AgentContext, ServiceRunner
from edge_agent.slots import IMPORTED, ClosedSlot
from edge_agent.store import Store
from hub.ingest.events import IngestEvents
from hub.ingest.registry import HOME, Device, Registry
from hub.ingest.service import IngestService
from hub.ingest.status import IngestSettings
from hub.ingest.store import IngestStore
from hub.learning.private_publisher import PrivatePublisher
from hub.learning.publisher import ModelPublisher
from hub.ppdl.app.transactions import ballot_tx, commit_tx, evaluation_tx, step_tx
from hub.ppdl.application import BlockResult
from hub.ppdl.consensus.block import Block
from hub.ppdl.mempool import TxRefused
from openmg.clock import VirtualClock
from openmg.forecast.trainer import get_trainer
from openmg.identity import DeviceKey
from openmg.learning.plan import LearningPlan
from openmg.member.pending import PendingFile
from openmg.messages.base import Signed
from openmg.messages.learning import Ballot, Evaluation, UpdateCommit, UpdateReveal
from openmg.mqtt import MqttAddress, MqttLink

sys.path.append(str(Path(__file__).resolve().parent.parent / "edge"))
OPERATOR_KEY = bytes(31) + b"\x07"


class MqttSide(IngestEvents):
    """What an operator's hub does between its broker and its engine for learning, and nothing else."""

    def __init__(self, hub: Hub, folder: Path, url: str, meters: list[DeviceKey]) -> None:
        self.hub = hub
        self.revealed: list[UpdateReveal] = []
        registry = Registry(Device(NAMES[key.address], key.address, 1, HOME) for key in meters)
        self.store = IngestStore(folder / "ingest.sqlite")
        clock = VirtualClock.real()
        settings = IngestSettings(MqttAddress.parse(url), "hub", CHAIN_ID, OPERATOR_KEY, clock.slot())
        self.ingest = IngestService(settings, registry, self.store, clock, self, ReportOpener(meters, CHAIN_ID))

        def publish(topic: str, payload: bytes) -> bool:
            return self.ingest.publish(topic, payload, retain=True)

        def query(path: str):  # type: ignore[no-untyped-def]
            return hub.app.query(path, b"")

        self.models = ModelPublisher(MODEL, query, publish, lambda: len(hub.attendant.exchange.missing()))
        self.steps = PrivatePublisher(MODEL, query, publish)
        self._submitting: set[asyncio.Task[None]] = set()
        hub.engine.on_decided(self._on_block)

    async def start(self) -> None:
        await self.ingest.start()
        async with asyncio.timeout(30):
            while not self.ingest.connected:
                await asyncio.sleep(0.05)
        self._tell()

    async def stop(self) -> None:
        await self.ingest.stop()
        await asyncio.gather(*self._submitting)
        self.store.close()

    def _on_block(self, block: Block, result: BlockResult) -> None:
        self._tell()

    def _tell(self) -> None:
        self.models.step()
        self.steps.step()

    def on_commit(self, device: Device, signed: Signed[UpdateCommit], raw: bytes) -> None:
        self._submit(commit_tx(raw))

    def on_reveal(self, device: Device, reveal: UpdateReveal) -> None:
        self.revealed.append(reveal)
        self.hub.attendants.on_reveal(device.address, reveal.model, reveal.round, reveal.blob)

    def on_ballot(self, device: Device, signed: Signed[Ballot], raw: bytes) -> None:
        self._submit(ballot_tx(raw))

    def on_evaluation(self, device: Device, signed: Signed[Evaluation], raw: bytes) -> None:
        self._submit(evaluation_tx(raw))

    def on_private_step(self, device: Device, leaf: str, raw: bytes) -> None:
        self._submit(step_tx(leaf, raw))

    def _submit(self, tx: bytes) -> None:
        async def submit() -> None:
            try:
                await self.hub.engine.submit(tx)
            except TxRefused:
                return

        task = asyncio.get_running_loop().create_task(submit())
        self._submitting.add(task)
        task.add_done_callback(self._submitting.discard)


class MqttMeter:
    """A meter's learning service with a real store, state folder and connection.

    cut_after: the leaf after whose first message nothing that it says gets through any more; empty for never.
    """

    def __init__(self, folder: Path, key: DeviceKey, number: int, url: str, plan: LearningPlan) -> None:
        folder.mkdir()
        self.key, self.folder, self.name = key, folder, NAMES[key.address]
        self.store = Store(folder / "store.sqlite")
        slots = []
        for hour, net in enumerate(home(number)):
            for quarter, value in enumerate([net // 4] * 3 + [net - 3 * (net // 4)]):
                slots.append(ClosedSlot((START_HOUR + hour) * 4 + quarter, max(0, value), max(0, -value), IMPORTED))
        self.store.import_slots(slots, None)
        self.config = AgentConfig(
            DeviceSection(self.name, folder / "key", folder),
            MeterSection("127.0.0.1", 5020),
            MqttSection(url),
            HubSection("0x" + "11" * 20, CHAIN_ID),
            HomeSection(1),
        )
        self.cut_after, self._cut = "", False
        self.pending = PendingFile(folder, MODEL)
        self._trainer = get_trainer(plan.spec, "numpy")
        self._running = False

    async def start(self) -> None:
        """A new service and connection on the files that are there."""
        self.service = LearningService(self._trainer)
        self.runner = ServiceRunner(self.service)
        self.link = MqttLink(MqttAddress.parse(self.config.mqtt.url), self.name, self._on_message, lambda: None)

        def subscribe(topic_filter: str) -> None:
            self.runner.filters.append(topic_filter)
            self.link.subscribe(topic_filter)

        context = AgentContext(self.config, self.key, self.store, VirtualClock.real(), self._publish, subscribe)
        self.runner.start(context)
        self.link.start()
        self._running = True

    def _on_message(self, topic: str, payload: bytes) -> None:
        if self.runner.wants(topic):
            self.runner.offer((topic, payload))

    def _publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> bool:
        sent = not self._cut and self.link.publish(topic, payload, qos=qos, retain=retain)
        self._cut = self._cut or bool(self.cut_after) and topic.endswith(f"/{self.cut_after}")
        return sent

    async def stop(self) -> None:
        """End service and connection; the files stay."""
        if self._running:
            self._running = False
            await self.link.stop()
            await self.runner.stop()

    async def end(self) -> None:
        await self.stop()
        self.store.close()
