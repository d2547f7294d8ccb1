"""Parts of the statements about meters, each with the forgery that it exists to refuse."""

from types import SimpleNamespace

import pytest
from zk_judge import Collector
from zk_meter_cases import MeterCases

from openmg.zk import meter_gadgets
from openmg.zk.field import R
from openmg.zk.meters import Place
from openmg.zk.r1cs import UnsatisfiedError, WitnessBuilder
from openmg.zk.tree import DEPTH, NoteTree

BIT = "an index bit of the leaf is a bit"
UNDER = "the leaf is under the root"


class ForgedIndex:
    """An index whose bits are any field elements."""

    def __init__(self, bits):
        self.bits = bits

    def __rshift__(self, place):
        return ForgedBit(self.bits[place])


class ForgedBit(int):
    def __and__(self, one):
        return int(self)


def broken_by(leaf, place, root):
    builder = Collector()
    meter_gadgets.leads_to(builder, builder.private(leaf), place, builder.private(root), "the leaf", UNDER)
    return builder.broken


@pytest.mark.parametrize("index", [0, 1, 6])
def test_leaves_lead_to_their_root(index):
    cases = MeterCases()
    tree = NoteTree([cases.felt() for _ in range(7)])
    place = Place.in_tree(tree, index)
    assert broken_by(tree.leaf(index), place, tree.root()) == set()
    assert broken_by(tree.leaf(index) + 1, place, tree.root()) == {UNDER}
    assert broken_by(tree.leaf(index), Place(index ^ 1, place.path), tree.root()) == {UNDER}


def test_an_index_bit_that_is_no_bit_would_admit_any_leaf():
    """The pair that is hashed is (n + b (s - n), s - b (s - n)): with b and s free it is any pair of the tree."""
    cases = MeterCases()
    tree = NoteTree([cases.felt() for _ in range(4)])
    left, right, forged = tree.leaf(0), tree.leaf(1), cases.felt()
    sibling = (left + right - forged) % R
    bit = (left - forged) * pow(sibling - forged, -1, R) % R
    bits = ForgedIndex([bit] + [0] * (DEPTH - 1))
    place = SimpleNamespace(index=bits, path=(sibling, *tree.path(0)[1:]))
    assert broken_by(forged, place, tree.root()) == {BIT}


@pytest.mark.parametrize(("small", "large"), [(0, 0), (0, 2**32 - 1), (5, 5), (5, 6)])
def test_at_most_holds(small, large):
    builder = WitnessBuilder()
    meter_gadgets.at_most(builder, builder.private(small), builder.private(large), "small")


@pytest.mark.parametrize(("small", "large"), [(1, 0), (6, 5), (2**32 - 1, 0), (2**32 - 1, 2**32 - 2)])
def test_at_most_fails(small, large):
    builder = WitnessBuilder()
    with pytest.raises(UnsatisfiedError, match="small"):
        meter_gadgets.at_most(builder, builder.private(small), builder.private(large), "small")
