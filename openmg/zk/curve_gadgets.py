"""BabyJubJub as constraints: multiples of fixed points, sums of them, and numbers below the subgroup's order.

Rules: as in `gadgets`, no wire is free. Every point here is built from table entries that lie on the curve, whose addition
law is complete (`babyjub`): the denominators 1 + d t and 1 - d t are never 0, so each sum has exactly one value, and no
case (equal points, opposite points, the identity) is an exception. Scalars come as boolean wires, three of which choose
one of eight constant multiples. Costs: a window of three bits 3 constraints, an addition 6, besides the bits themselves.
Not here: points that the prover brings (a statement that needs one hashes its coordinates), what commitments mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

from openmg.zk import babyjub, gadgets
from openmg.zk.babyjub import SUBGROUP_ORDER, Point
from openmg.zk.field import FR, R, fast_list, invert
from openmg.zk.r1cs import Builder

S = TypeVar("S")

WINDOW_BITS = 3
Pair = tuple[S, S]


def bits_below(builder: Builder[S], signal: S, bound: int, rule: str) -> list[S]:
    """The boolean wires, least significant first, whose number the signal is, and which is below the constant bound.

    Going down from the top, `equal` is 1 while all bits so far are those of bound - 1: where that number has a 1 it is
    multiplied by the bit, and where it has a 0 the bit must be 0 as long as `equal` is 1. One constraint for each bit and
    one for each 1 of bound - 1 above its trailing ones. (The range check of the Zcash protocol specification, A.3.2.2.)
    """
    largest = bound - 1
    width = largest.bit_length()
    if not 0 < width <= gadgets.MAX_RANGE_BITS:
        raise ValueError(f"a bound of {width} bits cannot be checked; use one from 2 to 2^{gadgets.MAX_RANGE_BITS}")
    bits = [builder.hint(lambda value, k=i: int(value) >> k & 1, signal) for i in range(width)]
    trailing_ones = (~largest & (largest + 1)).bit_length() - 1
    equal: S | None = None
    for i in range(width - 1, -1, -1):
        if largest >> i & 1:
            gadgets.boolean(builder, bits[i], f"{rule} (bit)")
            if i >= trailing_ones:
                equal = bits[i] if equal is None else builder.multiply(equal, bits[i])
        else:
            assert equal is not None, "the top bit of a number is 1"
            # equal = 0: bit (1 - bit) = 0. equal = 1: bit (-bit) = 0.
            free = builder.linear([(-1, equal), (-1, bits[i])], 1)
            gadgets.product_is_zero(builder, bits[i], free, f"{rule} (bit)")
    gadgets.equal(builder, builder.linear([(1 << i, bit) for i, bit in enumerate(bits)]), signal, rule)
    return bits


def add(builder: Builder[S], left: Pair[S], right: Pair[S]) -> Pair[S]:
    """The sum of two points of the curve: x = (b + g) / (1 + d b g), y = (v + a b - g) / (1 - d b g), where b = x1 y2,
    g = y1 x2 and v = (y1 - a x1) (x2 + y2)."""
    (x1, y1), (x2, y2) = left, right
    b, g = builder.multiply(x1, y2), builder.multiply(y1, x2)
    v = builder.multiply(builder.linear([(1, y1), (-babyjub.A, x1)]), builder.linear([(1, x2), (1, y2)]))
    t = builder.multiply(b, g)
    below_x, below_y = builder.linear([(babyjub.D, t)], 1), builder.linear([(-babyjub.D, t)], 1)
    above_x, above_y = builder.linear([(1, b), (1, g)]), builder.linear([(1, v), (babyjub.A, b), (-1, g)])
    x, y = builder.hint(_quotient, above_x, below_x), builder.hint(_quotient, above_y, below_y)
    builder.enforce(below_x, x, above_x, "a sum of points has the right x")
    builder.enforce(below_y, y, above_y, "a sum of points has the right y")
    return x, y


def _quotient(above: int, below: int) -> int:
    return above * invert(below, R) % FR if below % R else 0


@dataclass(frozen=True)
class Window(Generic[S]):
    """Up to three boolean wires and, by their number, the multiples of a point they choose from."""

    bits: Sequence[S]
    coefficients: tuple[Sequence[int], Sequence[int]]
    """For x and for y, the multilinear form over the bits: entry k belongs to the product of the bits set in k."""


def _multilinear(values: Sequence[int]) -> tuple[int, ...]:
    """Coefficients of the polynomial that is linear in every bit and takes these values on all bit strings."""
    form = list(values)
    step = 1
    while step < len(form):
        for k in range(len(form)):
            if k & step:
                form[k] = (form[k] - form[k ^ step]) % R
        step *= 2
    return tuple(fast_list(form))


@lru_cache(maxsize=16)
def _tables(base: Point, width: int) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """The forms of all windows of a scalar of that width: window i chooses among k 8^i base."""
    tables = []
    for start in range(0, width, WINDOW_BITS):
        size = min(WINDOW_BITS, width - start)
        points = [babyjub.IDENTITY]
        while len(points) < 1 << size:
            points.append(babyjub.add(points[-1], base))
        tables.append((_multilinear([x for x, _ in points]), _multilinear([y for _, y in points])))
        base = babyjub.multiply(base, 1 << WINDOW_BITS)
    return tuple(tables)


def _windows(bits: Sequence[S], base: Point) -> list[Window[S]]:
    forms = _tables(base, len(bits))
    return [Window(bits[WINDOW_BITS * i : WINDOW_BITS * (i + 1)], form) for i, form in enumerate(forms)]


def _chosen(builder: Builder[S], window: Window[S]) -> Pair[S]:
    """The point that the bits choose: x and y are the window's two forms of them."""
    bits = window.bits
    low = [builder.one, bits[0]]
    if len(bits) > 1:
        low += [bits[1], builder.multiply(bits[0], bits[1])]
    x, y = (_form(builder, low, bits, form) for form in window.coefficients)
    return x, y


def _form(builder: Builder[S], low: Sequence[S], bits: Sequence[S], form: Sequence[int]) -> S:
    half = len(low)
    plain = list(zip(form[:half], low, strict=True))
    if len(bits) < WINDOW_BITS:
        return builder.linear(plain)
    high = builder.linear(zip(form[half:], low, strict=True))
    return builder.linear([*plain, (1, builder.multiply(high, bits[2]))])


def sum_of_multiples(builder: Builder[S], terms: Sequence[tuple[Sequence[S], Point]]) -> Pair[S]:
    """The sum over all terms of the number that boolean wires stand for times a constant point of the curve."""
    windows = [window for bits, base in terms for window in _windows(bits, base)]
    total, *rest = (_chosen(builder, window) for window in windows)
    for point in rest:
        total = add(builder, total, point)
    return total


def commitment(builder: Builder[S], value_bits: Sequence[S], blinding: S, name: str) -> Pair[S]:
    """value G + blinding H' for a value in bits and a blinding below the subgroup's order."""
    blinding_bits = bits_below(builder, blinding, SUBGROUP_ORDER, f"the blinding of {name} is below the subgroup's order")
    return sum_of_multiples(builder, [(value_bits, babyjub.G), (blinding_bits, babyjub.H_PRIME)])
