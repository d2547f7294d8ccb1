"""All that a hub sees of real agents at the broker, and what follows from it by elimination (`hub_view`).

Rules: whatever anybody publishes is recorded, and taken for known to the hub. Masks of two rosters or of two slots are
independent, so each (roster, slot) is a system of its own; that no home reports a slot under two rosters is required here.
Not here: the hub that lies (`test_faults_attacks`).
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Iterable
from types import TracebackType

from edge_kit import CHAIN_ID, wait_for
from hub_view import View

from openmg.identity import DeviceKey
from openmg.masking import MaskedSlot, Masker, roster_id, threshold
from openmg.messages import base, topics
from openmg.messages.slot_opening import SlotDelivery, SlotOpening
from openmg.messages.telemetry import Roster, SlotReport
from openmg.mqtt import MqttAddress, MqttLink

Place = tuple[bytes, int]
"""Roster id and slot."""


class Recorder:
    """A client of the broker that hears everything while it is open, and may speak."""

    def __init__(self, url: str) -> None:
        self._heard: dict[str, dict[bytes, None]] = {}
        """Payloads by the last words of their topics, each once, in the order of the first time."""
        self.link = MqttLink(MqttAddress.parse(url), "recorder", self._hear, lambda: None)
        for topic in ("grid/v1/+/+", "hub/v1/#"):
            self.link.subscribe(topic)

        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="recorder", daemon=True)

    def _hear(self, topic: str, payload: bytes) -> None:
        parsed = topics.parse_from_meter(topic)
        leaf = parsed[1] if parsed is not None else topic
        self._heard.setdefault(leaf, {}).setdefault(payload)

    def __enter__(self) -> Recorder:
        self._thread.start()
        self._loop.call_soon_threadsafe(self.link.start)
        wait_for(lambda: self.link.connected)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self.link.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _of(self, leaf: str) -> tuple[bytes, ...]:
        return tuple(self._heard.get(leaf, ()))

    def reports(self) -> list[tuple[SlotReport, bytes]]:
        """Different reports with the shares that came with them."""
        return [_report(payload) for payload in self._of(topics.SLOT)]

    def openings(self) -> list[tuple[bytes, SlotOpening]]:
        """(address, answer) of all answers."""
        return [_opening(payload) for payload in self._of(topics.OPENING)]

    def rosters(self) -> dict[bytes, Roster]:
        """Everything that was ever shown as a roster."""
        found = [base.open_signed(Roster, payload, CHAIN_ID).message for payload in self._of(topics.roster(1, 0))]
        return {roster_id(roster): roster for roster in found}


@functools.cache
def _report(payload: bytes) -> tuple[SlotReport, bytes]:
    delivery = base.decode(SlotDelivery, payload)
    return base.open_signed(SlotReport, delivery.report, CHAIN_ID).message, delivery.shares


@functools.cache
def _opening(payload: bytes) -> tuple[bytes, SlotOpening]:
    signed = base.open_signed(SlotOpening, payload, CHAIN_ID)
    return signed.signer, signed.message


class _Members:
    """A roster with the secrets of its members."""

    def __init__(self, roster: Roster, keys: Iterable[DeviceKey]) -> None:
        by_address = {key.address: key for key in keys}
        self.keys = [by_address[member.address] for member in roster.members]
        self.addresses = [key.address for key in self.keys]
        self.maskers = [Masker(key, roster) for key in self.keys]


def views(seen: Recorder, keys: Iterable[DeviceKey]) -> dict[Place, View]:
    """A system of equations for each roster and slot that anybody reported."""
    rosters, found, named = seen.rosters(), dict[Place, View](), dict[tuple[str, int], bytes]()
    members = list(keys)
    for report, shares in seen.reports():
        place = report.roster_id, report.slot
        assert named.setdefault((report.device, report.slot), report.roster_id) == report.roster_id, "a slot under two rosters"
        roster = rosters[report.roster_id]
        if place not in found:
            found[place] = View(_Members(roster, members), slot=report.slot)
        names = [member.device for member in roster.members]
        found[place].hear(names.index(report.device), MaskedSlot(report.masked, report.self_commitment, shares))
    for _address, opening in seen.openings():
        for view in found.values():  # any key may serve anywhere, as far as the hub is concerned
            view.take(opening.keys)
    return found


def sums_learnt(seen: Recorder, keys: Iterable[DeviceKey]) -> dict[Place, frozenset[str]]:
    """Whose values stand in the one sum that follows; fails when more than one does, or one of too few homes."""
    learnt, rosters = {}, seen.rosters()
    for place, view in views(seen, keys).items():
        supports = view.learnt()
        assert len(supports) <= 1, f"{len(supports)} sums follow of one slot"
        names = [member.device for member in rosters[place[0]].members]
        for support in supports:
            homes = [names[view.reports[number][0]] for number in support]
            assert len(homes) == len(set(homes)) >= threshold(len(names)), f"only {homes} stand in the sum"
            learnt[place] = frozenset(homes)
    return learnt
