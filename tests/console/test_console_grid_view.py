"""What the console is told of a microgrid's groups: which is open, which is closed and why."""

from __future__ import annotations

from hub.console.board import StatusBoard
from hub.grid_view import GridView
from hub.ingest.groups import Gap, GroupSum
from hub.ingest.joining import OpenedSlot
from hub.ingest.registry import Device, Registry
from hub.ingest.rosters import Grouping, RosterBook
from openmg.masking import SlotSums, make_roster
from openmg.messages.telemetry import Roster, RosterMember

SLOT = 100
ADDRESSES = [bytes([i]) * 20 for i in range(1, 11)]


def roster(first: int) -> Roster:
    members = [RosterMember(f"home-{a[0]}", a, bytes(32), 0, bytes(32)) for a in ADDRESSES[first : first + 5]]
    return make_roster(1, 90, members)


ROSTERS = roster(0), roster(5)


class Shown:
    """A view of one microgrid, with the rosters in it when they are given."""

    def __init__(self, *rosters: Roster) -> None:
        registry = Registry([Device(f"home-{a[0]}", a, 1) for a in ADDRESSES])
        book, self.board = RosterBook(registry), StatusBoard()
        if rosters:
            book.record(Grouping(1, 90, rosters))
        self.view = GridView(self.board, registry, book)

    def open(self, number: int) -> GroupSum:
        group = ROSTERS[number - 1]
        members = tuple(member.address for member in group.members)
        opened = GroupSum(group, SLOT, (), SlotSums(50 * number, number, 0, 0), members, number=number)
        self.view.on_group(opened)
        return opened

    @property
    def microgrid(self) -> dict[str, object]:
        (shown,) = self.view.sections()
        return shown

    @property
    def events(self) -> list[str]:
        return [item["en"] for item in self.board.snapshot()["events"]]


def gap(number: int, *, final: bool = False) -> Gap:
    return Gap(1, SLOT, ("home-9",), "no report from home-9", number, final)


def test_the_sums_of_the_groups_and_of_the_whole_slot_are_shown() -> None:
    shown = Shown(*ROSTERS)
    groups = shown.open(1), shown.open(2)
    shown.view.on_slot(OpenedSlot(1, SLOT, groups))
    microgrid = shown.microgrid
    assert (microgrid["slot"], microgrid["meters"], microgrid["import_wh"], microgrid["gap"]) == (SLOT, 10, 150, None)
    assert [(g["number"], g["homes"], g["import_wh"], g["gap"]) for g in microgrid["groups"]] == [
        (1, 5, 50, None),
        (2, 5, 100, None),
    ]


def test_a_closed_group_says_for_whom_it_waits_and_the_others_sum_is_shown() -> None:
    shown = Shown(*ROSTERS)
    first = shown.open(1)
    shown.view.on_gap(gap(2))
    shown.view.on_gap(gap(2))
    assert shown.microgrid["gap"] is None and shown.microgrid["groups"][1]["gap"] == ["home-9"]
    assert shown.events == ["Microgrid 1, group 2: a slot stays closed, waiting for home-9."]
    shown.view.on_gap(gap(2, final=True))
    shown.view.on_slot(OpenedSlot(1, SLOT, (first,), (ROSTERS[1],)))
    second = shown.microgrid["groups"][1]
    assert second["left_out"] and second["reason"] == "no report from home-9" and shown.microgrid["meters"] == 5
    assert "group 2 is left out of a slot, waiting for home-9" in shown.events[-1] and len(shown.events) == 2
    shown.view.on_gap(gap(2))  # of the next slot: it was told already
    shown.view.on_gap(gap(2, final=True))
    assert len(shown.events) == 2
    shown.open(2)
    assert shown.microgrid["groups"][1]["gap"] is None


def test_a_microgrid_of_one_group_shows_its_gap_as_its_own() -> None:
    shown = Shown(ROSTERS[1])
    shown.view.on_gap(gap(1))
    assert shown.microgrid["gap"] == ["home-9"]
    assert shown.events == ["Microgrid 1: a slot stays closed, waiting for home-9."]


def test_too_few_homes_are_said_until_there_is_a_group() -> None:
    shown = Shown()
    shown.view.on_small_group(1, 4, 5)
    assert shown.microgrid["small"] == {"present": 4, "needed": 5} and shown.microgrid["groups"] == []
    assert "group too small: 4 of 5 meters" in shown.events[0]
    shown.view.on_grouping(Grouping(1, 90, ROSTERS))
    assert shown.microgrid["small"] is None


def test_what_was_said_of_groups_does_not_outlive_them() -> None:
    shown = Shown(*ROSTERS)
    shown.open(1)
    shown.view.on_gap(gap(2))
    shown.view.on_grouping(Grouping(1, 110, (ROSTERS[0],)))
    assert [(g["slot"], g["gap"]) for g in shown.microgrid["groups"]] == [(None, None), (None, None)]
