"""Number-theoretic transforms over the circuit field, as the prover needs them.

Rules: the domain is the subgroup of size 2^k made by 5^((r-1)/2^k); coefficients between the two transforms stand in
bit-reversed order, so nothing is ever shuffled. Both transforms have constant geometry: every stage reads pairs
half a list apart and writes neighbours, or the reverse (Pease, 1968). Not here: what is divided by what (`groth16`).
"""

from __future__ import annotations

from functools import lru_cache

from openmg.zk.field import FR, R, batch_invert, fast, invert

GENERATOR = 5
"""Generates the multiplicative group of the circuit field; also the shift of the prover's coset."""

TWO_ADICITY = 28
"""2^28 divides r - 1 and 2^29 does not: the largest domain."""


def root_of_unity(log2: int) -> int:
    """A primitive 2^log2-th root of unity."""
    if not 0 <= log2 <= TWO_ADICITY:
        raise ValueError(f"there is no domain of 2^{log2} points in this field; at most 2^{TWO_ADICITY}")
    return pow(GENERATOR, (R - 1) >> log2, R)


def powers(base: int, count: int, start: int = 1) -> list[int]:
    """start, start * base, start * base^2, ..."""
    value, result = fast(start) % FR, []
    for _ in range(count):
        result.append(value)
        value = value * base % FR
    return result


def bit_reversed(log2: int) -> list[int]:
    """The order in which coefficients stand: place -> exponent."""
    order = [0]
    for _ in range(log2):
        order = [2 * i for i in order] + [2 * i + 1 for i in order]
    return order


@lru_cache(maxsize=4)
def _twiddles(log2: int, inverse: bool) -> list[list[int]]:
    """For stage s the factor of pair q is w^((q >> s) << s)."""
    half = 1 << (log2 - 1)
    root = root_of_unity(log2)
    table = powers(invert(root, R) if inverse else root, half)
    return [[table[q >> s << s] for q in range(half)] for s in range(log2)]


def scaled_coefficients(values: list[int], log2: int) -> list[int]:
    """2^log2 times the coefficients, bit-reversed, of the polynomial with these values on the domain."""
    half = len(values) // 2
    for factors in _twiddles(log2, True):
        low, high = values[:half], values[half:]
        values = [fast(0)] * (2 * half)
        values[0::2] = [a + b for a, b in zip(low, high, strict=True)]
        values[1::2] = [(a - b) * w % FR for a, b, w in zip(low, high, factors, strict=True)]
    return values


def evaluations(coefficients: list[int], log2: int) -> list[int]:
    """Values on the domain, in order, from bit-reversed coefficients; not fully reduced (below 2^14 r or so)."""
    values = coefficients
    for factors in reversed(_twiddles(log2, False)):
        even = values[0::2]
        odd = [b * w % FR for b, w in zip(values[1::2], factors, strict=True)]
        values = [a + b for a, b in zip(even, odd, strict=True)]
        values += [a - b for a, b in zip(even, odd, strict=True)]
    return values


def lagrange_at(point: int, log2: int) -> list[int]:
    """Every Lagrange polynomial of the domain at a point outside it: L_i = Z w^i / (n (point - w^i))."""
    n = 1 << log2
    nodes = powers(root_of_unity(log2), n)
    vanishing = (pow(point, n, R) - 1) % R
    if not vanishing:
        raise ValueError("the point lies in the domain; choose another")
    inverses = batch_invert([(point - node) * n % FR for node in nodes], R)
    return [vanishing * node % FR * inverse % FR for node, inverse in zip(nodes, inverses, strict=True)]
