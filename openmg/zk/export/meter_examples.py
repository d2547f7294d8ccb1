"""Examples of the statements about meters: commit, period, mint, buy, burn.

Rules: pure functions of a draw; one meter between others in registry and slot, in a day and period that fit each other.
Not here: notes alone (`note_examples`).
"""

from __future__ import annotations

from openmg.zk.assets import Kind, energy_asset
from openmg.zk.babyjub import SUBGROUP_ORDER
from openmg.zk.circuits import burn
from openmg.zk.circuits.burn import BurnWitness
from openmg.zk.circuits.buy import BuyWitness
from openmg.zk.circuits.commit import CommitWitness
from openmg.zk.circuits.mint import MintWitness
from openmg.zk.circuits.period import PeriodWitness
from openmg.zk.export.draw import Draw
from openmg.zk.export.note_examples import spent_notes
from openmg.zk.meters import LOT_WH, NUMBER_LIMIT, Opening, Place, Registration, RegistryLeaf, SlotLeaf, meter_id
from openmg.zk.tags import H

MICROGRID, DAY, BAND, PERIOD = 7, 20_619, 1, 736
FIRST_SLOT = DAY * 96
SLOT = FIRST_SLOT + 40
CAP_EXPORT_WH, CAP_IMPORT_WH = 4_000, 6_000
BURNED_WH = (1_000, 500, 200)


def _registration(draw: Draw, public_key: int) -> Registration:
    secret = draw.felt("meter secret")
    leaf = RegistryLeaf(
        meter_id(secret), public_key, CAP_EXPORT_WH, CAP_IMPORT_WH, MICROGRID, FIRST_SLOT - 96, NUMBER_LIMIT - 1
    )
    return Registration(secret, leaf, *draw.place("registry", leaf.digest))


def _slot(draw: Draw, registration: Registration) -> tuple[Opening, Opening, Place, int]:
    """Export and import of the slot, the leaf's place among those agreed, and the slot's root."""
    exported = draw.opening("export", draw.below("export wh", CAP_EXPORT_WH + 1))
    imported = draw.opening("import", LOT_WH + draw.below("import wh", CAP_IMPORT_WH + 1 - LOT_WH))
    leaf = SlotLeaf(registration.leaf.meter_id, SLOT, exported.point, imported.point)
    return exported, imported, *draw.place("slot", leaf.digest)


def commit_example(draw: Draw) -> CommitWitness:
    """Any two energies."""
    exported = draw.opening("export", draw.below("export wh", NUMBER_LIMIT))
    imported = draw.opening("import", draw.below("import wh", NUMBER_LIMIT))
    return CommitWitness(exported, imported, draw.felt("ext"))


def period_example(draw: Draw) -> PeriodWitness:
    """The key of a period."""
    return PeriodWitness(draw.felt("meter secret"), PERIOD)


def mint_example(draw: Draw) -> MintWitness:
    """The slot's export becomes a supply note."""
    registration = _registration(draw, H("pk", draw.felt("spending key")))
    exported, imported, place, root = _slot(draw, registration)
    asset = energy_asset(Kind.SUPPLY, MICROGRID, DAY, BAND)
    blinding, ext = draw.felt("blinding"), draw.felt("ext")
    return MintWitness(registration, SLOT, PERIOD, asset, exported, imported.point, place, root, blinding, ext)


def buy_example(draw: Draw) -> BuyWitness:
    """Some of the lots that the slot's import allows."""
    registration = _registration(draw, H("pk", draw.felt("spending key")))
    exported, imported, place, root = _slot(draw, registration)
    lots = 1 + draw.below("lots", imported.energy_wh // LOT_WH)
    blinding, ext = draw.felt("blinding"), draw.felt("ext")
    return BuyWitness(registration, SLOT, lots, exported.point, imported, place, root, blinding, ext)


def burn_example(draw: Draw) -> BurnWitness:
    """A day's deliveries are used up."""
    asset = energy_asset(Kind.DELIVERY, MICROGRID, DAY, BAND)
    spent = spent_notes(draw, BURNED_WH, burn.INPUTS, asset)
    registration = _registration(draw, spent.owner)
    total_blinding = draw.below("total", SUBGROUP_ORDER)
    return BurnWitness(
        spent.spending_key, 0, spent.tree.root(), spent.inputs, registration, FIRST_SLOT, PERIOD, asset, total_blinding,
        draw.felt("ext"),
    )  # fmt: skip
