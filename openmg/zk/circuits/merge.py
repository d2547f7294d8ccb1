"""The statement `merge`: eight notes in, two notes out, value in or out in public, and where an order returns to.

Public inputs, in this order: root', nf 1 to 8, cm 1, cm 2, asset, public in, public out, ext, return partial. What is
proved is the statement of `joinsplit` for eight inputs and two outputs, and
- return partial = H(own, pk, return blinding): what an order gives back belongs to the one who placed it.
The partial is proved for every asset, so that it does not tell whether energy moved; with a fresh blinding it tells
nothing at all. Not here: when a contract makes a note of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from openmg.zk import gadgets
from openmg.zk.circuits import joinsplit
from openmg.zk.circuits.joinsplit import BLANK_INPUT, BLANK_OUTPUT, JoinSplitPublics, JoinSplitWitness
from openmg.zk.field import require_felt
from openmg.zk.r1cs import Builder
from openmg.zk.tags import H

S = TypeVar("S")

NAME = "merge"
INPUTS = 8
OUTPUTS = 2
PUBLIC_INPUTS = 16
CIRCUIT_HASH = bytes.fromhex("990a06a09c23eddb98c8e75ab802defdb6813ed96ab1283fd96f675e2d298516")
"""Hash of the matrices, see `r1cs.circuit_hash`; a change of the statement changes it and all keys."""
DEVELOPMENT_KEY_SHA256 = bytes.fromhex("82bde8d16c00687424b5412b4f5f89bde70f38ad4d8a886670ece612753ce899")
"""Digest of the key file that `keys.make_development_key` writes."""


@dataclass(frozen=True)
class MergeWitness(JoinSplitWitness):
    """Eight inputs, two outputs, and the blinding of what an order may give back (fresh for every proof)."""

    return_blinding: int = field(repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_shape("merge", INPUTS, OUTPUTS)
        require_felt(self.return_blinding, "return_blinding")


@dataclass(frozen=True)
class MergePublics(JoinSplitPublics):
    """The sixteen public inputs, in their order."""

    return_partial: int

    def as_list(self) -> list[int]:
        """In the order of the verifier's `input`."""
        return [*super().as_list(), self.return_partial]


def publics_of(witness: MergeWitness) -> MergePublics:
    """The public inputs that an honest prover states for these values (nothing is checked here)."""
    partial = H("own", H("pk", witness.spending_key), witness.return_blinding)
    return MergePublics(**vars(joinsplit.publics_of(witness)), return_partial=partial)


def blank() -> tuple[MergePublics, MergeWitness]:
    """Values of the right shape for a builder that does not look at them."""
    witness = MergeWitness(0, 0, 0, 0, (BLANK_INPUT,) * INPUTS, (BLANK_OUTPUT,) * OUTPUTS, 0, 0, 0, 0)
    return MergePublics(0, (0,) * INPUTS, (0,) * OUTPUTS, 0, 0, 0, 0, 0), witness


def synthesize(builder: Builder[S], publics: MergePublics, witness: MergeWitness) -> None:
    """Build the statement; UnsatisfiedError with the broken rule when the values contradict it."""
    stated = joinsplit.declare(builder, publics)
    return_partial = builder.public(publics.return_partial)
    shared = joinsplit.constrain(builder, stated, witness)
    blinding = builder.private(witness.return_blinding)
    partial = gadgets.poseidon(builder, "own", shared.public_key, blinding)
    gadgets.equal(builder, partial, return_partial, "the return partial belongs to the owner of the inputs")
