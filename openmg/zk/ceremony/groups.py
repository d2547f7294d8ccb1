"""The two groups as one description each, and what is asked of points that come from somebody else's file.

Rules: points stand in bytes, as in `curve`. What is read from outside must be reduced, finite, on its curve and, on the
twist, in the subgroup; a point at infinity would make a power of tau zero. Membership of many twist points is tested by
random sums, see `require_subgroup`. Not here: the arithmetic (`arithmetic`).
"""

from __future__ import annotations

from collections.abc import Callable

from openmg.zk import curve
from openmg.zk.ceremony.arithmetic import Arithmetic
from openmg.zk.ceremony.errors import CeremonyError
from openmg.zk.ceremony.sparse import GROUP2, Group, points_of

Draw = Callable[[int], int]
"""A uniform integer below the argument, which nobody can foresee (`secrets.randbelow`)."""

SMALLEST_COFACTOR_PRIME = 10_069
"""The smallest prime factor of the twist's cofactor 2 q - r."""
SUBGROUP_ROUNDS = 10
"""10069^-10 is below 2^-132."""

WEIGHT_BITS = 128


def weights(draw: Draw, count: int) -> list[int]:
    """Random factors of a check: two different lists of points agree under them with a chance of 2^-128."""
    return [draw(1 << WEIGHT_BITS) for _ in range(count)]


def require_points(group: Group, data: bytes, what: str, absent: frozenset[int] = frozenset()) -> None:
    """CeremonyError unless all are finite points with reduced coordinates on their curve; `absent` may be infinite."""
    on_curve = curve.on_curve_g1 if group.coordinates == 2 else curve.on_curve_g2
    for i, point in enumerate(points_of(group, data)):
        if point is None and i in absent:
            continue
        if point is None:
            raise CeremonyError(f"point {i} of {what} is at infinity; refuse this file")
        if not on_curve(point):  # type: ignore[arg-type]
            raise CeremonyError(f"point {i} of {what} is not on the curve; refuse this file")


def require_subgroup(data: bytes, what: str, arithmetic: Arithmetic, draw: Draw) -> None:
    """CeremonyError unless all points of the twist are in the subgroup of order r; they are on their curve already.

    G1 has no cofactor. On the twist a point outside has, modulo the subgroup, an order of at least 10069: a sum with
    random factors below that hides it with a chance of 1/10069 at most, and ten sums do with 2^-132.
    """
    count = len(data) // GROUP2.size
    for _ in range(SUBGROUP_ROUNDS):
        total = arithmetic.total(GROUP2, data, [draw(SMALLEST_COFACTOR_PRIME) for _ in range(count)])
        if total is not None and not curve.in_subgroup_g2(total):  # type: ignore[arg-type]
            raise CeremonyError(f"a point of {what} is outside the pairing subgroup; refuse this file")
