"""Lengths of rows, and the norm cap that comes before every rule.

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
    norms = [isqrt(square) for square in squared_norms(rows)]
    cap = lower_median(norms) * cap_num // cap_den
    capped = [index for index, norm in enumerate(norms) if norm > cap]
    result = rows.copy() if capped else rows
    for index in capped:
        # Rounding towards zero keeps the shortened row at or below the cap. |value| * cap < 2^15 * norm < 2^39.
        magnitude = np.floor_divide(np.abs(rows[index]) * cap, norms[index])
        result[index] = np.sign(rows[index]) * magnitude
    return result, capped
