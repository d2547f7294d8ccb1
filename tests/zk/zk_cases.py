"""Honest and dishonest transfers that the zk tests share. Values are drawn from a seeded generator."""

import random
from dataclasses import replace

from openmg.zk import curve
from openmg.zk.circuits import transfer
from openmg.zk.circuits.transfer import TransferInput, TransferOutput, TransferPublics, TransferWitness
from openmg.zk.field import Q, R
from openmg.zk.r1cs import ConstraintSystem, WitnessBuilder
from openmg.zk.tags import H
from openmg.zk.tree import DEPTH, NoteTree

R_BLIND, S_BLIND = 0x1234567890ABCDEF << 130, 0xFEDCBA0987654321 << 120
"""The randomness of proofs that are compared byte for byte."""


class Cases:
    """One owner with two notes of 70 and 30 in a tree of eight leaves, and somebody else."""

    def __init__(self, seed: int = 1, asset: int = 0, tree_number: int = 0, amounts: tuple[int, int] = (70, 30)):
        self.random = random.Random(seed)
        self.asset, self.tree_number = asset, tree_number
        self.sk, other = self.felt(), self.felt()
        self.pk, self.other_pk = H("pk", self.sk), H("pk", other)
        self.tree = NoteTree([self.felt() for _ in range(5)])
        blindings = [self.felt(), self.felt()]
        places = [
            self.tree.append(H("cm", asset, amount, H("own", self.pk, blinding)))
            for amount, blinding in zip(amounts, blindings, strict=True)
        ]
        self.tree.append(self.felt())
        first, second = (
            TransferInput(amount, blinding, place, self.tree.path(place))
            for amount, blinding, place in zip(amounts, blindings, places, strict=True)
        )
        self.notes = (first, second)
        self.total = sum(amounts)

    def felt(self) -> int:
        return self.random.randrange(R)

    def dummy(self) -> TransferInput:
        return TransferInput(0, self.felt(), 0, (0,) * DEPTH)

    def out(self, amount: int, pk: int | None = None) -> TransferOutput:
        return TransferOutput(amount, self.pk if pk is None else pk, self.felt())

    def _witness(self, inputs, outputs, public_in=0, public_out=0) -> TransferWitness:
        return TransferWitness(
            self.sk, self.asset, self.tree_number, self.tree.root(), inputs, outputs, public_in, public_out, self.felt()
        )

    def transfer(self) -> TransferWitness:
        """Both notes become one for somebody else (the owner for energy) and change."""
        receiver = self.other_pk if self.asset & 3 == 0 else self.pk
        return self._witness(self.notes, (self.out(self.total - 40, receiver), self.out(40)))

    def shield_in(self) -> TransferWitness:
        """Value comes in by two dummies."""
        return self._witness((self.dummy(), self.dummy()), (self.out(25), self.out(0)), public_in=25)

    def unshield(self) -> TransferWitness:
        """One note is spent beside a dummy; a part goes out in public."""
        return self._witness((self.notes[0], self.dummy()), (self.out(20), self.out(0)), public_out=50)


SHAPES = ("transfer", "shield_in", "unshield")


def assignment(witness: TransferWitness, publics: TransferPublics | None = None) -> list[int]:
    """All wires as a cheating prover would fill them: nothing is checked on the way."""
    builder = WitnessBuilder(check=False)
    transfer.synthesize(builder, publics or transfer.publics_of(witness), witness)
    return builder.witness


def broken_rule(system: ConstraintSystem, witness: TransferWitness, publics: TransferPublics | None = None) -> str | None:
    """The first rule that the cheating assignment breaks, judged by the matrices alone."""
    row = system.first_unsatisfied(assignment(witness, publics))
    return None if row is None else system.rules[row]


def with_inputs(witness: TransferWitness, *inputs: TransferInput) -> TransferWitness:
    return replace(witness, inputs=inputs)


def with_outputs(witness: TransferWitness, *outputs: TransferOutput) -> TransferWitness:
    return replace(witness, outputs=outputs)


def twist_point_outside_the_subgroup():
    """The first point of the twist with x = k, which (the cofactor being huge) is not in the subgroup."""
    for k in range(1, 100):
        x = (k, 0)
        cube = curve.fq2_multiply(curve.fq2_multiply(x, x), x)
        y = fq2_sqrt(((cube[0] + curve.B2[0]) % Q, (cube[1] + curve.B2[1]) % Q))
        if y is not None:
            return (*x, *y)
    raise AssertionError("no point found")


def fq2_sqrt(a):
    """Square root in Fq2 by the complex method (q = 3 mod 4), or None."""
    norm = pow(a[0] * a[0] + a[1] * a[1], (Q + 1) // 4, Q)
    for root in (norm, -norm % Q):
        half = (a[0] + root) * pow(2, -1, Q) % Q
        real = pow(half, (Q + 1) // 4, Q)
        if real and real * real % Q == half:
            y = (real, a[1] * pow(2 * real, -1, Q) % Q)
            return y if curve.fq2_multiply(y, y) == (a[0] % Q, a[1] % Q) else None
    return None
