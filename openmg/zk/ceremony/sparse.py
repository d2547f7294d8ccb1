"""Points in bytes and the matrices that a ceremony multiplies them with.

Everything heavy in a ceremony is a sparse matrix of scalars times a column of points: a contribution is a diagonal
matrix, a step of a transform has two entries a row, a circuit's columns are its transposed matrices.
Rules: pure data; a matrix is `r1cs.Matrix` (rows of entries). Not here: the multiplication (`arithmetic`).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from openmg.zk.curve import G1, G1_BYTES, G2, G2_BYTES, point_to_bytes
from openmg.zk.field import FELT_BYTES, fast
from openmg.zk.r1cs import Matrix

Point = tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """G1 or G2: how many coordinates and bytes a point has."""

    name: str
    coordinates: int
    size: int
    generator: Point


GROUP1 = Group("G1", 2, G1_BYTES, G1)
GROUP2 = Group("G2", 4, G2_BYTES, G2)


def point_of(group: Group, data: bytes, index: int = 0) -> Point | None:
    """The index-th point; None is infinity."""
    part = data[index * group.size : (index + 1) * group.size]
    if not any(part):
        return None
    return tuple(fast(int.from_bytes(part[k : k + FELT_BYTES], "little")) for k in range(0, group.size, FELT_BYTES))


def points_of(group: Group, data: bytes) -> list[Point | None]:
    return [point_of(group, data, i) for i in range(len(data) // group.size)]


def bytes_of(group: Group, points: Iterable[Point | None]) -> bytes:
    return b"".join([point_to_bytes(point, group.size) for point in points])


def matrix_of(rows: Iterable[Sequence[tuple[int, int]]]) -> Matrix:
    """From rows of (column, coefficient)."""
    starts, columns, coefficients = array("I", [0]), array("I"), []
    for row in rows:
        for column, coefficient in row:
            columns.append(column)
            coefficients.append(coefficient)
        starts.append(len(columns))
    return Matrix(starts, columns, coefficients)


def diagonal(factors: Sequence[int]) -> Matrix:
    """Multiplies the i-th point by the i-th factor."""
    count = len(factors)
    return Matrix(array("I", range(count + 1)), array("I", range(count)), list(factors))


def transposed(parts: Sequence[tuple[int, Matrix]], rows: int) -> list[list[tuple[int, int]]]:
    """Matrices side by side, transposed: `rows` rows of (offset + old row, coefficient) for each (offset, matrix)."""
    result: list[list[tuple[int, int]]] = [[] for _ in range(rows)]
    for offset, matrix in parts:
        starts = matrix.row_start
        for k in range(matrix.rows):
            for j in range(starts[k], starts[k + 1]):
                result[matrix.columns[j]].append((offset + k, matrix.coefficients[j]))
    return result
