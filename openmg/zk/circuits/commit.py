"""The statement `commit`: a meter's two commitments of a slot open to energies that exist.

Public inputs, in this order: Cx.x, Cx.y, Cm.x, Cm.y, ext. What is proved: Cx = x G + r H' and Cm = m G + s H' with x and m
from 0 to 2^32 - 1 and r and s below the subgroup's order; ext, the hash of chain, mid and slot, is bound by squaring.
A validator admits a slot leaf only with this proof: without it one member of a group could commit to a negative export and
another one to so much more, and their sum would still be the agreed one. The points are sums of multiples of G and H', hence
in the subgroup.
Source: the project's circuit statements; Pedersen's commitment (Crypto 1991). Not here: whose commitments they are (the
leaf is signed), sums over groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from openmg.zk import gadgets, meter_gadgets
from openmg.zk.babyjub import Point
from openmg.zk.field import require_felt
from openmg.zk.meters import Opening
from openmg.zk.r1cs import Builder

S = TypeVar("S")

NAME = "commit"
PUBLIC_INPUTS = 5
CIRCUIT_HASH = bytes.fromhex("b0302f3cfed04255b7ee235b1b7c186ac37ffb18a3e199cfaf3841c023039a9c")
"""Hash of the matrices, see `r1cs.circuit_hash`; a change of the statement changes it and all keys."""
DEVELOPMENT_KEY_SHA256 = bytes.fromhex("1fae9cf9f1e5f83e9a3dd22d734f0948a84d4963eea5d7bcba12bb423965db10")
"""Digest of the key file that `keys.make_development_key` writes; CI makes it again."""


@dataclass(frozen=True)
class CommitWitness:
    """Everything the prover knows."""

    export_opening: Opening
    import_opening: Opening
    ext: int

    def __post_init__(self) -> None:
        require_felt(self.ext, "ext")


@dataclass(frozen=True)
class CommitPublics:
    """The five public inputs, in their order."""

    export_commitment: Point
    import_commitment: Point
    ext: int

    def as_list(self) -> list[int]:
        """In the order of the verifier's `input`."""
        return [*self.export_commitment, *self.import_commitment, self.ext]


def publics_of(witness: CommitWitness) -> CommitPublics:
    """The public inputs that an honest prover states for these values (nothing is checked here)."""
    return CommitPublics(witness.export_opening.point, witness.import_opening.point, witness.ext)


def blank() -> tuple[CommitPublics, CommitWitness]:
    """Values of the right shape for a builder that does not look at them."""
    return CommitPublics((0, 0), (0, 0), 0), CommitWitness(Opening(0, 0), Opening(0, 0), 0)


def synthesize(builder: Builder[S], publics: CommitPublics, witness: CommitWitness) -> None:
    """Build the statement; UnsatisfiedError with the broken rule when the values contradict it."""
    export_x, export_y, import_x, import_y, ext = map(builder.public, publics.as_list())
    stated = {"export": (export_x, export_y), "import": (import_x, import_y)}
    for (name, point), opening in zip(stated.items(), (witness.export_opening, witness.import_opening), strict=True):
        made = meter_gadgets.opened(builder, opening, name).point
        for axis, coordinate, expected in zip("xy", made, point, strict=True):
            gadgets.equal(builder, coordinate, expected, f"the {name} commitment's {axis} is right")
    builder.multiply(ext, ext)
