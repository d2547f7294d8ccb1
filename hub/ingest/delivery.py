"""Opened slots on their way to the rest of the hub, one after the other, each until it was taken.

Rules: a slot that the receiver did not take is offered again; one that it took is noted in the database, so that a restart
offers it no more. The queue is bounded: what does not fit is offered after the next restart.
Not here: what opens a group (`groups`), which groups make a slot (`joining`), what the hub does with it (`events`).
"""

from __future__ import annotations

import asyncio
import logging

from hub.ingest.events import IngestEvents
from hub.ingest.joining import OpenedSlot
from hub.ingest.store import IngestStore

log = logging.getLogger(__name__)
MAX_DELIVERIES = 1024
RETRY_DELIVERY_S = 1.0


class Deliveries:
    """The slots that wait for their receiver."""

    def __init__(self, store: IngestStore, events: IngestEvents) -> None:
        self._store, self._events = store, events
        self._waiting: asyncio.Queue[OpenedSlot] = asyncio.Queue(MAX_DELIVERIES)
        self.opened = 0
        """Groups opened since the start."""
        self.opened_without = 0
        """Those of them in which members were missing."""
        self.left_out = 0
        """Groups that stayed closed while others of their slot were opened."""

    def put(self, slot: OpenedSlot) -> None:
        """Takes a slot; says so when there is no room."""
        self.opened += len(slot.groups)
        self.opened_without += sum(bool(group.signatures) for group in slot.groups)
        self.left_out += len(slot.closed)
        try:
            self._waiting.put_nowait(slot)
        except asyncio.QueueFull:
            log.error("sums of slot %d are not handed on: %d wait already", slot.slot, MAX_DELIVERIES)

    async def run(self) -> None:
        """Hands on until cancelled."""
        while True:
            slot = await self._waiting.get()
            while not await self._handed_on(slot):
                await asyncio.sleep(RETRY_DELIVERY_S)

    async def _handed_on(self, slot: OpenedSlot) -> bool:
        try:
            await self._events.on_slot(slot)
            await asyncio.to_thread(self._store.save_delivered, slot.microgrid, slot.slot, slot.import_wh, slot.export_wh)
        except Exception:
            log.exception("handing on the sums of microgrid %d, slot %d failed; again", slot.microgrid, slot.slot)
            return False
        return True
