"""Several groups of one slot beside a feeder that is read in clear: what a hub can say of a few homes is nothing.

Each group's sum and the feeder's energy are known; every other statement follows from these. The homes behind the feeder are
those of all groups; a functional of the values is reduced until each part of it that can be told by itself stands alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable
from fractions import Fraction

import pytest
from hub_view import View, honest_run
from masking_kit import CHAIN_ID, SLOT, Group

from openmg.masking import MIN_GROUP
from openmg.masking.member import answer
from openmg.masking.survivors import RefusedSet
from openmg.messages.slot_opening import SlotOpening

Homes = frozenset[bytes]
Told = dict[bytes, Fraction]
"""A sum of values, each with its factor, by home."""


class Microgrid:
    """Groups of the first homes on, one after another, and what the hub hears of each."""

    def __init__(self, *sizes: int, clear_feeder: bool = True) -> None:
        firsts = [sum(sizes[:i]) for i in range(len(sizes))]
        self.groups = [Group(size, clear_feeder, first) for size, first in zip(sizes, firsts, strict=True)]
        self.views = [View(group) for group in self.groups]
        for group, view in zip(self.groups, self.views, strict=True):
            for place, report in enumerate(group.reports):
                view.hear(place, report)

    def open(self, number: int, gone: Iterable[int] = ()) -> bool:
        """Asks a group to be opened without these members; whether it was."""
        group = self.groups[number]
        alive = frozenset(range(len(group.keys))) - frozenset(gone)
        with contextlib.suppress(RefusedSet):
            honest_run(self.views[number], alive)
            return True
        return False

    def heard(self, number: int) -> list[Told]:
        """What a group's messages alone tell."""
        group = self.groups[number]
        rows = self.views[number].functionals()
        return [{group.addresses[int(name[1:])]: factor for name, factor in row.items()} for row in rows]

    def told(self, *heard: list[Told]) -> set[Homes]:
        """The least sets of homes of which a weighted sum can be told, the feeder's energy being known."""
        feeder = {address: Fraction(1) for group in self.groups for address in group.addresses}
        rows = [row for part in heard or map(self.heard, range(len(self.groups))) for row in part]
        return {frozenset(row) for row in reduced([feeder, *map(dict, rows)])}


def reduced(rows: list[Told]) -> list[Told]:
    """The reduced row echelon form: of sums over disjoint sets it is these sums, and what is left of all."""
    done: list[Told] = []
    for name in sorted({name for row in rows for name in row}):
        pivot = next((row for row in rows if name in row), None)
        if pivot is None:
            continue
        rows.remove(pivot)
        pivot = {other: value / pivot[name] for other, value in pivot.items()}
        for row in (*rows, *done):
            if factor := row.get(name):
                for other, value in pivot.items():
                    row[other] = row.get(other, Fraction(0)) - factor * value
                    if not row[other]:
                        del row[other]
        done.append(pivot)
        rows = [row for row in rows if row]
    return done


def test_what_is_told_of_whole_groups_is_their_sums() -> None:
    grid = Microgrid(10, 10)
    assert grid.told() == {frozenset(grid.groups[0].addresses + grid.groups[1].addresses)}
    assert grid.open(0) and grid.open(1)
    assert grid.told() == {frozenset(group.addresses) for group in grid.groups}


def test_a_group_that_stays_closed_is_told_as_a_whole_and_no_less() -> None:
    """The feeder's energy less the open group's is that of the closed one, whoever is missing from it."""
    grid = Microgrid(10, 10)
    assert grid.open(0) and not grid.open(1, gone={3})
    assert grid.told() == {frozenset(group.addresses) for group in grid.groups}


def test_a_part_of_one_group_is_left_out_only_when_it_is_large_itself() -> None:
    grid = Microgrid(16, 5)
    assert not grid.open(0, gone=range(4)) and grid.open(0, gone=range(5)) and grid.open(1)
    left = frozenset(grid.groups[0].addresses[:5])
    assert left in grid.told() and min(map(len, grid.told())) == MIN_GROUP


@pytest.mark.parametrize("sizes", [(10, 10), (10, 10, 10)])
def test_two_groups_that_leave_out_three_each_are_not_opened(sizes: tuple[int, ...]) -> None:
    """Together they would leave out six. But each answers by itself, and if the other were opened whole in the end, three would
    be left: so each group keeps the rule alone, and then the union of all groups keeps it too."""
    grid = Microgrid(*sizes)
    opened = [grid.open(number, gone=range(3)) for number in range(2)]
    assert opened == [False, False] and len(grid.told()) == 1
    careless = Microgrid(*sizes, clear_feeder=False)  # the operator said that nobody reads the feeder, and reads it
    assert careless.open(0, gone=range(3)) and careless.open(1, gone=range(3))
    if len(sizes) == 2:
        assert min(map(len, careless.told())) == 6
    other = Microgrid(*sizes, clear_feeder=False)
    assert all(other.open(number, gone=range(3) if number == 0 else ()) for number in range(len(sizes)))
    assert frozenset(other.groups[0].addresses[:3]) in other.told()  # which is why the utility signs that flag


def test_whatever_each_group_does_no_part_of_the_microgrid_is_under_five() -> None:
    """A group of 16, the smallest of which five may be missing, beside one of seven: both asked to open without any number."""
    sizes, heard = (16, 7), {}
    for number, most in enumerate((6, 3)):
        for gone in range(most):
            grid = Microgrid(*sizes)
            grid.open(number, range(gone))
            heard[number, gone] = grid.heard(number)
    assert {key for key, rows in heard.items() if rows} == {(0, 0), (0, 5), (1, 0)}  # whole, or without five
    for gone in range(6):
        for other in range(3):
            assert min(map(len, grid.told(heard[0, gone], heard[1, other]))) >= MIN_GROUP, (gone, other)


def answered_under(member: tuple[Group, int], group: Group, place: int) -> SlotOpening:
    """The answer of a home that promised the slot to one group, when it is asked as a member of another one."""
    first, own = member
    notice = group.notice(range(len(group.keys)))
    return answer(group.maskers[place], first.promises[own], notice, CHAIN_ID, group.keys[place].signing_key)[1]


def test_a_home_that_moves_between_groups_is_in_one_sum_of_a_slot() -> None:
    """A slot asked under two groupings, between which one home moved, would tell it: one sum holds it, the other does not."""
    before, after = Group(10), Group(10, first=1)
    stays = [address for address in before.addresses if address in after.addresses]
    assert len(stays) == 9
    for address in stays:
        own, place = before.addresses.index(address), after.addresses.index(address)
        with pytest.raises(RefusedSet, match="reported under another roster") as refused:
            answered_under((before, own), after, place)
        assert refused.value.kind == "roster"
    # Were it answered, this would be told: the difference of two homes' values, and with one of them known the other.
    sums: list[Told] = [dict.fromkeys(group.addresses, Fraction(1)) for group in (before, after)]
    assert {2} == {len(row) for row in reduced(sums)} & {2}


def test_sums_of_different_slots_have_nothing_in_common() -> None:
    """Groups may change from slot to slot: a value of the next slot is another unknown, under other masks."""
    group = Group(10)
    other = dataclasses.replace(group.promises[0], slot=SLOT + 1)
    with pytest.raises(RefusedSet, match="another roster"):
        answer(group.maskers[0], other, group.notice(range(10)), CHAIN_ID, group.keys[0].signing_key)
    keys = {group.maskers[0].pair_key(group.addresses[1], slot) for slot in (SLOT, SLOT + 1)}
    masked = {group.maskers[0].mask(slot, group.value(0)).masked for slot in (SLOT, SLOT + 1)}
    assert len(keys) == len(masked) == 2


def test_the_reduction_finds_the_parts() -> None:
    def indicator(*names: bytes) -> dict[bytes, Fraction]:
        return dict.fromkeys(names, Fraction(1))

    a, b, c, d = b"a", b"b", b"c", b"d"
    parts = reduced([indicator(a, b, c, d), indicator(a, b), indicator(a, b, c)])
    assert {frozenset(row) for row in parts} == {frozenset({a, b}), frozenset({c}), frozenset({d})}
