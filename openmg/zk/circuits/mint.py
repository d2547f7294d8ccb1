"""The statement `mint`: a meter's committed export of an agreed slot becomes a supply note of its owner, once.

Public inputs, in this order: registry root, slot root, slot, period, microgrid, asset, N, cm, ext. What is proved, for one mk:
- the registry leaf of mid = H(mid, mk) lies under the registry root, is of that microgrid, and from_slot <= slot < to_slot;
- the slot leaf of the same mid and this slot lies under the slot root; its Cx opens to x, 0 <= x <= cap_export_wh;
- N = H(mnt, k, slot) with k = H(per, mk, period): a second mint of the slot has the same N;
- cm = H(cm, asset, x, H(own, pk, blinding)) with the pk of the registry leaf;
- ext, the hash of everything else the transaction says, is bound by squaring.
Contracts look the two roots up by slot and compute period, microgrid and asset (kind supply) themselves: the statement does
not relate them. Every meter mints every slot, an export of 0 included, so that minting tells nothing.
Source: the project's circuit statements. Not here: that Cm too opens to an energy (`commit`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from openmg.zk import gadgets, meter_gadgets
from openmg.zk.babyjub import Point
from openmg.zk.circuits.joinsplit import note_commitment
from openmg.zk.field import require_felt
from openmg.zk.meters import BLANK_PLACE, BLANK_REGISTRATION, Opening, Place, Registration, mint_nullifier, period_key
from openmg.zk.r1cs import Builder
from openmg.zk.tags import H

S = TypeVar("S")

NAME = "mint"
PUBLIC_INPUTS = 9
CIRCUIT_HASH = bytes.fromhex("0d5752a703fc6f3d1af8dce0e808b9e4df5e5c605557e41e7853bd85edf1fec9")
"""Hash of the matrices, see `r1cs.circuit_hash`; a change of the statement changes it and all keys."""
DEVELOPMENT_KEY_SHA256 = bytes.fromhex("f84a3340e30e8cdf1f69488e1998e3b715542d9dce22ff383ddd01d954fc4abb")
"""Digest of the key file that `keys.make_development_key` writes; CI makes it again."""


@dataclass(frozen=True)
class MintWitness:
    """Everything the prover knows; the leaf of the slot is made of `export_opening` and `import_commitment`."""

    registration: Registration
    slot: int
    period: int
    asset: int
    export_opening: Opening
    import_commitment: Point
    slot_place: Place
    slot_root: int
    note_blinding: int = field(repr=False)
    ext: int

    def __post_init__(self) -> None:
        for name in ("slot", "period", "asset", "slot_root", "note_blinding", "ext"):
            require_felt(getattr(self, name), name)


@dataclass(frozen=True)
class MintPublics:
    """The nine public inputs, in their order."""

    registry_root: int
    slot_root: int
    slot: int
    period: int
    microgrid: int
    asset: int
    nullifier: int
    commitment: int
    ext: int

    def as_list(self) -> list[int]:
        """In the order of the verifier's `input`."""
        moment = [self.slot, self.period, self.microgrid, self.asset]
        return [self.registry_root, self.slot_root, *moment, self.nullifier, self.commitment, self.ext]


def publics_of(witness: MintWitness) -> MintPublics:
    """The public inputs that an honest prover states for these values (nothing is checked here)."""
    leaf = witness.registration.leaf
    partial = H("own", leaf.public_key, witness.note_blinding)
    key = period_key(witness.registration.meter_secret, witness.period)
    return MintPublics(
        registry_root=witness.registration.root,
        slot_root=witness.slot_root,
        slot=witness.slot,
        period=witness.period,
        microgrid=leaf.microgrid,
        asset=witness.asset,
        nullifier=mint_nullifier(key, witness.slot),
        commitment=H("cm", witness.asset, witness.export_opening.energy_wh, partial),
        ext=witness.ext,
    )


def blank() -> tuple[MintPublics, MintWitness]:
    """Values of the right shape for a builder that does not look at them."""
    witness = MintWitness(BLANK_REGISTRATION, 0, 0, 0, Opening(0, 0), (0, 1), BLANK_PLACE, 0, 0, 0)
    return MintPublics(0, 0, 0, 0, 0, 0, 0, 0, 0), witness


def synthesize(builder: Builder[S], publics: MintPublics, witness: MintWitness) -> None:
    """Build the statement; UnsatisfiedError with the broken rule when the values contradict it."""
    stated = list(map(builder.public, publics.as_list()))
    registry_root, slot_root, slot, period, microgrid, asset, nullifier, commitment, ext = stated
    meter = meter_gadgets.registered(builder, witness.registration, registry_root)
    gadgets.equal(builder, meter.microgrid, microgrid, "the meter is of that microgrid")
    meter_gadgets.in_force(builder, meter, slot, slot)

    opened = meter_gadgets.opened(builder, witness.export_opening, "export")
    other = meter_gadgets.private_point(builder, witness.import_commitment)
    points = (opened.point, other)
    meter_gadgets.agreed_slot(builder, meter, slot, points, witness.slot_place, slot_root)
    meter_gadgets.at_most(builder, opened.energy, meter.cap_export, "the export is within the meter's capacity")

    key = gadgets.poseidon(builder, "per", meter.secret, period)
    expected = gadgets.poseidon(builder, "mnt", key, slot)
    gadgets.equal(builder, expected, nullifier, "N is that of the meter's slot")
    blinding = builder.private(witness.note_blinding)
    made = note_commitment(builder, asset, opened.energy, meter.public_key, blinding)
    gadgets.equal(builder, made, commitment, "the note holds the export and belongs to the meter's owner")
    builder.multiply(ext, ext)
