"""Sums of opened groups on their way to the rest of the hub, one after the other, each until it was taken.

Rules: a sum that the receiver did not take is offered again; one that it took is noted in the database, so that a restart
offers it no more. The queue is bounded: what does not fit is offered after the next restart.
Not here: what opens a group (`groups`), what the hub does with it (`events`).
"""

from __future__ import annotations

import asyncio
import logging

from hub.ingest.events import IngestEvents
from hub.ingest.groups import GroupSum
from hub.ingest.store import IngestStore

log = logging.getLogger(__name__)
MAX_DELIVERIES = 1024
RETRY_DELIVERY_S = 1.0


class Deliveries:
    """The sums that wait for their receiver."""

    def __init__(self, store: IngestStore, events: IngestEvents) -> None:
        self._store, self._events = store, events
        self._waiting: asyncio.Queue[GroupSum] = asyncio.Queue(MAX_DELIVERIES)
        self.opened = 0
        """Groups opened since the start."""
        self.opened_without = 0
        """Those of them in which members were missing."""

    def put(self, group: GroupSum) -> None:
        """Takes a sum; says so when there is no room."""
        self.opened += 1
        self.opened_without += bool(group.signatures)
        try:
            self._waiting.put_nowait(group)
        except asyncio.QueueFull:
            log.error("sums of slot %d are not handed on: %d wait already", group.slot, MAX_DELIVERIES)

    async def run(self) -> None:
        """Hands on until cancelled."""
        while True:
            group = await self._waiting.get()
            while not await self._handed_on(group):
                await asyncio.sleep(RETRY_DELIVERY_S)

    async def _handed_on(self, group: GroupSum) -> bool:
        try:
            await self._events.on_group(group)
            await asyncio.to_thread(self._store.save_delivered, group.microgrid, group.slot, group.import_wh, group.export_wh)
        except Exception:
            log.exception("handing on the sums of microgrid %d, slot %d failed; again", group.microgrid, group.slot)
            return False
        return True
