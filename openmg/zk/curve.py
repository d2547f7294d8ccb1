"""Points of BN254: G1 over the prime field, G2 on the twist over its quadratic extension, and their bytes.

Rules: a point is a tuple of coordinates below q (two for G1; x.c0, x.c1, y.c0, y.c1 for G2) or None for infinity.
Everything is affine: with gmpy2 an inversion costs less than seven products, and many additions share one
(`add_many_g1`, `add_many_g2`), which makes an addition cheaper than any projective formula.
Bytes: 32-byte little-endian coordinates in that order, zeros for infinity. Not here: sums of many multiples (`msm`).
"""

from __future__ import annotations

from collections.abc import Sequence

from openmg.zk.field import FELT_BYTES, FQ, R, batch_invert, fast, invert

G1Point = tuple[int, int]
G2Point = tuple[int, int, int, int]
Fq2 = tuple[int, int]

B1 = 3
"""y^2 = x^3 + 3 on G1 (EIP-196)."""


def fq2_multiply(a: Fq2, b: Fq2) -> Fq2:
    return (a[0] * b[0] - a[1] * b[1]) % FQ, (a[0] * b[1] + a[1] * b[0]) % FQ


def fq2_invert(a: Fq2) -> Fq2:
    norm = invert(a[0] * a[0] + a[1] * a[1], FQ)
    return a[0] * norm % FQ, -a[1] * norm % FQ


XI: Fq2 = (fast(9), fast(1))
"""The non-residue 9 + u of the tower; the twist is y^2 = x^3 + 3 / XI (EIP-197)."""
B2: Fq2 = fq2_multiply((fast(B1), fast(0)), fq2_invert(XI))

G1: G1Point = (fast(1), fast(2))
G2: G2Point = (
    fast(10857046999023057135944570762232829481370756359578518086990519993285655852781),
    fast(11559732032986387107991004021392285783925812861821192530917403151452391805634),
    fast(8495653923123431417604973247489272438418190587263600148770280649306958101930),
    fast(4082367875863433681332203403145435568316851327593401208105741076214120093531),
)
"""The generators of EIP-196 and EIP-197."""

G1_BYTES = 2 * FELT_BYTES
G2_BYTES = 4 * FELT_BYTES


class PointError(ValueError):
    """Bytes or coordinates that are no point of the group."""


def on_curve_g1(point: G1Point) -> bool:
    """Coordinates are reduced and on the curve; G1 has no cofactor, so that is membership."""
    x, y = point
    return 0 <= x < FQ and 0 <= y < FQ and (y * y - x * x * x - B1) % FQ == 0


def on_curve_g2(point: G2Point) -> bool:
    """Coordinates are reduced and on the twist; membership also needs `in_subgroup_g2`."""
    if not all(0 <= c < FQ for c in point):
        return False
    x, y = (fast(point[0]), fast(point[1])), (fast(point[2]), fast(point[3]))
    cube, square = fq2_multiply(fq2_multiply(x, x), x), fq2_multiply(y, y)
    return square == ((cube[0] + B2[0]) % FQ, (cube[1] + B2[1]) % FQ)


def in_subgroup_g2(point: G2Point) -> bool:
    """r times a point of the twist is infinity."""
    return multiply_g2(point, R, reduce_scalar=False) is None


def negate_g1(point: G1Point | None) -> G1Point | None:
    return None if point is None else (point[0], -point[1] % FQ)


def add_g1(a: G1Point | None, b: G1Point | None) -> G1Point | None:
    if a is None or b is None:
        return a if b is None else b
    if a[0] != b[0]:
        slope = (b[1] - a[1]) * invert(b[0] - a[0], FQ) % FQ
    elif a[1] == b[1] and a[1]:
        slope = 3 * a[0] * a[0] * invert(2 * a[1], FQ) % FQ
    else:
        return None
    x = (slope * slope - a[0] - b[0]) % FQ
    return x, (slope * (a[0] - x) - a[1]) % FQ


def add_g2(a: G2Point | None, b: G2Point | None) -> G2Point | None:
    if a is None or b is None:
        return a if b is None else b
    if a[:2] != b[:2]:
        rise, run = ((b[2] - a[2]), (b[3] - a[3])), ((b[0] - a[0]) % FQ, (b[1] - a[1]) % FQ)
    elif a[2:] == b[2:] and any(a[2:]):
        square = fq2_multiply(a[:2], a[:2])
        rise, run = (3 * square[0], 3 * square[1]), (2 * a[2] % FQ, 2 * a[3] % FQ)
    else:
        return None
    slope = fq2_multiply(rise, fq2_invert(run))
    square = fq2_multiply(slope, slope)
    x = ((square[0] - a[0] - b[0]) % FQ, (square[1] - a[1] - b[1]) % FQ)
    y = fq2_multiply(slope, (a[0] - x[0], a[1] - x[1]))
    return x[0], x[1], (y[0] - a[2]) % FQ, (y[1] - a[3]) % FQ


def multiply_g1(point: G1Point | None, scalar: int) -> G1Point | None:
    """scalar * point by doubling and adding."""
    result: G1Point | None = None
    for bit in bin(int(scalar) % R)[2:]:
        result = add_g1(result, result)
        if bit == "1":
            result = add_g1(result, point)
    return result


def multiply_g2(point: G2Point | None, scalar: int, reduce_scalar: bool = True) -> G2Point | None:
    """scalar * point; the scalar is taken as it is where the point's order is in question."""
    result: G2Point | None = None
    for bit in bin(int(scalar) % R if reduce_scalar else scalar)[2:]:
        result = add_g2(result, result)
        if bit == "1":
            result = add_g2(result, point)
    return result


Column = list[int]
G1Columns = tuple[Column, Column]
G2Columns = tuple[Column, Column, Column, Column]


def add_many_g1(a: G1Columns, b: G1Columns) -> tuple[G1Columns, list[int]]:
    """a_i + b_i for many finite points, with one inversion; also the places where the sum is infinity.

    Costs six products per sum. Coordinates of an infinite sum are meaningless.
    """
    (ax, ay), (bx, by) = a, b
    runs = [q - p for p, q in zip(ax, bx, strict=True)]
    special = [] if all(runs) else [i for i, run in enumerate(runs) if not run]
    for i in special:
        runs[i] = fast(1)
    product, prefix = fast(1), []
    for run in runs:
        prefix.append(product)
        product = product * run % FQ
    inverse = invert(product, FQ)
    xs: Column = []
    ys: Column = []
    backwards = zip(runs[::-1], prefix[::-1], ax[::-1], ay[::-1], bx[::-1], by[::-1], strict=True)
    for run, before, x1, y1, x2, y2 in backwards:
        slope = inverse * before * (y2 - y1) % FQ
        inverse = inverse * run % FQ
        x3 = (slope * slope - x1 - x2) % FQ
        xs.append(x3)
        ys.append((slope * (x1 - x3) - y1) % FQ)
    xs.reverse()
    ys.reverse()
    infinite = []
    for i in special:
        doubled = add_g1((ax[i], ay[i]), (bx[i], by[i]))
        if doubled is None:
            infinite.append(i)
        else:
            xs[i], ys[i] = doubled
    return (xs, ys), infinite


def add_many_g2(a: G2Columns, b: G2Columns) -> tuple[G2Columns, list[int]]:
    """As `add_many_g1`, on the twist: slopes are divided by multiplying with the conjugate over the norm."""
    runs = [(q0 - p0, q1 - p1) for p0, p1, q0, q1 in zip(a[0], a[1], b[0], b[1], strict=True)]
    norms = [(r0 * r0 + r1 * r1) % FQ for r0, r1 in runs]
    special = [] if all(norms) else [i for i, norm in enumerate(norms) if not norm]
    for i in special:
        norms[i] = fast(1)
    inverses = batch_invert(norms, FQ)
    sums: list[G2Point] = []
    for (r0, r1), inverse, x0, x1, y0, y1, u0, u1, v0, v1 in zip(runs, inverses, *a, *b, strict=True):
        d0, d1 = v0 - y0, v1 - y1
        s0 = (d0 * r0 + d1 * r1) * inverse % FQ
        s1 = (d1 * r0 - d0 * r1) * inverse % FQ
        w0 = ((s0 + s1) * (s0 - s1) - x0 - u0) % FQ
        w1 = (2 * s0 * s1 - x1 - u1) % FQ
        e0, e1 = x0 - w0, x1 - w1
        sums.append((w0, w1, (s0 * e0 - s1 * e1 - y0) % FQ, (s0 * e1 + s1 * e0 - y1) % FQ))
    infinite = []
    for i in special:
        doubled = add_g2((a[0][i], a[1][i], a[2][i], a[3][i]), (b[0][i], b[1][i], b[2][i], b[3][i]))
        if doubled is None:
            infinite.append(i)
        else:
            sums[i] = doubled
    c0, c1, c2, c3 = (list(column) for column in zip(*sums, strict=True)) if sums else ([], [], [], [])
    return (c0, c1, c2, c3), infinite


def _coordinates(data: bytes, count: int) -> tuple[int, ...] | None:
    if len(data) != count * FELT_BYTES:
        raise PointError(f"a point has {count * FELT_BYTES} bytes, not {len(data)}")
    if not any(data):
        return None
    parts = (data[i : i + FELT_BYTES] for i in range(0, len(data), FELT_BYTES))
    return tuple(fast(int.from_bytes(part, "little")) for part in parts)


def g1_from_bytes(data: bytes) -> G1Point | None:
    """The point in 64 bytes; the curve is not checked here."""
    values = _coordinates(data, 2)
    return None if values is None else (values[0], values[1])


def g2_from_bytes(data: bytes) -> G2Point | None:
    """The point in 128 bytes; the curve is not checked here."""
    values = _coordinates(data, 4)
    return None if values is None else (values[0], values[1], values[2], values[3])


def point_to_bytes(point: Sequence[int] | None, size: int) -> bytes:
    """The `size` bytes (64 or 128) of a point."""
    if point is None:
        return bytes(size)
    return b"".join([int(c).to_bytes(FELT_BYTES, "little") for c in point])
