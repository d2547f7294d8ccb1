"""Parts of circuits: bits, ranges, zero tests, Poseidon and Merkle paths as constraints.

Rules: a gadget leaves no freedom: for given inputs exactly one value of each of its wires satisfies it, so that
changing any one wire breaks a constraint. Widths stay below 254 bits, so no sum of powers of two wraps.
Not here: what a statement means (`circuits`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from openmg.zk.field import R, invert
from openmg.zk.poseidon import FULL_ROUNDS, fast_form
from openmg.zk.r1cs import Builder
from openmg.zk.tags import tag

S = TypeVar("S")

MAX_RANGE_BITS = 252


def difference(builder: Builder[S], left: S, right: S) -> S:
    return builder.linear([(1, left), (-1, right)])


def equal(builder: Builder[S], left: S, right: S, rule: str) -> None:
    """left = right."""
    builder.enforce(difference(builder, left, right), builder.one, builder.linear([]), rule)


def boolean(builder: Builder[S], signal: S, rule: str) -> None:
    """signal is 0 or 1."""
    builder.enforce(signal, builder.linear([(1, signal)], -1), builder.linear([]), rule)


def product_is_zero(builder: Builder[S], left: S, right: S, rule: str) -> None:
    """At least one of the two is 0."""
    builder.enforce(left, right, builder.linear([]), rule)


def to_bits(builder: Builder[S], signal: S, width: int, rule: str) -> list[S]:
    """The `width` boolean wires, least significant first, whose number the signal is; so signal < 2^width."""
    if not 0 < width <= MAX_RANGE_BITS:
        raise ValueError(f"a range of {width} bits would wrap the field; use at most {MAX_RANGE_BITS}")
    bits = [builder.hint(lambda value, k=i: int(value) >> k & 1, signal) for i in range(width)]
    for bit in bits:
        boolean(builder, bit, f"{rule} (bit)")
    equal(builder, builder.linear([(1 << i, bit) for i, bit in enumerate(bits)]), signal, rule)
    return bits


def _inverse_or_zero(value: int) -> int:
    return invert(value, R) if value % R else 0


def nonzero(builder: Builder[S], signal: S, rule: str) -> None:
    """signal is not 0: it has an inverse."""
    inverse = builder.hint(_inverse_or_zero, signal)
    builder.enforce(signal, inverse, builder.one, rule)


def is_nonzero(builder: Builder[S], signal: S, rule: str) -> S:
    """A wire that is 1 where the signal is not 0, else 0; the hinted inverse of 0 is pinned to 0."""
    inverse = builder.hint(_inverse_or_zero, signal)
    flag = builder.multiply(signal, inverse)
    idle = builder.linear([(-1, flag)], 1)
    product_is_zero(builder, signal, idle, f"{rule} (flag)")
    product_is_zero(builder, inverse, idle, f"{rule} (inverse)")
    return flag


def _fifth_power(builder: Builder[S], signal: S) -> S:
    square = builder.multiply(signal, signal)
    # The fourth power stands on the left, so it never enters B, whose points live in the dearer group.
    return builder.multiply(builder.multiply(square, square), signal)


def _full_round(builder: Builder[S], lanes: Sequence[S], added: Sequence[int], rows: Sequence[Sequence[int]]) -> list[S]:
    boxed = [_fifth_power(builder, builder.linear([(1, x)], c)) for x, c in zip(lanes, added, strict=True)]
    return [builder.linear(zip(row, boxed, strict=True)) for row in rows]


def poseidon(builder: Builder[S], tag_name: str, *inputs: S) -> S:
    """H(tag, inputs...): 3 constraints for each S-box, 216, 243, 264 for one, two, three inputs."""
    table = fast_form(len(inputs) + 1)
    half = FULL_ROUNDS // 2
    lanes = [builder.linear([], tag(tag_name)), *inputs]
    for k in range(half):
        lanes = _full_round(builder, lanes, table.first_half[k], table.mds if k < half - 1 else table.enter)
    head, *rest = [builder.linear([(1, x)], c) for x, c in zip(lanes, table.first_partial, strict=True)]
    zero = builder.linear([])
    for after in table.after[:-1]:
        x = builder.linear([(1, _fifth_power(builder, head))], after)
        lead, shifted = rest[0], [*rest[1:], zero]
        head = builder.linear([(table.corner, x), (1, lead)])
        rest = [builder.linear([(a, lead), (w, x), (1, z)]) for a, w, z in zip(table.alpha, table.omega, shifted, strict=True)]
    lanes = [builder.linear([(1, _fifth_power(builder, head))], table.after[-1]), *rest]
    lanes = [builder.linear(zip(row, lanes, strict=True)) for row in table.leave]
    for added in table.second_half[:-1]:
        lanes = _full_round(builder, lanes, added, table.mds)
    return _full_round(builder, lanes, table.second_half[-1], table.mds[:1])[0]


def merkle_root(builder: Builder[S], leaf: S, index_bits: Sequence[S], path: Sequence[S]) -> S:
    """The root to which a leaf leads; `index_bits` are boolean already, least significant first."""
    node = leaf
    for bit, sibling in zip(index_bits, path, strict=True):
        # swap = bit * (sibling - node): left is node + swap, right is sibling - swap.
        swap = builder.multiply(bit, difference(builder, sibling, node))
        left = builder.linear([(1, node), (1, swap)])
        right = builder.linear([(1, sibling), (-1, swap)])
        node = poseidon(builder, "nod", left, right)
    return node
