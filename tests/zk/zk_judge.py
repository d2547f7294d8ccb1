"""Judges for any statement: which rules a cheating prover's values break, which wires are free, which wires are bits.

A statement is a module of `openmg.zk.circuits` with `publics_of` and `synthesize`. `broken_rules` asks the matrices;
`broken_quickly` collects what the witness builder meets on the way, for circuits whose matrices take long to multiply.
"""

import random
from itertools import pairwise

from openmg.zk.field import R
from openmg.zk.r1cs import WitnessBuilder


class Collector(WitnessBuilder):
    """Builds a witness as a cheating prover would and keeps the name of every rule that it breaks."""

    def __init__(self):
        super().__init__(check=False)
        self.broken = set()

    def enforce(self, left, right, product, rule):
        if (left * right - product) % R:
            self.broken.add(rule)


def wires_of(statement, witness, publics=None):
    """All wires as a cheating prover would fill them: nothing is checked on the way."""
    builder = WitnessBuilder(check=False)
    statement.synthesize(builder, publics or statement.publics_of(witness), witness)
    return builder.witness


def broken_by(system, wires):
    """The rules whose rows these wires break."""
    rows = zip(*(matrix.times(wires) for matrix in (system.a, system.b, system.c)), system.rules, strict=True)
    return {rule for a, b, c, rule in rows if (a * b - c) % R}


def broken_rules(system, statement, witness, publics=None):
    return broken_by(system, wires_of(statement, witness, publics))


def broken_quickly(statement, witness, publics=None):
    builder = Collector()
    statement.synthesize(builder, publics or statement.publics_of(witness), witness)
    return builder.broken


def free_wires(system, wires, seed, sample=None):
    """(wire, change) of every wire, or of a drawn sample, that can change alone without breaking a constraint.

    Every wire is raised by 1 and by a random element; only the constraints that touch it are looked at.
    """
    generator = random.Random(seed)
    chosen = range(system.n_wires) if sample is None else sorted(generator.sample(range(system.n_wires), sample))
    entries = {wire: [] for wire in chosen}
    matrices = (system.a, system.b, system.c)
    for which, matrix in enumerate(matrices):
        for row, (start, end) in enumerate(pairwise(matrix.row_start)):
            for k in range(start, end):
                if (found := entries.get(matrix.columns[k])) is not None:
                    found.append((which, row, matrix.coefficients[k]))
    values = [matrix.times(wires) for matrix in matrices]
    free = []
    for wire, touching in entries.items():
        for change in (1, generator.randrange(2, R)):
            touched = {}
            for which, row, coefficient in touching:
                touched.setdefault(row, [column[row] for column in values])[which] += coefficient * change
            if not any((a * b - c) % R for a, b, c in touched.values()):
                free.append((wire, change))
    return free


def named_rules(system):
    """The rules that are neither products of two signals nor the boolean rows of bits, see `assert_bits`."""
    return {rule for rule in system.rules if rule != "product" and not rule.endswith((" (bit)", " is a bit"))}


def bit_rules(system):
    """How many rows each rule about bits has."""
    names = [rule for rule in system.rules if rule.endswith((" (bit)", " is a bit"))]
    return {rule: names.count(rule) for rule in names}


def assert_bits(system, rule):
    """Every row of the rule is x (x - 1) = 0 for a wire x of its own; the bits of a range weigh 1, 2, 4, ..."""
    rows = [k for k, name in enumerate(system.rules) if name == rule]
    wires = {system.a.columns[system.a.row_start[row]] for row in rows}
    assert rows and len(wires) == len(rows) and 0 not in wires
    for row in rows:
        assert system.a.row_start[row + 1] - system.a.row_start[row] == 1
        for value in (0, 1, 2, 3, R - 1):
            # The only wire of a boolean row, beside the constant.
            left = system.a.coefficients[system.a.row_start[row]] * value
            start, end = system.b.row_start[row : row + 2]
            right = sum(system.b.coefficients[k] * (value if system.b.columns[k] else 1) for k in range(start, end))
            assert (left * right % R == 0) == (value in (0, 1))
            assert system.c.row_start[row] == system.c.row_start[row + 1]
    if rule.endswith(" (bit)"):
        (row,) = [k for k, name in enumerate(system.rules) if name == rule.removesuffix(" (bit)")]
        start, end = system.a.row_start[row : row + 2]
        weights = dict(zip(system.a.columns[start:end], system.a.coefficients[start:end], strict=True))
        assert sorted(weights[wire] for wire in wires) == [1 << i for i in range(len(rows))]
        assert len(weights) == len(rows) + 1
