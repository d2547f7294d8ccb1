"""Reports that come again are taken for what they are without their proofs being verified again."""

from __future__ import annotations

import dataclasses

import pytest
from slot_reports import ReportOpener, delivered, slot_report

from hub.ingest import reports as reports_module
from hub.ingest.registry import Device
from hub.ingest.reports import Arrived, ReportCheck
from openmg.identity import DeviceKey
from openmg.masking import Commitments, make_roster
from openmg.messages import topics
from openmg.messages.telemetry import RosterMember, SlotReport

CHAIN_ID, SLOT = 7, 1_979_428
KEYS = tuple(DeviceKey(bytes([40 + i]) * 32) for i in range(5))
DEVICES = tuple(Device(f"home-{i + 1}", key.address, 1) for i, key in enumerate(KEYS))
ROSTER = make_roster(
    1, SLOT, [RosterMember(d.name, d.address, k.mask_public, 0, bytes(32)) for d, k in zip(DEVICES, KEYS, strict=True)]
)


class Counting:
    """Opens reports as a replica does, and counts how many."""

    def __init__(self) -> None:
        self.count, self._open = 0, ReportOpener(KEYS, CHAIN_ID)

    def __call__(self, address: bytes, report: SlotReport) -> Commitments:
        self.count += 1
        return self._open(address, report)


def said(place: int, seq: int = 1) -> bytes:
    message = slot_report(KEYS[place], DEVICES[place].name, ROSTER, SLOT, (10, place), CHAIN_ID, seq=seq)
    return delivered(message, CHAIN_ID, KEYS[place])


def test_a_report_that_comes_again_is_verified_once() -> None:
    counting = Counting()
    check = ReportCheck(CHAIN_ID, counting)
    items = [Arrived(DEVICES[0], topics.SLOT, said(0), i) for i in range(5)]
    first, again = check.batch(items), check.batch(items)
    assert counting.count == 1 and len(first.incoming) == len(again.incoming) == 5
    assert first.incoming[0] == again.incoming[4] and again.heard == {"home-1": 4}
    check.batch([Arrived(DEVICES[0], topics.SLOT, said(0, seq=2), 5)])
    assert counting.count == 2


def test_what_another_device_says_or_a_wrong_report_is_not_taken_for_known() -> None:
    counting = Counting()
    check = ReportCheck(CHAIN_ID, counting)
    payload = said(0)
    check.batch([Arrived(DEVICES[0], topics.SLOT, payload, 1)])
    others = [
        Arrived(DEVICES[1], topics.SLOT, payload, 2),
        Arrived(dataclasses.replace(DEVICES[0], address=bytes(20)), topics.SLOT, payload, 3),
    ]
    wrong = [Arrived(DEVICES[0], topics.SLOT, payload[:-1] + bytes([payload[-1] ^ 1]), 4)]
    for _ in range(2):
        assert len(check.batch(others + wrong).refused) == 3


def test_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports_module, "MAX_KNOWN", 2)
    counting = Counting()
    check = ReportCheck(CHAIN_ID, counting)
    for place in (0, 1, 2, 2, 1, 0):
        check.batch([Arrived(DEVICES[place], topics.SLOT, said(place), 1)])
    assert counting.count == 4
