"""Several groups of one microgrid: which rosters they have, and how their sums become one slot."""

from __future__ import annotations

from hub.ingest.groups import GroupSum, SlotGroups
from hub.ingest.joining import WAIT_SLOTS, Joining
from hub.ingest.registry import Device, Registry
from hub.ingest.rosters import Grouping, RosterBook
from openmg.identity import DeviceKey
from openmg.masking import SlotSums, make_roster
from openmg.messages.telemetry import Birth, Roster, RosterMember

KEYS = tuple(DeviceKey(bytes([i]) * 32) for i in range(1, 17))
NAMES = {key.address: f"home-{i}" for i, key in enumerate(KEYS, 1)}
SLOT = 100


def roster(keys: tuple[DeviceKey, ...], from_slot: int = 90) -> Roster:
    members = (RosterMember(NAMES[k.address], k.address, k.mask_public, 0, bytes(32)) for k in keys)
    return make_roster(1, from_slot, members)


FIRST, SECOND = roster(KEYS[:5]), roster(KEYS[5:10])
GROUPING = Grouping(1, 90, (FIRST, SECOND))


def opened(group: Roster, slot: int = SLOT, import_wh: int = 10) -> GroupSum:
    members = tuple(member.address for member in group.members)
    return GroupSum(group, slot, (), SlotSums(import_wh, 1, 0, 0), members)


def test_a_slot_is_joined_at_once_when_all_its_groups_are_open() -> None:
    joining = Joining()
    assert joining.add(opened(SECOND), GROUPING, SLOT + 1) is None
    joined = joining.add(opened(FIRST, import_wh=7), GROUPING, SLOT + 1)
    assert joined is not None and (joined.import_wh, joined.export_wh, joined.meters, joined.closed) == (17, 2, 10, ())
    assert [group.roster for group in joined.groups] == [FIRST, SECOND]  # the grouping's order, not that of the openings
    assert joining.due(SLOT + 1000) == ()


def test_an_open_group_waits_for_the_others_so_long_and_no_longer() -> None:
    joining, late = Joining(), SLOT + 40
    joining.add(opened(FIRST), GROUPING, late)  # a backlog: the slot itself is long over
    joining.add(opened(SECOND, SLOT + 1), GROUPING, late + 1)
    assert joining.due(late + WAIT_SLOTS - 1) == ()
    (joined,) = joining.due(late + WAIT_SLOTS)
    assert (joined.slot, joined.meters, joined.closed) == (SLOT, 5, (SECOND,))
    (other,) = joining.due(late + WAIT_SLOTS + 1)
    assert (other.slot, other.closed) == (SLOT + 1, (FIRST,))


def test_what_is_closed_when_the_slot_is_settled_is_named_and_stays_closed() -> None:
    groups = SlotGroups(7)
    groups.add_grouping(GROUPING)
    gaps = groups.close(1, SLOT)
    assert [(gap.number, gap.slot, len(gap.missing)) for gap in gaps] == [(1, SLOT, 5), (2, SLOT, 5)]
    assert groups.close(1, SLOT) == () and not [gap for gap in groups.gaps(SLOT + 2) if gap.slot == SLOT]


class Village:
    """A registry of homes without a feeder, and its rosters."""

    def __init__(self, count: int, size: int = 5) -> None:
        self.registry = Registry([Device(NAMES[key.address], key.address, 1) for key in KEYS[:count]])
        self.book = RosterBook(self.registry, size)

    def born(self, *keys: DeviceKey) -> None:
        for key in keys:
            birth = Birth(NAMES[key.address], 1, "sdm630", key.mask_public, bytes(20), 0, bytes(32))
            self.book.birth(self.registry.by_name[NAMES[key.address]], birth)

    def propose(self, now: int, first: int = 100) -> Grouping | None:
        made = self.book.propose(1, now, first, patient=False)
        if made is not None:
            self.book.record(made)
        return made


def test_each_home_is_in_one_roster_and_a_group_that_stays_keeps_its_roster() -> None:
    village = Village(11)
    village.born(*KEYS[:10])
    first = village.propose(100)
    assert first is not None and [len(item.members) for item in first.rosters] == [5, 5]
    assert len({member.address for item in first.rosters for member in item.members}) == 10 and village.propose(101) is None
    village.born(KEYS[10])
    second = village.propose(120)
    assert second is not None and second.from_slot == 121 and second.homes == 11
    assert first.rosters[1] == second.rosters[1] and second.rosters[0].from_slot == 121
    told = list(village.book.since(1, 119))
    assert told == [(0, second.rosters[0]), (1, second.rosters[1]), (0, first.rosters[0])]


def test_a_grouping_that_replaces_one_before_it_began_has_new_rosters_only() -> None:
    """Members of the one that never began heard of a roster from slot 121 on; only another from 121 on takes its place."""
    village = Village(12)
    village.born(*KEYS[:10])
    first = village.propose(100)
    village.born(KEYS[10])
    never = village.propose(120)
    village.born(KEYS[11])
    second = village.propose(120)
    assert first is not None and never is not None and second is not None
    assert village.book.known(1) == (first, second) and {item.from_slot for item in second.rosters} == {121}


def test_reports_are_expected_under_the_rosters_of_the_slots_own_grouping() -> None:
    groups = SlotGroups(7)
    groups.add_grouping(GROUPING)
    third = roster(KEYS[:6], 110)
    groups.add_grouping(Grouping(1, 110, (third, SECOND)))  # the second group goes on under its roster
    assert groups.grouping(1, 109) == GROUPING
    assert [groups._covers(item, slot) for item in (FIRST, SECOND, third) for slot in (109, 110)] == [
        *(True, False),
        *(True, True),
        *(False, True),
    ]
    numbers = {(gap.slot, gap.number) for gap in groups.gaps(112)}
    assert numbers == {(slot, number) for slot in range(90, 111) for number in (1, 2)}  # told once each
