"""Examples of the statements about notes alone: transfer, merge, append, exit.

Rules: pure functions of a draw; amounts are such that every output is above 0. Not here: meters (`meter_examples`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from openmg.zk.circuits import append, merge, transfer
from openmg.zk.circuits.append import AppendWitness, next_batch
from openmg.zk.circuits.exit import ExitWitness
from openmg.zk.circuits.joinsplit import InputNote, OutputNote
from openmg.zk.circuits.merge import MergeWitness
from openmg.zk.circuits.transfer import TransferWitness
from openmg.zk.export.draw import OTHER_LEAVES, Draw
from openmg.zk.tags import H
from openmg.zk.tree import DEPTH, NoteTree

TRANSFER_WEI = (10**18, 24)
MERGE_WEI = (10**18, 5 * 10**17, 3 * 10**15, 77, 6)
"""Five notes; the other three inputs of a merge are dummies."""
EXIT_WEI = 10**17
RECIPIENT_BITS = 160
OLD_BATCHES = 2
"""Batches that stand in the tree to which an append adds the next."""


@dataclass(frozen=True)
class Spent:
    """An owner's notes in a tree, and dummies up to a statement's number of inputs."""

    spending_key: int = field(repr=False)
    tree: NoteTree
    inputs: tuple[InputNote, ...]

    @property
    def owner(self) -> int:
        return H("pk", self.spending_key)


def spent_notes(draw: Draw, amounts: Sequence[int], inputs: int, asset: int = 0) -> Spent:
    """Notes of these amounts, all of one owner."""
    spending_key = draw.felt("spending key")
    owner = H("pk", spending_key)
    blindings = [draw.felt(f"blinding {i}") for i in range(inputs)]
    notes = [H("cm", asset, amount, H("own", owner, b)) for amount, b in zip(amounts, blindings, strict=False)]
    tree = draw.tree("leaf", notes)
    real = [InputNote(amount, blindings[i], OTHER_LEAVES + i, tree.path(OTHER_LEAVES + i)) for i, amount in enumerate(amounts)]
    dummies = [InputNote(0, blindings[i], 0, (0,) * DEPTH) for i in range(len(amounts), inputs)]
    return Spent(spending_key, tree, (*real, *dummies))


def _outputs(draw: Draw, owner: int, total_wei: int, paid_wei: int) -> tuple[OutputNote, OutputNote]:
    """A payment to somebody else, and change."""
    receiver = H("pk", draw.felt("receiver"))
    return OutputNote(paid_wei, receiver, draw.felt("output 0")), OutputNote(total_wei - paid_wei, owner, draw.felt("output 1"))


def transfer_example(draw: Draw) -> TransferWitness:
    """Two notes of one owner become one for somebody else and one of change."""
    spent = spent_notes(draw, TRANSFER_WEI, transfer.INPUTS)
    outputs = _outputs(draw, spent.owner, sum(TRANSFER_WEI), TRANSFER_WEI[0] // 3)
    first, second = spent.inputs
    return TransferWitness(spent.spending_key, 0, 0, spent.tree.root(), (first, second), outputs, 0, 0, draw.felt("ext"))


def merge_example(draw: Draw) -> MergeWitness:
    """Five notes become one for somebody else and one of change."""
    spent = spent_notes(draw, MERGE_WEI, merge.INPUTS)
    outputs = _outputs(draw, spent.owner, sum(MERGE_WEI), MERGE_WEI[0] // 3)
    root, ext, back = spent.tree.root(), draw.felt("ext"), draw.felt("return")
    return MergeWitness(spent.spending_key, 0, 0, root, spent.inputs, outputs, 0, 0, ext, back)


def append_example(draw: Draw) -> AppendWitness:
    """The third batch of a tree."""
    tree = NoteTree([draw.felt(f"old leaf {i}") for i in range(OLD_BATCHES * append.LEAVES)])
    return next_batch(0, tree, [draw.felt(f"leaf {i}") for i in range(append.LEAVES)])


def exit_example(draw: Draw) -> ExitWitness:
    """A note of PETH leaves for the root chain."""
    spent = spent_notes(draw, (EXIT_WEI,), 1)
    recipient = draw.below("recipient", 1 << RECIPIENT_BITS)
    return ExitWitness(spent.spending_key, 0, 0, spent.tree.root(), spent.inputs[0], recipient, draw.felt("ext"))
