"""Groth16 (Eurocrypt 2016) over BN254 in Python: set-up from a seed, proving, verification.

Conventions that both backends share: after the constraint rows stand consistency rows A[i] = wire i for the constant
and every public wire (they keep public inputs linearly independent); the domain is the smallest subgroup of 2^k rows;
H[i] = tau^i Z(tau) / delta. With equal r and s every backend writes the same proof.
Rules: pure functions; whoever proves draws r and s freshly from the system's randomness (`prove` is told them).
The set-up here knows all secrets: its keys are for development. Not here: files and caches (`keys`), threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from openmg.hashing import keccak256
from openmg.zk import curve, msm, ntt
from openmg.zk.curve import G1_BYTES, G2_BYTES, G1Point, G2Point, PointError
from openmg.zk.field import FELT_BYTES, FQ, FR, R, fast, fast_list, invert, reduce_wide
from openmg.zk.pairing import product_is_one
from openmg.zk.proof import Proof, VerifyingKey
from openmg.zk.proving_key import KeyHeader, ProvingKeyFile, key_file_bytes
from openmg.zk.r1cs import ConstraintSystem, UnsatisfiedError, circuit_hash, system_bytes

FixedBase = Callable[[Sequence[int]], bytes]
"""Scalars to the bytes of that many multiples of a generator."""

SETUP_TAG = b"openmg.zk.setup.v1\0"


@dataclass(frozen=True)
class Toxic:
    """The secrets of a set-up; whoever knows them can forge."""

    tau: int
    alpha: int
    beta: int
    gamma: int
    delta: int

    @staticmethod
    def from_seed(seed: bytes, circuit: bytes) -> Toxic:
        """Hash to field of seed, circuit hash and name; the same everywhere."""

        def element(name: str) -> int:
            material = SETUP_TAG + keccak256(seed) + circuit + name.encode("ascii")
            return 1 + reduce_wide(keccak256(material + b"\0") + keccak256(material + b"\1")) % (R - 1)

        return Toxic(*(element(name) for name in ("tau", "alpha", "beta", "gamma", "delta")))


def _qap_at(system: ConstraintSystem, tau: int) -> tuple[list[int], list[int], list[int]]:
    """u_i(tau), v_i(tau), w_i(tau) for every wire i."""
    lagrange = ntt.lagrange_at(tau, system.domain_log2)
    columns: list[list[int]] = []
    for matrix in (system.a, system.b, system.c):
        column = [fast(0)] * system.n_wires
        for k in range(matrix.rows):
            at_row = lagrange[k]
            for j in range(matrix.row_start[k], matrix.row_start[k + 1]):
                wire = matrix.columns[j]
                column[wire] = (column[wire] + matrix.coefficients[j] * at_row) % FR
        columns.append(column)
    for i in range(system.n_public + 1):
        columns[0][i] = (columns[0][i] + lagrange[system.n_constraints + i]) % FR
    return columns[0], columns[1], columns[2]


def _cut(data: bytes, sizes: Sequence[tuple[str, int]]) -> dict[str, bytes]:
    parts, start = {}, 0
    for name, length in sizes:
        parts[name] = data[start : start + length]
        start += length
    return parts


def setup(system: ConstraintSystem, seed: bytes, g1_fixed_base: FixedBase, g2_fixed_base: FixedBase) -> bytes:
    """The proving-key file for a circuit and a seed, byte-identical for every backend."""
    circuit = circuit_hash(system)
    toxic = Toxic.from_seed(seed, circuit)
    u, v, w = _qap_at(system, toxic.tau)
    public, domain = system.n_public + 1, 1 << system.domain_log2
    mixed = [(toxic.beta * a + toxic.alpha * b + c) % FR for a, b, c in zip(u, v, w, strict=True)]
    by_gamma, by_delta = invert(toxic.gamma, R), invert(toxic.delta, R)
    vanishing = (pow(toxic.tau, domain, R) - 1) * by_delta % R
    scalars1: list[tuple[str, list[int]]] = [
        ("alpha1", [toxic.alpha]), ("beta1", [toxic.beta]), ("delta1", [toxic.delta]),
        ("A", u), ("B1", v), ("L", [k * by_delta % FR for k in mixed[public:]]),
        ("H", ntt.powers(toxic.tau, domain - 1, vanishing)), ("IC", [k * by_gamma % FR for k in mixed[:public]]),
    ]  # fmt: skip
    scalars2 = [("beta2", [toxic.beta]), ("gamma2", [toxic.gamma]), ("delta2", [toxic.delta]), ("B2", v)]
    points: dict[str, bytes] = {}
    for scalars, size, fixed_base in ((scalars1, G1_BYTES, g1_fixed_base), (scalars2, G2_BYTES, g2_fixed_base)):
        data = fixed_base([value for _, values in scalars for value in values])
        points |= _cut(data, [(name, len(values) * size) for name, values in scalars])
    header = KeyHeader(circuit, system.n_wires, system.n_public, system.domain_log2, system.n_constraints)
    return key_file_bytes(header, points, system_bytes(system))


def quotient(system: ConstraintSystem, witness: Sequence[int]) -> list[int]:
    """The coefficients of h = (a b - c) / Z; UnsatisfiedError when the witness breaks a constraint."""
    log2 = system.domain_log2
    n = 1 << log2
    rows = [matrix.times(witness) for matrix in (system.a, system.b, system.c)]
    for k, (a, b, c) in enumerate(zip(*rows, strict=True)):
        if (a * b - c) % FR:
            raise UnsatisfiedError(f"the witness breaks constraint {k} of the circuit; nothing was proved")
    idle = n - system.n_constraints
    rows[0] += [*witness[: system.n_public + 1], *([fast(0)] * (idle - system.n_public - 1))]
    rows[1] += [fast(0)] * idle
    rows[2] += [fast(0)] * idle
    order = ntt.bit_reversed(log2)
    scale = invert(n, R)
    shift = ntt.powers(ntt.GENERATOR, n, scale)
    shifts = [shift[i] for i in order]
    on_coset = []
    for row in rows:
        coefficients = ntt.scaled_coefficients(row, log2)
        on_coset.append(ntt.evaluations([c * s % FR for c, s in zip(coefficients, shifts, strict=True)], log2))
    inverse_z = invert(pow(ntt.GENERATOR, n, R) - 1, R)
    values = [(a * b - c) % FR * inverse_z % FR for a, b, c in zip(*on_coset, strict=True)]
    back = ntt.powers(invert(ntt.GENERATOR, R), n, scale)
    result = [fast(0)] * n
    for exponent, value in zip(order, ntt.scaled_coefficients(values, log2), strict=True):
        result[exponent] = value * back[exponent] % FR
    return result[: n - 1]


class PortableProver:
    """Proves with one key; the key's points are read when they are needed and not kept."""

    def __init__(self, key: ProvingKeyFile) -> None:
        self.key = key
        self.circuit_hash = key.header.circuit_hash

    def _g1(self, name: str) -> G1Point:
        point = curve.g1_from_bytes(self.key.section(name))
        if point is None:
            raise PointError(f"the proving key's {name} is infinity; make the keys again")
        return point

    def _g2(self, name: str) -> G2Point:
        point = curve.g2_from_bytes(self.key.section(name))
        if point is None:
            raise PointError(f"the proving key's {name} is infinity; make the keys again")
        return point

    def _points(self, name: str, offset: int = 0) -> msm.Points:
        return msm.points_from_bytes(self.key.section(name), 4 if name == "B2" else 2, offset)

    def prove(self, witness: Sequence[int], r: int, s: int) -> Proof:
        """A proof for a witness that satisfies the circuit (UnsatisfiedError otherwise); 0 <= r, s < r of the field."""
        header = self.key.header
        if len(witness) != header.n_wires:
            raise ValueError(f"a witness of this circuit has {header.n_wires} wires, not {len(witness)}")
        values = fast_list(witness)
        h = quotient(self.key.constraint_system(), values)
        delta1, beta1 = self._g1("delta1"), self._g1("beta1")
        # A = alpha + sum a_i + r delta
        sum_a = msm.sum_of_multiples(self._points("A"), values)
        a = curve.add_g1(curve.add_g1(_as_g1(sum_a), self._g1("alpha1")), curve.multiply_g1(delta1, r))
        # B = beta + sum b_i + s delta
        sum_b = msm.sum_of_multiples(self._points("B2"), values)
        b = curve.add_g2(curve.add_g2(_as_g2(sum_b), self._g2("beta2")), curve.multiply_g2(self._g2("delta2"), s))
        # C = sum l_i + sum h_i + s A + r B1 - r s delta, where r B1 = r beta + r sum b_i + r s delta: one sum does it.
        parts = msm.joined(
            self._points("L", header.n_public + 1),
            self._points("H", header.n_wires),
            self._points("B1", header.n_wires + len(h)),
        )
        total = msm.sum_of_multiples(parts, [*values, *h, *(r * value % FR for value in values)])
        c = curve.add_g1(_as_g1(total), curve.add_g1(curve.multiply_g1(a, s), curve.multiply_g1(beta1, r)))
        if a is None or b is None or c is None:
            raise PointError("a proof element came out as infinity; draw other r and s and prove again")
        return Proof(a, b, c)


def _as_g1(point: tuple[int, ...] | None) -> G1Point | None:
    return None if point is None else (point[0], point[1])


def _as_g2(point: tuple[int, ...] | None) -> G2Point | None:
    return None if point is None else (point[0], point[1], point[2], point[3])


def verify(key: VerifyingKey, publics: Sequence[int], proof: bytes) -> bool:
    """Whether the proof shows the statement for these public inputs; False for anything malformed."""
    if len(publics) != key.n_public or not all(0 <= value < R for value in publics):
        return False
    try:
        parsed = Proof.from_bytes(proof)
    except PointError:
        return False
    inputs: G1Point | None = key.ic[0]
    for point, value in zip(key.ic[1:], publics, strict=True):
        inputs = curve.add_g1(inputs, curve.multiply_g1(point, value))
    negated = (parsed.a[0], -parsed.a[1] % FQ)
    pairs = [(negated, parsed.b), (key.alpha1, key.beta2), (parsed.c, key.delta2)]
    if inputs is not None:
        pairs.append((inputs, key.gamma2))
    return product_is_one(pairs)


def g1_fixed_base(scalars: Sequence[int]) -> bytes:
    """The portable `FixedBase` of G1."""
    return b"".join([curve.point_to_bytes(point, G1_BYTES) for point in msm.multiples_of_g1(scalars)])


def g2_fixed_base(scalars: Sequence[int]) -> bytes:
    """The portable `FixedBase` of G2."""
    return b"".join([curve.point_to_bytes(point, G2_BYTES) for point in msm.multiples_of_g2(scalars)])


def felts_to_bytes(values: Sequence[int]) -> bytes:
    """32 bytes little-endian each, as the native module takes scalars."""
    return b"".join([int(value).to_bytes(FELT_BYTES, "little") for value in values])
