"""Membership inference: was this home, or this window of readings, among what a round or a model was trained on?

Three attackers. `HomePresence` has a home's readings of the training span, rehearses its update and looks for it in what was
revealed; `WindowPresence` has single windows and asks whether the update suits them; `ModelPresence` sees agreed models only.
All are calibrated on shadows, homes that the hub knows (a published data set): a score says how far the outcome lies from
that of a home that took no part, in deviations (Carlini et al. 2022, LiRA, with normal densities).
Rules: numpy only and no chance. A defence must bring the area under the curve (`roc`) to one half; noise holds every attacker
of this kind below `roc.best_area`.
Not here: what readings a member has (`inversion`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.features import Windows
from openmg.forecast.loss import QUANTILES, heads
from openmg.forecast.model import to_float
from openmg.forecast.spec import ForecastSpec
from openmg.forecast.trainer_numpy import forward, loss_and_gradient
from openmg.learning.plan import UPDATE_SCALE_BITS
from workbench.attacks.revealed import Revealed

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]


class HomePresence:
    """Matched filter: the inner product of what was revealed with the candidate's own update, where all homes' common
    directions count little.

    The directions and their sizes come from one half of the shadow updates [n, P], the calibration from the other.
    Against one update in clear it is certain; a sum hides a member only behind what the others' updates happen to have in
    common with its own.
    """

    name = "home_presence"

    COMPONENTS = 100
    """Common directions, at most half as many as there are shadows."""

    def __init__(self, shadows: F64) -> None:
        fitted, self._calibration = shadows[::2], shadows[1::2]
        self._mean = fitted.mean(0)
        centred = fitted - self._mean
        sizes, turns = np.linalg.eigh(centred @ centred.T / len(centred))
        kept = min(self.COMPONENTS, len(fitted) // 2)
        self._variances = sizes[::-1][:kept]
        self._directions = centred.T @ (turns[:, ::-1][:, :kept] / np.sqrt(self._variances * len(centred)))
        self._rest = float(sizes[:-kept].sum()) / shadows.shape[1]
        """Variance that is left in each weight."""

    def scores(self, candidates: F64, revealed: Revealed) -> F64:
        """One score [c] for each candidate's update [c, P]."""
        noise = revealed.noise_variance / revealed.members
        own = candidates - self._mean
        along = 1 / (self._variances + self._rest + noise) - 1 / (self._rest + noise)
        filters = own / (self._rest + noise) + (own @ self._directions * along) @ self._directions.T
        absent = filters @ (self._calibration - self._mean).T
        spread = revealed.members * absent.var(1) + revealed.noise_variance * (filters**2).sum(1)
        found = filters @ (revealed.total - revealed.members * self._mean)
        return np.asarray((found - revealed.members * absent.mean(1)) / np.sqrt(spread))


class WindowPresence:
    """How well the average member's update suits a window: by its direction, or by what it does to the window's loss.

    Calibrated by the same window's score under shadow updates, so that a window which any training improves counts no more
    than another.
    """

    name = "window_presence"

    def __init__(self, spec: ForecastSpec, master: I32, shadows: F64) -> None:
        self._spec, self._base, self._shadows = spec, to_float(master), shadows

    def by_gradient(self, windows: Windows, revealed: Revealed) -> F64:
        """Scores [n]: minus the cosine between the update and the gradient of each window's loss."""
        gradients = np.stack([self._gradient(windows, row) for row in range(len(windows))]).astype(np.float64)
        gradients /= np.maximum(np.linalg.norm(gradients, axis=1), np.finfo(float).tiny)[:, None]
        sent = np.vstack([revealed.mean, self._shadows])
        cosines = -gradients @ (sent / np.linalg.norm(sent, axis=1)[:, None]).T
        return _calibrated(cosines)

    def by_loss(self, windows: Windows, revealed: Revealed) -> F64:
        """Scores [n]: by how much the update lowers each window's loss."""
        before = window_losses(self._spec, self._base, windows)
        lowered = [before - window_losses(self._spec, self._after(sent), windows) for sent in (revealed.mean, *self._shadows)]
        return _calibrated(np.stack(lowered, 1))

    def _after(self, update: F64) -> F32:
        return (self._base + update * 2.0**-UPDATE_SCALE_BITS).astype(np.float32)

    def _gradient(self, windows: Windows, row: int) -> F32:
        one = slice(row, row + 1)
        return loss_and_gradient(self._spec, self._base, windows.inputs[one], windows.residual[one])[1]


class ModelPresence:
    """A home's loss on its own training windows under a model, against the same home's under shadow models that were
    trained with it and without it."""

    name = "model_presence"

    def __init__(self, with_home: F64, without_home: F64) -> None:
        """Losses [homes, models] under shadow models; a home that is in none or in all of them is NaN there."""
        self._inside, self._outside = np.nanmean(with_home, 1), np.nanmean(without_home, 1)
        self._spread = np.sqrt((np.nanvar(with_home, 1) + np.nanvar(without_home, 1)) / 2)

    def scores(self, losses: F64) -> F64:
        """The log likelihood ratio [homes] of losses [homes] under the two normal densities of one common deviation."""
        middle = (self._inside + self._outside) / 2
        return np.asarray((losses - middle) * (self._inside - self._outside) / self._spread**2)


def window_losses(spec: ForecastSpec, weights: F32, windows: Windows) -> F64:
    """The training loss of each window [n]."""
    mean, quantiles = heads(forward(spec, weights, windows.inputs)[2])
    short = (windows.residual[:, None, :] - quantiles).astype(np.float64)
    squared = (mean - windows.residual).astype(np.float64) ** 2
    return np.asarray(squared.mean(1) + np.maximum(QUANTILES * short, (QUANTILES - 1) * short).mean((1, 2)))


def _calibrated(scores: F64) -> F64:
    """The first column's score in deviations of the others', which are those of shadows."""
    shadows = scores[:, 1:]
    return np.asarray((scores[:, 0] - shadows.mean(1)) / np.maximum(shadows.std(1), np.finfo(float).tiny))
