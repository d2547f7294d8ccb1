"""The builders and the gadgets: both modes agree, and no gadget leaves freedom."""

import random

import pytest

from openmg.zk import gadgets
from openmg.zk.circuits import transfer
from openmg.zk.field import R
from openmg.zk.poseidon import poseidon
from openmg.zk.r1cs import MatrixBuilder, UnsatisfiedError, WitnessBuilder, circuit_hash, matrix_bytes, system_of
from openmg.zk.tags import TAGS, H
from openmg.zk.tree import DEPTH, NoteTree


def run(circuit, *values, check=True):
    """The circuit's matrices, and the wires for these private values."""
    matrices, witness = MatrixBuilder(), WitnessBuilder(check)
    for builder in (matrices, witness):
        circuit(builder, *[builder.private(value) for value in values])
    return system_of(matrices), witness.witness


def assert_tight(circuit, *values):
    """The values satisfy the circuit, and changing any one wire breaks it."""
    system, wires = run(circuit, *values)
    assert system.first_unsatisfied(wires) is None
    for wire in range(1, len(wires)):
        for change in (1, R - 1, 0x1234567):
            broken = list(wires)
            broken[wire] = (broken[wire] + change) % R
            assert system.first_unsatisfied(broken) is not None, wire


def test_matrices_do_not_depend_on_values():
    builder = MatrixBuilder()
    publics, witness = transfer.blank()
    other = transfer.TransferPublics(1, (2, 3), (4, 5), 6, 7, 8, 9)
    transfer.synthesize(builder, publics, witness)
    again = MatrixBuilder()
    transfer.synthesize(again, other, witness)
    assert circuit_hash(system_of(builder)) == circuit_hash(system_of(again)) == transfer.CIRCUIT_HASH


def test_transfer_has_the_documented_size(system):
    assert (system.n_constraints, system.n_wires, system.n_public, system.domain_log2) == (13829, 13870, 9, 14)


def test_the_circuit_hash_covers_every_matrix(system):
    parts = {matrix_bytes(matrix) for matrix in (system.a, system.b, system.c)}
    assert len(parts) == 3
    coefficients = list(system.c.coefficients)
    coefficients[-1] += 1
    changed = type(system)(
        system.n_wires,
        system.n_public,
        system.a,
        system.b,
        type(system.c)(system.c.row_start, system.c.columns, coefficients),
    )
    assert circuit_hash(changed) != circuit_hash(system)


def test_public_wires_come_first():
    builder = MatrixBuilder()
    builder.public(1)
    builder.private(2)
    with pytest.raises(ValueError, match="declare public wires first"):
        builder.public(3)


def test_a_witness_of_the_wrong_shape_is_refused(system):
    for wires in ([1] * (system.n_wires - 1), [2] + [1] * (system.n_wires - 1)):
        with pytest.raises(ValueError, match="a witness of this circuit has 13870 wires"):
            system.first_unsatisfied(wires)


@pytest.mark.parametrize("value", [0, 1, 255])
def test_bits_accept_the_whole_range_and_are_tight(value):
    assert_tight(lambda b, x: gadgets.to_bits(b, x, 8, "x"), value)


@pytest.mark.parametrize("value", [256, R - 1])
def test_bits_refuse_the_next_value(value):
    with pytest.raises(UnsatisfiedError, match="x fits a byte"):
        run(lambda b, x: gadgets.to_bits(b, x, 8, "x fits a byte"), value)


def test_a_range_that_would_wrap_is_refused():
    for width in (0, 253):
        with pytest.raises(ValueError, match="would wrap"):
            run(lambda b, x, w=width: gadgets.to_bits(b, x, w, "x"), 0)


@pytest.mark.parametrize("value", [0, 1, 5, R - 1])
def test_is_nonzero_is_tight(value):
    flags = []
    assert_tight(lambda b, x: flags.append(gadgets.is_nonzero(b, x, "x")), value)
    assert flags[-1] == int(value != 0)


def test_nonzero():
    assert_tight(lambda b, x: gadgets.nonzero(b, x, "x is not 0"), 7)
    with pytest.raises(UnsatisfiedError, match="x is not 0"):
        run(lambda b, x: gadgets.nonzero(b, x, "x is not 0"), 0)


def test_product_is_zero():
    for left, right in ((0, 5), (5, 0), (0, 0)):
        run(lambda b, x, y: gadgets.product_is_zero(b, x, y, "one is 0"), left, right)
    with pytest.raises(UnsatisfiedError, match="one is 0"):
        run(lambda b, x, y: gadgets.product_is_zero(b, x, y, "one is 0"), 3, 5)


@pytest.mark.parametrize(("arity", "constraints"), [(1, 216), (2, 243), (3, 264)])
def test_poseidon_gadget_equals_the_hash(arity, constraints):
    values = [random.Random(arity).randrange(R) for _ in range(arity)]
    digests = []

    def circuit(builder, *signals):
        digests.append(gadgets.poseidon(builder, "cm", *signals))

    system, wires = run(circuit, *values)
    assert digests[1] == poseidon(values, TAGS["cm"]) == H("cm", *values)
    assert system.n_constraints == constraints and system.first_unsatisfied(wires) is None


@pytest.mark.parametrize("index", [0, 1, 5])
def test_merkle_gadget_equals_the_tree(index):
    tree = NoteTree(range(10, 17))
    roots = []

    def circuit(builder, leaf, *rest):
        roots.append(gadgets.merkle_root(builder, leaf, rest[:DEPTH], rest[DEPTH:]))

    bits = [index >> i & 1 for i in range(DEPTH)]
    run(circuit, tree.leaf(index), *bits, *tree.path(index))
    assert roots[1] == tree.root()
