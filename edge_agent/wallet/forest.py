"""The public leaves as the note trees they make: one tree of 2^20 places after the other, each loaded when it is needed.

Rules: leaves come in whole batches of BATCH_LEAVES, as the contract appends them, so that the root of a tree here is one
that the contract had. The leaves lie in the store; what is in memory is rebuilt from there.
Not here: whose leaves they are (`edge_agent.wallet.notes`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from edge_agent.wallet.note_store import Leaf, NoteStore
from openmg.zk.circuits.append import LEAVES
from openmg.zk.tree import CAPACITY, NoteTree

BATCH_LEAVES = LEAVES
"""Leaves of one `append`; roots between two batches exist on no chain."""
MAX_LOADED_TREES = 2
"""The one that grows and one that notes are moved from; a full tree takes some 150 MB."""


def tree_of(position: int) -> int:
    """The number of the tree in which a position lies."""
    return position // CAPACITY


def index_of(position: int) -> int:
    """The place of a position in its tree."""
    return position % CAPACITY


class Forest:
    """All leaves that were heard of."""

    def __init__(self, store: NoteStore) -> None:
        self._store = store
        self._count = store.leaf_count()
        self._trees: OrderedDict[int, NoteTree] = OrderedDict()

    def __len__(self) -> int:
        return self._count

    def leaves(self, first: int, count: int) -> list[int]:
        """The commitments at `count` positions from `first` on, as far as they are known."""
        return self._store.leaves(first, count)

    def tree(self, number: int) -> NoteTree:
        """A tree by its number; an empty one where no leaf is."""
        if number not in self._trees:
            self._trees[number] = NoteTree(self._store.leaves(number * CAPACITY, CAPACITY))
        self._trees.move_to_end(number)
        while len(self._trees) > MAX_LOADED_TREES:
            self._trees.popitem(last=False)
        return self._trees[number]

    def grow(self, leaves: Sequence[Leaf]) -> None:
        """The next leaves; first on disk, since the trees are made of that at start."""
        self._store.add_leaves(leaves)
        self._count += len(leaves)
        for leaf in leaves:
            if tree_of(leaf.position) in self._trees:
                self._trees[tree_of(leaf.position)].append(leaf.commitment)

    def cut(self, first: int) -> None:
        """Forget the leaves from position `first` on."""
        self._store.take_back(first)
        self._count = min(self._count, first)
        for number in [number for number in self._trees if number >= tree_of(first)]:
            del self._trees[number]
