"""Asks the members of a group to open a slot, until they have.

Rules: a survivor set is durable before it is shown, since members answer one set only. It is shown again after ASK_AGAIN_S,
twice as long and so on up to LONGEST_PAUSE_S: a member that was away answers when it is back, within a day.
Not here: which sets are opened and what the answers say (`groups`, `openings`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Protocol

from hub.ingest.groups import MAX_OPEN_SLOTS, SlotGroups
from hub.ingest.openings import Opening
from hub.ingest.status import IngestSettings
from hub.ingest.store import IngestStore
from openmg.messages import base, topics
from openmg.messages.slot_opening import OpeningNotice

log = logging.getLogger(__name__)
ASK_AGAIN_S = 1.0
LONGEST_PAUSE_S = 60.0


class Publish(Protocol):
    """Hands a message to the broker; False when there is no connection."""

    def __call__(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> bool: ...


class Asking:
    """The hub's questions; `add` takes openings, `ask` stores their sets and shows what is due."""

    def __init__(self, settings: IngestSettings, store: IngestStore, groups: SlotGroups, publish: Publish) -> None:
        self._settings, self._store, self._groups, self._publish = settings, store, groups, publish
        self._new: list[Opening] = []
        self._again: dict[tuple[bytes, int], tuple[float, float]] = {}
        """When to show a stored set next, and the pause after that; monotonic seconds."""
        self._storing = asyncio.Lock()

    def add(self, openings: Iterable[Opening]) -> None:
        """Openings whose sets are to be stored and shown."""
        self._new.extend(openings)

    async def stored(self, first_slot: int) -> tuple[OpeningNotice, ...]:
        """The sets fixed before a restart."""
        notices = []
        for payload in await asyncio.to_thread(self._store.sets, first_slot):
            try:
                notices.append(base.decode(OpeningNotice, payload))
            except base.InvalidMessage as error:
                log.error("a stored survivor set cannot be used (%s); its slot stays closed", error)
        return tuple(notices)

    async def ask(self, current_slot: int) -> None:
        """Makes new sets durable and shows every set that is due."""
        async with self._storing:
            new, rows = tuple(self._new), [(n.roster_id, n.slot, base.encode(n)) for n in (o.notice for o in self._new)]
            if rows:
                await asyncio.to_thread(self._store.save_sets, rows, current_slot - MAX_OPEN_SLOTS)
                self._again.update({row[:2]: (0.0, ASK_AGAIN_S) for row in rows})
                del self._new[: len(new)]
        now, waiting = time.monotonic(), {}
        for opening in self._groups.asking():
            place = opening.notice.roster_id, opening.slot
            if place not in self._again:
                continue  # not stored yet
            at, pause = self._again[place]
            if now >= at and self.show(opening.notice, opening.roster.microgrid):
                at, pause = now + pause, min(2 * pause, LONGEST_PAUSE_S)
            waiting[place] = at, pause
        self._again = waiting

    def show(self, notice: OpeningNotice, microgrid: int) -> bool:
        """Publishes a set that is stored; False without a connection."""
        payload = base.sign(notice, self._settings.chain_id, self._settings.operator_key)
        return self._publish(topics.opening(microgrid), payload)
