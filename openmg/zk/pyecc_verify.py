"""The independent check of a proof: py_ecc, written by others, over the same equation.

Rules: py_ecc is imported only when `verify` runs, since a meter does not carry it; nothing of this package's curve or
pairing code is used, only the byte formats. Not here: files (`verify_file`), the verifier that meters use (`groth16`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openmg.zk.field import FELT_BYTES, R
from openmg.zk.proof import PROOF_BYTES, VerifyingKey


def _numbers(data: bytes) -> list[int]:
    return [int.from_bytes(data[i : i + FELT_BYTES], "big") for i in range(0, len(data), FELT_BYTES)]


class _Group:
    """Points from coordinates, checked by py_ecc: reduced, on the curve, in the subgroup."""

    def __init__(self, ecc: Any) -> None:
        self.ecc = ecc
        self.valid = True

    def _checked(self, point: Any, curve: Any, coordinates: Sequence[int]) -> Any:
        ecc = self.ecc
        finite = any(coordinates) and all(0 <= value < ecc.field_modulus for value in coordinates)
        member = finite and ecc.is_on_curve(point, curve) and ecc.is_inf(ecc.multiply(point, ecc.curve_order))
        self.valid = self.valid and member
        return point

    def g1(self, x: int, y: int) -> Any:
        ecc = self.ecc
        return self._checked((ecc.FQ(x), ecc.FQ(y), ecc.FQ(1)), ecc.b, (x, y))

    def g2(self, x0: int, x1: int, y0: int, y1: int) -> Any:
        ecc = self.ecc
        point = (ecc.FQ2([x0, x1]), ecc.FQ2([y0, y1]), ecc.FQ2([1, 0]))
        return self._checked(point, ecc.b2, (x0, x1, y0, y1))


def verify(key: VerifyingKey, publics: Sequence[int], proof: bytes) -> bool:
    """Whether e(A, B) = e(alpha, beta) e(inputs, gamma) e(C, delta); False for malformed input. Takes about 1 s."""
    from py_ecc import optimized_bn128

    ecc: Any = optimized_bn128

    if len(proof) != PROOF_BYTES or len(publics) != key.n_public or not all(0 <= value < R for value in publics):
        return False
    group = _Group(ecc)
    words = _numbers(proof)
    a, c = group.g1(words[0], words[1]), group.g1(words[6], words[7])
    b = group.g2(words[3], words[2], words[5], words[4])
    alpha = group.g1(*map(int, key.alpha1))
    beta, gamma, delta = (group.g2(*map(int, point)) for point in (key.beta2, key.gamma2, key.delta2))
    points = [group.g1(*map(int, point)) for point in key.ic]
    if not group.valid:
        return False
    inputs = points[0]
    for point, value in zip(points[1:], publics, strict=True):
        inputs = ecc.add(inputs, ecc.multiply(point, value))
    product = ecc.pairing(b, ecc.neg(a), final_exponentiate=False)
    for g2, g1 in ((beta, alpha), (gamma, inputs), (delta, c)):
        product = product * ecc.pairing(g2, g1, final_exponentiate=False)
    return bool(ecc.final_exponentiate(product) == ecc.FQ12.one())
