"""A sparse matrix of scalars times a column of points, by the native module or in Python.

Rules: equal results, byte for byte, whichever is used; inputs are points of their curves (callers check what they
read), infinity included. A width that takes long says how far it is. In Python all rows advance together (Straus), so
that thousands of affine additions share one inversion, and one long row goes by Pippenger (`msm`).
Not here: what is multiplied with what.
"""

from __future__ import annotations

import importlib
from array import array
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from openmg.zk import msm
from openmg.zk.backend import Backend
from openmg.zk.ceremony.sparse import GROUP1, Group, Point, bytes_of, point_of, points_of
from openmg.zk.curve import add_g1, add_g2, add_many_g1, add_many_g2
from openmg.zk.field import FQ, R, batch_invert
from openmg.zk.groth16 import felts_to_bytes
from openmg.zk.r1cs import Matrix, u32_bytes

Say = Callable[[str], None]
"""Told now and then how far a long step is."""

DIGIT_BITS = 4
TABLE = 1 << (DIGIT_BITS - 1)
"""Signed digits from -8 to 8, so each point has a table of 8 multiples."""
LONG_ROW = 96
"""From about this many entries Pippenger's buckets are cheaper than tables of every point."""
TOTAL_ROWS = 32
"""Into so many rows the native module's one sum is cut, so that its threads share it."""

Columns = tuple[list[int], ...]


class Arithmetic(Protocol):
    """The heavy operations of a ceremony."""

    @property
    def name(self) -> str:
        """native or portable."""

    def combinations(self, group: Group, points: bytes, matrix: Matrix, say: Say) -> bytes:
        """For each row the sum of coefficient * points[column]; coefficients are below r."""

    def total(self, group: Group, points: bytes, factors: Sequence[int]) -> Point | None:
        """The sum of factor_i * point_i; None is infinity."""


def silent(_: str) -> None:
    """A `Say` for steps that are short."""


class PortableArithmetic:
    """In Python, with gmpy2 where installed."""

    name = "portable"

    def combinations(self, group: Group, points: bytes, matrix: Matrix, say: Say) -> bytes:
        if matrix.rows and len(matrix.columns) > LONG_ROW * matrix.rows:
            starts = matrix.row_start
            sums = []
            for k in range(matrix.rows):
                factors = [0] * (len(points) // group.size)
                for j in range(starts[k], starts[k + 1]):
                    factors[matrix.columns[j]] = (factors[matrix.columns[j]] + matrix.coefficients[j]) % R
                sums.append(self.total(group, points, factors))
            return bytes_of(group, sums)
        return bytes_of(group, _Straus(group, points, matrix).sums(say))

    def total(self, group: Group, points: bytes, factors: Sequence[int]) -> Point | None:
        if not factors:
            return None
        return msm.sum_of_multiples(msm.points_from_bytes(points, group.coordinates), factors)


class NativeArithmetic:
    """The module `openmg_native`, on its threads."""

    name = "native"

    def __init__(self, module: Any) -> None:
        self._module = module

    def combinations(self, group: Group, points: bytes, matrix: Matrix, say: Say) -> bytes:
        work = self._module.g1_combinations if group is GROUP1 else self._module.g2_combinations
        coefficients = felts_to_bytes(matrix.coefficients)
        return bytes(work(points, u32_bytes(matrix.row_start), u32_bytes(matrix.columns), coefficients))

    def total(self, group: Group, points: bytes, factors: Sequence[int]) -> Point | None:
        count = len(factors)
        step = max(1, -(-count // TOTAL_ROWS))
        starts = array("I", [*range(0, count, step), count])
        parts = self.combinations(group, points, Matrix(starts, array("I", range(count)), list(factors)), silent)
        add: Any = add_g1 if group is GROUP1 else add_g2
        result: Point | None = None
        for i in range(len(parts) // group.size):
            result = add(result, point_of(group, parts, i))
        return result


def arithmetic_of(backend: Backend) -> Arithmetic:
    """The backend's own; a native module from before it could do this leaves the work to Python."""
    if backend.name == "native":
        module: Any = importlib.import_module("openmg_native")
        if hasattr(module, "g1_combinations"):
            return NativeArithmetic(module)
    return PortableArithmetic()


def _double_many_g1(columns: Columns) -> Columns:
    xs, ys = columns
    inverses = batch_invert([2 * y for y in ys], FQ)
    new_x: list[int] = []
    new_y: list[int] = []
    for x, y, inverse in zip(xs, ys, inverses, strict=True):
        slope = 3 * x * x * inverse % FQ
        x3 = (slope * slope - 2 * x) % FQ
        new_x.append(x3)
        new_y.append((slope * (x - x3) - y) % FQ)
    return new_x, new_y


def _double_many_g2(columns: Columns) -> Columns:
    """Slopes 3 x^2 / (2 y) are multiplied with the conjugate of 2 y over its norm."""
    norms = batch_invert([4 * (y0 * y0 + y1 * y1) % FQ for y0, y1 in zip(columns[2], columns[3], strict=True)], FQ)
    result: list[tuple[int, int, int, int]] = []
    for x0, x1, y0, y1, norm in zip(*columns, norms, strict=True):
        a0, a1 = 3 * (x0 + x1) * (x0 - x1), 6 * x0 * x1
        s0 = 2 * (a0 * y0 + a1 * y1) % FQ * norm % FQ
        s1 = 2 * (a1 * y0 - a0 * y1) % FQ * norm % FQ
        w0, w1 = ((s0 + s1) * (s0 - s1) - 2 * x0) % FQ, (2 * s0 * s1 - 2 * x1) % FQ
        e0, e1 = x0 - w0, x1 - w1
        result.append((w0, w1, (s0 * e0 - s1 * e1 - y0) % FQ, (s0 * e1 + s1 * e0 - y1) % FQ))
    c0, c1, c2, c3 = (list(column) for column in zip(*result, strict=True))
    return c0, c1, c2, c3


class _Straus:
    """All rows of one product side by side.

    `table` holds for every finite point its multiples 1 to 8 and then their negatives. No point of either curve has
    y = 0 (both orders are odd) and none has an order below 17, so tables and doublings meet no infinity.
    """

    def __init__(self, group: Group, points: bytes, matrix: Matrix) -> None:
        self.group = group
        self.add_many: Any = add_many_g1 if group.coordinates == 2 else add_many_g2
        self.double_many = _double_many_g1 if group.coordinates == 2 else _double_many_g2
        finite = [(i, point) for i, point in enumerate(points_of(group, points)) if point is not None]
        self.place = {i: k for k, (i, _) in enumerate(finite)}
        self.count = len(finite)
        self.rows = matrix.rows
        self.table = self._tables(tuple([point[k] for _, point in finite] for k in range(group.coordinates)))
        self.steps = self._steps(matrix)
        self.values: Columns = tuple([0] * self.rows for _ in range(group.coordinates))
        self.finite = bytearray(self.rows)

    def _tables(self, base: Columns) -> Columns:
        if not self.count:
            return base
        multiples = [base, self.double_many(base)]
        while len(multiples) < TABLE:
            multiples.append(self.add_many(multiples[-1], base)[0])
        half = self.group.coordinates // 2
        table = tuple([c for part in multiples for c in part[k]] for k in range(2 * half))
        return (*(x + x for x in table[:half]), *(y + [FQ - c if c else c for c in y] for y in table[half:]))

    def _steps(self, matrix: Matrix) -> list[list[tuple[list[int], list[int]]]]:
        """For each digit, most significant first, rounds of (rows, places in the table), each row once a round."""
        windows = msm.SCALAR_BITS // DIGIT_BITS + 1
        steps: list[list[tuple[list[int], list[int]]]] = [[] for _ in range(windows)]
        negative = TABLE * self.count
        for k in range(matrix.rows):
            used = [0] * windows
            for j in range(matrix.row_start[k], matrix.row_start[k + 1]):
                place = self.place.get(matrix.columns[j])
                if place is None:
                    continue
                for window, digit in _digits(int(matrix.coefficients[j])):
                    rounds = steps[windows - 1 - window]
                    turn = used[window]
                    used[window] += 1
                    if turn == len(rounds):
                        rounds.append(([], []))
                    offset = (abs(digit) - 1) * self.count + place
                    rounds[turn][0].append(k)
                    rounds[turn][1].append(offset if digit > 0 else offset + negative)
        return steps

    def sums(self, say: Say) -> list[Point | None]:
        for done, rounds in enumerate(self.steps):
            say(f"{100 * done // len(self.steps)} %")
            self._double()
            for rows, places in rounds:
                self._add(rows, places)
        return [tuple(c[k] for c in self.values) if self.finite[k] else None for k in range(self.rows)]

    def _double(self) -> None:
        rows = [k for k in range(self.rows) if self.finite[k]]
        if not rows:
            return
        columns: Columns = tuple([c[k] for k in rows] for c in self.values)
        for _ in range(DIGIT_BITS):
            columns = self.double_many(columns)
        self._store(rows, columns)

    def _add(self, rows: list[int], places: list[int]) -> None:
        fresh = [(k, place) for k, place in zip(rows, places, strict=True) if not self.finite[k]]
        both = [(k, place) for k, place in zip(rows, places, strict=True) if self.finite[k]]
        if both:
            kept = [k for k, _ in both]
            left = tuple([c[k] for k in kept] for c in self.values)
            right = tuple([c[place] for _, place in both] for c in self.table)
            sums, infinite = self.add_many(left, right)
            self._store(kept, sums)
            for i in infinite:
                self.finite[kept[i]] = 0
        for k, place in fresh:
            self.finite[k] = 1
            for column, source in zip(self.values, self.table, strict=True):
                column[k] = source[place]

    def _store(self, rows: list[int], columns: Columns) -> None:
        for column, fresh in zip(self.values, columns, strict=True):
            for k, value in zip(rows, fresh, strict=True):
                column[k] = value


def _digits(scalar: int) -> list[tuple[int, int]]:
    """(window, digit) of the digits that are not 0; of a scalar and its negative the smaller is written."""
    sign = 1
    if scalar > R - scalar:
        scalar, sign = R - scalar, -1
    digits, window = [], 0
    while scalar:
        digit = scalar & (2 * TABLE - 1)
        scalar >>= DIGIT_BITS
        if digit > TABLE:
            digit -= 2 * TABLE
            scalar += 1
        if digit:
            digits.append((window, sign * digit))
        window += 1
    return digits
