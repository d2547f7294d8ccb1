"""py_ecc's fixed-base multiplications in key-file form: the curve arithmetic that the native module is held against."""

from __future__ import annotations

from collections.abc import Sequence

from groth16_oracle import le
from py_ecc import optimized_bn128 as ecc


def ecc_g1(scalars: Sequence[int]) -> bytes:
    """scalar * G1 for each scalar, 64 bytes a point."""
    out = b""
    for scalar in scalars:
        point = ecc.multiply(ecc.G1, scalar)
        out += bytes(64) if ecc.is_inf(point) else le([c.n for c in ecc.normalize(point)])
    return out


def ecc_g2(scalars: Sequence[int]) -> bytes:
    """scalar * G2 for each scalar, 128 bytes a point."""
    out = b""
    for scalar in scalars:
        point = ecc.multiply(ecc.G2, scalar)
        out += (
            bytes(128) if ecc.is_inf(point) else le([int(k) for c in ecc.normalize(point) for k in c.coeffs])
        )
    return out
