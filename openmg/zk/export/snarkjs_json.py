"""Verifying keys, proofs and public inputs as the JSON documents that snarkjs reads and writes.

Rules: every number is a decimal string; a point stands in projective coordinates with z = 1; an element of Fq2 is
[c0, c1]. Source: what snarkjs 0.7 `zkey export verificationkey` and `groth16 prove` write, which the tests compare.
Not here: files (`writer`), the binary formats (`zkey_file` and its neighbours).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openmg.zk import pairing
from openmg.zk.curve import G1Point, G2Point, PointError
from openmg.zk.field import fast
from openmg.zk.pairing import BN_X, Fq12
from openmg.zk.proof import Proof, VerifyingKey

PROTOCOL = "groth16"
CURVE = "bn128"
"""The name that snarkjs gives to BN254."""

FINAL_EXPONENT_FACTOR = 2 * BN_X * (6 * BN_X**2 + 3 * BN_X + 1)
"""snarkjs's pairing is ours to this power: its final exponentiation is the cheaper chain for a multiple of
(q^12 - 1) / r (Fuentes-Castaneda, Knapp, Rodriguez-Henriquez, SAC 2011)."""

Document = dict[str, Any]


def _g1(point: G1Point) -> list[str]:
    return [str(point[0]), str(point[1]), "1"]


def _g2(point: G2Point) -> list[list[str]]:
    x0, x1, y0, y1 = map(str, point)
    return [[x0, x1], [y0, y1], ["1", "0"]]


def _fq12(element: Fq12) -> list[list[list[str]]]:
    return [[[str(c0), str(c1)] for c0, c1 in half] for half in element]


def _pairing(p: G1Point, q: G2Point) -> Fq12:
    """The pairing of two points as snarkjs defines it."""
    base = pairing.final_exponentiation(pairing.miller_loop([(p, q)]))
    result = base
    for bit in bin(FINAL_EXPONENT_FACTOR)[3:]:
        result = pairing.square(result)
        if bit == "1":
            result = pairing.multiply(result, base)
    return result


def verification_key(key: VerifyingKey) -> Document:
    """verification_key.json; `vk_alphabeta_12` is the pairing of alpha and beta."""
    return {
        "protocol": PROTOCOL,
        "curve": CURVE,
        "nPublic": key.n_public,
        "vk_alpha_1": _g1(key.alpha1),
        "vk_beta_2": _g2(key.beta2),
        "vk_gamma_2": _g2(key.gamma2),
        "vk_delta_2": _g2(key.delta2),
        "vk_alphabeta_12": _fq12(_pairing(key.alpha1, key.beta2)),
        "IC": [_g1(point) for point in key.ic],
    }


def proof(value: Proof) -> Document:
    """proof.json."""
    return {"pi_a": _g1(value.a), "pi_b": _g2(value.b), "pi_c": _g1(value.c), "protocol": PROTOCOL, "curve": CURVE}


def public(values: Sequence[int]) -> list[str]:
    """public.json: the public inputs in the circuit's order, without the constant."""
    return [str(value) for value in values]


def parse_proof(document: Document) -> Proof:
    """The proof in a proof.json; PointError when there is none or a point is not finite and of its group."""
    try:
        if (document["protocol"], document["curve"]) != (PROTOCOL, CURVE):
            raise PointError(f"the proof is not of {PROTOCOL} over {CURVE}")
        (ax, ay, az), (cx, cy, cz) = document["pi_a"], document["pi_c"]
        (bx0, bx1), (by0, by1), (bz0, bz1) = document["pi_b"]
        coordinates = [fast(int(value)) for value in (ax, ay, bx0, bx1, by0, by1, cx, cy)]
        scales = [int(value) for value in (az, bz0, bz1, cz)]
    except (KeyError, TypeError, ValueError) as error:
        raise PointError(f"the document is no proof.json of snarkjs: {error!r}") from error
    if scales != [1, 1, 0, 1]:
        raise PointError("the proof has a point that is not finite or not written with z = 1")
    ax, ay, bx0, bx1, by0, by1, cx, cy = coordinates
    try:
        return Proof.from_bytes(Proof((ax, ay), (bx0, bx1, by0, by1), (cx, cy)).to_bytes())
    except OverflowError as error:
        raise PointError("the proof has a coordinate that is not below 2^256") from error
