"""Curve gadgets: equal to the curve, complete, canonical, without a free wire."""

import itertools
import random

import pytest
from zk_judge import free_wires

from openmg.zk import babyjub, curve_gadgets
from openmg.zk.babyjub import H_PRIME, IDENTITY, SUBGROUP_ORDER, G
from openmg.zk.field import R
from openmg.zk.r1cs import MatrixBuilder, UnsatisfiedError, WitnessBuilder, system_of

ORDER_TWO = (0, R - 1)


def bits_of(builder, value, width):
    return [builder.private(value >> i & 1) for i in range(width)]


def multiples(*terms):
    """The gadget's sum for (scalar, width, base) terms."""
    builder = WitnessBuilder()
    return curve_gadgets.sum_of_multiples(builder, [(bits_of(builder, k, width), base) for k, width, base in terms])


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 7])
def test_every_short_scalar(width):
    for scalar in range(1 << width):
        assert multiples((scalar, width, H_PRIME)) == babyjub.multiply(H_PRIME, scalar)


def test_long_scalars_and_sums():
    generator = random.Random(3)
    for blinding in (0, 1, SUBGROUP_ORDER - 1, generator.randrange(SUBGROUP_ORDER)):
        for value in (0, 2**32 - 1, generator.randrange(2**32)):
            assert multiples((value, 32, G), (blinding, 251, H_PRIME)) == babyjub.commit(value, blinding)


def test_the_addition_has_no_exceptions():
    points = [IDENTITY, ORDER_TWO, G, babyjub.negate(G), H_PRIME, babyjub.add(G, ORDER_TWO), babyjub.add(G, G)]
    for left, right in itertools.product(points, repeat=2):
        builder = WitnessBuilder()
        operands = [(builder.private(x), builder.private(y)) for x, y in (left, right)]
        assert curve_gadgets.add(builder, *operands) == babyjub.add(left, right)


@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_sum_is_not_of_choice(axis):
    """The wires of the sum's coordinates, the last two, are hints: only one rule holds each."""

    def synthesize(builder):
        return curve_gadgets.add(builder, *((builder.public(x), builder.public(y)) for x, y in (G, H_PRIME)))

    matrices, builder = MatrixBuilder(), WitnessBuilder()
    synthesize(matrices)
    synthesize(builder)
    system, wires = system_of(matrices), builder.witness
    assert system.first_unsatisfied(wires) is None
    wires[-2 if axis == "x" else -1] += 1
    assert system.rules[system.first_unsatisfied(wires)] == f"a sum of points has the right {axis}"


def test_the_cost_of_a_window_and_a_sum():
    builder = MatrixBuilder()
    curve_gadgets.sum_of_multiples(builder, [(bits_of(builder, 0, 9), G)])
    assert len(builder.rules) == 3 * 3 + 2 * 6


def below_system(bound):
    builder = MatrixBuilder()
    curve_gadgets.bits_below(builder, builder.private(0), bound, "small")
    return system_of(builder)


def products_along(system, wires):
    """The witness with each product wire computed from the others, as a cheater would have to."""
    wires = list(wires)
    for row, rule in enumerate(system.rules):
        if rule == "product":
            values = []
            for matrix in (system.a, system.b):
                span = range(matrix.row_start[row], matrix.row_start[row + 1])
                values.append(sum(matrix.coefficients[k] * wires[matrix.columns[k]] for k in span))
            wires[system.c.columns[system.c.row_start[row]]] = values[0] * values[1] % R
    return wires


@pytest.mark.parametrize("bound", [2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 21, 22, 23, 24, 25, 31, 32])
def test_exactly_the_numbers_below_a_bound_have_bits(bound):
    """Every string of bits, and wires that are no bits, with the signal they add up to."""
    system = below_system(bound)
    width = (bound - 1).bit_length()
    accepted = set()
    for bits in itertools.product((0, 1, 2, R - 1), repeat=width):
        signal = sum(bit << i for i, bit in enumerate(bits)) % R
        idle = system.n_wires - 2 - width
        wires = products_along(system, [1, signal, *bits, *([0] * idle)])
        if system.first_unsatisfied(wires) is None:
            assert set(bits) <= {0, 1}
            accepted.add(signal)
    assert accepted == set(range(bound))


@pytest.mark.parametrize("value", [SUBGROUP_ORDER, SUBGROUP_ORDER + 1, 2**251 - 1, 2**251, 2**252, R - 1])
def test_the_subgroups_order_has_no_alias(value):
    builder = WitnessBuilder()
    with pytest.raises(UnsatisfiedError, match="the statement is false: canonical"):
        curve_gadgets.bits_below(builder, builder.private(value), SUBGROUP_ORDER, "canonical")


@pytest.mark.parametrize("value", [0, 1, 2**250, SUBGROUP_ORDER - 2, SUBGROUP_ORDER - 1])
def test_all_below_the_subgroups_order_is_accepted(value):
    builder = WitnessBuilder()
    bits = curve_gadgets.bits_below(builder, builder.private(value), SUBGROUP_ORDER, "canonical")
    assert sum(int(bit) << i for i, bit in enumerate(bits)) == value and len(bits) == 251


@pytest.mark.parametrize("bound", [1, 2**252 + 1])
def test_other_bounds_are_refused(bound):
    builder = MatrixBuilder()
    with pytest.raises(ValueError, match="cannot be checked"):
        curve_gadgets.bits_below(builder, builder.private(0), bound, "bound")


@pytest.mark.parametrize("blinding", [0, 1, SUBGROUP_ORDER - 1, 12345 << 200])
def test_no_wire_of_a_commitment_is_free(blinding):
    """The coordinates stand for what a statement binds: they are made public here."""

    def synthesize(builder, point):
        public = [builder.public(value) for value in point]
        value_bits = curve_gadgets.bits_below(builder, builder.private(900), 1 << 12, "value")
        made = curve_gadgets.commitment(builder, value_bits, builder.private(blinding), "it")
        for coordinate, expected in zip(made, public, strict=True):
            builder.enforce(coordinate, builder.one, expected, "the point is right")
        return builder

    system = system_of(synthesize(MatrixBuilder(), (0, 0)))
    builder = synthesize(WitnessBuilder(), babyjub.commit(900, blinding))
    assert system.first_unsatisfied(builder.witness) is None
    assert free_wires(system, builder.witness, seed=blinding) == []
