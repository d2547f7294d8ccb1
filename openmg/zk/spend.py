"""From notes to the witness of a statement that spends them: which inputs, which dummies, which paths.

Rules: notes of one asset, from one tree, are spent; what is missing to the statement's number of inputs is filled with
dummies of amount 0 whose blindings the caller draws; sums must match before anything is proved.
Not here: which notes to choose, what `ext` hashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openmg.zk.circuits import merge, transfer
from openmg.zk.circuits.exit import ExitWitness
from openmg.zk.circuits.joinsplit import InputNote, JoinSplitWitness, OutputNote
from openmg.zk.circuits.merge import MergeWitness
from openmg.zk.circuits.transfer import TransferWitness
from openmg.zk.notes import Note, SpendingKey
from openmg.zk.tree import DEPTH, NoteTree


class SpendError(ValueError):
    """The notes do not make what is to be proved; the text says why."""


@dataclass(frozen=True)
class OwnedNote:
    """A note and its index in the tree it lies in."""

    note: Note
    index: int


def transfer_witness(
    key: SpendingKey,
    tree_number: int,
    tree: NoteTree,
    spent: Sequence[OwnedNote],
    created: Sequence[Note],
    *,
    asset: int,
    ext: int,
    dummy_blindings: Sequence[int],
    public_in: int = 0,
    public_out: int = 0,
) -> TransferWitness:
    """The witness that spends up to two notes into exactly two (one of amount 0 is fine).

    `dummy_blindings` are two fresh random field elements. Raises SpendError when notes of another owner, asset or tree
    are named, when there are too many, or when the sums differ.
    """
    shape = _Shape(transfer.NAME, transfer.INPUTS, transfer.OUTPUTS)
    joined = shape.witness(key, tree_number, tree, spent, created, asset, ext, dummy_blindings, public_in, public_out)
    return TransferWitness(**vars(joined))


def merge_witness(
    key: SpendingKey,
    tree_number: int,
    tree: NoteTree,
    spent: Sequence[OwnedNote],
    created: Sequence[Note],
    *,
    asset: int,
    ext: int,
    dummy_blindings: Sequence[int],
    return_blinding: int,
    public_in: int = 0,
    public_out: int = 0,
) -> MergeWitness:
    """The witness that spends up to eight notes into exactly two (one of amount 0 is fine).

    `dummy_blindings` are eight fresh random field elements, `return_blinding` is one more. Raises SpendError as
    `transfer_witness` does.
    """
    shape = _Shape(merge.NAME, merge.INPUTS, merge.OUTPUTS)
    joined = shape.witness(key, tree_number, tree, spent, created, asset, ext, dummy_blindings, public_in, public_out)
    return MergeWitness(**vars(joined), return_blinding=return_blinding)


def exit_witness(
    key: SpendingKey, tree_number: int, tree: NoteTree, leaving: OwnedNote, *, recipient: int, ext: int
) -> ExitWitness:
    """The witness that takes one note to the root chain; SpendError for a note of another owner or tree."""
    return ExitWitness(
        spending_key=key.secret,
        asset=leaving.note.asset,
        tree_number=tree_number,
        tree_root=tree.root(),
        note=_spent_input(key, tree, leaving),
        recipient=recipient,
        ext=ext,
    )


@dataclass(frozen=True)
class _Shape:
    """How many notes a statement spends and makes."""

    statement: str
    inputs: int
    outputs: int

    def witness(
        self,
        key: SpendingKey,
        tree_number: int,
        tree: NoteTree,
        spent: Sequence[OwnedNote],
        created: Sequence[Note],
        asset: int,
        ext: int,
        dummy_blindings: Sequence[int],
        public_in: int,
        public_out: int,
    ) -> JoinSplitWitness:
        dummies = self.inputs - len(spent)
        if dummies < 0 or len(created) != self.outputs or len(dummy_blindings) < dummies:
            limits = f"spends at most {self.inputs} notes, makes {self.outputs}"
            raise SpendError(f"a {self.statement} {limits}, and needs a blinding per dummy")
        if any(note.asset != asset for note in (*(owned.note for owned in spent), *created)):
            raise SpendError("all notes of one proof are of one asset; make a proof for each asset")
        entering = sum(owned.note.amount for owned in spent) + public_in
        leaving = sum(note.amount for note in created) + public_out
        if entering != leaving:
            raise SpendError(f"the {self.statement} takes in {entering} and gives out {leaving}; adjust the change")
        inputs = input_notes(key, tree, spent, self.inputs, dummy_blindings)
        return JoinSplitWitness(
            spending_key=key.secret,
            asset=asset,
            tree_number=tree_number,
            tree_root=tree.root(),
            inputs=inputs,
            outputs=tuple(OutputNote(note.amount, note.public_key, note.blinding) for note in created),
            public_in=public_in,
            public_out=public_out,
            ext=ext,
        )


def input_notes(
    key: SpendingKey, tree: NoteTree, spent: Sequence[OwnedNote], count: int, dummy_blindings: Sequence[int]
) -> tuple[InputNote, ...]:
    """The inputs of a statement that spends `count` notes, filled up with dummies.

    `dummy_blindings` are fresh random field elements, one for each dummy. Raises SpendError for notes of another owner or
    tree, and when there are too many of them.
    """
    dummies = count - len(spent)
    if dummies < 0 or len(dummy_blindings) < dummies:
        raise SpendError(f"a statement of {count} inputs cannot spend {len(spent)} notes and {len(dummy_blindings)} dummies")
    real = [_spent_input(key, tree, owned) for owned in spent]
    return (*real, *(InputNote(0, blinding, 0, (0,) * DEPTH) for blinding in dummy_blindings[:dummies]))


def _spent_input(key: SpendingKey, tree: NoteTree, owned: OwnedNote) -> InputNote:
    if owned.note.public_key != key.public_key:
        raise SpendError("a note of another owner cannot be spent with this key")
    if not 0 <= owned.index < len(tree) or tree.leaf(owned.index) != owned.note.commitment:
        raise SpendError(f"leaf {owned.index} of the tree is not the note that would be spent; read the tree again")
    return InputNote(owned.note.amount, owned.note.blinding, owned.index, tree.path(owned.index))
