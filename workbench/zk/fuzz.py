"""Random single-wire mutation of witnesses: a wire that can take another value alone is a wire that somebody can forge.

For a circuit and a seed: true statements are drawn (`openmg.zk.export.example`), one wire of the satisfying assignment
is given another value, and at least one constraint that touches it must break. The values are those that bugs of
known circuits let through: neighbours, 0, 1, the negative, the value of another wire, a power of two added, a random element.
Rules: only the constraints that touch the wire are looked at, by the matrices alone and not by the code that fills wires;
the constant wire stays 1. Whoever has the finding's seed and wire can repeat it.
Not here: two wires at once, and cheats that need a changed statement (`tests/zk`).
"""

from __future__ import annotations

import random
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from openmg.zk.circuits.registry import circuit_named
from openmg.zk.export.example import SEED_BYTES, example
from openmg.zk.field import R
from openmg.zk.r1cs import ConstraintSystem

MUTATIONS_PER_STATEMENT = 2_000
"""Then another statement is drawn, so that rare shapes of a statement are met too."""
MAX_FINDINGS = 16
"""A circuit with more is broken enough to be looked at."""


@dataclass(frozen=True)
class Finding:
    """A wire that can change alone: in the statement of this seed (hex), to this value (hex)."""

    circuit: str
    statement_seed: str
    wire: int
    value: str


@dataclass(frozen=True)
class FuzzReport:
    """What one circuit went through."""

    circuit: str
    wires: int
    mutations: int
    statements: int
    seconds: float
    findings: tuple[Finding, ...]

    def row(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


class WireIndex:
    """Which rows each wire stands in, with its coefficients in A, B and C."""

    def __init__(self, system: ConstraintSystem) -> None:
        self.system = system
        self._matrices = (system.a, system.b, system.c)
        counts = array("I", bytes(4 * (system.n_wires + 1)))
        for matrix in self._matrices:
            for wire in matrix.columns:
                counts[wire + 1] += 1
        for wire in range(system.n_wires):
            counts[wire + 1] += counts[wire]
        self._start = counts
        self._entries = array("I", bytes(4 * counts[-1]))
        """Per wire: which of the 3 * entries it is, packed as entry * 3 + matrix."""
        self._rows = array("I", bytes(4 * counts[-1]))
        self._fill()

    def _fill(self) -> None:
        free = array("I", self._start)
        for which, matrix in enumerate(self._matrices):
            for row in range(matrix.rows):
                for k in range(matrix.row_start[row], matrix.row_start[row + 1]):
                    place = free[matrix.columns[k]]
                    free[matrix.columns[k]] += 1
                    self._entries[place], self._rows[place] = k * 3 + which, row

    def touching(self, wire: int) -> Iterator[tuple[int, int, int]]:
        """(matrix 0 to 2, row, coefficient) of every place of the wire."""
        for place in range(self._start[wire], self._start[wire + 1]):
            entry, which = divmod(self._entries[place], 3)
            yield which, self._rows[place], self._matrices[which].coefficients[entry]


class Assignment:
    """A satisfying assignment and the three products of the matrices with it."""

    def __init__(self, index: WireIndex, wires: list[int]) -> None:
        self.index, self.wires = index, wires
        system = index.system
        self._products = [[int(v) for v in matrix.times(wires)] for matrix in (system.a, system.b, system.c)]
        if any((a * b - c) % R for a, b, c in zip(*self._products, strict=True)):
            raise ValueError("the assignment does not satisfy the circuit; the example or the circuit is wrong")

    def survives(self, wire: int, value: int) -> bool:
        """Whether the wire alone can take this value without breaking a constraint."""
        change = value - self.wires[wire]
        touched: dict[int, list[int]] = {}
        for which, row, coefficient in self.index.touching(wire):
            values = touched.get(row)
            if values is None:
                values = touched[row] = [column[row] for column in self._products]
            values[which] += coefficient * change
        return not any((a * b - c) % R for a, b, c in touched.values())


def other_value(draw: random.Random, wires: list[int], wire: int) -> int:
    """A value that the wire does not have."""
    now = wires[wire]
    kind = draw.randrange(7)
    candidates = (
        now + 1,
        now - 1,
        1 - now,
        -now,
        wires[draw.randrange(len(wires))],
        now + (1 << draw.randrange(R.bit_length())),
        draw.randrange(R),
    )
    value = candidates[kind] % R
    return value if value != now else (now + 1 + draw.randrange(R - 1)) % R


def fuzz(
    circuit: str,
    seed: int,
    *,
    mutations: int | None = None,
    seconds: float | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> FuzzReport:
    """Mutate until the number of mutations or the time is reached (one of the two must be given).

    Raises ValueError for an unknown circuit, one without an example, and an example that is not satisfying.
    """
    if mutations is None and seconds is None:
        raise ValueError("give the number of mutations or the seconds of the run")
    began = time.monotonic()
    chosen, draw = circuit_named(circuit), random.Random(f"{circuit} {seed}")
    progress(f"{circuit}: building the matrices")
    index = WireIndex(chosen.build())
    done = statements = 0
    findings: list[Finding] = []

    def over() -> bool:
        late = seconds is not None and time.monotonic() - began >= seconds
        return late or (mutations is not None and done >= mutations) or len(findings) >= MAX_FINDINGS

    while not over():
        statement_seed = draw.randbytes(SEED_BYTES)
        wires = [int(value) for value in example(circuit, statement_seed)().wires]
        assignment = Assignment(index, wires)
        statements += 1
        for _ in range(MUTATIONS_PER_STATEMENT):
            if over():
                break
            wire = draw.randrange(1, len(wires))
            value = other_value(draw, wires, wire)
            done += 1
            if assignment.survives(wire, value):
                findings.append(Finding(circuit, statement_seed.hex(), wire, hex(value)))
        progress(f"{circuit}: {done} mutations of {statements} statements, {len(findings)} findings")
    return FuzzReport(
        circuit, index.system.n_wires, done, statements, round(time.monotonic() - began, 2), tuple(findings)
    )  # fmt: skip
