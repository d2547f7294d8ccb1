"""Shamir's secret sharing (1979) over the integers modulo 2^255 - 19.

Used for the self masks of slots (`openmg.masking`) and of model updates (`openmg.learning.secure`).
Rules: a secret is an element, and so are its shares: 32 bytes each, big-endian. Share i of m is the polynomial at x = i + 1;
any `threshold` shares give the secret, fewer say nothing. A wrong share gives a wrong secret and no error: whoever combines
compares with a commitment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

PRIME = 2**255 - 19
ELEMENT_BYTES = 32
WIDE_BYTES = ELEMENT_BYTES + 16
"""Reduced from so many bytes, an element is uniform to within 2^-128."""


def element(wide: bytes) -> int:
    """An element from WIDE_BYTES uniform bytes."""
    if len(wide) != WIDE_BYTES:
        raise ValueError(f"an element is drawn from {WIDE_BYTES} bytes, not {len(wide)}")
    return int.from_bytes(wide, "big") % PRIME


def split(secret: int, coefficients: Sequence[int], shares: int) -> tuple[bytes, ...]:
    """That many shares of the secret; the threshold is one more than the number of uniform coefficients."""
    if not 0 <= secret < PRIME or not len(coefficients) < shares < PRIME:
        raise ValueError("a secret is an element, and the threshold is at most the number of shares")
    return tuple(_at(secret, coefficients, x).to_bytes(ELEMENT_BYTES, "big") for x in range(1, shares + 1))


def deal(secret: int, draw: Callable[[str], int], threshold: int, shares: int) -> tuple[bytes, ...]:
    """Shares under a polynomial whose coefficients are `draw`n, each by a label of its own: uniform, secret elements."""
    return split(secret, [draw(f"coefficient/{power}") for power in range(1, threshold)], shares)


def combine(shares: Mapping[int, bytes], threshold: int) -> int:
    """The secret from shares by their place (from 0), of which the lowest `threshold` are used; ValueError for fewer."""
    if len(shares) < threshold:
        raise ValueError(f"{len(shares)} shares do not give a secret that takes {threshold}")
    points = {place + 1: int.from_bytes(shares[place], "big") for place in sorted(shares)[:threshold]}
    secret = 0
    for x, y in points.items():
        above, below = 1, 1
        for other in points:
            if other != x:
                above, below = above * other % PRIME, below * (other - x) % PRIME
        secret += y * above * pow(below, -1, PRIME)
    return secret % PRIME


def _at(secret: int, coefficients: Sequence[int], x: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value + coefficient) * x % PRIME
    return (value + secret) % PRIME
