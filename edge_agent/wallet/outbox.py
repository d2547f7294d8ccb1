"""The wallet's way out: contents go to the schedule of envelopes, which are published at its times and at no others.

Rules: when an envelope leaves depends on the clock alone; a content waits for a place, and a dummy goes out if none waits.
Owners put a content, look at what the chain says, and ask `wants_again`; nothing is stored, so a restart begins empty.
Not here: places and relays (`edge_agent.wallet.envelopes`), what is in a content.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from edge_agent.wallet.envelopes import MAX_KEYS, SLOT_PARTS, EnvelopeSchedule, QueueFull
from openmg.clock import VirtualClock, slot_start
from openmg.envelope import Action
from openmg.messages import base
from openmg.units import SLOT_SECONDS

log = logging.getLogger(__name__)

RESEND_SLOTS = 2
"""A relay submits at the end of the slot and the chain's news come in the next; without them, a content goes out again."""
MIN_SLEEP_SECONDS = 0.01
"""Rounding must not make the loop spin at the edge of a part."""


class Outbox:
    """Contents of one meter on their way to the relays."""

    def __init__(self, relays: Sequence[bytes], clock: VirtualClock, publish: Callable[[bytes], bool]) -> None:
        self._schedule = EnvelopeSchedule(relays, secrets.randbelow)
        self._clock = clock
        self._publish = publish
        self._sent: OrderedDict[str, int] = OrderedDict()  # key -> slot; missing when it has to be sent (again)

    def put(self, key: str, actions: Iterable[Action], valid_until: int) -> bool:
        """Queue a content, in place of one that waits under the key; False when too many wait."""
        try:
            self._schedule.put(key, actions, valid_until)
        except QueueFull as error:
            log.warning("an envelope has to wait: %s", error)
            return False
        return True

    def drop(self, key: str) -> None:
        """The key's content is no longer to be sent."""
        self._schedule.drop(key)
        self._sent.pop(key, None)

    def wants_again(self, key: str) -> bool:
        """Whether the key's content, of which no effect is seen on chain, should be put: for the first time or again."""
        if key in self._schedule.waiting:
            return False
        return key not in self._sent or self._clock.slot() >= self._sent[key] + RESEND_SLOTS

    def on_receipt(self, payload: bytes) -> None:
        """A relay's answer; what it could not submit goes to another one. Raises InvalidMessage."""
        answer = self._schedule.on_receipt(payload)
        if answer is not None and answer[1].error:
            log.info("a relay could not submit %s: %.200r", answer[0], answer[1].error)
            self._sent.pop(answer[0], None)

    def publish_due(self) -> None:
        """Publish the envelopes whose time has come."""
        slot = self._clock.slot()
        waiting = self._schedule.waiting
        envelopes = self._schedule.due(slot, self._part(slot))
        went = [self._publish(base.encode(envelope)) for envelope in envelopes]
        if all(went):  # without a connection nothing was kept, so it is put again
            for key in set(waiting) - set(self._schedule.waiting):
                self._sent[key] = slot
        while len(self._sent) > MAX_KEYS:
            self._sent.popitem(last=False)

    def _part(self, slot: int) -> int:
        return int((self._clock.now() - slot_start(slot)) * SLOT_PARTS // SLOT_SECONDS)

    async def run(self) -> None:
        """Publish at the schedule's times, for ever."""
        while True:
            slot = self._clock.slot()
            self.publish_due()
            end = slot_start(slot) + self._schedule.next_part(slot) * SLOT_SECONDS / SLOT_PARTS
            await asyncio.sleep(max(MIN_SLEEP_SECONDS, self._clock.wall_until(end)))
