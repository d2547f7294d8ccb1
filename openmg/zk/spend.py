"""From notes to the witness of a transfer: which inputs, which dummies, which paths.

Rules: at most two notes of one asset, from one tree, are spent; what is missing is filled with dummies of amount 0
whose blindings the caller draws; sums must match before anything is proved.
Not here: which notes to choose, what `ext` hashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openmg.zk.circuits.transfer import INPUTS, OUTPUTS, TransferInput, TransferOutput, TransferWitness
from openmg.zk.notes import Note, SpendingKey
from openmg.zk.tree import DEPTH, NoteTree


class SpendError(ValueError):
    """The notes do not make a transfer; the text says why."""


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
    if len(spent) > INPUTS or len(created) != OUTPUTS or len(dummy_blindings) < INPUTS - len(spent):
        raise SpendError(f"a transfer spends at most {INPUTS} notes, makes {OUTPUTS}, and needs a blinding per dummy")
    if any(note.asset != asset for note in (*(owned.note for owned in spent), *created)):
        raise SpendError("all notes of one transfer are of one asset; split it into two transfers")
    entering = sum(owned.note.amount for owned in spent) + public_in
    leaving = sum(note.amount for note in created) + public_out
    if entering != leaving:
        raise SpendError(f"the transfer takes in {entering} and gives out {leaving}; adjust the change")
    inputs = [_spent_input(key, tree, owned) for owned in spent]
    for blinding in dummy_blindings[: INPUTS - len(inputs)]:
        inputs.append(TransferInput(0, blinding, 0, (0,) * DEPTH))
    first, second = inputs
    one, two = (TransferOutput(note.amount, note.public_key, note.blinding) for note in created)
    return TransferWitness(
        spending_key=key.secret,
        asset=asset,
        tree_number=tree_number,
        tree_root=tree.root(),
        inputs=(first, second),
        outputs=(one, two),
        public_in=public_in,
        public_out=public_out,
        ext=ext,
    )


def _spent_input(key: SpendingKey, tree: NoteTree, owned: OwnedNote) -> TransferInput:
    if owned.note.public_key != key.public_key:
        raise SpendError("a note of another owner cannot be spent with this key")
    if not 0 <= owned.index < len(tree) or tree.leaf(owned.index) != owned.note.commitment:
        raise SpendError(f"leaf {owned.index} of the tree is not the note that would be spent; read the tree again")
    return TransferInput(owned.note.amount, owned.note.blinding, owned.index, tree.path(owned.index))
