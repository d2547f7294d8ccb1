"""What else lives in the agent: services that hear messages and closed slots, each in its own task.

Rules: a service never delays metering nor another service: its events wait in a bounded queue of its own, in
order; a service that raises is logged and goes on with the next event. Slots that were closed while it was
not running are in the store (`Store.slots`). Not here: the services (`edge_agent.learning`,
`edge_agent.wallet`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Protocol

from edge_agent.config import AgentConfig
from edge_agent.slots import ClosedSlot
from edge_agent.store import Store
from openmg.clock import VirtualClock
from openmg.identity import DeviceKey
from openmg.tasks import end_task

log = logging.getLogger(__name__)
MAX_EVENTS = 512


class Publish(Protocol):
    """Hands a message to the broker; False when there is no connection (nothing is kept)."""

    def __call__(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> bool: ...


@dataclass(frozen=True)
class AgentContext:
    """What a service may use. `subscribe` filters decide which messages reach it."""

    config: AgentConfig
    key: DeviceKey
    store: Store
    clock: VirtualClock
    publish: Publish
    subscribe: Callable[[str], None]


class Service(Protocol):
    """A part of the agent with its own task; calls come one at a time."""

    @property
    def name(self) -> str:
        """Short name for the log."""

    async def start(self, context: AgentContext) -> None:
        """Called once, before anything else; subscribe here."""

    async def on_message(self, topic: str, payload: bytes) -> None:
        """A message of a subscribed topic; its content is untrusted."""

    async def on_slot(self, slot: int, import_wh: int, export_wh: int) -> None:
        """A slot was closed and stored."""

    async def stop(self) -> None:
        """Called once, at the end."""


Event = tuple[str, bytes] | ClosedSlot


class ServiceRunner:
    """Runs one service: queue, task, and the filters it subscribed."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.filters: list[str] = []
        self.dropped = 0
        self._events: asyncio.Queue[Event] = asyncio.Queue(MAX_EVENTS)
        self._task: asyncio.Task[None] | None = None

    def offer(self, event: Event) -> None:
        """Queues an event; a full queue drops it and says so at the first and every hundredth time."""
        try:
            self._events.put_nowait(event)
        except asyncio.QueueFull:
            self.dropped += 1
            if self.dropped % 100 == 1:
                log.warning("service %s is behind; %d events dropped", self.service.name, self.dropped)

    def wants(self, topic: str) -> bool:
        from paho.mqtt.client import topic_matches_sub

        return any(topic_matches_sub(topic_filter, topic) for topic_filter in self.filters)

    def start(self, context: AgentContext) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(context), name=f"service {self.service.name}")

    async def stop(self) -> None:
        """Ends the task after the event it works on is broken off, then stops the service."""
        if self._task is not None:
            await end_task(self._task)
            self._task = None
            await self._guarded("stop", self.service.stop())

    async def _run(self, context: AgentContext) -> None:
        await self._guarded("start", self.service.start(context))
        while True:
            event = await self._events.get()
            if isinstance(event, ClosedSlot):
                await self._guarded("slot", self.service.on_slot(event.slot, event.import_wh, event.export_wh))
            else:
                await self._guarded(f"message on {event[0]}", self.service.on_message(*event))

    async def _guarded(self, what: str, call: Coroutine[object, object, None]) -> None:
        try:
            await call
        except Exception:
            log.exception("service %s failed at %s; it goes on", self.service.name, what)
