"""The aggregation rules in double precision as their papers state them, for rows [n, P] of any real numbers.

Nothing is rounded between the steps, so the integer rules may differ by what their own rounding adds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


def trimmed_mean(rows: F64, hostile: int) -> F64:
    return np.sort(rows, axis=0)[hostile : len(rows) - hostile].mean(0)


def pairwise(rows: F64) -> F64:
    return np.linalg.norm(rows[:, None, :] - rows[None, :, :], axis=2)


def multi_krum(rows: F64, hostile: int, chosen: int | None = None) -> F64:
    """Blanchard et al. 2017."""
    squares = np.sort(pairwise(rows) ** 2, axis=1)[:, 1 : max(1, len(rows) - hostile - 2) + 1]
    best = np.argsort(squares.sum(1), kind="stable")[: chosen or len(rows) - hostile]
    return rows[best].mean(0)


def nnm_trimmed_mean(rows: F64, hostile: int) -> F64:
    """Allouah et al. 2023, after the clipping of Allouah et al. 2025 (algorithm 2)."""
    lengths = np.linalg.norm(rows, axis=1)
    cap = np.sort(lengths)[::-1][int(2 * hostile / len(rows) * (len(rows) - hostile))]
    rows = rows * np.minimum(1.0, cap / np.maximum(lengths, 1e-12))[:, None]
    near = np.argsort(pairwise(rows), axis=1, kind="stable")[:, : len(rows) - hostile]
    return trimmed_mean(rows[near].mean(1), hostile)


def centred_clipping(rows: F64, iterations: int) -> F64:
    """Karimireddy et al. 2021, from the coordinate-wise median, radius the lower median distance."""
    centre = np.median(rows, axis=0)
    for _ in range(iterations):
        lengths = np.linalg.norm(rows - centre, axis=1)
        radius = np.sort(lengths)[(len(rows) - 1) // 2]
        scale = np.minimum(1.0, radius / np.maximum(lengths, 1e-12))
        centre = centre + ((rows - centre) * scale[:, None]).mean(0)
    return centre


def geometric_median(rows: F64, iterations: int) -> F64:
    """Pillutla et al. 2022, smoothed by one unit, from the coordinate-wise median."""
    centre = np.median(rows, axis=0)
    for _ in range(iterations):
        weights = 1 / np.maximum(1.0, np.linalg.norm(rows - centre, axis=1))
        centre = (rows * weights[:, None]).sum(0) / weights.sum()
    return centre


BY_NAME: dict[str, Callable[[F64, int], F64]] = {
    "mean": lambda rows, hostile: rows.mean(0),
    "median": lambda rows, hostile: np.median(rows, axis=0),
    "trimmed_mean": trimmed_mean,
    "krum": lambda rows, hostile: multi_krum(rows, hostile, 1),
    "multi_krum": multi_krum,
    "centred_clipping": lambda rows, hostile: centred_clipping(rows, 8),
    "geometric_median": lambda rows, hostile: geometric_median(rows, 8),
    "nnm_trimmed_mean": nnm_trimmed_mean,
}
