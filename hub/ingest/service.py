"""The ingest service: MQTT in, database, acknowledgement, sums out.

Theory of operation. Reports (masked slots, feeder slots) go to one worker that checks them (`reports`), stores a
batch in one durable transaction and only then acknowledges each device's high water; what it refuses it says. Groups
that became whole, or whose time is over, are opened: their survivor set is stored and shown to the members, whose
answers take the masks off the sum (`asking`, `openings`); the sums of a slot's groups are joined (`joining`) and
delivered (`delivery`). Births make rosters, in the watch loop (`roster_keeper`). No single message is needed: every
birth, and every report that does not fit the rosters, has the watch loop publish the rosters again; a long silence
renews the subscription. Everything else that meters send is checked and handed on (`events`).
Rules: a message of an unregistered device, with a wrong signature or proof, of another device or malformed is counted,
logged once per sender and dropped; it never stops the service. Queues are bounded: what does not fit is
dropped unacknowledged and therefore sent again by its meter. Not here: what the hub does with sums, updates
and envelopes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace

from hub.ingest.asking import Asking
from hub.ingest.delivery import Deliveries
from hub.ingest.events import IngestEvents
from hub.ingest.groups import MAX_OPEN_SLOTS, Gap, GroupSum, RefusedReport, SlotGroups
from hub.ingest.handed import Handed
from hub.ingest.joining import Joining, OpenedSlot
from hub.ingest.openings import RefusedOpening
from hub.ingest.registry import Device, Registry
from hub.ingest.reports import Arrived, M, Masked, OpenReport, ReportCheck, open_from
from hub.ingest.roster_keeper import RosterKeeper
from hub.ingest.rosters import RosterBook
from hub.ingest.status import DeviceStatus, IngestSettings, IngestStats, Seen
from hub.ingest.store import IngestStore
from openmg.clock import VirtualClock
from openmg.hashing import keccak256
from openmg.masking import is_mask_key
from openmg.messages import base, topics
from openmg.messages.feeder import FEEDER, FeederReport
from openmg.messages.slot_opening import OpeningNotice, SlotOpening
from openmg.messages.telemetry import MAX_REASON, Ack, Birth, Refusal
from openmg.mqtt import MqttLink
from openmg.signing import address_of
from openmg.tasks import end_tasks

log = logging.getLogger(__name__)
MAX_BATCH = 512
"""Reports in one transaction."""
MAX_QUEUED = 8192
MAX_NAMED_SENDERS = 256
RETRY_S = 1.0
"""Wall time after a failure of the database or of a receiver."""
CHECK_S = 0.25
"""Wall time between looks at gaps and births, and between publications of one microgrid's rosters."""
SILENT_S = 60.0
"""Without any message for so long, the broker is asked again for all that meters send, retained births included."""


class IngestService:
    """One hub's ingest; `start` and `stop` in the hub's loop. `open_report` verifies the proof of a home's report."""

    def __init__(
        self,
        settings: IngestSettings,
        registry: Registry,
        store: IngestStore,
        clock: VirtualClock,
        events: IngestEvents,
        open_report: OpenReport,
    ) -> None:
        self.settings, self.registry, self.store, self.clock, self.events = settings, registry, store, clock, events
        self.operator = address_of(settings.operator_key)
        self._check = ReportCheck(settings.chain_id, open_report)
        self._groups = SlotGroups(settings.chain_id)
        self._joining = Joining()
        self._link = MqttLink(settings.address, settings.client_id, self._on_message, self._on_connected, tls=settings.tls)
        self._reports: asyncio.Queue[Arrived] = asyncio.Queue(MAX_QUEUED)
        self._deliveries = Deliveries(store, events)
        self._asking = Asking(settings, store, self._groups, self.publish)
        self._keeper = RosterKeeper(settings, registry, store, clock, events, self._groups, self.publish)
        self._seen = {name: Seen() for name in registry.by_name}
        self._arrivals = 0
        self._silent_since = time.monotonic()
        self._named: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._duplicates = self._conflicts = self._malformed = self._overflow = self._failed = self._gaps = 0
        self._other: dict[str, Callable[[Device, bytes], None]] = {
            topics.BIRTH: self._on_birth,
            topics.STATE: self._on_state,
            topics.OPENING: self._on_opening,
            **Handed(events, self._open, self._heard_from).handlers,
        }

    async def start(self) -> None:
        """Loads what the database holds, then connects; an absent broker is waited for."""
        await self._restore()
        self._link.subscribe(topics.ALL_FROM_METERS)
        self._link.start()
        for call in (self._work(), self._deliveries.run(), self._watch()):
            self._tasks.append(asyncio.get_running_loop().create_task(call))

    async def stop(self) -> None:
        """Stores what has arrived, then disconnects."""
        await self._link.stop()
        try:
            while not self._reports.empty():
                await self._store_batch()
        except sqlite3.Error as error:
            log.error("the last reports are not stored (%s); their meters will send them again", error)
        await end_tasks(self._tasks)

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> bool:
        """Publishes in the hub's name; False when there is no connection."""
        return self._link.publish(topic, payload, qos=qos, retain=retain)

    @property
    def rosters(self) -> RosterBook:
        """Births and groupings."""
        return self._keeper.book

    @property
    def connected(self) -> bool:
        return self._link.connected

    def stats(self) -> IngestStats:
        return IngestStats(
            stored=self.store.stored(),
            lost=self.store.lost(),
            duplicates_ignored=self._duplicates,
            conflicts=self._conflicts,
            malformed=self._malformed,
            overflow=self._overflow,
            failed=self._failed,
            groups_opened=self._deliveries.opened,
            gaps=self._gaps,
            late=self._groups.late,
            opened_without=self._deliveries.opened_without,
            left_out=self._deliveries.left_out,
            small_groups=self._keeper.small_groups,
            mqtt=self._link.counts(),
        )

    def devices(self) -> tuple[DeviceStatus, ...]:
        """Every registered meter, by name."""
        return tuple(self._status(device) for _name, device in sorted(self.registry.by_name.items()))

    def _status(self, device: Device) -> DeviceStatus:
        seen, born = self._seen[device.name], self.rosters.born(device.name) is not None
        return DeviceStatus(
            device.name, device.address, device.microgrid, device.role, seen.online, born, seen.last_seen,
            seen.last_slot, seen.high_water, seen.health,
        )  # fmt: skip

    # MQTT

    def _on_connected(self) -> None:
        self._silent_since = time.monotonic()
        self._keeper.want(*self.registry.microgrids())

    def _on_message(self, topic: str, payload: bytes) -> None:
        self._silent_since = time.monotonic()
        self._arrivals += 1
        parsed = topics.parse_from_meter(topic)
        device = self.registry.by_name.get(parsed[0]) if parsed else None
        if parsed is None or device is None:
            self._drop(topic, "the device is not registered")
            return
        refused = self.registry.refusal(device.name)
        if refused is not None:
            self._drop(topic, refused)
            return
        leaf = parsed[1]
        if leaf in (topics.SLOT, FEEDER):
            try:
                self._reports.put_nowait(Arrived(device, leaf, payload, self._arrivals))
            except asyncio.QueueFull:
                self._overflow += 1
            return
        handle = self._other.get(leaf)
        if handle is None:
            self._drop(topic, f"there is no such message as {leaf!r}")
            return
        try:
            handle(device, payload)
        except base.InvalidMessage as error:
            self._drop(topic, str(error))
        except Exception:
            self._failed += 1
            if self._is_news(topic):
                log.exception("handling a message on %s failed; it is dropped (further ones are only counted)", topic[:120])

    def _drop(self, topic: str, why: str) -> None:
        self._malformed += 1
        if self._is_news(topic):
            log.warning("message on %s dropped: %s (further ones are only counted)", topic[:120], why)

    def _is_news(self, topic: str) -> bool:
        """Whether nothing was logged of this sender yet, and there is room to remember it."""
        news = topic not in self._named and len(self._named) < MAX_NAMED_SENDERS
        if news:
            self._named.add(topic)
        return news

    def _open(self, cls: type[M], device: Device, payload: bytes) -> base.Signed[M]:
        return open_from(cls, device, payload, self.settings.chain_id)

    def _on_birth(self, device: Device, payload: bytes) -> None:
        birth = self._open(Birth, device, payload).message
        if birth.microgrid != device.microgrid:
            raise base.InvalidMessage(f"announces microgrid {birth.microgrid}, is registered in {device.microgrid}")
        if not is_mask_key(birth.mask_public):
            raise base.InvalidMessage("announces a mask key that nobody can agree a secret with")
        self._keeper.ask(device)
        if self.rosters.birth(device, birth):
            self._keeper.born(device.microgrid)
            self.events.on_birth(device, birth)

    def _on_state(self, device: Device, payload: bytes) -> None:
        if payload not in (b"online", b"offline"):
            raise base.InvalidMessage("state is neither online nor offline")
        self._seen[device.name].online = payload == b"online"
        self._seen[device.name].state_at = self._arrivals
        self.events.on_state(device, payload == b"online")

    def _on_opening(self, device: Device, payload: bytes) -> None:
        message = self._open(SlotOpening, device, payload).message
        self._heard_from(device)
        try:
            outcome = self._groups.answer(device.address, message)
        except RefusedOpening as error:
            raise base.InvalidMessage(str(error)) from error
        if isinstance(outcome, OpeningNotice):
            self._asking.show(outcome, device.microgrid)
        elif isinstance(outcome, Gap):
            self._tell_gap(outcome)
        elif outcome is not None:
            self._opened(outcome)

    def _opened(self, group: GroupSum) -> None:
        self.events.on_group(group)
        grouping, slot = self._groups.grouping(group.microgrid, group.slot), self.clock.slot()
        joined = self._joining.add(group, grouping, slot) if grouping is not None else None
        if joined is not None:
            self._hand_on(joined)

    def _hand_on(self, slot: OpenedSlot) -> None:
        """Closes the slot for good: a group that is opened later would have no place under the root of the others."""
        for gap in self._groups.close(slot.microgrid, slot.slot):
            reason = f"{gap.reason}; the others' sums go to the chain without this group"
            self._tell_gap(replace(gap, reason=reason, final=True))
        self._deliveries.put(slot)

    def _heard_from(self, device: Device) -> None:
        self._is_there(device, self._arrivals)

    def _is_there(self, device: Device, arrival: int) -> None:
        """A signed message that the broker does not retain shows that its device is there, unless it left since."""
        seen = self._seen[device.name]
        seen.last_seen = time.time()
        if not seen.online and arrival > seen.state_at:
            seen.online = True
            self.events.on_state(device, True)

    # What was kept, rosters and gaps

    async def _restore(self) -> None:
        await self._keeper.restore()
        first = self.clock.slot() - MAX_OPEN_SLOTS
        delivered = await asyncio.to_thread(self.store.delivered, first)
        for microgrid, slot in delivered:
            self._groups.close(microgrid, slot)
        for notice in await self._asking.stored(first):
            self._groups.restore_set(notice)
        for name, slot, payload in await asyncio.to_thread(self.store.reports, topics.SLOT, first):
            device = self.registry.by_name.get(name)
            if device is not None and (device.microgrid, slot) not in delivered:
                with contextlib.suppress(base.InvalidMessage):
                    self._group(device, await asyncio.to_thread(self._check.masked, device, payload))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            try:
                await self._keeper.look(self.connected)
                for gap in self._groups.gaps(self.clock.slot()):
                    self._tell_gap(gap)
                for slot in self._joining.due(self.clock.slot()):
                    self._hand_on(slot)
                self._asking.add(self._groups.due(self.clock.slot()))
                await self._asking.ask(self.clock.slot())
            except Exception:
                log.exception("looking after rosters failed; trying again")
                await asyncio.sleep(RETRY_S)
            if self.connected and time.monotonic() - self._silent_since > SILENT_S:
                self._silent_since = time.monotonic()
                self._link.subscribe_again()

    def _tell_gap(self, gap: Gap) -> None:
        self._gaps += 1
        where = gap.microgrid, gap.number, gap.slot
        log.warning("microgrid %d, group %d, slot %d stays closed: %s", *where, gap.reason)
        self.events.on_gap(gap)

    # Reports

    async def _work(self) -> None:
        while True:
            try:
                await self._store_batch()
            except Exception:
                log.exception("storing reports failed; the meters will send them again")
                await asyncio.sleep(RETRY_S)

    async def _store_batch(self) -> None:
        batch = [await self._reports.get()]
        while len(batch) < MAX_BATCH and not self._reports.empty():
            batch.append(self._reports.get_nowait())
        checked = await asyncio.to_thread(self._check.batch, batch)
        for refused in checked.refused:
            self._refuse(refused.arrived.device.name, refused.arrived.leaf, refused.arrived.payload, refused.why)
        if not checked.incoming:
            return
        now_ms = time.time_ns() // 1_000_000
        result = await asyncio.to_thread(self.store.add, checked.incoming, now_ms, self.clock.slot())
        for report in result.conflicts:  # before an acknowledgement that counts their numbers in
            self._conflicts += 1
            self._refuse(report.device, report.kind, report.payload, f"seq {report.seq} was used for another report")
        for name, high_water in result.high_water.items():
            self._acknowledge(name, high_water)
        self._duplicates += result.duplicates
        for name, arrival in checked.heard.items():
            self._is_there(self.registry.by_name[name], arrival)
        for report in result.new:
            try:
                taken = checked.reports[report.device, report.seq]
                self._take(self.registry.by_name[report.device], taken)
            except Exception:  # of a receiver; the other reports are stored and must reach their groups
                log.exception("handing on report %d of %s failed", report.seq, report.device)
        await self._asking.ask(self.clock.slot())

    def _refuse(self, name: str, leaf: str, payload: bytes, why: str) -> None:
        """Drops a report and tells its meter that it is never taken."""
        self._drop(topics.from_meter(name, leaf), why)
        refusal = Refusal(name, keccak256(payload), why[:MAX_REASON])
        self.publish(topics.ack(name), base.sign(refusal, self.settings.chain_id, self.settings.operator_key))

    def _acknowledge(self, name: str, high_water: int) -> None:
        self._seen[name].high_water = high_water
        ack = base.sign(Ack(name, high_water), self.settings.chain_id, self.settings.operator_key)
        self.publish(topics.ack(name), ack)

    def _take(self, device: Device, report: Masked | FeederReport) -> None:
        seen = self._seen[device.name]
        message = report.message if isinstance(report, Masked) else report
        seen.last_slot, seen.health = message.slot, message.health
        if isinstance(report, FeederReport):
            self.events.on_feeder(device, report)
        else:
            self._group(device, report)

    def _group(self, device: Device, report: Masked) -> None:
        slot = self.clock.slot()
        try:
            opening = self._groups.add(report.message, report.shares, report.commitments, device.address, report.raw, slot)
        except RefusedReport as error:
            self._keeper.ask(device)
            self._drop(topics.from_meter(device.name, topics.SLOT), str(error))
            return
        if opening is not None:
            self._asking.add((opening,))
