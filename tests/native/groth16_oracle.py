"""An independent Groth16 for the tests of the native prover: plain integers, no FFT, no multi-scalar multiplication.

It knows the toxic scalars, so it computes every point of a key and of a proof as a scalar times the generator: a proof
of the native module has to equal `Setup.proof_scalars` times the generators, byte for byte. The scalars come from the
definition (Groth 2016, section 3.2): Lagrange polynomials at tau by their closed form, the quotient by division.

Not here: curve arithmetic. Callers pass the two fixed-base multiplications (py_ecc's or the module's own).
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

R = 21888242871839275222246405745257275088548364400416034343698204186575808495617
"""Order of BN254 (EIP-197)."""
GENERATOR = 5
"""Multiplicative generator of the scalar field that fixes every domain's root."""
MAGIC = b"OMGPK\0\0\1"

Row = dict[int, int]
Multiply = Callable[[Sequence[int]], bytes]
"""Scalars to their points, in key-file form."""


@dataclass(frozen=True)
class Circuit:
    """Constraint i is (a[i] . w) * (b[i] . w) = c[i] . w; rows map wires to coefficients."""

    n_wires: int
    n_public: int
    a: list[Row]
    b: list[Row]
    c: list[Row]

    @property
    def domain_log2(self) -> int:
        return (len(self.a) + self.n_public).bit_length()


@dataclass(frozen=True)
class KeyFile:
    """A key file cut into named sections, so that a test can damage one of them."""

    sections: dict[str, bytes]

    def bytes(self, **replaced: bytes) -> bytes:
        return b"".join({**self.sections, **replaced}.values())


def le(values: Sequence[int]) -> bytes:
    """32 little-endian bytes for each value."""
    return b"".join(value.to_bytes(32, "little") for value in values)


def dot(row: Row, witness: Sequence[int]) -> int:
    return sum(coeff * witness[wire] for wire, coeff in row.items()) % R


def cubic(constraints: int) -> Circuit:
    """x^3 + x + 5 = y with wires [1, y, x, x^2, x^3]; the padding repeats the three constraints with other factors."""
    square = ({2: 1}, {2: 1}, {3: 1})
    cube = ({3: 1}, {2: 1}, {4: 1})
    total = ({0: 5, 2: 1, 4: 1}, {0: 1}, {1: 1})
    rows = []
    for i in range(constraints):
        a, b, c = (square, cube, total)[i % 3]
        scale = i // 3 + 1
        rows.append(({w: k * scale % R for w, k in a.items()}, b, {w: k * scale % R for w, k in c.items()}))
    return Circuit(5, 1, [a for a, _, _ in rows], [b for _, b, _ in rows], [c for _, _, c in rows])


def cubic_witness(x: int) -> list[int]:
    return [1, (x**3 + x + 5) % R, x % R, x * x % R, x**3 % R]


def random_circuit(
    constraints: int, n_public: int, *, seed: int, width: int = 4
) -> tuple[Circuit, list[int]]:
    """Products of random combinations of earlier wires, with small and full-size values, zero and equal columns."""
    rng = random.Random(seed)
    witness = [1] + [
        rng.choice([0, 1, rng.randrange(1 << 64), rng.randrange(R)]) for _ in range(n_public + 8)
    ]
    rows: tuple[list[Row], list[Row], list[Row]] = ([], [], [])

    def combination() -> Row:
        pool = range(max(0, len(witness) - 200), len(witness))
        return {rng.choice(pool): rng.choice([1, R - 1, rng.randrange(R)]) for _ in range(width)}

    for i in range(constraints):
        # Every fifth constraint copies a bit, as range checks do; the copy's column is zero in all matrices but C.
        a, b = ({len(witness) - 1: 1}, {0: 1}) if i % 5 == 4 else (combination(), combination())
        if i % 7 == 3:
            a, b = {0: rng.randrange(2)}, {0: 1}
        witness.append(dot(a, witness) * dot(b, witness) % R)
        for matrix, row in zip(rows, (a, b, {len(witness) - 1: 1}), strict=True):
            matrix.append(row)
    return Circuit(len(witness), n_public, *rows), witness


@dataclass(frozen=True)
class Setup:
    """The toxic scalars of a key and what follows from them."""

    circuit: Circuit
    tau: int
    alpha: int
    beta: int
    gamma: int
    delta: int

    @classmethod
    def from_seed(cls, circuit: Circuit, seed: int) -> Setup:
        rng = random.Random(seed)
        return cls(circuit, *(rng.randrange(2, R) for _ in range(5)))

    @property
    def vanishing(self) -> int:
        return (pow(self.tau, 1 << self.circuit.domain_log2, R) - 1) % R

    def columns(self) -> tuple[list[int], list[int], list[int]]:
        """u, v and w of every wire at tau, consistency rows included."""
        size = 1 << self.circuit.domain_log2
        root = pow(GENERATOR, (R - 1) // size, R)
        lagrange, point = [], 1
        for _ in range(size):
            lagrange.append(self.vanishing * point % R * pow(size * (self.tau - point), -1, R) % R)
            point = point * root % R
        circuit = self.circuit
        u, v, w = ([0] * circuit.n_wires for _ in range(3))
        consistency = [{wire: 1} for wire in range(circuit.n_public + 1)]
        for column, matrix in ((u, circuit.a + consistency), (v, circuit.b), (w, circuit.c)):
            for value, row in zip(lagrange, matrix, strict=False):
                for wire, coeff in row.items():
                    column[wire] = (column[wire] + coeff * value) % R
        return u, v, w

    def key_file(self, multiply_g1: Multiply, multiply_g2: Multiply, circuit_hash: bytes) -> KeyFile:
        circuit = self.circuit
        u, v, w = self.columns()
        mixed = [(self.beta * a + self.alpha * b + c) % R for a, b, c in zip(u, v, w, strict=True)]
        public, size = circuit.n_public, 1 << circuit.domain_log2
        per_gamma, per_delta = pow(self.gamma, -1, R), pow(self.delta, -1, R)
        h = [pow(self.tau, i, R) * self.vanishing % R * per_delta % R for i in range(size - 1)]
        sections = {
            "magic": MAGIC,
            "circuit_hash": circuit_hash,
            "sizes": struct.pack("<4I", circuit.n_wires, public, circuit.domain_log2, len(circuit.a)),
            "g1": multiply_g1([self.alpha, self.beta, self.delta]),
            "g2": multiply_g2([self.beta, self.gamma, self.delta]),
            "A": multiply_g1(u),
            "B1": multiply_g1(v),
            "B2": multiply_g2(v),
            "L": multiply_g1([k * per_delta % R for k in mixed[public + 1 :]]),
            "H": multiply_g1(h),
            "IC": multiply_g1([k * per_gamma % R for k in mixed[: public + 1]]),
        }
        for name, matrix in (("a", circuit.a), ("b", circuit.b), ("c", circuit.c)):
            sections |= {f"{name}_{part}": value for part, value in _matrix_sections(matrix).items()}
        return KeyFile(sections)

    def proof_scalars(self, witness: Sequence[int], r: int, s: int) -> tuple[int, int, int]:
        """Discrete logarithms of A, B and C. The witness has to satisfy the circuit."""
        u, v, w = self.columns()
        at_tau = [sum(x * y for x, y in zip(column, witness, strict=True)) % R for column in (u, v, w)]
        a = (self.alpha + at_tau[0] + r * self.delta) % R
        b = (self.beta + at_tau[1] + s * self.delta) % R
        private = sum(
            value * (self.beta * u[i] + self.alpha * v[i] + w[i])
            for i, value in enumerate(witness)
            if i > self.circuit.n_public
        )
        quotient_times_vanishing = at_tau[0] * at_tau[1] - at_tau[2]
        c = (private + quotient_times_vanishing) * pow(self.delta, -1, R) + s * a + r * b - r * s * self.delta
        return a, b, c % R


def evm_proof(a: bytes, b: bytes, c: bytes) -> bytes:
    """Points in key-file form to the 256 bytes that the EVM reads."""

    def reverse(point: bytes, order: Sequence[int]) -> bytes:
        return b"".join(point[32 * i : 32 * i + 32][::-1] for i in order)

    return reverse(a, (0, 1)) + reverse(b, (1, 0, 3, 2)) + reverse(c, (0, 1))


def _matrix_sections(matrix: list[Row]) -> dict[str, bytes]:
    pointers, entries = [0], []
    for row in matrix:
        entries += sorted(row.items())
        pointers.append(len(entries))
    return {
        "sizes": struct.pack("<2I", len(matrix), len(entries)),
        "rows": struct.pack(f"<{len(pointers)}I", *pointers),
        "columns": struct.pack(f"<{len(entries)}I", *(wire for wire, _ in entries)),
        "coefficients": le([coeff for _, coeff in entries]),
    }
