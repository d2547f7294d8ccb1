"""The training loss of the two heads, in numpy: squared error of the mean, pinball loss of the quantiles.

Loss = mean over rows and steps of the mean head's squared error + the mean over rows, steps and quantiles of the pinball
loss (Koenker and Bassett 1978). In units of a home's deviation the two are of one size, so neither head starves.
Not here: the network (`trainer_numpy`), and what is reported of a forecast (`metrics`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.spec import HEADS, QUANTILES_MILLI

F32 = NDArray[np.float32]

QUANTILES = np.array(QUANTILES_MILLI, dtype=np.float32)[None, :, None] / np.float32(1000)


def heads(output: F32) -> tuple[F32, F32]:
    """Mean [n, H] and quantiles [n, 3, H] of a network's output [n, 4H]; views."""
    rows, steps = len(output), output.shape[1] // HEADS
    return output[:, :steps], output[:, steps:].reshape(rows, len(QUANTILES_MILLI), steps)


def loss(output: F32, residual: F32) -> float:
    """The loss of outputs [n, 4H] for targets [n, H]."""
    mean, quantiles = heads(output)
    squared = (mean - residual).astype(np.float64) ** 2
    short = (residual[:, None, :] - quantiles).astype(np.float64)
    pinball = np.maximum(QUANTILES * short, (QUANTILES - 1) * short)
    return float(squared.mean() + pinball.mean())


def loss_and_slope(output: F32, residual: F32) -> tuple[float, F32]:
    """The loss and its gradient by the outputs [n, 4H]."""
    mean, quantiles = heads(output)
    slope_mean = (mean - residual) * np.float32(2.0 / residual.size)
    above = (quantiles > residual[:, None, :]).astype(np.float32)
    slope_quantiles = (above - QUANTILES) * np.float32(1.0 / quantiles.size)
    slope = np.concatenate([slope_mean, slope_quantiles.reshape(len(output), -1)], axis=1)
    return loss(output, residual), slope.astype(np.float32, copy=False)


def ordered(quantiles: F32) -> F32:
    """Quantiles [n, 3, H] put in order for each step, so that none crosses another (Chernozhukov et al. 2010)."""
    return np.sort(quantiles, axis=1)
