"""Lengths of rows, and their shortening: the norm cap that comes before every rule, and the longest to the next.

Bounds: |value| <= 2^16 for a row or a row less a centre, so a squared norm stays below 2^49.7 (MAX_PARAMETERS) in
int64; roots are taken in Python integers, which do not wrap.
"""

from __future__ import annotations

from math import isqrt

import numpy as np

from openmg.learning.rules.outcome import I64

DISTANCE_BITS = 16
"""Distances are in units of 2^-16 of a value's unit, so that rounding them does not show even among small updates."""


def squared_norms(rows: I64) -> list[int]:
    """Exact, one per row; einsum on integers keeps to integers and makes no copy of the rows."""
    return [int(square) for square in np.einsum("ij,ij->i", rows, rows)]


def lower_median(values: list[int]) -> int:
    """The middle value, the lower of two: with half of the values at nought it is nought."""
    return sorted(values)[(len(values) - 1) // 2]


def distances_to(rows: I64, centre: I64) -> list[int]:
    """L2 distance of each row [P] to the centre, rounded down to units of 2^-DISTANCE_BITS."""
    return [isqrt(square << 2 * DISTANCE_BITS) for square in squared_norms(rows - centre)]


def below_half_of_median(weights: list[int]) -> list[int]:
    """Indices of the weights below half the (lower) median weight."""
    median = lower_median(weights)
    return [index for index, weight in enumerate(weights) if 2 * weight < median]


def cap_norms(rows: I64, cap_num: int, cap_den: int) -> tuple[I64, list[int]]:
    """Rows shortened to cap_num/cap_den of the (lower) median norm, and the indices of the shortened ones."""
    norms = _norms(rows)
    return _shortened(rows, norms, lower_median(norms) * cap_num // cap_den)


def shorten_longest(rows: I64, hostile: int) -> I64:
    """The floor(2f(n - f)/n) longest rows shortened to the next one's norm, f being `hostile` and below n.

    Adaptive clipping (Allouah et al. 2025): a rule that withstands f rows still does, and it makes less of honest homes
    that differ in how far they would go. With f = 0 nothing is shortened; near n/2, almost half of the rows.
    """
    norms, count = _norms(rows), len(rows)
    longest = 2 * hostile * (count - hostile) // count
    return _shortened(rows, norms, sorted(norms)[count - 1 - longest])[0]


def _norms(rows: I64) -> list[int]:
    return [isqrt(square) for square in squared_norms(rows)]


def _shortened(rows: I64, norms: list[int], cap: int) -> tuple[I64, list[int]]:
    """Rows of at most that norm, and the indices of those that were longer."""
    longer = [index for index, norm in enumerate(norms) if norm > cap]
    result = rows.copy() if longer else rows
    for index in longer:
        # Rounding towards zero keeps the shortened row at or below the cap. |value| * cap < 2^15 * norm < 2^39.
        magnitude = np.floor_divide(np.abs(rows[index]) * cap, norms[index])
        result[index] = np.sign(rows[index]) * magnitude
    return result, longer
