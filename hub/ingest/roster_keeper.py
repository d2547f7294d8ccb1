"""Makes the groups of each microgrid when its homes are there, and tells them of their rosters.

Theory of operation. `look` runs in the service's watch loop. A new grouping is stored, then published, then repeated until it
is in force; whoever is born or reports under a wrong roster has the rosters that hold it published again (`ask`), and those of
the microgrid's other groups are not, which it has no use for. The newest
roster of each group is retained by the broker, older ones of the last day follow it. A microgrid that is too small for a
group is told of once for each number of homes that it has.
Not here: who is in which group (`partition`, `rosters`), reports under the rosters (`groups`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Set

from hub.ingest.asking import Publish
from hub.ingest.events import IngestEvents
from hub.ingest.groups import MAX_OPEN_SLOTS, SlotGroups
from hub.ingest.registry import Device, Registry
from hub.ingest.rosters import Grouping, RosterBook
from hub.ingest.status import IngestSettings, small_group
from hub.ingest.store import IngestStore
from openmg.clock import VirtualClock
from openmg.masking import MIN_GROUP
from openmg.messages import base, topics
from openmg.messages.telemetry import Roster
from openmg.signing import address_of

log = logging.getLogger(__name__)
FIRST_REPEAT_S = 1.0
"""New rosters are published again after this time, then after twice as long and so on, until they are in force."""


class RosterKeeper:
    """The groupings of one hub. `book` says which there are, `groups` expects reports under them."""

    def __init__(
        self,
        settings: IngestSettings,
        registry: Registry,
        store: IngestStore,
        clock: VirtualClock,
        events: IngestEvents,
        groups: SlotGroups,
        publish: Publish,
    ) -> None:
        self.book = RosterBook(registry, settings.group_size, address_of(settings.operator_key))
        self._settings, self._registry, self._store, self._clock = settings, registry, store, clock
        self._events, self._groups, self._publish = events, groups, publish
        self._wanted: set[int] = set()
        self._asked: dict[int, set[bytes]] = {}
        """Addresses of the meters that may lack their rosters, by microgrid."""
        self._repeats: dict[int, tuple[float, float]] = {}
        self._first_birth: dict[int, float] = {}
        self._small: dict[int, int] = {}
        self._began = time.monotonic()

    def want(self, *microgrids: int) -> None:
        """All their rosters are to be published again."""
        self._wanted.update(microgrids)

    def ask(self, device: Device) -> None:
        """The rosters of this meter are to be published again."""
        self._asked.setdefault(device.microgrid, set()).add(device.address)

    def born(self, microgrid: int) -> None:
        """A meter announced itself anew."""
        self._first_birth.setdefault(microgrid, time.monotonic())

    @property
    def small_groups(self) -> dict[int, str]:
        """Of the microgrids that publish nothing, why."""
        return {microgrid: small_group(present) for microgrid, present in sorted(self._small.items())}

    async def restore(self) -> None:
        """Takes up the groupings that the database holds."""
        for microgrid, from_slot, payloads in await asyncio.to_thread(self._store.groupings):
            try:
                rosters = tuple(base.open_signed(Roster, item, self._settings.chain_id).message for item in payloads)
            except base.InvalidMessage as error:
                log.error("a stored roster cannot be used (%s); a new one is made from births", error)
                continue
            grouping = Grouping(microgrid, from_slot, rosters)
            self.book.record(grouping)
            self._groups.add_grouping(grouping, looked_to=self._clock.slot() - 1)

    async def look(self, connected: bool) -> None:
        """Makes what groupings are due, and publishes what is wanted."""
        for microgrid in self._registry.microgrids():
            await self._make(microgrid)
            self._repeat(microgrid)
            if connected:
                self._tell_who_waits(microgrid)
            self._look_at_size(microgrid)

    async def _make(self, microgrid: int) -> None:
        first = self._first_birth.get(microgrid)
        if first is None:
            return
        patient = time.monotonic() - first < self._settings.roster_wait_s
        slot = self._clock.slot()
        start = slot if self._settings.first_slot is None else self._settings.first_slot
        grouping = self.book.propose(microgrid, slot, start, patient)
        if grouping is None:
            return
        payloads = [self._signed(roster) for roster in grouping.rosters]
        await asyncio.to_thread(self._store.save_grouping, microgrid, grouping.from_slot, payloads)
        self.book.record(grouping)
        self._groups.add_grouping(grouping)
        self._wanted.add(microgrid)
        self._repeats[microgrid] = (time.monotonic() + FIRST_REPEAT_S, FIRST_REPEAT_S)
        sizes = ", ".join(str(len(roster.members)) for roster in grouping.rosters)
        log.info("microgrid %d: groups of %s homes from slot %d", microgrid, sizes, grouping.from_slot)
        self._events.on_grouping(grouping)

    def _repeat(self, microgrid: int) -> None:
        """Has new rosters published again when it is time, until they are in force."""
        at, pause = self._repeats.get(microgrid, (math.inf, 0.0))
        if time.monotonic() < at:
            return
        self._wanted.add(microgrid)
        if self.book.known(microgrid)[-1].from_slot > self._clock.slot():
            self._repeats[microgrid] = (time.monotonic() + 2 * pause, 2 * pause)
        else:
            del self._repeats[microgrid]

    def _tell_who_waits(self, microgrid: int) -> None:
        asked = self._asked.pop(microgrid, set())
        if microgrid in self._wanted:
            self._wanted.discard(microgrid)
            self._tell(microgrid, None)
        elif asked:
            self._tell(microgrid, asked)

    def _tell(self, microgrid: int, asked: Set[bytes] | None) -> None:
        """Publishes the rosters of all slots that are open, newest first, so that no slot is masked under one that ended.

        asked: only those that hold one of these meters. The newest of each group is retained; for a group that there is no more
        nothing is.
        """
        known = self.book.known(microgrid)
        newest = known[-1].rosters if known else ()
        ended = range(len(newest), self.book.most_groups(microgrid)) if asked is None else ()
        gone = [(place, b"", True) for place in ended]
        since = [
            (place, roster)
            for place, roster in self.book.since(microgrid, self._clock.slot() - MAX_OPEN_SLOTS)
            if asked is None or any(member.address in asked for member in roster.members)
        ]
        for place, payload, retain in [*gone, *((place, self._signed(item), item in newest) for place, item in since)]:
            if not self._publish(topics.roster(microgrid, place), payload, retain=retain):
                self._wanted.add(microgrid)
                return

    def _signed(self, roster: Roster) -> bytes:
        return base.sign(roster, self._settings.chain_id, self._settings.operator_key)

    def _look_at_size(self, microgrid: int) -> None:
        """Tells when too few homes are there for a group, once for each number, and not before they had time to come."""
        waited = time.monotonic() - self._began >= self._settings.roster_wait_s
        present = self.book.too_small(microgrid) if waited else None
        if present == self._small.get(microgrid):
            return
        if present is None:
            del self._small[microgrid]
            return
        self._small[microgrid] = present
        log.warning("microgrid %d: %s; nothing of it is published", microgrid, small_group(present))
        self._events.on_small_group(microgrid, present, MIN_GROUP)
