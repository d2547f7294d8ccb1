"""What the ceremony tests share: a circuit of four constraints, a ceremony with known secrets, tampering, an oracle.

The oracle computes a key's points by definition from the known secrets: Lagrange polynomials as products, multiples of
the generators by py_ecc. It shares no arithmetic with the package.
"""

from __future__ import annotations

import random
from dataclasses import replace

from py_ecc import optimized_bn128 as ecc

from openmg.zk.ceremony import phase1, phase2
from openmg.zk.ceremony.arithmetic import silent
from openmg.zk.ceremony.entries import context
from openmg.zk.ceremony.randomness import beacon_scalar
from openmg.zk.ceremony.sparse import Group, bytes_of, point_of
from openmg.zk.ceremony.transcript import Transcript, powers_sizes, state_digest
from openmg.zk.curve import add_g1, add_g2
from openmg.zk.field import R
from openmg.zk.r1cs import MatrixBuilder, WitnessBuilder, system_of

NAMES = ("Ada", "Bea", "Cho")
BEACON, BEACON_LOG2 = bytes(range(32)), 4
LOG2 = 3


def cube_circuit(builder, out, x, constant=5):
    """out = x^3 + x + 5, and a wire that no constraint of B or C mentions more than it must."""
    y, x = builder.public(out), builder.private(x)
    cube = builder.multiply(builder.multiply(x, x), x)
    builder.enforce(builder.linear([(1, cube), (1, x)], constant), builder.one, y, "out = x^3 + x + 5")


def cube_system(constant=5):
    builder = MatrixBuilder()
    cube_circuit(builder, 0, 0, constant)
    return system_of(builder)


def cube_wires(x):
    builder = WitnessBuilder()
    cube_circuit(builder, x**3 + x + 5, x)
    return builder.witness


class Known:
    """A ceremony of three parties whose secrets the test keeps."""

    def __init__(self, arithmetic, seed=1, log2=LOG2):
        self.random, self.arithmetic = random.Random(seed), arithmetic
        self.system = cube_system()
        self.tau = self.alpha = self.beta = self.delta = 1
        self.started = phase1.start(log2)
        self.powers = self.started
        for name in NAMES:
            self.powers = self.add_tau(self.powers, name)
        self.prepared = phase2.prepare(self.powers, "cube", self.system, arithmetic, silent)
        self.open = self.prepared
        for name in NAMES:
            self.open = self.add_delta(self.open, name)
        self.final = self.apply_beacon(self.open)
        self.delta = self.delta * beacon_scalar(BEACON, BEACON_LOG2, context(self.open.tip, "beacon", "beacon")) % R

    def scalar(self):
        return self.random.randrange(2, R)

    def add_tau(self, transcript, name):
        secret = phase1.TauSecrets(*(self.scalar() for _ in range(3)), tuple(self.scalar() for _ in range(3)))
        self.tau, self.alpha = self.tau * secret.tau % R, self.alpha * secret.alpha % R
        self.beta = self.beta * secret.beta % R
        return phase1.contribute(transcript, name, secret, self.arithmetic, silent)

    def add_delta(self, transcript, name, delta=None):
        secret = phase2.DeltaSecret(delta or self.scalar(), self.scalar())
        self.delta = self.delta * secret.delta % R
        return phase2.contribute(transcript, name, secret, self.arithmetic, silent)

    def apply_beacon(self, transcript):
        return phase2.apply_beacon(transcript, "beacon", BEACON, BEACON_LOG2, self.arithmetic, silent)


# Tampering


def restamped(transcript: Transcript) -> Transcript:
    """The last entry's digest made to fit again, as whoever tampers would do."""
    if transcript.deltas:
        *rest, last = transcript.deltas
        return replace(transcript, deltas=(*rest, replace(last, state=transcript.state())))
    if transcript.taus and transcript.subject is None:
        *rest, last = transcript.taus
        powers = {name: transcript.sections[name] for name in powers_sizes(transcript.log2)}
        return replace(transcript, taus=(*rest, replace(last, state=state_digest(powers))))
    return transcript


def with_section(transcript: Transcript, name: str, data: bytes) -> Transcript:
    return restamped(replace(transcript, sections=transcript.sections | {name: data}))


def with_point(transcript: Transcript, group: Group, name: str, index: int, data: bytes) -> Transcript:
    """One point of a section replaced."""
    old, start = transcript.sections[name], index * group.size
    return with_section(transcript, name, old[:start] + data + old[start + group.size :])


def moved_point(transcript: Transcript, group: Group, name: str, index: int) -> Transcript:
    """One point of a section plus a generator: still a point of the group, only another."""
    add = add_g1 if group.coordinates == 2 else add_g2
    point = add(point_of(group, transcript.sections[name], index), group.generator)
    return with_point(transcript, group, name, index, bytes_of(group, [point]))


# The oracle


def ecc_g1(scalars):
    points = [ecc.normalize(ecc.multiply(ecc.G1, s % R)) if s % R else None for s in scalars]
    return b"".join(bytes(64) if p is None else b"".join(int(c).to_bytes(32, "little") for c in p) for p in points)


def ecc_g2(scalars):
    points = [ecc.normalize(ecc.multiply(ecc.G2, s % R)) if s % R else None for s in scalars]
    coordinates = [[] if p is None else [int(c) for c in (*p[0].coeffs, *p[1].coeffs)] for p in points]
    return b"".join(b"".join(c.to_bytes(32, "little") for c in p) if p else bytes(128) for p in coordinates)


def lagrange_products(tau, log2):
    """L_k(tau) as the product of (tau - w^j) / (w^k - w^j) over the other j."""
    n = 1 << log2
    nodes = [pow(5, (R - 1) // n * k, R) for k in range(n)]
    values = []
    for k in range(n):
        value = 1
        for j in range(n):
            if j != k:
                value = value * (tau - nodes[j]) * pow(nodes[k] - nodes[j], -1, R) % R
        values.append(value)
    return values


def naive_key(system, tau, alpha, beta, delta):
    """Every point section of the key, by definition (Groth 2016, section 3.2, with gamma = 1)."""
    log2 = system.domain_log2
    lagrange = lagrange_products(tau, log2)
    columns = []
    for matrix in (system.a, system.b, system.c):
        column = [0] * system.n_wires
        for k in range(matrix.rows):
            for j in range(matrix.row_start[k], matrix.row_start[k + 1]):
                column[matrix.columns[j]] += int(matrix.coefficients[j]) * lagrange[k]
        columns.append(column)
    u, v, w = columns
    for i in range(system.n_public + 1):
        u[i] += lagrange[system.n_constraints + i]
    mixed = [beta * a + alpha * b + c for a, b, c in zip(u, v, w, strict=True)]
    by_delta, public = pow(delta, -1, R), system.n_public + 1
    vanishing = (pow(tau, 1 << log2, R) - 1) * by_delta
    return {
        "alpha1": ecc_g1([alpha]), "beta1": ecc_g1([beta]), "delta1": ecc_g1([delta]),
        "beta2": ecc_g2([beta]), "gamma2": ecc_g2([1]), "delta2": ecc_g2([delta]),
        "A": ecc_g1(u), "B1": ecc_g1(v), "B2": ecc_g2(v), "IC": ecc_g1(mixed[:public]),
        "L": ecc_g1([value * by_delta for value in mixed[public:]]),
        "H": ecc_g1([pow(tau, i, R) * vanishing for i in range((1 << log2) - 1)]),
    }  # fmt: skip
