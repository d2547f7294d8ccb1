"""Rank-1 constraint systems from one circuit function run in two modes.

A circuit is a function over a `Builder`. `MatrixBuilder` runs it once, on linear combinations, and yields the matrices;
`WitnessBuilder` runs it for every proof, on integers, and yields the wires' values. Rules: wire 0 is the constant one,
public wires come first, and the structure never depends on a value (a circuit may look at values only to compute hints,
through `hint`). The witness builder checks every constraint as it goes, so that a false statement fails with its name.
Not here: gadgets (`gadgets`), statements (`circuits`), the proof system (`groth16`).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from openmg.hashing import keccak256
from openmg.zk.field import FELT_BYTES, FR, R, fast

S = TypeVar("S")

MAX_CONSTRAINTS = 1 << 20
"""Bound on one circuit; the largest planned statement has about 2^16."""

CIRCUIT_TAG = b"openmg.zk.circuit.v1\0"


class UnsatisfiedError(ValueError):
    """The values contradict the statement; the text names the rule that fails."""


class Builder(Protocol[S]):
    """What a circuit function may do with signals of type S."""

    @property
    def one(self) -> S:
        """The constant one."""

    def public(self, value: int) -> S:
        """A new public wire; all of them come before the first other wire."""

    def private(self, value: int) -> S:
        """A new private wire with a value of the prover's choice."""

    def linear(self, terms: Iterable[tuple[int, S]], constant: int = 0) -> S:
        """The sum of factor * signal, plus a constant; costs no constraint."""

    def multiply(self, left: S, right: S) -> S:
        """A new wire constrained to the product."""

    def enforce(self, left: S, right: S, product: S, rule: str) -> None:
        """Constrain left * right = product; `rule` says in words what that means."""

    def hint(self, compute: Callable[..., int], *signals: S) -> S:
        """A new private wire whose value is computed from others; nothing is constrained by it."""


Terms = dict[int, int]


class MatrixBuilder:
    """Signals are linear combinations of wires: wire number -> coefficient."""

    def __init__(self) -> None:
        self.wires = 1
        self.public_wires = 0
        self.rows: tuple[list[Terms], list[Terms], list[Terms]] = ([], [], [])
        self.rules: list[str] = []

    @property
    def one(self) -> Terms:
        return {0: 1}

    def _new(self) -> Terms:
        self.wires += 1
        return {self.wires - 1: 1}

    def public(self, value: int) -> Terms:
        if self.wires != self.public_wires + 1:
            raise ValueError("a public wire was declared after a private one; declare public wires first")
        self.public_wires += 1
        return self._new()

    def private(self, value: int) -> Terms:
        return self._new()

    def linear(self, terms: Iterable[tuple[int, Terms]], constant: int = 0) -> Terms:
        result: Terms = {0: constant % R} if constant else {}
        for factor, signal in terms:
            for wire, coefficient in signal.items():
                result[wire] = (result.get(wire, 0) + factor * coefficient) % FR
        return {wire: coefficient for wire, coefficient in result.items() if coefficient}

    def _row(self, left: Terms, right: Terms, product: Terms, rule: str) -> None:
        if len(self.rules) >= MAX_CONSTRAINTS:
            raise ValueError(f"the circuit has more than {MAX_CONSTRAINTS} constraints; split the statement")
        for matrix, row in zip(self.rows, (left, right, product), strict=True):
            matrix.append(row)
        self.rules.append(rule)

    def multiply(self, left: Terms, right: Terms) -> Terms:
        product = self._new()
        self._row(left, right, product, "product")
        return product

    def enforce(self, left: Terms, right: Terms, product: Terms, rule: str) -> None:
        self._row(left, right, product, rule)

    def hint(self, compute: Callable[..., int], *signals: Terms) -> Terms:
        return self._new()


class WitnessBuilder:
    """Signals are integers; `check=False` builds false witnesses too, for tests that try to cheat."""

    def __init__(self, check: bool = True) -> None:
        self.witness: list[int] = [fast(1)]
        self.check = check
        self._one = self.witness[0]

    @property
    def one(self) -> int:
        return self._one

    def public(self, value: int) -> int:
        return self.private(value)

    def private(self, value: int) -> int:
        value = fast(value) % FR
        self.witness.append(value)
        return value

    def linear(self, terms: Iterable[tuple[int, int]], constant: int = 0) -> int:
        for factor, signal in terms:  # mostly one to three: a sum over a list takes a fifth longer
            constant += factor * signal
        return constant % FR

    def multiply(self, left: int, right: int) -> int:
        product = left * right % FR
        self.witness.append(product)
        return product

    def enforce(self, left: int, right: int, product: int, rule: str) -> None:
        if self.check and (left * right - product) % FR:
            raise UnsatisfiedError(f"the statement is false: {rule}")

    def hint(self, compute: Callable[..., int], *signals: int) -> int:
        return self.private(compute(*signals))


@dataclass(frozen=True)
class Matrix:
    """One sparse matrix by rows: row k holds entries row_start[k] to row_start[k + 1]."""

    row_start: array[int]
    columns: array[int]
    coefficients: list[int]

    @property
    def rows(self) -> int:
        return len(self.row_start) - 1

    def times(self, witness: Sequence[int]) -> list[int]:
        """The product with a column of wire values, one integer modulo r per row."""
        products = [c * witness[k] for c, k in zip(self.coefficients, self.columns, strict=True)]
        starts = self.row_start
        return [sum(products[starts[k] : starts[k + 1]]) % FR for k in range(self.rows)]


@dataclass(frozen=True)
class ConstraintSystem:
    """The matrices of a circuit: (A w) * (B w) = C w for every witness w; `n_public` leaves out the constant one."""

    n_wires: int
    n_public: int
    a: Matrix
    b: Matrix
    c: Matrix
    rules: tuple[str, ...] = ()

    @property
    def n_constraints(self) -> int:
        return self.a.rows

    @property
    def domain_log2(self) -> int:
        """Log2 of the evaluation domain, which also holds one consistency row per public wire and the constant."""
        return max(1, (self.n_constraints + self.n_public).bit_length())

    def first_unsatisfied(self, witness: Sequence[int]) -> int | None:
        """The first constraint that the wire values break, or None."""
        if len(witness) != self.n_wires or witness[0] != 1:
            raise ValueError(f"a witness of this circuit has {self.n_wires} wires and starts with 1")
        left, right, product = (matrix.times(witness) for matrix in (self.a, self.b, self.c))
        for k in range(self.n_constraints):
            if (left[k] * right[k] - product[k]) % FR:
                return k
        return None


def u32_bytes(values: Iterable[int]) -> bytes:
    """Little-endian 32-bit words."""
    words = array("I", values)
    if words.itemsize != 4:  # pragma: no cover - no CPython platform of ours
        raise RuntimeError("this platform has no 32-bit unsigned array")
    return words.tobytes() if _LITTLE else _swapped(words).tobytes()


def u32_array(data: bytes) -> array[int]:
    words = array("I")
    words.frombytes(data)
    return words if _LITTLE else _swapped(words)


def _swapped(words: array[int]) -> array[int]:  # pragma: no cover - big-endian machines
    result = array("I", words)
    result.byteswap()
    return result


_LITTLE = array("I", [1]).tobytes()[0] == 1


def matrix_bytes(matrix: Matrix) -> bytes:
    """u32 rows, u32 entries, row starts, columns, coefficients (32 bytes little-endian each)."""
    coefficients = b"".join([int(c).to_bytes(FELT_BYTES, "little") for c in matrix.coefficients])
    head = u32_bytes([matrix.rows, len(matrix.columns)])
    return head + u32_bytes(matrix.row_start) + u32_bytes(matrix.columns) + coefficients


def system_bytes(system: ConstraintSystem) -> bytes:
    """The matrices A, B, C in their one canonical form."""
    return b"".join(matrix_bytes(matrix) for matrix in (system.a, system.b, system.c))


def circuit_hash(system: ConstraintSystem) -> bytes:
    """keccak256 over tag, wire count, public count and the canonical matrices; names the statement and its keys."""
    return keccak256(CIRCUIT_TAG + u32_bytes([system.n_wires, system.n_public]) + system_bytes(system))


def _compressed(rows: Sequence[Terms]) -> Matrix:
    starts, columns, coefficients = array("I", [0]), array("I"), []
    for row in rows:
        for wire in sorted(row):
            columns.append(wire)
            coefficients.append(row[wire])
        starts.append(len(columns))
    return Matrix(starts, columns, coefficients)


def system_of(builder: MatrixBuilder) -> ConstraintSystem:
    """The matrices that a finished circuit function left in the builder."""
    a, b, c = (_compressed(rows) for rows in builder.rows)
    return ConstraintSystem(builder.wires, builder.public_wires, a, b, c, tuple(builder.rules))
