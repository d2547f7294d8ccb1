"""Linear combinations of points against py_ecc, and the shapes that are refused."""

import random
import struct

import pytest
from ecc_points import ecc_g1, ecc_g2
from groth16_oracle import R, le

pytestmark = pytest.mark.native

POINTS = [0, 1, 2, 2, R - 2, 7, 1 << 100]
"""Multiples of the generator: infinity, a point twice, and its negative."""


def words(values) -> bytes:
    return b"".join(struct.pack("<I", value) for value in values)


def rows() -> list[list[tuple[int, int]]]:
    drawn = random.Random(1)
    edges = [0, 1, 2, R - 1, R - 2, 15, 16, 17, 31, (R - 1) // 2, (R + 1) // 2, 1 << 253]
    return [
        [],
        [(2, 5), (4, 5)],
        [(2, 1), (3, 1)],
        [(0, 9)],
        *([(5, edge)] for edge in edges),
        *([(i, drawn.randrange(R)) for i in range(len(POINTS))] for _ in range(3)),
    ]


def parts(matrix):
    starts = [0]
    for row in matrix:
        starts.append(starts[-1] + len(row))
    entries = [entry for row in matrix for entry in row]
    return words(starts), words(column for column, _ in entries), le([factor for _, factor in entries])


@pytest.mark.parametrize(("group", "ecc"), [("g1_combinations", ecc_g1), ("g2_combinations", ecc_g2)])
def test_combinations_are_those_of_py_ecc(native, group, ecc):
    expected = ecc([sum(POINTS[column] * factor for column, factor in row) % R for row in rows()])
    assert getattr(native, group)(ecc(POINTS), *parts(rows())) == expected


def test_combinations_do_not_depend_on_the_number_of_threads(native, all_threads):
    results = set()
    for count in (1, 2, 3):
        native.set_threads(count)
        results.add(native.g1_combinations(ecc_g1(POINTS), *parts(rows())))
    assert len(results) == 1


@pytest.mark.parametrize(
    ("points", "starts", "columns", "factors", "why"),
    [
        (bytes(63), [0, 1], [0], le([1]), "no multiple of 64"),
        (b"\xff" * 64, [0, 1], [0], le([1]), "coordinate of point 0 is not below"),
        (bytes(64), [0, 1], [1], le([1]), "entry 0 names a point beyond the 1"),
        (bytes(64), [0, 1], [0], le([R - 1, 1]), "do not fit the entries"),
        (bytes(64), [0, 2], [0], le([1]), "do not fit the entries"),
        (bytes(64), [1, 1], [0], le([1]), "do not fit the entries"),
        (bytes(64), [0, 1, 0, 1], [0], le([1]), "do not fit the entries"),
        (bytes(64), [], [], b"", "do not fit the entries"),
        (bytes(64), [0, 1], [0], le([R]), "not below the BN254 scalar order"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(native, points, starts, columns, factors, why):
    with pytest.raises(ValueError, match=why):
        native.g1_combinations(points, words(starts), words(columns), factors)
