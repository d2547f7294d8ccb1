"""An agreed slot as a hub tells it: every member's commitments, believed only if our own are among them.

Rule: the root of the tree made of the leaves is what proofs name; that it is the recorded one, the chain says when it checks
them. Pure. Not here: which slots' roots are on chain (`service`), whose leaves these are (`openmg.zk.meters`).
"""

from __future__ import annotations

from dataclasses import dataclass

from openmg.messages.market import SlotLeavesNotice
from openmg.zk import babyjub
from openmg.zk.meters import Opening, Place, SlotLeaf
from openmg.zk.tree import NoteTree


class NotAgreedError(ValueError):
    """The leaves do not hold our own commitments: nothing can be proved from them."""


class LeftOutError(NotAgreedError):
    """The slot was agreed without this meter: its energy of that slot stays on the tariff."""


@dataclass(frozen=True)
class AgreedSlot:
    """A slot, our openings of its two commitments, and where our leaf stands under the slot's root."""

    slot: int
    exported: Opening
    imported: Opening
    place: Place
    root: int


def agreed_slot(notice: SlotLeavesNotice, meter_id: int, exported: Opening, imported: Opening) -> AgreedSlot:
    """Our place among a slot's leaves.

    Raises LeftOutError when there is no leaf of ours, NotAgreedError for one that is not of these openings, ValueError for a
    commitment of another that is no point.
    """
    ours = SlotLeaf(meter_id, notice.slot, exported.point, imported.point)
    index = next((place for place, leaf in enumerate(notice.leaves) if leaf.meter_id == meter_id), None)
    if index is None:
        raise LeftOutError(
            f"slot {notice.slot} was agreed without this meter: it or its group was not there in time, and the slot's energy"
            " stays on the tariff"
        )
    entry = notice.leaves[index]
    stated = (entry.export_commitment, entry.import_commitment)
    if stated != (babyjub.compress(ours.export_commitment), babyjub.compress(ours.import_commitment)):
        raise NotAgreedError(f"slot {notice.slot} was agreed with other commitments than this meter's")
    points = [
        (babyjub.decompress(leaf.export_commitment), babyjub.decompress(leaf.import_commitment)) for leaf in notice.leaves
    ]
    pairs = zip(notice.leaves, points, strict=True)
    tree = NoteTree(SlotLeaf(leaf.meter_id, notice.slot, *both).digest for leaf, both in pairs)
    return AgreedSlot(notice.slot, exported, imported, Place.in_tree(tree, index), tree.root())
