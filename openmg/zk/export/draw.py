"""Named values from a seed, of which the examples are made: always the same for the same circuit and seed.

Not here: the examples (`note_examples`, `meter_examples`).
"""

from __future__ import annotations

from openmg.hashing import keccak256
from openmg.zk.babyjub import SUBGROUP_ORDER
from openmg.zk.field import reduce_wide
from openmg.zk.meters import Opening, Place
from openmg.zk.tree import NoteTree

EXAMPLE_TAG = b"openmg.zk.example.v1\0"
OTHER_LEAVES = 3
"""Leaves of others in each tree, so that no path consists of empty subtrees alone."""


class Draw:
    """Field elements, smaller numbers and trees of one example."""

    def __init__(self, circuit: str, seed: bytes) -> None:
        self._material = EXAMPLE_TAG + circuit.encode("ascii") + b"\0" + seed

    def felt(self, name: str) -> int:
        material = self._material + name.encode("ascii")
        return int(reduce_wide(keccak256(material + b"\0") + keccak256(material + b"\1")))

    def below(self, name: str, bound: int) -> int:
        """A number from 0 to bound - 1; the bias is that of a field element, so nothing for bounds of ours."""
        return self.felt(name) % bound

    def opening(self, name: str, energy_wh: int) -> Opening:
        """A commitment's opening with a blinding of this name."""
        return Opening(energy_wh, self.below(name, SUBGROUP_ORDER))

    def tree(self, name: str, leaves: list[int]) -> NoteTree:
        """These leaves behind some of others, so the first has the index OTHER_LEAVES."""
        return NoteTree([self.felt(f"{name} {i}") for i in range(OTHER_LEAVES)] + leaves)

    def place(self, name: str, leaf: int) -> tuple[Place, int]:
        """Where the leaf stands in a tree of this name, and that tree's root."""
        tree = self.tree(name, [leaf])
        return Place.in_tree(tree, OTHER_LEAVES), tree.root()
