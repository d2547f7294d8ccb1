"""The two prime fields of BN254 and the integer type that is fastest for them.

Rules: a field element is a plain non-negative integer below its modulus; `fast` turns it into a gmpy2 integer where
gmpy2 is installed (about three times faster) and leaves it alone elsewhere, and both behave as `int` does. Results that
leave this package are turned back with `int`. Nothing here is constant-time: proofs are made on the owner's machine.
Not here: polynomials (`ntt`), points (`curve`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import cast

R = 21888242871839275222246405745257275088548364400416034343698204186575808495617
"""Order of the BN254 groups: the field of circuits, notes and Poseidon (EIP-196 calls it the group order)."""

Q = 21888242871839275222246405745257275088696311157297823662689037894645226208583
"""The field of BN254 point coordinates (EIP-196)."""

FELT_BYTES = 32

_fast: Callable[[int], int]
_invert: Callable[[int, int], int]
try:
    import gmpy2

    _fast = cast(Callable[[int], int], gmpy2.mpz)
    _invert = cast(Callable[[int, int], int], gmpy2.invert)
    HAVE_GMPY2 = True
except ImportError:  # pragma: no cover - exercised where the wheel does not exist
    HAVE_GMPY2 = False

    def _fast(value: int) -> int:
        return value

    def _invert(value: int, modulus: int) -> int:
        return pow(value, -1, modulus)


def fast(value: int) -> int:
    """The same integer in the fastest representation this machine has."""
    return _fast(value)


def fast_list(values: Iterable[int]) -> list[int]:
    return list(map(_fast, values))


FR = fast(R)
FQ = fast(Q)


def invert(value: int, modulus: int) -> int:
    """The inverse modulo a prime; ZeroDivisionError for zero (whichever integer type is in use)."""
    if value % modulus == 0:
        raise ZeroDivisionError("zero has no inverse in a field")
    return _invert(value, modulus)


def batch_invert(values: Sequence[int], modulus: int) -> list[int]:
    """Inverses of many non-zero elements for the price of one inversion and three products each (Montgomery)."""
    prefix: list[int] = []
    product = fast(1)
    for value in values:
        prefix.append(product)
        product = product * value % modulus
    inverse = invert(product, modulus)
    result = list(prefix)
    for i in range(len(values) - 1, -1, -1):
        result[i] = inverse * prefix[i] % modulus
        inverse = inverse * values[i] % modulus
    return result


def require_felt(value: int, name: str) -> int:
    """The value, if it is an element of the circuit field; ValueError with the name otherwise."""
    if not 0 <= value < R:
        raise ValueError(f"{name} is outside the circuit field; it must be an integer from 0 to r - 1")
    return value


def felt_from_bytes(data: bytes) -> int:
    """The integer of 32 big-endian bytes; ValueError when it is not below r."""
    if len(data) != FELT_BYTES:
        raise ValueError(f"a field element has {FELT_BYTES} bytes, not {len(data)}")
    return require_felt(int.from_bytes(data, "big"), "field element")


def reduce_wide(data: bytes) -> int:
    """A near-uniform field element from at least 48 uniform bytes (bias below 2^-128)."""
    if len(data) < FELT_BYTES + 16:
        raise ValueError(f"{len(data)} bytes are too few for an unbiased field element; give 48")
    return int.from_bytes(data, "big") % R
