"""Proofs and verifying keys: what a verifier needs, and their bytes.

Rules: a proof is 256 bytes in the order of the EVM's pairing precompile, big-endian: A.x A.y B.x.c1 B.x.c0 B.y.c1
B.y.c0 C.x C.y. A verifying key is alpha1 | beta2 | gamma2 | delta2 | IC..., points as in `curve`. A key with a point at
infinity, off its curve or outside the subgroup, or with gamma = delta (which lets anybody forge) is refused on
construction. Not here: how either is made (`groth16`).
"""

from __future__ import annotations

from dataclasses import dataclass

from openmg.hashing import keccak256
from openmg.zk import curve
from openmg.zk.curve import G1_BYTES, G2_BYTES, G1Point, G2Point, PointError
from openmg.zk.field import FELT_BYTES, fast

PROOF_BYTES = 8 * FELT_BYTES
MAX_PUBLIC_INPUTS = 64
"""Far above any statement of ours; bounds what a verifying key may hold."""


class UnsafeKeyError(ValueError):
    """A verifying key that would accept forgeries or that holds no valid points."""


@dataclass(frozen=True)
class Proof:
    """The three group elements of a Groth16 proof."""

    a: G1Point
    b: G2Point
    c: G1Point

    def to_bytes(self) -> bytes:
        """256 bytes, EVM order."""
        return b"".join(word.to_bytes(FELT_BYTES, "big") for word in self.words())

    def words(self) -> tuple[int, ...]:
        """The eight words of the verifier contract's `proof`."""
        b = self.b
        return tuple(int(v) for v in (*self.a, b[1], b[0], b[3], b[2], *self.c))

    @staticmethod
    def from_bytes(data: bytes) -> Proof:
        """PointError unless all three are finite points of their groups (the subgroup of B included)."""
        if len(data) != PROOF_BYTES:
            raise PointError(f"a proof has {PROOF_BYTES} bytes, not {len(data)}")
        words = [fast(int.from_bytes(data[i : i + FELT_BYTES], "big")) for i in range(0, PROOF_BYTES, FELT_BYTES)]
        proof = Proof((words[0], words[1]), (words[3], words[2], words[5], words[4]), (words[6], words[7]))
        if not (curve.on_curve_g1(proof.a) and curve.on_curve_g1(proof.c)):
            raise PointError("the proof's A or C is not a finite point of the curve")
        if not (curve.on_curve_g2(proof.b) and curve.in_subgroup_g2(proof.b)):
            raise PointError("the proof's B is not a finite point of the pairing subgroup")
        return proof


@dataclass(frozen=True)
class VerifyingKey:
    """The public part of a circuit's keys; `ic` has one point for the constant and one per public input."""

    alpha1: G1Point
    beta2: G2Point
    gamma2: G2Point
    delta2: G2Point
    ic: tuple[G1Point, ...]

    def __post_init__(self) -> None:
        if not all(curve.on_curve_g1(point) for point in (self.alpha1, *self.ic)):
            raise UnsafeKeyError("the verifying key has a G1 point off the curve; make the keys again")
        for point in (self.beta2, self.gamma2, self.delta2):
            if not (curve.on_curve_g2(point) and curve.in_subgroup_g2(point)):
                raise UnsafeKeyError("the verifying key has a G2 point outside the group; make the keys again")
        if self.gamma2 == self.delta2:
            raise UnsafeKeyError("the verifying key has gamma = delta, so proofs could be forged; make the keys again")

    @property
    def n_public(self) -> int:
        return len(self.ic) - 1

    def to_bytes(self) -> bytes:
        """alpha1 | beta2 | gamma2 | delta2 | IC..."""
        g1 = [curve.point_to_bytes(point, G1_BYTES) for point in (self.alpha1, *self.ic)]
        g2 = [curve.point_to_bytes(point, G2_BYTES) for point in (self.beta2, self.gamma2, self.delta2)]
        return b"".join([g1[0], *g2, *g1[1:]])

    @staticmethod
    def from_bytes(data: bytes) -> VerifyingKey:
        """UnsafeKeyError unless the bytes are a usable key."""
        head = G1_BYTES + 3 * G2_BYTES
        count, rest = divmod(len(data) - head, G1_BYTES)
        if rest or not 1 <= count <= MAX_PUBLIC_INPUTS + 1:
            raise UnsafeKeyError(f"{len(data)} bytes are no verifying key; use one written by this program")
        g2 = [curve.g2_from_bytes(data[G1_BYTES + i * G2_BYTES :][:G2_BYTES]) for i in range(3)]
        starts = [0, *range(head, len(data), G1_BYTES)]
        g1 = [curve.g1_from_bytes(data[start : start + G1_BYTES]) for start in starts]
        finite1, finite2 = [p for p in g1 if p], [p for p in g2 if p]
        if len(finite1) != len(g1) or len(finite2) != 3:
            raise UnsafeKeyError("the verifying key holds a point at infinity; make the keys again")
        return VerifyingKey(finite1[0], finite2[0], finite2[1], finite2[2], tuple(finite1[1:]))

    def digest(self) -> bytes:
        """keccak256 of the key's bytes; what a contract and a report name it by."""
        return keccak256(self.to_bytes())
