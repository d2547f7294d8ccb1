"""Reports as they come from MQTT, opened and checked before anything of them is kept.

Rules: pure of state; a report counts only when its device is registered for that kind, signed it and speaks for itself, and a
home's only when its commitments are proved and the shares of its self mask are those it names. What is refused is neither
stored nor acknowledged, and its meter is told (`Refusal`), so that it does not wait with those behind it; its slot counts as
missing until a right report comes.
A report that comes again, byte for byte, is not verified again: meters repeat what was not acknowledged, and a hub that is
behind would spend its time on what it knows.
Not here: the proof (`openmg.zk.slot_proof`), storage and acknowledgement (`service`, `store`), groups (`groups`).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from hub.ingest.registry import FEEDER as FEEDER_ROLE
from hub.ingest.registry import HOME, Device
from hub.ingest.store import IncomingReport
from openmg.hashing import keccak256
from openmg.masking import Commitments
from openmg.messages import base, topics
from openmg.messages.feeder import FEEDER, FeederReport
from openmg.messages.slot_opening import SlotDelivery
from openmg.messages.telemetry import SlotReport

M = TypeVar("M", bound=base.Message)
LEAVES = {HOME: topics.SLOT, FEEDER_ROLE: FEEDER}
"""What a device of each role reports with."""
MAX_KNOWN = 4096
"""Verified reports that are remembered, some 3 KB each: half of what the service's queue holds."""

OpenReport = Callable[[bytes, SlotReport], Commitments]
"""The proved commitments of a report that the device with this address signed; ValueError with one sentence."""


@dataclass(frozen=True)
class Arrived:
    """A report as it came, and the number of its arrival."""

    device: Device
    leaf: str
    payload: bytes
    arrival: int


@dataclass(frozen=True)
class Masked:
    """A home's report: message, signed bytes, the shares delivered with it, and the points it was proved to commit to."""

    message: SlotReport
    raw: bytes
    shares: bytes
    commitments: Commitments


@dataclass(frozen=True)
class Refused:
    """A report that is never taken, and why."""

    arrived: Arrived
    why: str


@dataclass
class Checked:
    """A batch: rows for the store, what they say by (device, seq), the last arrival by device, and the refused."""

    incoming: list[IncomingReport] = field(default_factory=list)
    reports: dict[tuple[str, int], Masked | FeederReport] = field(default_factory=dict)
    heard: dict[str, int] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)


def open_from(cls: type[M], device: Device, payload: bytes, chain_id: int) -> base.Signed[M]:
    """The message, signed by the device and speaking for no other. Raises InvalidMessage."""
    signed = base.open_signed(cls, payload, chain_id)
    if signed.signer != device.address:
        raise base.InvalidMessage(f"signed by 0x{signed.signer.hex()}, which is not {device.name}")
    if getattr(signed.message, "device", device.name) != device.name:
        raise base.InvalidMessage(f"speaks for another device than {device.name}")
    return signed


class ReportCheck:
    """Checks reports for one chain; calls take milliseconds a report and belong into a worker thread, one at a time."""

    def __init__(self, chain_id: int, open_report: OpenReport) -> None:
        self._chain_id, self._open_report = chain_id, open_report
        self._known: OrderedDict[tuple[str, bytes, bytes], Masked] = OrderedDict()

    def masked(self, device: Device, payload: bytes) -> Masked:
        """A home's report. Raises InvalidMessage."""
        name = device.name, device.address, hashlib.sha256(payload).digest()
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = self._verified(device, payload)
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        return known

    def _verified(self, device: Device, payload: bytes) -> Masked:
        delivery = base.decode(SlotDelivery, payload)
        message = open_from(SlotReport, device, delivery.report, self._chain_id).message
        if keccak256(delivery.shares) != message.shares_hash:
            raise base.InvalidMessage("comes with other shares than it names")
        try:
            return Masked(message, delivery.report, delivery.shares, self._open_report(device.address, message))
        except ValueError as error:
            raise base.InvalidMessage(f"is not proved: {error}") from error

    def batch(self, batch: Sequence[Arrived]) -> Checked:
        """Every report of the batch, taken or refused."""
        checked = Checked()
        for item in batch:
            try:
                self._one(item, checked)
            except base.InvalidMessage as error:
                checked.refused.append(Refused(item, str(error)))
        return checked

    def _one(self, item: Arrived, checked: Checked) -> None:
        device, payload = item.device, item.payload
        if item.leaf != LEAVES[device.role]:
            raise base.InvalidMessage(f"a {device.role} does not send {item.leaf} reports")
        report: Masked | FeederReport
        if item.leaf == topics.SLOT:
            report = self.masked(device, payload)
            message: SlotReport | FeederReport = report.message
        else:
            report = message = open_from(FeederReport, device, payload, self._chain_id).message
        waiting = message.health.outbox_rows
        checked.incoming.append(IncomingReport(device.name, message.seq, item.leaf, message.slot, payload, waiting))
        checked.reports.setdefault((device.name, message.seq), report)
        checked.heard[device.name] = item.arrival
