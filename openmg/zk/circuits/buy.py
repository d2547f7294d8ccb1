"""The statement `buy`: a meter's committed import of an agreed slot entitles its owner to that many lots, once.

Public inputs, in this order: registry root, slot root, slot, microgrid, lots, N, delivery partial, ext. What is proved, for
one mk:
- the registry leaf of mid = H(mid, mk) lies under the registry root, is of that microgrid, and from_slot <= slot < to_slot;
- the slot leaf of the same mid and this slot lies under the slot root; its Cm opens to m, 0 <= m <= cap_import_wh;
- 1 <= lots < 2^16, and 0 <= m - lots * LOT_WH < 2^32: nobody buys what it did not take;
- N = H(buy, mk, slot): a second purchase for the slot has the same N, and nobody else, not even the utility, can compute it;
- the delivery partial is H(own, pk, blinding) with the pk of the registry leaf, so that what clears comes to the meter's owner;
- ext, the hash of everything else the transaction says, is bound by squaring: it names the payment beside this proof.
Contracts look the two roots up by slot, take lots from the ladder only, and make the delivery note from the partial.
Source: the project's circuit statements. Not here: the payment (a transfer of the same ext), that Cx too opens to an energy
(`commit`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from openmg.zk import gadgets, meter_gadgets
from openmg.zk.babyjub import Point
from openmg.zk.field import require_felt
from openmg.zk.meters import (
    BLANK_PLACE,
    BLANK_REGISTRATION,
    LOT_BITS,
    LOT_WH,
    Opening,
    Place,
    Registration,
    buy_nullifier,
)
from openmg.zk.r1cs import Builder
from openmg.zk.tags import H

S = TypeVar("S")

NAME = "buy"
PUBLIC_INPUTS = 8
CIRCUIT_HASH = bytes.fromhex("53d8cae45f3b697f981bc8388584dea8a4b014d8b1f959bc3871e9ebff5670fd")
"""Hash of the matrices, see `r1cs.circuit_hash`; a change of the statement changes it and all keys."""
DEVELOPMENT_KEY_SHA256 = bytes.fromhex("046d6c5d25e7dc9b89e86467060b5ecb2adc4e30dfbc1621ac7b4330a2058d09")
"""Digest of the key file that `keys.make_development_key` writes; CI makes it again."""


@dataclass(frozen=True)
class BuyWitness:
    """Everything the prover knows; the leaf of the slot is made of `export_commitment` and `import_opening`."""

    registration: Registration
    slot: int
    lots: int
    export_commitment: Point
    import_opening: Opening
    slot_place: Place
    slot_root: int
    delivery_blinding: int = field(repr=False)
    ext: int

    def __post_init__(self) -> None:
        for name in ("slot", "lots", "slot_root", "delivery_blinding", "ext"):
            require_felt(getattr(self, name), name)


@dataclass(frozen=True)
class BuyPublics:
    """The eight public inputs, in their order."""

    registry_root: int
    slot_root: int
    slot: int
    microgrid: int
    lots: int
    nullifier: int
    delivery_partial: int
    ext: int

    def as_list(self) -> list[int]:
        """In the order of the verifier's `input`."""
        moment = [self.slot, self.microgrid, self.lots]
        return [self.registry_root, self.slot_root, *moment, self.nullifier, self.delivery_partial, self.ext]


def publics_of(witness: BuyWitness) -> BuyPublics:
    """The public inputs that an honest prover states for these values (nothing is checked here)."""
    leaf = witness.registration.leaf
    return BuyPublics(
        registry_root=witness.registration.root,
        slot_root=witness.slot_root,
        slot=witness.slot,
        microgrid=leaf.microgrid,
        lots=witness.lots,
        nullifier=buy_nullifier(witness.registration.meter_secret, witness.slot),
        delivery_partial=H("own", leaf.public_key, witness.delivery_blinding),
        ext=witness.ext,
    )


def blank() -> tuple[BuyPublics, BuyWitness]:
    """Values of the right shape for a builder that does not look at them."""
    witness = BuyWitness(BLANK_REGISTRATION, 0, 0, (0, 1), Opening(0, 0), BLANK_PLACE, 0, 0, 0)
    return BuyPublics(0, 0, 0, 0, 0, 0, 0, 0), witness


def synthesize(builder: Builder[S], publics: BuyPublics, witness: BuyWitness) -> None:
    """Build the statement; UnsatisfiedError with the broken rule when the values contradict it."""
    stated = list(map(builder.public, publics.as_list()))
    registry_root, slot_root, slot, microgrid, lots, nullifier, delivery_partial, ext = stated
    meter = meter_gadgets.registered(builder, witness.registration, registry_root)
    gadgets.equal(builder, meter.microgrid, microgrid, "the meter is of that microgrid")
    meter_gadgets.in_force(builder, meter, slot, slot)

    other = meter_gadgets.private_point(builder, witness.export_commitment)
    opened = meter_gadgets.opened(builder, witness.import_opening, "import")
    points = (other, opened.point)
    meter_gadgets.agreed_slot(builder, meter, slot, points, witness.slot_place, slot_root)
    meter_gadgets.at_most(builder, opened.energy, meter.cap_import, "the import is within the meter's capacity")

    gadgets.to_bits(builder, lots, LOT_BITS, f"lots are below 2^{LOT_BITS}")
    gadgets.nonzero(builder, lots, "at least one lot is bought")
    bought = builder.linear([(LOT_WH, lots)])
    meter_gadgets.at_most(builder, bought, opened.energy, "no more is bought than was taken")

    expected = gadgets.poseidon(builder, "buy", meter.secret, slot)
    gadgets.equal(builder, expected, nullifier, "N is that of the meter's slot")
    blinding = builder.private(witness.delivery_blinding)
    partial = gadgets.poseidon(builder, "own", meter.public_key, blinding)
    gadgets.equal(builder, partial, delivery_partial, "the delivery note belongs to the meter's owner")
    builder.multiply(ext, ext)
