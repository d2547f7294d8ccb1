"""A group's opened sums, and what every replica checks of them.

The sum of the members' commitments must open to the sums (`require_committed`): a Pedersen commitment opens to one value only,
so whoever publishes sums can publish no others, whatever was done to the masks.
Not here: how the sums come about (`opening`), the range proofs of the single commitments.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from openmg.zk import babyjub
from openmg.zk.babyjub import SUBGROUP_ORDER, Point

Commitments = tuple[Point, Point]
"""A member's commitments to export and import, in this order."""


class SlotSums(NamedTuple):
    """A group's opened sums: energies in Wh, blindings modulo l."""

    import_wh: int
    export_wh: int
    export_blinding: int
    import_blinding: int


def require_plausible(sums: SlotSums, members: int) -> None:
    """ValueError when so many members cannot have these sums."""
    if min(sums) < 0 or max(sums.import_wh, sums.export_wh) >= 2**32 * members:
        raise ValueError("the masks do not cancel; a member used another roster, slot or key")
    if max(sums.export_blinding, sums.import_blinding) >= SUBGROUP_ORDER:
        raise ValueError("a blinding of the sums is not reduced modulo l")


def require_committed(sums: SlotSums, commitments: Iterable[Commitments]) -> None:
    """ValueError unless the members' commitments, added up, open to the sums: sum Cx = X G + R H', and sum Cm alike.

    The points must be known to lie in the subgroup (`openmg.zk.babyjub.decompress`).
    """
    exported = imported = babyjub.IDENTITY
    for export_point, import_point in commitments:
        exported, imported = babyjub.add(exported, export_point), babyjub.add(imported, import_point)
    for name, total, energy_wh, blinding in (
        ("export", exported, sums.export_wh, sums.export_blinding),
        ("import", imported, sums.import_wh, sums.import_blinding),
    ):
        if babyjub.commit(energy_wh, blinding) != total:
            raise ValueError(f"the {name} commitments do not open to the group's sum; a member committed to another value")
