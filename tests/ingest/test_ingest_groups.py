"""Rosters and groups: whole groups open, nothing else does."""

from __future__ import annotations

import dataclasses
import random

import pytest

from hub.ingest.groups import GAP_AFTER_SLOTS, MAX_OPEN_SLOTS, MAX_ROSTERS, Gap, GroupSum, RefusedReport, SlotGroups
from hub.ingest.registry import Device, Registry
from hub.ingest.rosters import RosterBook
from openmg.identity import DeviceKey
from openmg.masking import Commitments, Masker, make_roster, roster_id
from openmg.messages.telemetry import Birth, Health, Roster, RosterMember, SlotReport
from openmg.zk.slot_openings import export_opening, import_opening

KEYS = tuple(DeviceKey(bytes([i]) * 32) for i in range(1, 8))
NAMES = {key.address: f"home-{i}" for i, key in enumerate(KEYS, 1)}
HEALTH = Health(1, 1, 0, 1)
NOW = 112


def roster(count: int = 5, from_slot: int = 100, microgrid: int = 1) -> Roster:
    members = (RosterMember(NAMES[k.address], k.address, k.mask_public, 0, bytes(32)) for k in KEYS[:count])
    return make_roster(microgrid, from_slot, members)


def points(slot: int, key: DeviceKey, import_wh: int, export_wh: int) -> Commitments:
    """What the report was proved to commit to; groups take that from whoever verified it."""
    return export_opening(key, slot, export_wh).point, import_opening(key, slot, import_wh).point


def report(key: DeviceKey, group: Roster, slot: int, import_wh: int, export_wh: int) -> tuple[SlotReport, Commitments]:
    blindings = export_opening(key, slot, export_wh).blinding, import_opening(key, slot, import_wh).blinding
    masked = Masker(key, group).mask(slot, (import_wh, export_wh, *blindings))
    empty = (bytes(32), bytes(32)), bytes(256)
    message = SlotReport(NAMES[key.address], 1, slot, roster_id(group), masked, *empty, HEALTH)
    return message, points(slot, key, import_wh, export_wh)


def fill(groups: SlotGroups, group: Roster, slot: int, keys: tuple[DeviceKey, ...]) -> GroupSum | Gap | None:
    outcome = None
    for i, key in enumerate(keys):
        outcome = groups.add(*report(key, group, slot, 100 + i, 7 * i), key.address, f"row {i}".encode(), NOW)
    return outcome


def test_a_whole_group_opens_to_the_sum_and_hands_on_the_rows_in_roster_order() -> None:
    groups, group = SlotGroups(), roster()
    groups.add_roster(group)
    assert fill(groups, group, 100, KEYS[:4]) is None
    outcome = groups.add(*report(KEYS[4], group, 100, 104, 28), KEYS[4].address, b"row 4", NOW)
    assert isinstance(outcome, GroupSum)
    assert (outcome.microgrid, outcome.slot, outcome.import_wh, outcome.export_wh) == (1, 100, 510, 70)
    assert outcome.members == tuple(sorted(key.address for key in KEYS[:5]))
    order = {key.address: f"row {i}".encode() for i, key in enumerate(KEYS)}
    assert outcome.rows == tuple(order[address] for address in outcome.members)


def test_reports_come_in_any_order_and_repetition_changes_nothing() -> None:
    groups, group, order = SlotGroups(), roster(7), list(KEYS)
    groups.add_roster(group)
    random.Random(4).shuffle(order)
    outcomes = [groups.add(*report(key, group, 105, 9, 1), key.address, b"", NOW) for key in order for _ in range(2)]
    sums = [outcome for outcome in outcomes if outcome is not None]
    assert len(sums) == 1 and isinstance(sums[0], GroupSum) and (sums[0].import_wh, sums[0].export_wh) == (63, 7)


def test_a_gap_publishes_nothing_names_the_missing_once_and_may_still_be_filled() -> None:
    groups, group = SlotGroups(), roster()
    groups.add_roster(group)
    fill(groups, group, 100, KEYS[:3])
    assert groups.gaps(100 + GAP_AFTER_SLOTS - 1) == ()
    (gap,) = groups.gaps(100 + GAP_AFTER_SLOTS)
    assert (gap.microgrid, gap.slot) == (1, 100) and set(gap.missing) == {"home-4", "home-5"}
    assert groups.gaps(100 + GAP_AFTER_SLOTS) == ()
    fill(groups, group, 100, KEYS[3:4])
    late = groups.add(*report(KEYS[4], group, 100, 1, 1), KEYS[4].address, b"", NOW)
    assert isinstance(late, GroupSum)


def test_a_slot_of_which_nobody_reported_is_a_gap_too() -> None:
    groups = SlotGroups()
    groups.add_roster(roster())
    assert [(gap.slot, len(gap.missing)) for gap in groups.gaps(103)] == [(100, 5), (101, 5)]


def test_masks_that_do_not_cancel_open_nothing() -> None:
    groups, group = SlotGroups(), roster()
    groups.add_roster(group)
    fill(groups, group, 100, KEYS[:4])
    other_slot, commitments = report(KEYS[4], group, 101, 1, 1)
    wrong = dataclasses.replace(other_slot, slot=100)
    outcome = groups.add(wrong, commitments, KEYS[4].address, b"", NOW)
    assert isinstance(outcome, Gap) and "do not cancel" in outcome.reason and outcome.missing == ()


def test_commitments_to_other_values_than_the_masked_ones_open_nothing() -> None:
    groups, group = SlotGroups(), roster()
    groups.add_roster(group)
    fill(groups, group, 100, KEYS[:4])
    message, _commitments = report(KEYS[4], group, 100, 104, 28)
    outcome = groups.add(message, points(100, KEYS[4], 104, 29), KEYS[4].address, b"", NOW)
    assert isinstance(outcome, Gap) and "export commitments do not open" in outcome.reason


def test_a_slot_that_was_handed_on_is_no_gap_and_opens_no_second_time() -> None:
    groups, group = SlotGroups(), roster()
    groups.add_roster(group)
    groups.close(1, 100)
    assert fill(groups, group, 100, KEYS[:5]) is None
    assert [gap.slot for gap in groups.gaps(103)] == [101]


def test_strangers_unknown_rosters_and_uncovered_slots_are_refused() -> None:
    groups, group = SlotGroups(), roster()
    later = roster(6, from_slot=110)
    with pytest.raises(RefusedReport, match="unknown roster"):
        groups.add(*report(KEYS[0], group, 100, 1, 1), KEYS[0].address, b"", NOW)
    groups.add_roster(group)
    groups.add_roster(later)
    with pytest.raises(RefusedReport, match="not in the roster"):
        groups.add(*report(KEYS[0], group, 100, 1, 1), KEYS[6].address, b"", NOW)
    for bad, slot in ((group, 99), (group, 110), (later, 109)):
        with pytest.raises(RefusedReport, match="does not cover"):
            groups.add(*report(KEYS[0], bad, slot, 1, 1), KEYS[0].address, b"", NOW)
    assert groups.add(*report(KEYS[0], later, 110, 1, 1), KEYS[0].address, b"", NOW) is None


def registry(homes: int = 5) -> Registry:
    devices = [Device(NAMES[key.address], key.address, 1) for key in KEYS[:homes]]
    return Registry([*devices, Device("feeder-1", bytes(19) + b"\x01", 1, "feeder")])


def birth(key: DeviceKey, payment_key: int = 0) -> Birth:
    return Birth(NAMES[key.address], 1, "sdm630", key.mask_public, bytes(20), payment_key, bytes(32))


def test_the_first_roster_waits_for_every_home_and_begins_where_it_is_told() -> None:
    book, devices = RosterBook(registry()), registry().by_name
    for key in KEYS[:4]:
        assert book.birth(devices[NAMES[key.address]], birth(key))
        assert book.propose(1, 102, 100, patient=True) is None
    book.birth(devices["home-5"], birth(KEYS[4]))
    made = book.propose(1, 102, 100, patient=True)
    assert made is not None and book.propose(1, 102, 100, patient=True) == made  # until it is recorded
    book.record(made)
    assert made is not None and made.from_slot == 100 and len(made.members) == 5
    assert book.propose(1, 103, 100, patient=True) is None
    assert not book.birth(devices["home-5"], birth(KEYS[4]))


def test_a_new_member_joins_after_the_next_boundary() -> None:
    all_six = registry(6)
    book = RosterBook(all_six)
    for key in KEYS[:5]:
        book.birth(all_six.by_name[NAMES[key.address]], birth(key))
    assert book.propose(1, 100, 100, patient=True) is None
    first = book.propose(1, 100, 100, patient=False)  # one home never came
    assert first is not None and len(first.members) == 5
    book.record(first)
    book.birth(all_six.by_name["home-6"], birth(KEYS[5]))
    second = book.propose(1, 120, 100, patient=True)
    assert second is not None and second.from_slot == 121 and len(second.members) == 6
    book.record(second)
    assert book.known(1) == (first, second)
    assert book.since(1, 119) == (second, first) and book.since(1, 121) == book.since(1, 900) == (second,)


def test_a_roster_replaced_before_it_began_is_forgotten_and_expects_nothing() -> None:
    book, groups = RosterBook(registry(7)), SlotGroups()
    rosters = [roster(5, 100), roster(6, 110), roster(7, 110)]
    for item in rosters:
        book.record(item)
        groups.add_roster(item)
    assert book.known(1) == (rosters[0], rosters[2])
    with pytest.raises(RefusedReport, match="unknown roster"):
        groups.add(*report(KEYS[0], rosters[1], 110, 1, 1), KEYS[0].address, b"", NOW)
    fill(groups, rosters[2], 110, KEYS)
    assert [gap.slot for gap in groups.gaps(112)] == list(range(100, 110))  # and no gap of the one that never was


def test_rosters_are_bounded_for_each_microgrid_by_itself() -> None:
    groups, book = SlotGroups(), RosterBook(registry())
    for microgrid in range(1, 40):
        groups.add_roster(roster(microgrid=microgrid))
    fill(groups, roster(microgrid=1), 100, KEYS[:4])
    assert isinstance(groups.add(*report(KEYS[4], roster(microgrid=1), 100, 1, 1), KEYS[4].address, b"", NOW), GroupSum)
    for from_slot in range(100, 200):
        groups.add_roster(roster(from_slot=from_slot))
        book.record(roster(from_slot=from_slot))
    assert len(groups._rosters) == 38 + MAX_ROSTERS == 22 + len(book.known(1)) + MAX_ROSTERS


def test_slots_ahead_or_long_past_open_no_group() -> None:
    groups, group = SlotGroups(), roster()
    groups.add_roster(group)
    for slot, now in ((NOW + 2, NOW), (2**31, NOW), (100, 100 + MAX_OPEN_SLOTS + 1)):
        with pytest.raises(RefusedReport, match="is not open"):
            groups.add(*report(KEYS[0], group, slot, 1, 1), KEYS[0].address, b"", now)
    assert not groups._groups
    groups.add(*report(KEYS[0], group, NOW + 1, 1, 1), KEYS[0].address, b"", NOW)


def test_too_few_homes_make_no_roster() -> None:
    few = registry(4)
    book = RosterBook(few)
    for key in KEYS[:4]:
        book.birth(few.by_name[NAMES[key.address]], birth(key))
    assert book.propose(1, 100, 100, patient=False) is None


def test_a_device_registered_twice_is_refused() -> None:
    device = Device("home-1", KEYS[0].address, 1)
    with pytest.raises(ValueError, match="twice"):
        Registry([device, Device("home-2", KEYS[0].address, 1)])
    with pytest.raises(ValueError, match="20-byte address"):
        Device("home-1", b"short", 1)
