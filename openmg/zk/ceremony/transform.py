"""From powers of tau to Lagrange polynomials at tau, on points: nobody knows tau, so the transform runs in the group.

Rules: one step is a sparse matrix with two entries a row, in the constant geometry of `ntt`. The factor 1/n is left to
whoever uses the result, because it costs nothing in the coefficients of the next matrix.
"""

from __future__ import annotations

from openmg.zk import ntt
from openmg.zk.ceremony.arithmetic import Arithmetic, Say
from openmg.zk.ceremony.sparse import Group, matrix_of
from openmg.zk.field import R, invert
from openmg.zk.r1cs import Matrix


def _step(half: int, factors: list[int]) -> Matrix:
    """Row 2q: value q + value (q + half). Row 2q + 1: their difference times factor q."""
    rows: list[list[tuple[int, int]]] = []
    for q in range(half):
        rows.append([(q, 1), (q + half, 1)])
        rows.append([(q, factors[q]), (q + half, R - factors[q])])
    return matrix_of(rows)


def _within(say: Say, step: str) -> Say:
    return lambda part: say(f"{step}, {part}")


def scaled_lagrange(group: Group, powers: bytes, log2: int, arithmetic: Arithmetic, say: Say) -> bytes:
    """2^log2 L_k(tau) G for k in order, from tau^i G for i below 2^log2 (or both times a common factor)."""
    half, size = 1 << (log2 - 1), group.size
    table = ntt.powers(invert(ntt.root_of_unity(log2), R), half)
    values = powers
    for stage in range(log2):
        step = f"step {stage + 1} of {log2}"
        say(step)
        factors = [table[q >> stage << stage] for q in range(half)]
        values = arithmetic.combinations(group, values, _step(half, factors), _within(say, step))
    placed: list[bytes] = [b""] * (2 * half)
    for place, k in enumerate(ntt.bit_reversed(log2)):
        placed[k] = values[place * size : (place + 1) * size]
    return b"".join(placed)
