"""Parts of the statements about meters: registry leaf, slot leaf, openings, comparisons of small numbers.

Rules: as in `gadgets`, no wire is free. What a registry leaf holds besides mid and pk are numbers below 2^32, which the
registry guarantees for every leaf under a root it gave out, as contracts do for slots; energies are checked here.
So no difference of two of them wraps the field.
Not here: the values (`meters`), what a statement does with them (`circuits`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from openmg.zk import curve_gadgets, gadgets
from openmg.zk.babyjub import Point
from openmg.zk.meters import ENERGY_BITS, Opening, Place, Registration
from openmg.zk.r1cs import Builder

S = TypeVar("S")


@dataclass(frozen=True)
class RegisteredMeter(Generic[S]):
    """The signals of a registration whose leaf lies under the registry's root."""

    secret: S
    identity: S
    public_key: S
    cap_export: S
    cap_import: S
    microgrid: S
    from_slot: S
    to_slot: S


@dataclass(frozen=True)
class Opened(Generic[S]):
    """A commitment's energy, below 2^32, and its point."""

    energy: S
    point: tuple[S, S]


def at_most(builder: Builder[S], small: S, large: S, rule: str) -> None:
    """small <= large, for two numbers below 2^32: their difference is such a number too."""
    gadgets.to_bits(builder, gadgets.difference(builder, large, small), ENERGY_BITS, rule)


def leads_to(builder: Builder[S], leaf: S, place: Place, root: S, name: str, rule: str) -> None:
    """The leaf lies under the root."""
    index_bits = [builder.private(place.index >> i & 1) for i in range(len(place.path))]
    for bit in index_bits:
        gadgets.boolean(builder, bit, f"an index bit of {name} is a bit")
    path = [builder.private(sibling) for sibling in place.path]
    gadgets.equal(builder, gadgets.merkle_root(builder, leaf, index_bits, path), root, rule)


def registered(builder: Builder[S], registration: Registration, root: S) -> RegisteredMeter[S]:
    """A meter whose leaf, under mid = H(mid, mk), lies under the registry root."""
    leaf = registration.leaf
    secret = builder.private(registration.meter_secret)
    identity = gadgets.poseidon(builder, "mid", secret)
    values = (leaf.public_key, leaf.cap_export_wh, leaf.cap_import_wh, leaf.microgrid, leaf.from_slot, leaf.to_slot)
    signals = [builder.private(value) for value in values]
    digest = gadgets.poseidon(builder, "reg", identity, *signals)
    rule = "the meter's leaf is under the registry root"
    leads_to(builder, digest, registration.place, root, "the registry leaf", rule)
    return RegisteredMeter(secret, identity, *signals)


def in_force(builder: Builder[S], meter: RegisteredMeter[S], first: S, last: S) -> None:
    """The registration's interval meets the slots from first to last: from_slot <= last and first < to_slot."""
    at_most(builder, meter.from_slot, last, "the registration began in time")
    after = builder.linear([(1, first)], 1)
    at_most(builder, after, meter.to_slot, "the registration had not ended")


def opened(builder: Builder[S], opening: Opening, name: str) -> Opened[S]:
    """A slot commitment from its energy, below 2^32, and its blinding, below the subgroup's order."""
    energy, blinding = builder.private(opening.energy_wh), builder.private(opening.blinding)
    bits = gadgets.to_bits(builder, energy, ENERGY_BITS, f"the committed {name} is below 2^{ENERGY_BITS}")
    return Opened(energy, curve_gadgets.commitment(builder, bits, blinding, f"the {name} commitment"))


def private_point(builder: Builder[S], point: Point) -> tuple[S, S]:
    """Coordinates that nothing but a hash will bind."""
    return builder.private(point[0]), builder.private(point[1])


def agreed_slot(
    builder: Builder[S],
    meter: RegisteredMeter[S],
    slot: S,
    commitments: tuple[tuple[S, S], tuple[S, S]],
    place: Place,
    root: S,
) -> None:
    """The meter's leaf of that slot, with its export and import commitments, lies under the slot root."""
    export_point, import_point = commitments
    digest = gadgets.poseidon(builder, "slt", meter.identity, slot, *export_point, *import_point)
    leads_to(builder, digest, place, root, "the slot leaf", "the meter's slot leaf is under the slot root")
