"""The oracle of the fault matrix finds what it is there for: each rule with what it accepts and the least that it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from edge_kit import CHAIN_ID
from faults_meters import Energy
from faults_oracle import (
    Held,
    HubReport,
    Recovery,
    require_energy,
    require_first_reading,
    require_kept,
    require_once,
    require_sums,
)

from openmg.identity import DeviceKey
from openmg.messages import base
from openmg.messages.feeder import FeederReport
from openmg.messages.telemetry import Health

KEY = DeviceKey(bytes([7]) * 32)
COUNTERS = {"next_seq": 13, "polled": 9, "poll_errors": 0, "stored": 3, "acked": 3, "lost": 0}
READINGS = {1: (1000, 50, 5, 100, 10), 2: (2000, 60, 5, 130, 10)}
SLOTS = {slot: (10 * slot, slot, 0, seq) for slot, seq in ((5, 10), (6, 11), (7, 12))}
AFTER = Held(READINGS, SLOTS, {}, COUNTERS)
METERED = Energy(180, 18)
NAMES = tuple("abcde")


def report(seq: int, slot: int, import_wh: int = 0) -> HubReport:
    said = FeederReport("feeder-1", seq, slot, import_wh or 10 * slot, slot, Health(0, 0, 0, 1))
    return HubReport(seq, slot, base.sign(said, CHAIN_ID, KEY.signing_key))


AT_HUB = [report(10, 5), report(11, 6), report(12, 7)]


def test_what_is_right_is_accepted() -> None:
    before = Held({1: READINGS[1]}, {5: SLOTS[5], 6: (60, 6, 0, None)}, {11: AT_HUB[1].payload}, {**COUNTERS, "polled": 5})
    require_kept(before, AFTER, AT_HUB)
    require_once(AFTER, AT_HUB)
    require_first_reading(AFTER, Recovery("feeder-1", 1500, 2500, Energy(130, 10)))
    of_slot = require_energy(AFTER, AT_HUB, KEY, METERED)
    require_sums(dict.fromkeys(NAMES, of_slot), {5: Energy(250, 25), 6: Energy(300, 30), 7: Energy(350, 35)})


@pytest.mark.parametrize(
    "lost",
    [
        Held({3: (1, 1, 1, 1, 1)}, {}, {}, {}),
        Held({1: (1000, 50, 5, 101, 10)}, {}, {}, {}),
        Held({}, {4: (1, 1, 0, None)}, {}, {}),
        Held({}, {5: (51, 5, 0, 10)}, {}, {}),
        Held({}, {5: (50, 5, 0, 9)}, {}, {}),
        Held({}, {}, {13: b"waits"}, {}),
        Held({}, {}, {11: b"others"}, {}),
        Held({}, {}, {}, {"polled": 10}),
    ],
)
def test_what_was_committed_must_be_there(lost: Held) -> None:
    with pytest.raises(AssertionError):
        require_kept(lost, AFTER, AT_HUB)


@pytest.mark.parametrize(
    "at_hub",
    [AT_HUB[:2], [AT_HUB[0], AT_HUB[2]], [*AT_HUB, report(13, 8)], [*AT_HUB[:2], report(12, 6)], [*AT_HUB, report(13, 7)]],
    ids=["last missing", "one missing", "one too many", "slot twice", "sent again"],
)
def test_every_report_must_be_there_once(at_hub: list[HubReport]) -> None:
    with pytest.raises(AssertionError):
        require_once(AFTER, at_hub)


@pytest.mark.parametrize("after", [replace(AFTER, outbox={13: b""}), replace(AFTER, counters={**COUNTERS, "lost": 1})])
def test_nothing_may_wait_or_be_lost(after: Held) -> None:
    with pytest.raises(AssertionError):
        require_once(after, AT_HUB)


@pytest.mark.parametrize(
    "recovery",
    [
        Recovery("feeder-1", 1500, 2500, Energy(131, 10)),
        Recovery("feeder-1", 900, 2500, Energy(130, 10)),
        Recovery("feeder-1", 1500, 1900, Energy(130, 10)),
        Recovery("feeder-1", 2500, 2600, Energy(130, 10)),
    ],
    ids=["one Wh off", "not the first", "too late", "none"],
)
def test_the_first_reading_must_be_the_registers(recovery: Recovery) -> None:
    with pytest.raises(AssertionError):
        require_first_reading(AFTER, recovery)


def test_energy_must_add_up_to_the_wh() -> None:
    for metered in (Energy(181, 18), Energy(180, 17)):
        with pytest.raises(AssertionError):
            require_energy(AFTER, AT_HUB, KEY, metered)
    with pytest.raises(AssertionError):
        require_energy(AFTER, [report(10, 5, 51), *AT_HUB[1:]], KEY, METERED)
    unreported = replace(AFTER, slots={**SLOTS, 8: (0, 0, 0, None)})
    with pytest.raises(AssertionError, match="never reported"):
        require_energy(unreported, AT_HUB, KEY, METERED)


@pytest.mark.parametrize(
    "sums",
    [{5: Energy(250, 25)}, {5: Energy(250, 25), 6: Energy(301, 30)}, {5: Energy(250, 25), 6: Energy(300, 30), 9: Energy(0, 0)}],
    ids=["not opened", "one Wh off", "of nobody"],
)
def test_opened_sums_must_be_those_of_the_homes(sums: dict[int, Energy]) -> None:
    of_slot = {5: Energy(50, 5), 6: Energy(60, 6)}
    with pytest.raises(AssertionError):
        require_sums(dict.fromkeys(NAMES, of_slot), sums)
