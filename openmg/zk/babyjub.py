"""BabyJubJub, the twisted Edwards curve over the circuit field, and commitments on it (EIP-2494).

Curve: 168700 x^2 + y^2 = 1 + 168696 x^2 y^2 over the field of order r; its 8 l points contain one subgroup of prime
order l. The first coefficient is a square and the second is not, so the addition law holds for every pair of points.
Rules: a point is a pair of reduced coordinates; G is the EIP's base point; H' is hashed to the curve (`hash_to_curve`), so
nobody knows its logarithm to G. A commitment is value G + blinding H', hiding by the blinding and binding by that logarithm.
Nothing is constant-time: commitments are made on the owner's machine. Not here: the curve as constraints (`curve_gadgets`).
"""

from __future__ import annotations

from openmg.hashing import keccak256
from openmg.zk.field import FELT_BYTES, FR, R, fast, invert, reduce_wide

Point = tuple[int, int]

A = 168700
D = 168696
COFACTOR = 8
SUBGROUP_ORDER = 2736030358979909402780800718157159386076813972158567259200215660948447373041
"""l, a prime of 251 bits."""
SUBGROUP_BITS = SUBGROUP_ORDER.bit_length()
IDENTITY: Point = (0, 1)
G: Point = (
    5299619240641551281634865583518297030282874472190772894086521144482721001553,
    16950150798460657717958625567821834550301663161624707787222815936182638968203,
)
"""Base point of EIP-2494, a generator of the subgroup."""

H_LABEL = b"openmg.zk.babyjub.H.v1"
HASH_ATTEMPTS = 256
"""Each try succeeds with probability 1/2."""

FIELD_GENERATOR = 5
"""A non-square of the circuit field; it generates the whole multiplicative group."""
TWO_ADICITY = 28
"""r - 1 = 2^28 times an odd number."""
SIGN_BIT = 1 << (8 * FELT_BYTES - 1)


class CurvePointError(ValueError):
    """Coordinates or bytes are no point that may be used; the text says why."""


def is_on_curve(point: Point) -> bool:
    """Whether reduced coordinates satisfy the curve's equation."""
    x, y = point
    if not (0 <= x < R and 0 <= y < R):
        return False
    xx, yy = x * x % R, y * y % R
    return (A * xx + yy - 1 - D * xx * yy) % R == 0


def is_in_subgroup(point: Point) -> bool:
    """Whether the point is on the curve and a multiple of G (the identity is)."""
    return is_on_curve(point) and multiply(point, SUBGROUP_ORDER) == IDENTITY


def add(left: Point, right: Point) -> Point:
    """The sum of two points of the curve, equal ones and the identity included (EIP-2494, addition)."""
    (x1, y1), (x2, y2) = left, right
    beta, gamma = x1 * y2 % R, y1 * x2 % R
    product = D * beta * gamma % R
    # One inversion for both denominators; neither is 0 for points of the curve.
    inverse = invert((1 + product) * (1 - product), R)
    x = (beta + gamma) * (1 - product) * inverse % R
    y = (y1 * y2 - A * x1 * x2) * (1 + product) * inverse % R
    return int(x), int(y)


def negate(point: Point) -> Point:
    return -point[0] % R, point[1]


def multiply(point: Point, scalar: int) -> Point:
    """scalar * point for a scalar of at least 0, by double and add in projective coordinates."""
    if scalar < 0:
        raise ValueError("a point is multiplied by a number of at least 0; reduce it modulo the subgroup's order")
    base = (fast(point[0]), fast(point[1]), fast(1))
    total = (fast(0), fast(1), fast(1))
    for bit in bin(scalar)[2:]:
        total = _add_projective(total, total)
        if bit == "1":
            total = _add_projective(total, base)
    x, y, z = total
    inverse = invert(z, R)
    return int(x * inverse % FR), int(y * inverse % FR)


def _add_projective(left: tuple[int, int, int], right: tuple[int, int, int]) -> tuple[int, int, int]:
    """Bernstein and others, Twisted Edwards curves (Africacrypt 2008), section 6; complete as the affine law is."""
    (x1, y1, z1), (x2, y2, z2) = left, right
    z = z1 * z2 % FR
    square, xx, yy = z * z % FR, x1 * x2 % FR, y1 * y2 % FR
    mixed = D * xx * yy % FR
    lower, upper = square - mixed, square + mixed
    cross = (x1 + y1) * (x2 + y2) - xx - yy
    return z * lower % FR * cross % FR, z * upper % FR * (yy - A * xx) % FR, lower * upper % FR


def square_root(value: int) -> int | None:
    """The smaller square root modulo r, or None for a non-square (Tonelli and Shanks)."""
    value %= R
    if value == 0:
        return 0
    if pow(value, (R - 1) // 2, R) != 1:
        return None
    odd = (R - 1) >> TWO_ADICITY
    unit = pow(FIELD_GENERATOR, odd, R)
    root, rest = pow(value, (odd + 1) // 2, R), pow(value, odd, R)
    # Invariant: root^2 = value * rest, and rest lies in the group of order 2^level that unit generates.
    level = TWO_ADICITY
    while rest != 1:
        order, power = 0, rest
        while power != 1:
            power, order = power * power % R, order + 1
        factor = pow(unit, 1 << (level - order - 1), R)
        root, unit, level = root * factor % R, factor * factor % R, order
        rest = rest * unit % R
    return min(root, R - root)


def _abscissa(y: int) -> int | None:
    """The smaller x of the points with this y, or None; 168700 - 168696 y^2 is never 0 as 168700 / 168696 is no square."""
    yy = y * y % R
    return square_root((1 - yy) * invert((A - D * yy) % R, R))


def compress(point: Point) -> bytes:
    """32 bytes: y little-endian, the top bit set for the larger of the two x (circomlib's packed point)."""
    x, y = point
    sign = SIGN_BIT if x > R // 2 else 0
    return (y | sign).to_bytes(FELT_BYTES, "little")


def decompress(data: bytes) -> Point:
    """The point of 32 bytes, in the subgroup; CurvePointError otherwise. Each point has exactly one encoding."""
    if len(data) != FELT_BYTES:
        raise CurvePointError(f"a BabyJubJub point has {FELT_BYTES} bytes, not {len(data)}")
    number = int.from_bytes(data, "little")
    y, negative = number % SIGN_BIT, number >= SIGN_BIT
    x = _abscissa(y)
    if x is None or (negative and x == 0):
        raise CurvePointError("the bytes are not the encoding of a BabyJubJub point")
    point = (-x % R if negative else x, y)
    if not is_in_subgroup(point):  # which also refuses a y that is not reduced
        raise CurvePointError("the BabyJubJub point is not reduced or lies outside the subgroup of prime order")
    return point


def hash_to_curve(label: bytes) -> Point:
    """A point of the subgroup whose logarithm nobody knows, by trying counters 0, 1, ...

    y = the 64 bytes keccak256(label | counter | 0) | keccak256(label | counter | 1) modulo r, big-endian, counter and last
    byte being single bytes; the first y that belongs to the curve counts, with its smaller x, times the cofactor 8.
    """
    for counter in range(HASH_ATTEMPTS):
        digests = [keccak256(label + bytes([counter, part])) for part in (0, 1)]
        y = reduce_wide(b"".join(digests))
        x = _abscissa(y)
        point = IDENTITY if x is None else multiply((x, y), COFACTOR)
        if point != IDENTITY:
            return point
    raise CurvePointError(f"no counter below {HASH_ATTEMPTS} leads to a point; choose another label")


H_PRIME: Point = hash_to_curve(H_LABEL)
"""H', the base of blindings."""


def commit(value: int, blinding: int) -> Point:
    """value G + blinding H', both from 0 to l - 1 (ValueError otherwise)."""
    for name, number in (("value", value), ("blinding", blinding)):
        if not 0 <= number < SUBGROUP_ORDER:
            raise ValueError(f"the {name} of a commitment lies from 0 to l - 1, the order of the subgroup less one")
    return add(multiply(G, value), multiply(H_PRIME, blinding))
