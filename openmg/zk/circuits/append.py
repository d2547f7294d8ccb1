"""The statement `append`: the next sixteen queued leaves enter the note tree.

Public inputs, in this order: old root', new root', start, leaf 1 to 16. What is proved:
- start = tree number * 2^20 + 16 * batch with a tree number of 32 bits and a batch of 16 bits, so it is a multiple
  of 16 and names one place only;
- old root' = H(root, tree number, old tree root), and in the old tree every leaf from start on is empty; so at index 0
  the old root is the empty tree's;
- new root' = H(root, tree number, new tree root), and the new tree is the old one with the sixteen leaves at start.
The statement has no secret. Who supplies it all is the contract: the root it stands at, its own counter as start, the
leaves as queued; at index 0 the proof alone fixes old root', since start does. Leaves of 0 pad a short batch.
Not here: the tree in memory (`tree`), when a short batch is allowed (the contract).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from openmg.zk import gadgets
from openmg.zk.field import require_felt
from openmg.zk.r1cs import Builder
from openmg.zk.tags import H
from openmg.zk.tree import CAPACITY, DEPTH, EMPTY_SUBTREES, TREE_NUMBER_BITS, NoteTree, named_root, position, root_of

S = TypeVar("S")

NAME = "append"
BATCH_HEIGHT = 4
LEAVES = 1 << BATCH_HEIGHT
PATH_LENGTH = DEPTH - BATCH_HEIGHT
MAX_BATCHES = CAPACITY >> BATCH_HEIGHT
PUBLIC_INPUTS = 3 + LEAVES
CIRCUIT_HASH = bytes.fromhex("a049a139a509b7591d8ec4713654935c71ac1a7aa77f99730b938d2cf7ae11be")
"""Hash of the matrices, see `r1cs.circuit_hash`; a change of the statement changes it and all keys."""
DEVELOPMENT_KEY_SHA256 = bytes.fromhex("2e47220810c992ca00f6c761a81e5db8fd02a76434531d827bb79df3fea51dbf")
"""Digest of the key file that `keys.make_development_key` writes."""


@dataclass(frozen=True)
class AppendWitness:
    """Where the batch goes (its number within the tree), the siblings of its subtree from height 4 up, the leaves."""

    tree_number: int
    batch: int
    path: tuple[int, ...]
    leaves: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.path) != PATH_LENGTH or len(self.leaves) != LEAVES:
            raise ValueError(f"a batch has {LEAVES} leaves and {PATH_LENGTH} siblings; pad it with leaves of 0")
        if not 0 <= self.batch < MAX_BATCHES:
            raise ValueError(f"there is no batch {self.batch} in a tree; it has {MAX_BATCHES}")
        for value in (*self.path, *self.leaves):
            require_felt(value, "tree node")


@dataclass(frozen=True)
class AppendPublics:
    """The nineteen public inputs, in their order."""

    old_root: int
    new_root: int
    start: int
    leaves: tuple[int, ...]

    def as_list(self) -> list[int]:
        """In the order of the verifier's `input`."""
        return [self.old_root, self.new_root, self.start, *self.leaves]


def next_batch(tree_number: int, tree: NoteTree, leaves: Sequence[int]) -> AppendWitness:
    """The witness that appends up to sixteen leaves to the tree, padded with 0; the tree itself stays as it is.

    TreeFullError when the next tree must be begun; ValueError when the tree does not end at a batch's boundary.
    """
    padded = (*leaves, *(0,) * (LEAVES - len(leaves)))
    return AppendWitness(tree_number, len(tree) // LEAVES, tree.frontier(BATCH_HEIGHT), padded)


def _subtree(leaves: Sequence[int]) -> int:
    nodes = list(leaves)
    while len(nodes) > 1:
        nodes = [H("nod", left, right) for left, right in zip(nodes[::2], nodes[1::2], strict=True)]
    return nodes[0]


def publics_of(witness: AppendWitness) -> AppendPublics:
    """The public inputs that an honest prover states for these values (nothing is checked here)."""
    old = root_of(EMPTY_SUBTREES[BATCH_HEIGHT], witness.batch, witness.path)
    new = root_of(_subtree(witness.leaves), witness.batch, witness.path)
    number = witness.tree_number
    start = position(number, witness.batch * LEAVES)
    return AppendPublics(named_root(number, old), named_root(number, new), start, witness.leaves)


def blank() -> tuple[AppendPublics, AppendWitness]:
    """Values of the right shape for a builder that does not look at them."""
    leaves = (0,) * LEAVES
    return AppendPublics(0, 0, 0, leaves), AppendWitness(0, 0, (0,) * PATH_LENGTH, leaves)


def _subtree_root(builder: Builder[S], leaves: Sequence[S]) -> S:
    nodes = list(leaves)
    while len(nodes) > 1:
        pairs = zip(nodes[::2], nodes[1::2], strict=True)
        nodes = [gadgets.poseidon(builder, "nod", left, right) for left, right in pairs]
    return nodes[0]


def _place(builder: Builder[S], start: S, witness: AppendWitness) -> tuple[S, list[S]]:
    """The tree number and the bits of the batch's number, which start fixes."""
    number = builder.private(witness.tree_number)
    gadgets.to_bits(builder, number, TREE_NUMBER_BITS, f"the tree number is below 2^{TREE_NUMBER_BITS}")
    bits = [builder.private(witness.batch >> i & 1) for i in range(PATH_LENGTH)]
    for bit in bits:
        gadgets.boolean(builder, bit, "a bit of the batch is a bit")
    index = [(LEAVES << i, bit) for i, bit in enumerate(bits)]
    place = builder.linear([(CAPACITY, number), *index])
    gadgets.equal(builder, place, start, f"start is the place of a batch, a multiple of {LEAVES}")
    return number, bits


def synthesize(builder: Builder[S], publics: AppendPublics, witness: AppendWitness) -> None:
    """Build the statement; UnsatisfiedError with the broken rule when the values contradict it."""
    old_root, new_root, start, *leaves = map(builder.public, publics.as_list())
    number, bits = _place(builder, start, witness)
    path = [builder.private(sibling) for sibling in witness.path]
    for height, (bit, sibling) in enumerate(zip(bits, path, strict=True), BATCH_HEIGHT):
        # A bit of 0 puts the batch on the left: its sibling lies to the right, where no leaf is yet.
        occupied = builder.linear([(1, sibling)], -EMPTY_SUBTREES[height])
        on_the_left = builder.linear([(-1, bit)], 1)
        gadgets.product_is_zero(builder, on_the_left, occupied, "the old tree is empty right of start")
    empty = builder.linear([], EMPTY_SUBTREES[BATCH_HEIGHT])
    old = gadgets.poseidon(builder, "root", number, gadgets.merkle_root(builder, empty, bits, path))
    gadgets.equal(builder, old, old_root, "old root' is of a tree whose leaves at start are empty")
    batch = _subtree_root(builder, leaves)
    new = gadgets.poseidon(builder, "root", number, gadgets.merkle_root(builder, batch, bits, path))
    gadgets.equal(builder, new, new_root, "new root' is of the old tree with the leaves at start")
