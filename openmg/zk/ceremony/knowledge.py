"""Proofs that a party knows the secret by which it multiplied a point.

Schnorr's proof of a discrete logarithm (J. Cryptology 1991) over G1, made non-interactive by Fiat and Shamir's rule in
its strong form: the challenge binds base, image, commitment and a context. The context is the transcript so far with
the contribution's name, so a proof of one place is worth nothing at another. Rules: pure; whoever proves draws the
nonce freshly. Not here: what is multiplied (`phase1`, `phase2`).
"""

from __future__ import annotations

from dataclasses import dataclass

from openmg.hashing import keccak256
from openmg.zk import curve
from openmg.zk.curve import G1_BYTES, G1Point
from openmg.zk.field import FELT_BYTES, R, reduce_wide

TAG = b"openmg.zk.ceremony.knowledge.v1\0"
KNOWLEDGE_BYTES = G1_BYTES + FELT_BYTES


@dataclass(frozen=True)
class Knowledge:
    """commitment = nonce * base, response = nonce + challenge * secret."""

    commitment: G1Point
    response: int

    def to_bytes(self) -> bytes:
        return curve.point_to_bytes(self.commitment, G1_BYTES) + int(self.response).to_bytes(FELT_BYTES, "little")

    @staticmethod
    def from_bytes(data: bytes) -> Knowledge:
        """ValueError unless a finite point of the curve and a number below r."""
        if len(data) != KNOWLEDGE_BYTES:
            raise ValueError(f"a proof of knowledge has {KNOWLEDGE_BYTES} bytes, not {len(data)}")
        commitment = curve.g1_from_bytes(data[:G1_BYTES])
        response = int.from_bytes(data[G1_BYTES:], "little")
        if commitment is None or not curve.on_curve_g1(commitment) or response >= R:
            raise ValueError("a proof of knowledge holds no valid point or number")
        return Knowledge(commitment, response)


def _challenge(base: G1Point, image: G1Point, commitment: G1Point, context: bytes) -> int:
    points = b"".join(curve.point_to_bytes(point, G1_BYTES) for point in (base, image, commitment))
    material = TAG + points + keccak256(context)
    return reduce_wide(keccak256(material + b"\0") + keccak256(material + b"\1"))


def prove(base: G1Point, secret: int, nonce: int, context: bytes) -> Knowledge:
    """That the secret is known with image = secret * base; secret and nonce are not 0."""
    image, commitment = curve.multiply_g1(base, secret), curve.multiply_g1(base, nonce)
    if image is None or commitment is None:
        raise ValueError("secret and nonce must not be 0 modulo r")
    return Knowledge(commitment, (nonce + _challenge(base, image, commitment, context) * secret) % R)


def holds(base: G1Point, image: G1Point, proof: Knowledge, context: bytes) -> bool:
    """response * base = commitment + challenge * image."""
    challenge = _challenge(base, image, proof.commitment, context)
    right = curve.add_g1(proof.commitment, curve.multiply_g1(image, challenge))
    return curve.multiply_g1(base, proof.response) == right
