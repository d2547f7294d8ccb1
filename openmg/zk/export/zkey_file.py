"""The .zkey file of a proving key: snarkjs's binary format for Groth16, version 1.

    1 prover         u32 1 (Groth16)
    2 header         q | r | u32 wires, public wires, domain | alpha1 beta1 beta2 gamma2 delta1 delta2
    3 IC             4 coefficients   u32 entries, each: u32 matrix (0 A, 1 B), row, wire | coefficient
    5 A              6 B1             7 B2             8 L (snarkjs: C)             9 H
    10 contributions 64 bytes hash of the first key | u32 contributions

Rules: points are affine and in Montgomery form, coefficients times 2^512; the consistency rows stand among A's
coefficients. The keys, the domain and the pairing are those of our key; only H has another basis. We hold
tau^i Z(tau) / delta and multiply by the coefficients of the quotient; snarkjs multiplies by a b - c on the other half
of the domain of twice the size (w^(2i+1), w of order 2n), so its points are that domain's Lagrange polynomials:
L_(2i+1)(tau) / delta. Both sums are h(tau) Z(tau) / delta. From a seed's secrets that is one fixed-base product a point; from
a ceremony's key, whose secrets nobody knows, a transform of its H in the group. No contributions are written: the hash is
zeros, and `zkey verify`, which replays a ceremony of snarkjs's, has nothing to accept; ours are verified from their transcript.
Source: snarkjs 0.7, the comment and code of its zkey reader and writer. Not here: ceremonies (`openmg.zk.ceremony`).
"""

from __future__ import annotations

import struct

from openmg.zk import curve, ntt
from openmg.zk.ceremony.arithmetic import Arithmetic, Say, silent
from openmg.zk.ceremony.sparse import GROUP1, diagonal
from openmg.zk.ceremony.transform import scaled_lagrange
from openmg.zk.export.iden3 import binary_file, montgomery_points, montgomery_squared, prime_bytes
from openmg.zk.field import FR, Q, R, invert
from openmg.zk.groth16 import FixedBase, Toxic
from openmg.zk.proving_key import ProvingKeyFile
from openmg.zk.r1cs import ConstraintSystem

KIND = b"zkey"
VERSION = 1
GROTH16 = 1
TRANSCRIPT_HASH_BYTES = 64
HEADER_POINTS = ("alpha1", "beta1", "beta2", "gamma2", "delta1", "delta2")
POINT_SECTIONS = ((5, "A"), (6, "B1"), (7, "B2"), (8, "L"))


def odd_lagrange_points(key: ProvingKeyFile, toxic: Toxic, g1_fixed_base: FixedBase) -> bytes:
    """H in snarkjs's basis, 64 bytes a point as in `curve`; ValueError when the secrets are not those of the key."""
    delta = curve.multiply_g1(curve.G1, toxic.delta)
    if delta is None or curve.point_to_bytes(delta, curve.G1_BYTES) != key.section("delta1"):
        raise ValueError(f"the key {key.path} was not made from this seed; its H cannot be derived")
    on_double_domain = ntt.lagrange_at(toxic.tau, key.header.domain_log2 + 1)
    by_delta = invert(toxic.delta, R)
    return g1_fixed_base([value * by_delta % FR for value in on_double_domain[1::2]])


def odd_lagrange_points_of_ceremony(key: ProvingKeyFile, arithmetic: Arithmetic, say: Say = silent) -> bytes:
    """Points that give the same proofs as H in snarkjs's basis, 64 bytes each, from the key alone.

    On the odd nodes w^(2i+1), L_(2i+1) is -Z/2 times the Lagrange polynomial of these n nodes, of degree n - 1, while the key
    ends at tau^(n-2) Z(tau) / delta. The missing power is taken as 0. No proof can tell: what is multiplied with the points
    are the values of -2 h, whose degree is at most n - 2, so in the sum the coefficient of that power is 0 in any case.
    """
    log2 = key.header.domain_log2
    n = 1 << log2
    step = invert(ntt.root_of_unity(log2 + 1), R)
    factors = ntt.powers(step, n - 1, -invert(2 * n, R))  # by w^-k: from the odd nodes to the domain's own
    powers = arithmetic.combinations(GROUP1, key.section("H"), diagonal(factors), say)
    return scaled_lagrange(GROUP1, powers + bytes(GROUP1.size), log2, arithmetic, say)


def _coefficients(system: ConstraintSystem) -> bytes:
    """Section 4; row by row, A before B, then the consistency rows."""
    squared: dict[int, bytes] = {}
    entries = []
    for row in range(system.n_constraints):
        for number, matrix in enumerate((system.a, system.b)):
            for k in range(matrix.row_start[row], matrix.row_start[row + 1]):
                coefficient = int(matrix.coefficients[k])
                stored = squared.get(coefficient)
                if stored is None:
                    stored = squared[coefficient] = montgomery_squared(coefficient)
                entries.append(struct.pack("<3I", number, row, matrix.columns[k]) + stored)
    one = montgomery_squared(1)
    entries += [struct.pack("<3I", 0, system.n_constraints + i, i) + one for i in range(system.n_public + 1)]
    return struct.pack("<I", len(entries)) + b"".join(entries)


def zkey_bytes(key: ProvingKeyFile, h_points: bytes) -> bytes:
    """The whole file of a key, whose H in snarkjs's basis is `h_points`; ValueError when they are not one a row."""
    header = key.header
    domain = 1 << header.domain_log2
    if len(h_points) != domain * curve.G1_BYTES:
        raise ValueError(f"H has {len(h_points)} bytes; a domain of {domain} rows needs {domain * curve.G1_BYTES}")
    sizes = struct.pack("<3I", header.n_wires, header.n_public, domain)
    points = montgomery_points(b"".join([key.section(name) for name in HEADER_POINTS]))
    sections = [
        (1, struct.pack("<I", GROTH16)),
        (2, prime_bytes(Q) + prime_bytes(R) + sizes + points),
        (3, montgomery_points(key.section("IC"))),
        (4, _coefficients(key.constraint_system())),
        *((number, montgomery_points(key.section(name))) for number, name in POINT_SECTIONS),
        (9, montgomery_points(h_points)),
        (10, bytes(TRANSCRIPT_HASH_BYTES) + struct.pack("<I", 0)),
    ]
    return binary_file(KIND, VERSION, sections)
