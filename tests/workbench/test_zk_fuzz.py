"""`openmg zk fuzz`: no wire of any circuit may change alone, and a wire that may is found."""

import random
from dataclasses import replace
from types import SimpleNamespace

import pytest

from openmg.zk.circuits.registry import CIRCUITS, circuit_named
from openmg.zk.export.example import SEED_BYTES, example
from openmg.zk.field import R
from openmg.zk.r1cs import Matrix
from workbench.zk.fuzz import Assignment, WireIndex, fuzz, other_value

CI_MUTATIONS = 400
"""Of each circuit; `make fuzz` goes on for as long as it is told."""


@pytest.mark.parametrize("circuit", sorted(CIRCUITS))
def test_no_drawn_wire_of_a_circuit_can_change_alone(circuit):
    report = fuzz(circuit, seed=20261125, mutations=CI_MUTATIONS)
    assert report.findings == () and report.mutations == CI_MUTATIONS and report.statements == 1


def _without(matrix: Matrix, row: int) -> Matrix:
    """The matrix with an empty row in the place of this one."""
    start, end = matrix.row_start[row], matrix.row_start[row + 1]
    starts = matrix.row_start[: row + 1]
    starts.extend(value - (end - start) for value in matrix.row_start[row + 1 :])
    columns = matrix.columns[:start] + matrix.columns[end:]
    return Matrix(starts, columns, matrix.coefficients[:start] + matrix.coefficients[end:])


def test_a_wire_whose_only_constraint_is_gone_is_found():
    """The positive control: ext is bound by squaring it, so without that row its square is free."""
    system = circuit_named("transfer").build()
    ext = system.n_public
    row = next(k for k in range(system.n_constraints) if list(system.a.columns[slice(*system.a.row_start[k : k + 2])]) == [ext])
    holed = replace(system, a=_without(system.a, row), b=_without(system.b, row), c=_without(system.c, row))
    wires = [int(value) for value in example("transfer", bytes(SEED_BYTES))().wires]
    whole, broken = Assignment(WireIndex(system), wires), Assignment(WireIndex(holed), wires)
    assert not whole.survives(ext, 5) and broken.survives(ext, 5)
    square = next(k for k in range(len(wires)) if wires[k] == wires[ext] ** 2 % R)
    assert not whole.survives(square, 5) and broken.survives(square, 5)


def test_the_search_finds_a_hole_by_itself(monkeypatch):
    """With every boolean row of the circuit gone, bits may take other values; drawn mutations come upon one."""
    system = circuit_named("period").build()
    for row in reversed(range(system.n_constraints)):
        if row % 2:
            system = replace(system, a=_without(system.a, row), b=_without(system.b, row), c=_without(system.c, row))
    monkeypatch.setattr("workbench.zk.fuzz.circuit_named", lambda name: SimpleNamespace(build=lambda: system))
    report = fuzz("period", seed=1, mutations=400)
    assert report.findings
    first = report.findings[0]
    wires = [int(value) for value in example("period", bytes.fromhex(first.statement_seed))().wires]
    assert Assignment(WireIndex(system), wires).survives(first.wire, int(first.value, 16))


def test_a_mutation_is_always_another_value():
    draw, wires = random.Random(1), [1, 0, 1, R - 1, 7]
    for _ in range(2_000):
        wire = draw.randrange(1, len(wires))
        value = other_value(draw, wires, wire)
        assert 0 <= value < R and value != wires[wire]


def test_an_assignment_that_does_not_satisfy_is_refused():
    system = circuit_named("transfer").build()
    wires = [int(value) for value in example("transfer", bytes(SEED_BYTES))().wires]
    wires[5] += 1
    with pytest.raises(ValueError, match="does not satisfy"):
        Assignment(WireIndex(system), wires)


def test_a_run_needs_an_end():
    with pytest.raises(ValueError, match="give the number"):
        fuzz("transfer", 1)
