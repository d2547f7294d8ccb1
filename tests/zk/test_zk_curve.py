"""Fields, points, sums of multiples, transforms and the pairing, against py_ecc and against plain definitions."""

import random

import pytest
from py_ecc import optimized_bn128 as ecc
from zk_cases import twist_point_outside_the_subgroup

from openmg.zk import curve, field, msm, ntt, pairing
from openmg.zk.curve import G1, G1_BYTES, G2, G2_BYTES, PointError
from openmg.zk.field import FELT_BYTES, Q, R

GENERATOR = random.Random(5)
SCALARS = [0, 1, 2, R - 1, *(GENERATOR.randrange(R) for _ in range(4))]


def theirs(point):
    """A py_ecc point as our tuple of coordinates."""
    if ecc.is_inf(point):
        return None
    x, y = ecc.normalize(point)
    return (int(x), int(y)) if isinstance(x, ecc.FQ) else tuple(int(c) for v in (x, y) for c in v.coeffs)


# Field


def test_inverses():
    values = [1, 2, R - 1, 12345]
    assert [a * b % R for a, b in zip(values, field.batch_invert(values, R), strict=True)] == [1] * 4
    assert all(field.invert(a, R) * a % R == 1 for a in values)
    for zero in (0, R):
        with pytest.raises(ZeroDivisionError):
            field.invert(zero, R)


def test_field_elements_from_bytes():
    assert field.felt_from_bytes((R - 1).to_bytes(FELT_BYTES, "big")) == R - 1
    for data in (R.to_bytes(FELT_BYTES, "big"), bytes(31)):
        with pytest.raises(ValueError, match="field"):
            field.felt_from_bytes(data)
    assert field.reduce_wide(b"\xff" * 48) == (2**384 - 1) % R
    with pytest.raises(ValueError, match="give 48"):
        field.reduce_wide(bytes(47))


# Points


@pytest.mark.parametrize("scalar", SCALARS)
def test_multiples_equal_py_ecc(scalar):
    assert curve.multiply_g1(G1, scalar) == theirs(ecc.multiply(ecc.G1, scalar))
    assert curve.multiply_g2(G2, scalar) == theirs(ecc.multiply(ecc.G2, scalar))


def test_addition_handles_infinity_doubling_and_opposites():
    for point, add, negative in (
        (G1, curve.add_g1, curve.negate_g1(G1)),
        (G2, curve.add_g2, (*G2[:2], -G2[2] % Q, -G2[3] % Q)),
    ):
        assert add(point, None) == add(None, point) == point and add(None, None) is None
        assert add(point, negative) is None
        assert add(add(point, point), negative) == point


@pytest.mark.parametrize("group", [1, 2])
def test_batched_addition_equals_single_addition(group):
    base, multiply = (G1, curve.multiply_g1) if group == 1 else (G2, curve.multiply_g2)
    add, add_many = (curve.add_g1, curve.add_many_g1) if group == 1 else (curve.add_g2, curve.add_many_g2)
    left = [multiply(base, k) for k in (1, 2, 3, 5, 7)]
    right = [multiply(base, k) for k in (4, 2, R - 3, 6, R - 8)]
    sums, infinite = add_many(tuple(map(list, zip(*left, strict=True))), tuple(map(list, zip(*right, strict=True))))
    assert infinite == [2]
    for i, point in enumerate(zip(*sums, strict=True)):
        assert i in infinite or point == add(left[i], right[i])


def test_membership():
    assert curve.on_curve_g1(G1) and curve.on_curve_g2(G2) and curve.in_subgroup_g2(G2)
    assert not curve.on_curve_g1((1, 3)) and not curve.on_curve_g1((1 + Q, 2)) and not curve.on_curve_g1((0, 0))
    assert not curve.on_curve_g2((G2[0] + 1, *G2[1:])) and not curve.on_curve_g2((0, 0, 0, 0))
    outside = twist_point_outside_the_subgroup()
    assert curve.on_curve_g2(outside) and not curve.in_subgroup_g2(outside)


def test_bytes_of_points():
    for point, size, read in ((G1, G1_BYTES, curve.g1_from_bytes), (G2, G2_BYTES, curve.g2_from_bytes)):
        data = curve.point_to_bytes(point, size)
        assert data[:32] == int(point[0]).to_bytes(32, "little") and read(data) == point
        assert curve.point_to_bytes(None, size) == bytes(size) and read(bytes(size)) is None
        with pytest.raises(PointError, match=f"{size} bytes"):
            read(data[:-1])


# Sums of multiples


def test_fixed_base_multiples():
    assert msm.multiples_of_g1(SCALARS) == [curve.multiply_g1(G1, k) for k in SCALARS]
    assert msm.multiples_of_g2(SCALARS) == [curve.multiply_g2(G2, k) for k in SCALARS]


def group_case(group, logs):
    """Points with known logarithms as the key section would hold them; 0 is infinity."""
    multiples, size = (msm.multiples_of_g1, G1_BYTES) if group == 1 else (msm.multiples_of_g2, G2_BYTES)
    data = b"".join(curve.point_to_bytes(point, size) for point in multiples(logs))
    return msm.points_from_bytes(data, 2 * group)


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("count", [1, 2, 33, 300])
def test_sum_of_multiples(group, count):
    generator = random.Random(count)
    logs = [generator.randrange(R) for _ in range(count)]
    scalars = [generator.choice([0, 1, R - 1, generator.randrange(R)]) for _ in range(count)]
    base, multiply = (G1, curve.multiply_g1) if group == 1 else (G2, curve.multiply_g2)
    expected = multiply(base, sum(a * b for a, b in zip(logs, scalars, strict=True)))
    assert msm.sum_of_multiples(group_case(group, logs), scalars) == expected


@pytest.mark.parametrize("group", [1, 2])
def test_sums_with_equal_opposite_and_infinite_points(group):
    logs = [5, 5, 5, R - 5, 0, R - 5, 7, 0]
    points = group_case(group, logs)
    base, multiply = (G1, curve.multiply_g1) if group == 1 else (G2, curve.multiply_g2)
    for scalars in ([1] * 8, [3, 3, 3, 3, 9, 3, 0, 1], [1, 0, 0, 1, 1, 0, 0, 0], [0] * 8):
        expected = multiply(base, sum(a * b for a, b in zip(logs, scalars, strict=True)))
        assert msm.sum_of_multiples(points, scalars) == expected


def test_joined_sections_keep_their_places():
    left, right = group_case(1, [2, 0, 3]), group_case(1, [5, 7])
    right.places = [place + 3 for place in right.places]
    scalars = [11, 13, 17, 19, 23]
    expected = curve.multiply_g1(G1, 2 * 11 + 3 * 17 + 5 * 19 + 7 * 23)
    assert msm.sum_of_multiples(msm.joined(left, right), scalars) == expected


# Transforms


@pytest.mark.parametrize("log2", [1, 2, 5])
def test_transforms_against_the_definition(log2):
    n, root = 1 << log2, ntt.root_of_unity(log2)
    generator = random.Random(log2)
    coefficients = [generator.randrange(R) for _ in range(n)]
    values = [sum(c * pow(root, i * k, R) for k, c in enumerate(coefficients)) % R for i in range(n)]
    order = ntt.bit_reversed(log2)
    assert sorted(order) == list(range(n))
    assert [v % R for v in ntt.scaled_coefficients(values, log2)] == [coefficients[k] * n % R for k in order]
    assert [v % R for v in ntt.evaluations([coefficients[k] for k in order], log2)] == values


def test_lagrange_polynomials():
    point, log2 = 987654321, 3
    nodes = [pow(ntt.root_of_unity(log2), i, R) for i in range(8)]
    at_point = ntt.lagrange_at(point, log2)
    for degree in range(8):
        interpolated = sum(pow(node, degree, R) * value for node, value in zip(nodes, at_point, strict=True))
        assert interpolated % R == pow(point, degree, R)
    with pytest.raises(ValueError, match="lies in the domain"):
        ntt.lagrange_at(nodes[3], log2)


def test_domains_end_at_the_two_adicity():
    assert pow(ntt.root_of_unity(28), 1 << 27, R) == R - 1
    with pytest.raises(ValueError, match="no domain"):
        ntt.root_of_unity(29)


# Pairing


def test_pairing_equals_py_ecc():
    ours = pairing.final_exponentiation(pairing.miller_loop([(G1, G2)]))
    # py_ecc counts powers of w with w^12 - 18 w^6 + 82 = 0 and u = w^6 - 9.
    flat = [0] * 12
    (e0, e1, e2), (o0, o1, o2) = ours
    for i, (real, imaginary) in enumerate((e0, o0, e1, o1, e2, o2)):
        flat[i] = (real - 9 * imaginary) % Q
        flat[i + 6] = imaginary % Q
    assert flat == [int(c) for c in ecc.pairing(ecc.G2, ecc.G1).coeffs]


def test_pairing_is_bilinear():
    a, b = SCALARS[-1], SCALARS[-2]
    pa, qb = curve.multiply_g1(G1, a), curve.multiply_g2(G2, b)
    opposite = curve.negate_g1(curve.multiply_g1(G1, a * b))
    assert pairing.product_is_one([(pa, qb), (opposite, G2)])
    assert not pairing.product_is_one([(pa, qb), (curve.multiply_g1(G1, R - a * b - 1), G2)])
    assert not pairing.product_is_one([(G1, G2)]) and pairing.product_is_one([])
