"""The optimal ate pairing of BN254, light enough for a meter to check its own proofs.

Rules: an element of Fq12 is six Fq2 coefficients of powers of w, with w^6 = XI = 9 + u; a line through points of the
twist has coefficients at 1, w and w^3 only. The final exponent is the exact (q^12 - 1) / r, its hard part by the
addition chain of Scott et al. (Pairing 2009). Inputs are trusted to be on their curves: callers check that.
Not here: verification of proofs (`groth16`), the independent check with py_ecc (`pyecc_verify`).
"""

from __future__ import annotations

from collections.abc import Iterable

from openmg.zk.curve import XI, Fq2, G1Point, G2Point, fq2_invert, fq2_multiply
from openmg.zk.field import FQ, Q, fast

Fq6 = tuple[Fq2, Fq2, Fq2]
Fq12 = tuple[Fq6, Fq6]
"""(even, odd): even holds the coefficients of 1, w^2, w^4, odd those of w, w^3, w^5."""

BN_X = 4965661367192848881
"""The curve parameter x: q and r are polynomials in it; the loop runs over 6 x + 2."""
ATE_LOOP = 6 * BN_X + 2

ZERO2: Fq2 = (fast(0), fast(0))
ONE2: Fq2 = (fast(1), fast(0))
ZERO6: Fq6 = (ZERO2, ZERO2, ZERO2)
ONE12: Fq12 = ((ONE2, ZERO2, ZERO2), ZERO6)


def _power2(base: Fq2, exponent: int) -> Fq2:
    result = ONE2
    for bit in bin(exponent)[2:]:
        result = fq2_multiply(result, result)
        if bit == "1":
            result = fq2_multiply(result, base)
    return result


FROBENIUS = tuple(_power2(XI, i * (Q - 1) // 6) for i in range(6))
"""(w^i)^q = FROBENIUS[i] w^i."""


def _add2(a: Fq2, b: Fq2) -> Fq2:
    return a[0] + b[0], a[1] + b[1]


def _subtract2(a: Fq2, b: Fq2) -> Fq2:
    return a[0] - b[0], a[1] - b[1]


def _times_xi(a: Fq2) -> Fq2:
    return 9 * a[0] - a[1], a[0] + 9 * a[1]


def _add6(a: Fq6, b: Fq6) -> Fq6:
    return _add2(a[0], b[0]), _add2(a[1], b[1]), _add2(a[2], b[2])


def _subtract6(a: Fq6, b: Fq6) -> Fq6:
    return _subtract2(a[0], b[0]), _subtract2(a[1], b[1]), _subtract2(a[2], b[2])


def _multiply6(a: Fq6, b: Fq6) -> Fq6:
    """Six products (Karatsuba); results are bounded by sums of a few reduced values, reduced at the next product."""
    (a0, a1, a2), (b0, b1, b2) = a, b
    v0, v1, v2 = fq2_multiply(a0, b0), fq2_multiply(a1, b1), fq2_multiply(a2, b2)
    t12 = fq2_multiply(_add2(a1, a2), _add2(b1, b2))
    t01 = fq2_multiply(_add2(a0, a1), _add2(b0, b1))
    t02 = fq2_multiply(_add2(a0, a2), _add2(b0, b2))
    c0 = _add2(v0, _times_xi(_subtract2(_subtract2(t12, v1), v2)))
    c1 = _add2(_subtract2(_subtract2(t01, v0), v1), _times_xi(v2))
    c2 = _add2(_subtract2(_subtract2(t02, v0), v2), v1)
    return c0, c1, c2


def _times_v(a: Fq6) -> Fq6:
    return _times_xi(a[2]), a[0], a[1]


def _reduce(a: Fq12) -> Fq12:
    even, odd = a
    (e0, e1, e2), (o0, o1, o2) = even, odd
    return (
        ((e0[0] % FQ, e0[1] % FQ), (e1[0] % FQ, e1[1] % FQ), (e2[0] % FQ, e2[1] % FQ)),
        ((o0[0] % FQ, o0[1] % FQ), (o1[0] % FQ, o1[1] % FQ), (o2[0] % FQ, o2[1] % FQ)),
    )


def multiply(a: Fq12, b: Fq12) -> Fq12:
    low, high = _multiply6(a[0], b[0]), _multiply6(a[1], b[1])
    cross = _multiply6(_add6(a[0], a[1]), _add6(b[0], b[1]))
    return _reduce((_add6(low, _times_v(high)), _subtract6(_subtract6(cross, low), high)))


def square(a: Fq12) -> Fq12:
    """Two products in Fq6: (even + odd)(even + v odd) and even odd."""
    even, odd = a
    product = _multiply6(even, odd)
    mixed = _multiply6(_add6(even, odd), _add6(even, _times_v(odd)))
    return _reduce((_subtract6(_subtract6(mixed, product), _times_v(product)), _add6(product, product)))


def conjugate(a: Fq12) -> Fq12:
    """a^(q^6); the inverse of an element on the unit circle."""
    return a[0], _subtract6(ZERO6, a[1])


def frobenius(a: Fq12) -> Fq12:
    """a^q."""
    even, odd = a

    def turned(value: Fq2, power: int) -> Fq2:
        return fq2_multiply((value[0], -value[1]), FROBENIUS[power])

    return (
        (turned(even[0], 0), turned(even[1], 2), turned(even[2], 4)),
        (turned(odd[0], 1), turned(odd[1], 3), turned(odd[2], 5)),
    )


def invert12(a: Fq12) -> Fq12:
    """1 / a: first over Fq6, whose inverse is a product of conjugates over a norm in Fq2."""
    even, odd = a
    norm = _reduce((_subtract6(_multiply6(even, even), _times_v(_multiply6(odd, odd))), ZERO6))[0]
    n0, n1, n2 = norm
    c0 = _subtract2(fq2_multiply(n0, n0), _times_xi(fq2_multiply(n1, n2)))
    c1 = _subtract2(_times_xi(fq2_multiply(n2, n2)), fq2_multiply(n0, n1))
    c2 = _subtract2(fq2_multiply(n1, n1), fq2_multiply(n0, n2))
    cross = _times_xi(_add2(fq2_multiply(n2, c1), fq2_multiply(n1, c2)))
    scale = fq2_invert(_add2(fq2_multiply(n0, c0), cross))
    inverse: Fq6 = (fq2_multiply(c0, scale), fq2_multiply(c1, scale), fq2_multiply(c2, scale))
    return _reduce((_multiply6(even, inverse), _subtract6(ZERO6, _multiply6(odd, inverse))))


def _times_line(f: Fq12, at_one: int, at_w: Fq2, at_w3: Fq2) -> Fq12:
    even, odd = f

    def scaled(a: Fq6) -> Fq6:
        return (
            (a[0][0] * at_one, a[0][1] * at_one),
            (a[1][0] * at_one, a[1][1] * at_one),
            (a[2][0] * at_one, a[2][1] * at_one),
        )

    def sparse(a: Fq6) -> Fq6:
        """a times (at_w + at_w3 v)."""
        v0, v1 = fq2_multiply(a[0], at_w), fq2_multiply(a[1], at_w3)
        mixed = fq2_multiply(_add2(a[0], a[1]), _add2(at_w, at_w3))
        c0 = _add2(v0, _times_xi(fq2_multiply(a[2], at_w3)))
        return c0, _subtract2(_subtract2(mixed, v0), v1), _add2(v1, fq2_multiply(a[2], at_w))

    return _reduce((_add6(scaled(even), _times_v(sparse(odd))), _add6(scaled(odd), sparse(even))))


def _chord(t: G2Point, slope: Fq2, other_x: Fq2) -> G2Point:
    s2 = fq2_multiply(slope, slope)
    x = ((s2[0] - t[0] - other_x[0]) % FQ, (s2[1] - t[1] - other_x[1]) % FQ)
    y = fq2_multiply(slope, (t[0] - x[0], t[1] - x[1]))
    return x[0], x[1], (y[0] - t[2]) % FQ, (y[1] - t[3]) % FQ


class _MillerPair:
    """One pair of points on its way through the loop: T runs over multiples of Q, lines are evaluated at P."""

    def __init__(self, p: G1Point, q: G2Point) -> None:
        self.p, self.q, self.t = p, q, q

    def _line(self, f: Fq12, slope: Fq2) -> Fq12:
        x, y = self.p
        at_w = (-slope[0] * x, -slope[1] * x)
        offset = fq2_multiply(slope, (self.t[0], self.t[1]))
        return _times_line(f, y, at_w, (offset[0] - self.t[2], offset[1] - self.t[3]))

    def double(self, f: Fq12) -> Fq12:
        x, y = (self.t[0], self.t[1]), (self.t[2], self.t[3])
        s = fq2_multiply(x, x)
        slope = fq2_multiply((3 * s[0], 3 * s[1]), fq2_invert((2 * y[0], 2 * y[1])))
        f = self._line(f, slope)
        self.t = _chord(self.t, slope, x)
        return f

    def add(self, f: Fq12, q: G2Point) -> Fq12:
        rise, run = (q[2] - self.t[2], q[3] - self.t[3]), (q[0] - self.t[0], q[1] - self.t[1])
        slope = fq2_multiply(rise, fq2_invert(run))
        f = self._line(f, slope)
        self.t = _chord(self.t, slope, (q[0], q[1]))
        return f


def _frobenius_point(q: G2Point) -> G2Point:
    x = fq2_multiply((q[0], -q[1]), FROBENIUS[2])
    y = fq2_multiply((q[2], -q[3]), FROBENIUS[3])
    return x[0], x[1], y[0], y[1]


def miller_loop(pairs: Iterable[tuple[G1Point, G2Point]]) -> Fq12:
    """The product of the pairs' Miller functions; their squarings are shared."""
    running = [_MillerPair(p, q) for p, q in pairs]
    f = ONE12
    for bit in bin(ATE_LOOP)[3:]:
        f = square(f)
        for pair in running:
            f = pair.double(f)
            if bit == "1":
                f = pair.add(f, pair.q)
    for pair in running:
        once = _frobenius_point(pair.q)
        twice = _frobenius_point(once)
        f = pair.add(f, once)
        f = pair.add(f, (twice[0], twice[1], -twice[2] % FQ, -twice[3] % FQ))
    return f


def _power_x(a: Fq12) -> Fq12:
    result = a
    for bit in bin(BN_X)[3:]:
        result = square(result)
        if bit == "1":
            result = multiply(result, a)
    return result


def final_exponentiation(f: Fq12) -> Fq12:
    """f^((q^12 - 1) / r)."""
    f = multiply(conjugate(f), invert12(f))
    f = multiply(frobenius(frobenius(f)), f)
    f1 = frobenius(f)
    f2 = frobenius(f1)
    f3 = frobenius(f2)
    x1 = _power_x(f)
    x2 = _power_x(x1)
    x3 = _power_x(x2)
    y0 = multiply(multiply(f1, f2), f3)
    y1 = conjugate(f)
    y2 = frobenius(frobenius(x2))
    y3 = conjugate(frobenius(x1))
    y4 = conjugate(multiply(x1, frobenius(x2)))
    y5 = conjugate(x2)
    y6 = conjugate(multiply(x3, frobenius(x3)))
    t0 = multiply(multiply(square(y6), y4), y5)
    t1 = multiply(multiply(y3, y5), t0)
    t0 = multiply(t0, y2)
    t1 = square(multiply(square(t1), t0))
    t0 = multiply(t1, y1)
    t1 = multiply(t1, y0)
    return multiply(square(t0), t1)


def product_is_one(pairs: Iterable[tuple[G1Point, G2Point]]) -> bool:
    """Whether the product of the pairings is 1."""
    return _reduce(final_exponentiation(miller_loop(pairs))) == ONE12
