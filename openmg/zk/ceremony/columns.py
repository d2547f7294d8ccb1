"""A circuit's polynomials, as matrices over points and as random sums of them.

Wire i has u_i, v_i, w_i: the polynomials whose values on the domain are its column of A, B and C; after the constraint
rows stand the consistency rows of `groth16`. Key section A holds u_i(tau), B1 and B2 hold v_i(tau), and IC and L hold
beta u_i + alpha v_i + w_i. Rules: pure. Not here: points.
"""

from __future__ import annotations

from dataclasses import dataclass

from openmg.zk import ntt
from openmg.zk.ceremony.sparse import matrix_of, transposed
from openmg.zk.field import R, fast, invert
from openmg.zk.r1cs import ConstraintSystem, Matrix


def _with_consistency(system: ConstraintSystem) -> Matrix:
    a = system.a
    starts = a.row_start[:]
    columns = a.columns[:]
    for wire in range(system.n_public + 1):
        columns.append(wire)
        starts.append(len(columns))
    return Matrix(starts, columns, [*a.coefficients, *([fast(1)] * (system.n_public + 1))])


@dataclass(frozen=True)
class Columns:
    """The matrices A (with consistency rows), B and C of one circuit, seen by wire."""

    system: ConstraintSystem
    a: Matrix
    b: Matrix
    c: Matrix

    @staticmethod
    def of(system: ConstraintSystem) -> Columns:
        return Columns(system, _with_consistency(system), system.b, system.c)

    @property
    def domain(self) -> int:
        return 1 << self.system.domain_log2

    def wires(self, *names: str) -> set[int]:
        """The wires that occur in any of the matrices; the others' polynomials are zero."""
        return {wire for name in names for wire in getattr(self, name).columns}

    def by_wire(self, name: str) -> Matrix:
        """Row i takes n L_k(tau) to the polynomial of wire i at tau."""
        return self._scaled(transposed([(0, getattr(self, name))], self.system.n_wires))

    def mixed_by_wire(self) -> Matrix:
        """Row i takes n beta L_k, n alpha L_k, n L_k (one list of 3n points) to beta u_i + alpha v_i + w_i."""
        n = self.domain
        return self._scaled(transposed([(0, self.a), (n, self.b), (2 * n, self.c)], self.system.n_wires))

    def _scaled(self, rows: list[list[tuple[int, int]]]) -> Matrix:
        scale = invert(self.domain, R)
        return matrix_of([[(k, value * scale % R) for k, value in row] for row in rows])

    def coefficients(self, name: str, factors: list[int]) -> list[int]:
        """The coefficients, lowest first, of the sum of factor_i times the polynomial of wire i."""
        log2 = self.system.domain_log2
        values = [fast(value) for value in getattr(self, name).times(factors)]
        values += [fast(0)] * (self.domain - len(values))
        scale = invert(self.domain, R)
        result = [0] * self.domain
        for exponent, value in zip(ntt.bit_reversed(log2), ntt.scaled_coefficients(values, log2), strict=True):
            result[exponent] = value * scale % R
        return result
