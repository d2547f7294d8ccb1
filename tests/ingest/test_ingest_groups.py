"""Rosters and groups: what is opened, when, and what never is."""

from __future__ import annotations

import dataclasses
import random

import pytest
from slot_reports import answered, masked_slot

from hub.ingest.groups import GAP_AFTER_SLOTS, MAX_OPEN_SLOTS, Gap, GroupSum, RefusedReport, SlotGroups
from hub.ingest.openings import Opening, RefusedOpening
from hub.ingest.registry import Device, Registry
from hub.ingest.rosters import MAX_GROUPINGS, Grouping, RosterBook
from openmg.hashing import keccak256
from openmg.identity import DeviceKey
from openmg.masking import Commitments, make_roster, roster_id
from openmg.messages import base
from openmg.messages.slot_opening import OpeningNotice, SlotOpening
from openmg.messages.telemetry import Birth, Health, Roster, RosterMember, SlotReport
from openmg.zk.slot_openings import export_opening, import_opening

KEYS = tuple(DeviceKey(bytes([i]) * 32) for i in range(1, 8))
NAMES = {key.address: f"home-{i}" for i, key in enumerate(KEYS, 1)}
HEALTH = Health(1, 1, 0, 1)
NOW = 112


def roster(count: int = 5, from_slot: int = 100, microgrid: int = 1) -> Roster:
    members = (RosterMember(NAMES[k.address], k.address, k.mask_public, 0, bytes(32)) for k in KEYS[:count])
    return make_roster(microgrid, from_slot, members)


def alone(group: Roster) -> Grouping:
    """A microgrid that is one group."""
    return Grouping(group.microgrid, group.from_slot, (group,))


def points(slot: int, key: DeviceKey, import_wh: int, export_wh: int) -> Commitments:
    """What the report was proved to commit to; groups take that from whoever verified it."""
    return export_opening(key, slot, export_wh).point, import_opening(key, slot, import_wh).point


CHAIN_ID = 7
Report = tuple[SlotReport, bytes, Commitments]
"""What a group takes of a report: the message, the shares delivered with it, and the points."""


def report(key: DeviceKey, group: Roster, slot: int, import_wh: int, export_wh: int) -> Report:
    blindings = export_opening(key, slot, export_wh).blinding, import_opening(key, slot, import_wh).blinding
    masked = masked_slot(key, group, slot, (import_wh, export_wh, *blindings))
    bound, empty = (masked.self_commitment, keccak256(masked.shares)), ((bytes(32), bytes(32)), bytes(256))
    message = SlotReport(NAMES[key.address], 1, slot, roster_id(group), masked.masked, *bound, *empty, HEALTH)
    return message, masked.shares, points(slot, key, import_wh, export_wh)


class World:
    """The groups of one hub, and what its members promised."""

    def __init__(self, *rosters: Roster) -> None:
        self.groups = SlotGroups(CHAIN_ID)
        self.said: dict[tuple[bytes, int, bytes], tuple[Roster, bytes]] = {}
        for group in rosters:
            self.groups.add_grouping(alone(group))

    def add(
        self, key: DeviceKey, made: Report, raw: bytes = b"", now: int = NOW, group: Roster | None = None
    ) -> Opening | None:
        opening = self.groups.add(*made, key.address, raw, now)
        if group is not None:
            self.said[roster_id(group), made[0].slot, key.address] = group, made[0].self_commitment
        return opening

    def fill(self, group: Roster, slot: int, keys: tuple[DeviceKey, ...], now: int = NOW) -> Opening | None:
        opening = None
        for i, key in enumerate(keys):
            opening = self.add(key, report(key, group, slot, 100 + i, 7 * i), f"row {i}".encode(), now, group)
        return opening

    def answer(self, notice: OpeningNotice, *silent: DeviceKey) -> GroupSum | Gap | OpeningNotice | None:
        """What comes of the survivors' answers; the last word counts."""
        outcome = None
        for key in KEYS:
            if key.address in notice.survivors and key not in silent:
                said = self.said[notice.roster_id, notice.slot, key.address]
                payload = answered(key, *said, notice, CHAIN_ID)
                message = base.open_signed(SlotOpening, payload, CHAIN_ID).message
                outcome = self.groups.answer(key.address, message) or outcome
        return outcome

    def open(self, opening: Opening | None) -> GroupSum | Gap | OpeningNotice | None:
        assert opening is not None
        outcome = self.answer(opening.notice)
        return self.answer(outcome) if isinstance(outcome, OpeningNotice) else outcome


def test_a_whole_group_opens_to_the_sum_and_hands_on_the_rows_in_roster_order() -> None:
    group = roster()
    world = World(group)
    assert world.fill(group, 100, KEYS[:4]) is None
    opening = world.add(KEYS[4], report(KEYS[4], group, 100, 104, 28), b"row 4", group=group)
    outcome = world.open(opening)
    assert isinstance(outcome, GroupSum) and outcome.signatures == {}
    assert (outcome.microgrid, outcome.slot, outcome.import_wh, outcome.export_wh) == (1, 100, 510, 70)
    assert outcome.members == tuple(sorted(key.address for key in KEYS[:5]))
    order = {key.address: f"row {i}".encode() for i, key in enumerate(KEYS)}
    assert outcome.rows == tuple(order[address] for address in outcome.members)


def test_reports_and_answers_come_in_any_order_and_repetition_changes_nothing() -> None:
    group, order = roster(7), list(KEYS)
    world = World(group)
    random.Random(4).shuffle(order)
    made = {key: report(key, group, 105, 9, 1) for key in order}
    openings = [world.add(key, made[key], group=group) for key in order for _ in range(2)]
    (opening,) = [item for item in openings if item is not None]
    assert world.groups.late == 0 and world.groups.asking() == (opening,)
    outcome = world.answer(opening.notice, *KEYS[:2])  # five of seven suffice
    assert isinstance(outcome, GroupSum) and (outcome.import_wh, outcome.export_wh) == (63, 7)
    assert world.answer(opening.notice) is None and world.groups.asking() == ()


def test_a_gap_names_the_missing_once_and_may_still_be_filled() -> None:
    group = roster()
    world = World(group)
    world.fill(group, 100, KEYS[:3])
    groups = world.groups
    assert groups.gaps(100 + GAP_AFTER_SLOTS - 1) == ()
    (gap,) = groups.gaps(100 + GAP_AFTER_SLOTS)
    assert (gap.microgrid, gap.slot) == (1, 100) and set(gap.missing) == {"home-4", "home-5"}
    assert groups.gaps(100 + GAP_AFTER_SLOTS) == () and groups.due(300) == ()
    world.fill(group, 100, KEYS[3:4])
    late = world.add(KEYS[4], report(KEYS[4], group, 100, 1, 1), group=group)
    assert isinstance(world.open(late), GroupSum)


def test_without_the_missing_the_others_are_opened_when_reports_have_stopped_coming() -> None:
    group = roster(7)
    world = World(group)
    world.fill(group, 100, KEYS[:4], now=101)
    world.fill(group, 100, KEYS[4:6], now=105)  # a backlog that comes in
    assert world.groups.due(105) == () and world.groups.due(105 + GAP_AFTER_SLOTS - 1) == ()
    (opening,) = world.groups.due(105 + GAP_AFTER_SLOTS)
    assert world.groups.due(300) == () and not opening.whole
    assert world.add(KEYS[6], report(KEYS[6], group, 100, 1, 1), group=group) is None and world.groups.late == 1
    signed = world.answer(opening.notice)
    assert isinstance(signed, OpeningNotice) and len(signed.signers) == 5  # the threshold of seven
    assert opening.silent == tuple(m.device for m in group.members if m.address in opening.notice.survivors)
    outcome = world.answer(signed)
    assert isinstance(outcome, GroupSum) and outcome.import_wh == 406 + 201 and KEYS[6].address not in outcome.members
    assert len(outcome.signatures) >= 5


def test_a_clear_feeder_keeps_a_group_closed_that_a_few_are_missing_of() -> None:
    group = dataclasses.replace(roster(7), clear_feeder=True)
    world = World(group)
    world.fill(group, 100, KEYS[:6])
    assert world.groups.due(300) == ()
    assert "clear feeder" in world.groups.gaps(102)[0].reason


def test_a_set_fixed_before_a_restart_stays() -> None:
    group = roster(7)
    before, after = World(group), World(group)
    before.fill(group, 100, KEYS[:6])
    (opening,) = before.groups.due(300)
    after.groups.restore_set(opening.notice)
    assert after.add(KEYS[6], report(KEYS[6], group, 100, 1, 1), group=group) is None  # it came too late
    second = report(KEYS[0], group, 100, 5, 5)  # a member's other report of the slot
    assert after.add(KEYS[0], second, group=group) is None and after.groups.late == 2
    again = after.fill(group, 100, KEYS[:6])
    assert again is not None and again.notice == opening.notice
    assert isinstance(after.open(again), GroupSum)


def test_a_slot_of_which_nobody_reported_is_a_gap_too() -> None:
    groups = World(roster()).groups
    assert [(gap.slot, len(gap.missing)) for gap in groups.gaps(103)] == [(100, 5), (101, 5)]


def test_a_group_whose_members_do_not_answer_names_them() -> None:
    group = roster()
    world = World(group)
    opening = world.fill(group, 100, KEYS[:5])
    assert opening is not None and world.answer(opening.notice, KEYS[2]) is None
    (gap,) = world.groups.gaps(102)
    assert gap.missing == ("home-3",) and "no keys" in gap.reason
    assert isinstance(world.open(opening), GroupSum)


def test_masks_that_do_not_cancel_open_nothing() -> None:
    group = roster()
    world = World(group)
    world.fill(group, 100, KEYS[:4])
    message, shares, commitments = report(KEYS[4], group, 100, 1, 1)
    other = report(KEYS[4], group, 101, 1, 1)[0].masked
    opening = world.add(KEYS[4], (dataclasses.replace(message, masked=other), shares, commitments), group=group)
    outcome = world.open(opening)
    assert isinstance(outcome, Gap) and "do not cancel" in outcome.reason and outcome.missing == ()


def test_commitments_to_other_values_than_the_masked_ones_open_nothing() -> None:
    group = roster()
    world = World(group)
    world.fill(group, 100, KEYS[:4])
    message, shares, _commitments = report(KEYS[4], group, 100, 104, 28)
    opening = world.add(KEYS[4], (message, shares, points(100, KEYS[4], 104, 29)), group=group)
    outcome = world.open(opening)
    assert isinstance(outcome, Gap) and "export commitments do not open" in outcome.reason


def test_an_answer_for_another_set_or_of_a_stranger_is_refused() -> None:
    group = roster(7)
    world = World(group)
    opening = world.fill(group, 100, KEYS)
    assert opening is not None
    good = base.open_signed(
        SlotOpening, answered(KEYS[0], *world.said[roster_id(group), 100, KEYS[0].address], opening.notice, CHAIN_ID), CHAIN_ID
    ).message
    with pytest.raises(RefusedOpening, match="not a survivor's"):
        world.groups.answer(KEYS[1].address, good)
    with pytest.raises(RefusedOpening, match="not being opened"):
        world.groups.answer(KEYS[0].address, dataclasses.replace(good, slot=101))


def test_a_slot_that_was_handed_on_is_no_gap_and_opens_no_second_time() -> None:
    group = roster()
    world = World(group)
    world.groups.close(1, 100)
    assert world.fill(group, 100, KEYS[:5]) is None
    assert [gap.slot for gap in world.groups.gaps(103)] == [101]


def test_strangers_unknown_rosters_and_uncovered_slots_are_refused() -> None:
    world, group = World(), roster()
    later = roster(6, from_slot=110)
    with pytest.raises(RefusedReport, match="unknown roster"):
        world.add(KEYS[0], report(KEYS[0], group, 100, 1, 1))
    world.groups.add_grouping(alone(group))
    world.groups.add_grouping(alone(later))
    with pytest.raises(RefusedReport, match="not in the roster"):
        world.add(KEYS[6], report(KEYS[0], group, 100, 1, 1))
    for bad, slot in ((group, 99), (group, 110), (later, 109)):
        with pytest.raises(RefusedReport, match="does not cover"):
            world.add(KEYS[0], report(KEYS[0], bad, slot, 1, 1))
    assert world.add(KEYS[0], report(KEYS[0], later, 110, 1, 1)) is None


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
    assert made is not None and made.from_slot == 100 and made.homes == 5
    assert book.propose(1, 103, 100, patient=True) is None
    assert not book.birth(devices["home-5"], birth(KEYS[4]))


def test_a_new_member_joins_after_the_next_boundary() -> None:
    all_six = registry(6)
    book = RosterBook(all_six)
    for key in KEYS[:5]:
        book.birth(all_six.by_name[NAMES[key.address]], birth(key))
    assert book.propose(1, 100, 100, patient=True) is None
    first = book.propose(1, 100, 100, patient=False)  # one home never came
    assert first is not None and first.homes == 5
    book.record(first)
    book.birth(all_six.by_name["home-6"], birth(KEYS[5]))
    second = book.propose(1, 120, 100, patient=True)
    assert second is not None and second.from_slot == 121 and second.homes == 6
    book.record(second)
    assert book.known(1) == (first, second)
    assert list(book.since(1, 119)) == [(0, second.rosters[0]), (0, first.rosters[0])]
    assert list(book.since(1, 121)) == list(book.since(1, 900)) == [(0, second.rosters[0])]


def test_a_roster_replaced_before_it_began_is_forgotten_and_expects_nothing() -> None:
    rosters = [roster(5, 100), roster(6, 110), roster(7, 110)]
    book, world = RosterBook(registry(7)), World(*rosters)
    for item in rosters:
        book.record(alone(item))
    assert book.known(1) == (alone(rosters[0]), alone(rosters[2]))
    with pytest.raises(RefusedReport, match="unknown roster"):
        world.add(KEYS[0], report(KEYS[0], rosters[1], 110, 1, 1))
    world.open(world.fill(rosters[2], 110, KEYS))
    assert [gap.slot for gap in world.groups.gaps(112)] == list(range(100, 110))  # and no gap of the one that never was


def test_rosters_are_bounded_for_each_microgrid_by_itself() -> None:
    book, world = RosterBook(registry()), World(*(roster(microgrid=microgrid) for microgrid in range(1, 40)))
    assert isinstance(world.open(world.fill(roster(microgrid=1), 100, KEYS[:5])), GroupSum)
    groups = world.groups
    for from_slot in range(100, 200):
        groups.add_grouping(alone(roster(from_slot=from_slot)))
        book.record(alone(roster(from_slot=from_slot)))
    assert len(groups._rosters) == 38 + MAX_GROUPINGS == 22 + len(book.known(1)) + MAX_GROUPINGS


def test_slots_ahead_or_long_past_open_no_group() -> None:
    group = roster()
    world = World(group)
    for slot, now in ((NOW + 2, NOW), (2**31, NOW), (100, 100 + MAX_OPEN_SLOTS + 1)):
        with pytest.raises(RefusedReport, match="is not open"):
            world.add(KEYS[0], report(KEYS[0], group, slot, 1, 1), now=now)
    assert not world.groups._groups
    world.add(KEYS[0], report(KEYS[0], group, NOW + 1, 1, 1))


def test_too_few_homes_make_no_roster() -> None:
    few = registry(4)
    book = RosterBook(few)
    for key in KEYS[:4]:
        book.birth(few.by_name[NAMES[key.address]], birth(key))
    assert book.propose(1, 100, 100, patient=False) is None and book.too_small(1) == 4
    assert book.too_small(2) is None  # a microgrid without homes is none that is too small


def test_a_device_registered_twice_is_refused() -> None:
    device = Device("home-1", KEYS[0].address, 1)
    with pytest.raises(ValueError, match="twice"):
        Registry([device, Device("home-2", KEYS[0].address, 1)])
    with pytest.raises(ValueError, match="20-byte address"):
        Device("home-1", b"short", 1)
