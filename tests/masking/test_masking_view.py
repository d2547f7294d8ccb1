"""What a hub learns that lies as it likes (`hub_view`): nothing, or one sum of many, whatever it shows to whom."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import hub_view
import pytest
from hub_view import View, honest_run
from hypothesis import given, settings
from hypothesis import strategies as st
from masking_kit import CHAIN_ID, SLOT, Group

from openmg.masking import masks as masks_module
from openmg.masking import member as member_module
from openmg.masking import rosters as rosters_module
from openmg.masking import survivors as survivors_module
from openmg.masking import threshold
from openmg.masking.survivors import RefusedSet, set_of
from openmg.messages.slot_opening import OpeningNotice
from openmg.survivors import sign_set


def test_the_elimination_finds_what_is_there() -> None:
    """A hub that did get both secrets of a member is found to know its value."""
    group = Group(7)
    view = View(group)
    for place, report in enumerate(group.reports):
        view.hear(place, report)
    assert view.learnt() == []
    for masker in group.maskers:
        view.take(masker.pad(group.addresses[2], SLOT, group.reports[2].self_commitment))
    assert view.learnt() == []
    for place, masker in enumerate(group.maskers):
        if place != 2:
            view.take(masker.pair_key(group.addresses[2], SLOT))
    assert view.learnt() == [{2}]


def test_of_a_whole_group_the_hub_learns_the_sum_alone() -> None:
    group = Group(10)
    view = View(group)
    for place, report in enumerate(group.reports):
        view.hear(place, report)
    honest_run(view, frozenset(range(10)))
    assert view.learnt() == [set(range(10))]


def test_a_late_report_of_a_member_left_out_is_not_opened() -> None:
    group = Group(10)
    view = View(group)
    alive = frozenset(range(10)) - {4}
    for place in sorted(alive):
        view.hear(place, group.reports[place])
    honest_run(view, alive)
    assert view.learnt() == [set(range(9))]
    view.hear(4, group.reports[4])  # all its pair masks are known by now
    assert view.learnt() == [set(range(9))]


def test_a_restored_meter_that_reports_twice_is_opened_once() -> None:
    group = Group(7)
    view = View(group)
    for place, report in enumerate(group.reports):
        view.hear(place, report)
    view.hear(3, group.maskers[3].mask(SLOT, (5, 6, 7, 8)))
    honest_run(view, frozenset(range(7)))
    assert view.learnt() == [set(range(7))]


Shown = tuple[frozenset[int], bool]
"""A set, and whether it names the second reports of those who reported twice."""


@st.composite
def lying_hub(draw: st.DrawFn) -> tuple[int, frozenset[int], list[Shown], list[list[Shown]]]:
    """(members, who colludes, the sets it has in mind, and which of them it shows to each member, in this order)."""
    count = draw(st.integers(5, 8))
    whole = frozenset(range(count))
    colluding = draw(st.frozensets(st.sampled_from(range(count)), max_size=(count - 1) // 3))
    gone = st.frozensets(st.sampled_from(range(count)), max_size=count - threshold(count))
    sets = draw(st.lists(st.tuples(gone.map(lambda few: whole - few), st.booleans()), min_size=1, max_size=3, unique=True))
    shown = [draw(st.lists(st.sampled_from(sets), max_size=3)) for _ in range(count)]
    return count, colluding, sets, shown


TWICE = (0, 1)
"""Places of members that were restored and reported another value as well."""


def cheat(count: int, colluding: frozenset[int], sets: list[Shown], shown: list[list[Shown]]) -> View:
    """What a hub sees that shows each member its sets, collects signatures, and shows them again with all that it has."""
    group = Group(count)
    view = View(group, colluding)
    second = {place: group.maskers[place].mask(SLOT, (1, 2, 3, 4)) for place in TWICE}
    for place, report in [*enumerate(group.reports), *second.items()]:
        view.hear(place, report)

    def notice(chosen: Shown) -> OpeningNotice:
        made = group.notice(chosen[0], signed[chosen])
        named = dict(zip(made.survivors, made.commitments, strict=True))
        if chosen[1]:
            named.update({group.addresses[place]: second[place].self_commitment for place in TWICE if place in chosen[0]})
        return replace(made, commitments=tuple(named.values()))

    signed: dict[Shown, dict[int, bytes]] = {chosen: {} for chosen in sets}
    for chosen in sets:
        for place in colluding & chosen[0]:  # they sign whatever they are asked
            signed[chosen][place] = sign_set(set_of(notice(chosen)), CHAIN_ID, group.keys[place].signing_key)
    for _step in ("sign", "keys"):
        for place in sorted(frozenset(range(count)) - colluding):
            for chosen in shown[place]:
                with contextlib.suppress(RefusedSet):
                    opening = group.ask(place, notice(chosen))
                    signed[chosen][place] = opening.signature
                    view.take(opening.keys)
    return view


def harmless(view: View) -> bool:
    """Whether the hub learnt one sum at most, of as many honest members as the threshold less those of its own."""
    learnt = view.learnt()
    least = threshold(len(view.group.keys)) - len(view.colluding)
    return len(learnt) <= 1 and all(len({view.reports[n][0] for n in support}) >= max(2, least) for support in learnt)


@settings(deadline=None, max_examples=60)
@given(lying_hub())
def test_no_lie_makes_the_hub_learn_more_than_one_sum_of_many(
    case: tuple[int, frozenset[int], list[Shown], list[list[Shown]]],
) -> None:
    """It shows any sets to anybody in any order, with all signatures it has, and up to a third of the members are its own."""
    assert harmless(cheat(*case))


def feigned(count: int, colluding: int, told_whole: int) -> View:
    """A drop-out of member 2 feigned to some, the whole group to the others, with the last members colluding."""
    whole, without = (frozenset(range(count)), False), (frozenset(range(count)) - {2}, False)
    honest = [place for place in range(count - colluding) if place != 2]
    told = {place: whole if i < told_whole else without for i, place in enumerate(honest)}
    shown = [[told.get(place, whole)] for place in range(count)]
    return cheat(count, frozenset(range(count - colluding, count)), [whole, without], shown)


def test_a_drop_out_feigned_to_any_part_of_the_group_shows_nobody() -> None:
    for colluding in (0, 2):
        views = [feigned(8, colluding, told) for told in range(8 - colluding)]
        assert all(harmless(view) for view in views)
        assert any(view.learnt() for view in views)  # so the hub gets as far as a sum


def split() -> View:
    """The best a hub can do with three of ten on its side: cut members 0, 1, 2 out of the group by answers of all the others.

    4, 5, 6 are told that 0, 1, 2 dropped out, and these that 3 did; 3 is told that nobody did. If all answered, no unknown mask
    would tie 0, 1, 2 to the others, and three honest members and three of the hub's and number 3 hold their shares.
    """
    everybody = frozenset(range(10))
    whole, without_three, without_a_three = ((everybody - gone, False) for gone in (frozenset(), {3}, {0, 1, 2}))
    shown = [[without_three]] * 3 + [[whole]] + [[without_a_three]] * 3 + [[]] * 3
    return cheat(10, frozenset({7, 8, 9}), [whole, without_three, without_a_three], shown)


def twice() -> View:
    """A drop-out feigned to everybody after the whole group was opened."""
    whole, without = (frozenset(range(8)), False), (frozenset(range(8)) - {2}, False)
    return cheat(8, frozenset(), [whole, without], [[whole, without]] * 8)


def test_the_best_attacks_show_nothing() -> None:
    assert split().learnt() == [] and harmless(twice())


@pytest.mark.parametrize("rule", ["quorum", "two thirds", "one set"])
def test_without_any_one_of_the_rules_they_do(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quorum for drop-outs, of more than two thirds, and one set for each slot: each of them is needed."""
    if rule == "quorum":
        monkeypatch.setattr(member_module, "_has_quorum", lambda *_: True)
        assert {0, 1, 2} in split().learnt()
    elif rule == "two thirds":
        for module in (member_module, rosters_module, masks_module, survivors_module):
            monkeypatch.setattr(module, "threshold", lambda members: members // 2 + 1)
        monkeypatch.setattr(hub_view, "threshold", lambda members: members // 2 + 1)
        assert {0, 1, 2} in split().learnt()
    else:
        monkeypatch.setattr(member_module, "replace", lambda promise, **_: promise)
        assert len(twice().learnt()) == 2 and {2} in twice().learnt()
