"""The note tree: an append-only Poseidon Merkle tree of depth 20, whose empty leaves are 0.

Rules: node = H(nod, left, right); a note's place is its index; several trees follow each other, and what a proof names
is root' = H(root, tree number, tree root). All nodes are kept, so that a path costs no hashing; appended leaves are
hashed in when a root or a path is asked for, each inner node once.
Not here: which leaves exist (a wallet reads them from the token contract's events).
"""

from __future__ import annotations

from collections.abc import Iterable

from openmg.zk.field import require_felt
from openmg.zk.tags import H

DEPTH = 20
CAPACITY = 1 << DEPTH
TREE_NUMBER_BITS = 32
MAX_TREES = 1 << TREE_NUMBER_BITS
EMPTY_LEAF = 0


class TreeFullError(Exception):
    """The tree holds 2^20 leaves; the next note belongs to the next tree."""


def _empty_subtrees() -> tuple[int, ...]:
    """The root of an empty subtree of each height, 0 to DEPTH."""
    roots = [EMPTY_LEAF]
    for _ in range(DEPTH):
        roots.append(H("nod", roots[-1], roots[-1]))
    return tuple(roots)


EMPTY_SUBTREES = _empty_subtrees()
EMPTY_TREE_ROOT = EMPTY_SUBTREES[DEPTH]


def named_root(tree_number: int, tree_root: int) -> int:
    """root' = H(root, tree number, tree root): what contracts accept and proofs carry."""
    if not 0 <= tree_number < MAX_TREES:
        raise ValueError(f"tree number {tree_number} is outside 0 to {MAX_TREES - 1}")
    return H("root", tree_number, tree_root)


def position(tree_number: int, index: int) -> int:
    """A note's place over all trees, below 2^52; it makes the nullifiers of equal notes differ."""
    if not 0 <= tree_number < MAX_TREES or not 0 <= index < CAPACITY:
        raise ValueError(f"there is no leaf {index} in tree {tree_number}")
    return tree_number * CAPACITY + index


class NoteTree:
    """One tree of notes, in memory."""

    def __init__(self, leaves: Iterable[int] = ()) -> None:
        self._levels: list[list[int]] = [[] for _ in range(DEPTH + 1)]
        self._hashed = 0
        self.extend(leaves)

    def __len__(self) -> int:
        return len(self._levels[0])

    def append(self, leaf: int) -> int:
        """Add a note commitment and return its index; TreeFullError, ValueError for a leaf not below r."""
        if len(self) >= CAPACITY:
            raise TreeFullError(f"the note tree already holds {CAPACITY} notes; append to the next tree")
        self._levels[0].append(require_felt(leaf, "note commitment"))
        return len(self) - 1

    def extend(self, leaves: Iterable[int]) -> None:
        for leaf in leaves:
            self.append(leaf)

    def leaf(self, index: int) -> int:
        return self._levels[0][index]

    def _node(self, height: int, index: int) -> int:
        level = self._levels[height]
        return level[index] if index < len(level) else EMPTY_SUBTREES[height]

    def _hash_in(self) -> None:
        """Bring inner nodes up to date; only those above leaves appended since the last call change."""
        first, last = self._hashed, len(self)
        if first == last:
            return
        for height in range(DEPTH):
            first, last = first // 2, (last + 1) // 2
            parents = self._levels[height + 1]
            del parents[first:]
            for i in range(first, last):
                parents.append(H("nod", self._node(height, 2 * i), self._node(height, 2 * i + 1)))
        self._hashed = len(self)

    def root(self) -> int:
        """The tree's root; a fresh tree's is the empty root."""
        self._hash_in()
        return self._node(DEPTH, 0)

    def path(self, index: int) -> tuple[int, ...]:
        """The DEPTH siblings from the leaf up; IndexError when there is no such leaf."""
        if not 0 <= index < len(self):
            raise IndexError(f"the note tree has no leaf {index}; it holds {len(self)}")
        self._hash_in()
        return tuple(self._node(height, index >> height ^ 1) for height in range(DEPTH))

    def frontier(self, height: int) -> tuple[int, ...]:
        """The siblings, from `height` up, of the empty subtree that begins at the next leaf.

        TreeFullError when there is none; ValueError when no subtree of that height begins there.
        """
        if len(self) >= CAPACITY:
            raise TreeFullError(f"the note tree already holds {CAPACITY} notes; append to the next tree")
        if not 0 <= height <= DEPTH or len(self) % (1 << height):
            raise ValueError(f"no subtree of height {height} begins at leaf {len(self)}; fill the tree up to one")
        self._hash_in()
        return tuple(self._node(above, len(self) >> above ^ 1) for above in range(height, DEPTH))


def root_of(leaf: int, index: int, path: Iterable[int]) -> int:
    """The root to which a leaf and its siblings lead; from an inner node up, with that node and its index there."""
    node = leaf
    for height, sibling in enumerate(path):
        node = H("nod", sibling, node) if index >> height & 1 else H("nod", node, sibling)
    return node
