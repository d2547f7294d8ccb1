"""Who is grouped with whom: sizes and bounds, and how few move when homes come and go."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.ingest.partition import MAX_GROUP_SIZE, partition
from openmg.masking import MAX_GROUP, MIN_GROUP

Groups = tuple[tuple[bytes, ...], ...]


def homes(*numbers: int) -> list[bytes]:
    return [number.to_bytes(20, "big") for number in numbers]


def many(count: int) -> list[bytes]:
    return homes(*range(1, count + 1))


def sizes(groups: Groups) -> list[int]:
    return sorted(len(group) for group in groups)


def moved(before: Groups, after: Groups) -> int:
    """Homes that were there before and are in another group now; groups that stay keep their number."""
    old = {home: number for number, group in enumerate(before) for home in group}
    return sum(old.get(home, number) != number for number, group in enumerate(after) for home in group)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(5, [5]), (9, [9]), (10, [10]), (19, [19]), (20, [10, 10]), (24, [12, 12]), (29, [14, 15]), (30, [10, 10, 10])],
)
def test_groups_have_ten_to_nineteen_homes_and_sizes_that_differ_by_one(count: int, expected: list[int]) -> None:
    assert sizes(partition(many(count), 10)) == expected


def test_a_group_is_never_asked_for_that_is_too_small_or_could_grow_too_large() -> None:
    for size in (MIN_GROUP, MAX_GROUP_SIZE):
        assert max(sizes(partition(many(MAX_GROUP), size))) <= MAX_GROUP
        assert min(sizes(partition(many(MAX_GROUP), size))) >= size
    for size in (MIN_GROUP - 1, MAX_GROUP_SIZE + 1):
        with pytest.raises(ValueError, match=f"group_size is {size}; give 5 to 96"):
            partition(many(20), size)


def test_the_groups_do_not_depend_on_the_order_in_which_homes_are_named() -> None:
    assert partition(many(24), 10) == partition(many(24)[::-1], 10)


def test_who_joins_moves_nobody_until_there_is_another_group() -> None:
    groups = partition(many(24), 10)
    for count in range(25, 30):
        after = partition(many(count), 10, groups)
        assert moved(groups, after) == 0 and len(after) == 2
        groups = after
    three = partition(many(30), 10, groups)
    assert sizes(three) == [10, 10, 10] and moved(groups, three) == 9


def test_who_leaves_is_made_up_for_by_one_home_at_most() -> None:
    groups = partition(many(24), 10)
    one_less = partition([home for home in many(24) if home != groups[0][0]], 10, groups)
    assert moved(groups, one_less) == 0 and sizes(one_less) == [11, 12]
    two_less = partition([home for home in many(24) if home not in groups[0][:2]], 10, groups)
    assert moved(groups, two_less) == 1 and sizes(two_less) == [11, 11]


def test_the_smallest_group_is_given_up_when_there_are_too_many() -> None:
    groups = partition(many(30), 10)
    after = partition([home for home in many(30) if home != groups[1][3]], 10, groups)
    assert sizes(after) == [14, 15] and set(groups[0]) <= set(after[0]) and set(groups[2]) <= set(after[1])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.frozensets(st.integers(1, 60), min_size=5), min_size=1, max_size=6), st.integers(5, 12))
def test_whoever_comes_and_goes_the_groups_are_whole_disjoint_equal_and_stay(
    memberships: list[frozenset[int]], size: int
) -> None:
    groups: Groups = ()
    for present in memberships:
        groups = partition(homes(*present), size, groups)
        assert sorted(home for group in groups for home in group) == sorted(homes(*present))
        assert len(groups) == max(1, len(present) // size)
        assert max(sizes(groups)) - min(sizes(groups)) <= 1 and min(sizes(groups)) >= min(size, len(present))
        assert all(list(group) == sorted(group) for group in groups)
        assert partition(homes(*present), size, groups) == groups
