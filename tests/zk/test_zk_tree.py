"""The note tree against a tree computed naively, and the places of notes."""

import random

import pytest

from openmg.zk import tree as tree_module
from openmg.zk.field import R
from openmg.zk.tags import H
from openmg.zk.tree import CAPACITY, DEPTH, EMPTY_TREE_ROOT, NoteTree, TreeFullError, named_root, position, root_of


def naive_root(leaves, depth=DEPTH):
    level, empty = list(leaves), 0
    for _ in range(depth):
        level += [empty] * (len(level) & 1)
        level = [H("nod", level[i], level[i + 1]) for i in range(0, len(level), 2)]
        empty = H("nod", empty, empty)
    return level[0] if level else empty


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 9])
def test_root_equals_the_naive_tree(count):
    leaves = [random.Random(count).randrange(R) for _ in range(count)]
    assert NoteTree(leaves).root() == naive_root(leaves)


def test_appending_in_pieces_changes_nothing():
    generator = random.Random(4)
    leaves = [generator.randrange(R) for _ in range(23)]
    tree, done = NoteTree(), 0
    for size in (1, 2, 3, 1, 5, 4, 7):
        tree.extend(leaves[done : done + size])
        done += size
        assert tree.root() == NoteTree(leaves[:done]).root()
        for index in range(done):
            assert root_of(leaves[index], index, tree.path(index)) == tree.root()


def test_a_path_leads_elsewhere_for_another_leaf_or_index():
    tree = NoteTree(range(1, 6))
    assert root_of(3, 2, tree.path(2)) == tree.root()
    assert root_of(4, 2, tree.path(2)) != tree.root()
    assert root_of(3, 3, tree.path(2)) != tree.root()


def test_empty_tree():
    assert NoteTree().root() == EMPTY_TREE_ROOT == naive_root([])
    with pytest.raises(IndexError, match="no leaf 0"):
        NoteTree().path(0)


def test_a_full_tree_takes_no_more(monkeypatch):
    monkeypatch.setattr(tree_module, "CAPACITY", 3)
    tree = NoteTree([1, 2, 3])
    with pytest.raises(TreeFullError, match="next tree"):
        tree.append(4)
    assert len(tree) == 3


@pytest.mark.parametrize("leaf", [-1, R])
def test_a_leaf_is_a_field_element(leaf):
    with pytest.raises(ValueError, match="note commitment is outside"):
        NoteTree([leaf])
    assert len(NoteTree([leaf % R])) == 1


def test_named_root_binds_the_tree_number():
    assert named_root(0, 5) == H("root", 0, 5) != named_root(1, 5)
    with pytest.raises(ValueError, match="tree number"):
        named_root(1 << 32, 5)


def test_positions_are_distinct_over_trees():
    assert position(0, CAPACITY - 1) + 1 == position(1, 0) == CAPACITY
    assert position((1 << 32) - 1, CAPACITY - 1) == (1 << 52) - 1
    for place in ((0, CAPACITY), (1 << 32, 0), (-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="there is no leaf"):
            position(*place)
