"""Sends the outbox over MQTT until the hub acknowledges it: store and forward.

Rules: reports go out in order of seq, at most WINDOW unacknowledged at a time; a new connection, or no
acknowledgement for `resend_seconds`, starts again from the oldest. When more wait than fit the window, the newest
goes ahead: it tells the hub how many there are, so that it does not wait for those that a full outbox gave up. Without
acknowledgement the subscription is made again too, since a broker may have lost it. An acknowledgement counts
only when the operator signed it for this device. What others send wrongly is counted, said once per topic and
dropped.
Not here: making reports (`reporting`), the connection (`openmg.mqtt`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from edge_agent.config import AgentConfig
from edge_agent.store import OutboxRow, Store, StoreError
from openmg.messages import base, topics
from openmg.messages.telemetry import Ack
from openmg.mqtt import MqttLink

log = logging.getLogger(__name__)
WINDOW = 256
"""Unacknowledged reports on the way: bounds memory here and at the broker."""
MAX_NAMED_SENDERS = 64


class OnlyOnce:
    """Counts malformed messages and logs the first one of each sender."""

    def __init__(self) -> None:
        self.count = 0
        self._named: set[str] = set()

    def note(self, sender: str, problem: str) -> None:
        self.count += 1
        if sender not in self._named and len(self._named) < MAX_NAMED_SENDERS:
            self._named.add(sender)
            log.warning("malformed message on %s dropped: %s (further ones are only counted)", sender, problem)


class Publisher:
    """The outbox's way out."""

    def __init__(self, config: AgentConfig, store: Store, link: MqttLink) -> None:
        self._config, self._store, self._link = config, store, link
        self._sent_to = 0
        self._in_flight = 0
        self._progress = False
        self._sending = asyncio.Lock()
        self.malformed = OnlyOnce()
        self.resends = 0

    async def restart(self) -> None:
        """Sends from the oldest unacknowledged report on; after each connection."""
        async with self._sending:  # a `send` under way would count on from where it was
            self._sent_to = self._in_flight = 0
            if len(await asyncio.to_thread(self._store.pending, 0, WINDOW)) == WINDOW:
                newest = await asyncio.to_thread(self._store.newest)
                if newest is not None:
                    self._publish(newest)
        await self.send()

    async def send(self) -> None:
        """Sends what the window allows."""
        async with self._sending:
            while self._link.connected and self._in_flight < WINDOW:
                rows = await asyncio.to_thread(self._store.pending, self._sent_to, WINDOW - self._in_flight)
                if not rows:
                    return
                for row in rows:
                    if not self._publish(row):
                        return
                    self._sent_to = row.seq
                    self._in_flight += 1

    def _publish(self, row: OutboxRow) -> bool:
        return self._link.publish(topics.from_meter(self._config.device.name, row.kind), row.payload)

    async def on_ack(self, topic: str, payload: bytes) -> None:
        """Removes what the hub holds."""
        try:
            signed = base.open_signed(Ack, payload, self._config.hub.chain_id)
            if signed.signer != self._config.hub.address or signed.message.device != self._config.device.name:
                raise base.InvalidMessage("acknowledgement is not the operator's for this device")
        except base.InvalidMessage as error:
            self.malformed.note(topic, str(error))
            return
        removed = await asyncio.to_thread(self._store.acknowledge, signed.message.high_water)
        self._in_flight = max(0, self._in_flight - removed)
        self._progress = self._progress or removed > 0
        await self.send()

    async def run(self) -> None:
        """Sends again whatever waits too long; runs until cancelled."""
        while True:
            self._progress = False
            await asyncio.sleep(self._config.mqtt.resend_seconds)
            with contextlib.suppress(StoreError):  # the store has said so; the next time comes
                if self._link.connected and not self._progress and await self.waiting():
                    self.resends += 1
                    self._link.subscribe_again()
                    await self.restart()

    async def waiting(self) -> bool:
        """Whether any report is not acknowledged."""
        return bool(await asyncio.to_thread(self._store.pending, 0, 1))

    async def drain(self, seconds: float) -> bool:
        """Waits until everything is acknowledged; False when that takes longer."""
        deadline = asyncio.get_running_loop().time() + seconds
        while await self.waiting():
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(0.05)
        return True
