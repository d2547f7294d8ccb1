"""Meters as the circuits know them: identity, registry leaf, slot commitments, and what use leaves behind.

Definitions: mid = H(mid, mk); period key k = H(per, mk, period); registry leaf H(reg, mid, pk, cap_export_wh,
cap_import_wh, microgrid, from_slot, to_slot); slot commitments Cx = x G + r H', Cm = m G + s H' to the export and import
of a slot in Wh; slot leaf H(slt, mid, slot, Cx.x, Cx.y, Cm.x, Cm.y). Both kinds of leaves stand in Poseidon trees shaped as
the note tree is (`tree`). Rules: mk stays on the meter; whoever knows k finds the period's mints and burns and nobody else
does; a purchase leaves what only mk finds again.
Not here: the statements (`circuits`), who admits a leaf (registry, validators).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from openmg.units import LOT_WH as LOT_WH
from openmg.zk import babyjub
from openmg.zk.babyjub import Point
from openmg.zk.field import require_felt
from openmg.zk.tags import H
from openmg.zk.tree import CAPACITY, DEPTH, NoteTree

ENERGY_BITS = 32
"""Energies, capacities, microgrids and slot numbers."""
NUMBER_LIMIT = 1 << ENERGY_BITS
LOT_BITS = 16


def meter_id(meter_secret: int) -> int:
    """mid, the public name of a meter."""
    return H("mid", meter_secret)


def period_key(meter_secret: int, period: int) -> int:
    """k, which the utility is given when the period is over."""
    return H("per", meter_secret, period)


def mint_nullifier(key: int, slot: int) -> int:
    """N of a mint: H(mnt, k, slot)."""
    return H("mnt", key, slot)


def buy_nullifier(meter_secret: int, slot: int) -> int:
    """N of a purchase: H(buy, mk, slot)."""
    return H("buy", meter_secret, slot)


def burn_tag(key: int, asset: int) -> int:
    """T of a burn: H(brn, k, asset)."""
    return H("brn", key, asset)


@dataclass(frozen=True)
class RegistryLeaf:
    """A meter's registration: it may mint and buy in slots from_slot <= slot < to_slot, up to its capacities a slot."""

    meter_id: int
    public_key: int
    cap_export_wh: int
    cap_import_wh: int
    microgrid: int
    from_slot: int
    to_slot: int

    def __post_init__(self) -> None:
        require_felt(self.meter_id, "meter_id")
        require_felt(self.public_key, "public_key")
        for name in ("cap_export_wh", "cap_import_wh", "microgrid", "from_slot", "to_slot"):
            if not 0 <= getattr(self, name) < NUMBER_LIMIT:
                raise ValueError(f"{name} of a registry leaf lies from 0 to 2^{ENERGY_BITS} - 1")

    @property
    def digest(self) -> int:
        capacities = (self.cap_export_wh, self.cap_import_wh)
        return H("reg", self.meter_id, self.public_key, *capacities, self.microgrid, self.from_slot, self.to_slot)


@dataclass(frozen=True)
class Opening:
    """What a slot commitment opens to: an energy in Wh and its blinding."""

    energy_wh: int
    blinding: int = field(repr=False)

    @property
    def point(self) -> Point:
        """The commitment; ValueError for numbers outside 0 to l - 1."""
        return babyjub.commit(self.energy_wh, self.blinding)


@dataclass(frozen=True)
class SlotLeaf:
    """One meter's commitments of one slot."""

    meter_id: int
    slot: int
    export_commitment: Point
    import_commitment: Point

    @property
    def digest(self) -> int:
        return H("slt", self.meter_id, self.slot, *self.export_commitment, *self.import_commitment)


@dataclass(frozen=True)
class Place:
    """Where a leaf stands in a tree: its index and the siblings from the leaf up."""

    index: int
    path: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.index < CAPACITY or len(self.path) != DEPTH:
            raise ValueError(f"a place is an index below 2^{DEPTH} and {DEPTH} siblings")

    @staticmethod
    def in_tree(tree: NoteTree, index: int) -> Place:
        """IndexError when there is no such leaf."""
        return Place(index, tree.path(index))


BLANK_PLACE = Place(0, (0,) * DEPTH)


@dataclass(frozen=True)
class Registration:
    """A meter's secret, its leaf, the leaf's place, and the registry's root."""

    meter_secret: int = field(repr=False)
    leaf: RegistryLeaf
    place: Place
    root: int

    def __post_init__(self) -> None:
        require_felt(self.meter_secret, "meter secret")
        require_felt(self.root, "registry root")


BLANK_REGISTRATION = Registration(0, RegistryLeaf(0, 0, 0, 0, 0, 0, 0), BLANK_PLACE, 0)
