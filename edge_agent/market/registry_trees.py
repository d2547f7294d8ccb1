"""The energy registry as a hub tells it: the tree in force for a slot, and our own leaf's place in it.

Theory of operation. A notice holds all leaves as they are now and the newest roots, each from a slot on. Mints name the root
in force for their slot, which may be an older one: leaves that were added since are taken off, closings that were made since
undone, until the leaves lead to that root. Which they are follows mostly from the rule that a change lies in the future when
it is approved: a leaf's from_slot, or a closing's to_slot, up to the next root's slot was there before that root. Only the few
that this does not settle are tried.
Rules: nothing is believed that does not hash to a root; that the root is the registry's, the chain says when it checks the
proof. Pure. Not here: notices' transport (`service`), what a leaf means (`openmg.zk.meters`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from openmg.messages.market import RegistryNotice
from openmg.zk.meters import NUMBER_LIMIT, Place, Registration, RegistryLeaf, meter_id
from openmg.zk.tree import NoteTree

OPEN_END = NUMBER_LIMIT - 1
"""to_slot of a leaf that was not closed."""
MAX_TRIES = 256
"""Trees built for one root; operators that change more in the same hours leave older slots to those who listened."""
MAX_TREES = 8
"""Roots whose leaves are kept: slots of a day and a half, in which a registry rarely changes at all."""

Leaves = tuple[RegistryLeaf, ...]


@dataclass(frozen=True)
class _Tree:
    leaves: Leaves
    tree: NoteTree

    @staticmethod
    def of(leaves: Leaves) -> _Tree:
        return _Tree(leaves, NoteTree(leaf.digest for leaf in leaves))


class RegistryTrees:
    """The registry's trees by root."""

    def __init__(self) -> None:
        self._newest = _Tree.of(())
        self._history: tuple[tuple[int, int], ...] = ()
        self._earlier: OrderedDict[int, _Tree | None] = OrderedDict()

    def hear(self, notice: RegistryNotice) -> None:
        """The newest notice. Raises ValueError, and keeps what was known, when its leaves are not those of its last root."""
        if not notice.history:
            raise ValueError("the registry notice names no root")
        leaves = tuple(RegistryLeaf(**vars(entry)) for entry in notice.leaves)
        history = tuple((item.slot, item.root) for item in notice.history)
        if history == self._history and leaves == self._newest.leaves:
            return
        newest = _Tree.of(leaves)
        if newest.tree.root() != history[-1][1]:
            raise ValueError("the leaves of the registry notice do not make its newest root")
        self._earlier = OrderedDict((root, known) for root, known in self._earlier.items() if known is not None)
        if self._history:
            self._keep(self._history[-1][1], self._newest)
        self._newest, self._history = newest, history

    def registration(
        self, meter_secret: int, public_key: int, microgrid: int, slot: int, first_slot: int | None = None
    ) -> Registration | None:
        """Our place in the tree of a slot, with a leaf in force then, or at some time from `first_slot` to then.

        None while the tree is unknown or there is no such leaf of ours.
        """
        root = self._root_at(slot)
        known = None if root is None else self._tree_of(root, slot)
        if root is None or known is None:
            return None
        identity, first = meter_id(meter_secret), slot if first_slot is None else first_slot
        for index, leaf in enumerate(known.leaves):
            ours = leaf.meter_id == identity and leaf.public_key == public_key and leaf.microgrid == microgrid
            if ours and leaf.from_slot <= slot and first < leaf.to_slot:
                return Registration(meter_secret, leaf, Place.in_tree(known.tree, index), root)
        return None

    def _root_at(self, slot: int) -> int | None:
        """The last root of a slot that is not later (`EnergyRegistry.rootAt`)."""
        return next((root for since, root in reversed(self._history) if since <= slot), None)

    def _tree_of(self, root: int, slot: int) -> _Tree | None:
        if root == self._history[-1][1]:
            return self._newest
        if root not in self._earlier:
            later = min(since for since, _ in self._history if since > slot)
            candidates = (_Tree.of(leaves) for leaves in islice(_candidates(self._newest.leaves, later), MAX_TRIES))
            self._keep(root, next((known for known in candidates if known.tree.root() == root), None))
        self._earlier.move_to_end(root)
        return self._earlier[root]

    def _keep(self, root: int, known: _Tree | None) -> None:
        self._earlier[root] = known
        while len(self._earlier) > MAX_TREES:
            self._earlier.popitem(last=False)


def _candidates(leaves: Leaves, later: int) -> Iterator[Leaves]:
    """What the leaves may have been before a root of slot `later` was approved, the likeliest first."""
    certain = max((index + 1 for index, leaf in enumerate(leaves) if leaf.from_slot <= later), default=0)
    unsure = sorted({leaf.to_slot for leaf in leaves if later < leaf.to_slot < OPEN_END})
    bounds = [later, *unsure]  # closings up to the bound were made by then, as operators close in order
    for count in range(certain, len(leaves) + 1):
        for bound in bounds:
            yield tuple(_reopened(leaf, bound) for leaf in leaves[:count])


def _reopened(leaf: RegistryLeaf, bound: int) -> RegistryLeaf:
    return replace(leaf, to_slot=OPEN_END) if bound < leaf.to_slot < OPEN_END else leaf
