"""Gradient inversion: a home's readings from what one round revealed of its training.

Two attackers, both with the model, the plan, and the readings of other homes (a published data set). `LearnedInversion`
knows neither order nor noise of the training and learns from shadow updates what readings go with which update;
`RehearsedInversion` repeats the training (`rehearsal`) and corrects its guess until the update comes out.
Rules: readings are in units of a home's own deviation, as an update is; numpy only, nothing but the seed is chance.
A guess is worth something only against `Prior.mean`, which is what is known without any update: `Recovery` says both.
Sources: Zhu et al. 2019 (DLG) and Geiping et al. 2020 for the principle; the correction is Gauss and Newton's.
Not here: who was among the members (`presence`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.spec import HOURS_PER_DAY
from workbench.attacks.rehearsal import Rehearsal
from workbench.attacks.revealed import Revealed

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

ROUNDING_VARIANCE = 1 / 12
"""Of an update's rounding to integers."""


@dataclass(frozen=True)
class Recovery:
    """Root mean square errors of a guess and of the population's mean, in the unit of the readings, and the correlation
    of the guess with the truth once the population's mean is taken from both."""

    error: float
    prior_error: float
    correlation: float

    @property
    def ratio(self) -> float:
        """1: no better than knowing nothing of this home. 0: its readings."""
        return self.error / self.prior_error

    @classmethod
    def of(cls, guess: F64, truth: F64, prior: F64) -> Recovery:
        own, told = (truth - prior).ravel(), (guess - prior).ravel()
        length = float(np.linalg.norm(own - own.mean()) * np.linalg.norm(told - told.mean()))
        correlation = float((own - own.mean()) @ (told - told.mean())) / length if length else 0.0
        return cls(_rms(guess - truth), _rms(own), correlation)


def _rms(values: F64) -> float:
    return float(np.sqrt(np.mean(values * values)))


def day_profile(values: F64) -> F64:
    """The mean day [..., 24] of hourly readings [..., T], which begin at one hour of the day and are whole days."""
    return np.asarray(values.reshape(*values.shape[:-1], -1, HOURS_PER_DAY).mean(-2))


@dataclass(frozen=True)
class Prior:
    """What is known of any home [T]: the mean and the covariance of other homes' readings."""

    mean: F64
    covariance: F64

    SHRINKAGE = 0.2
    """Share of a diagonal in the covariance, which is estimated from hardly more homes than there are hours."""

    @classmethod
    def of(cls, readings: F64) -> Prior:
        """From shadow readings [n, T]. The mean is the same every day: other homes' weather and weeks are others."""
        mean = np.resize(day_profile(readings).mean(0), readings.shape[1])
        centred = readings - mean
        covariance = centred.T @ centred / len(readings)
        diagonal = np.eye(readings.shape[1]) * np.trace(covariance) / readings.shape[1]
        return cls(mean, (1 - cls.SHRINKAGE) * covariance + cls.SHRINKAGE * diagonal)


class LearnedInversion:
    """Ridge regression from revealed values to a member's target (a day's profile, all readings, a size in Wh).

    Fitted on shadow updates [n, P]: of single homes, or of sums of as many as the hub sees, of which the target [n, K] is the
    first's. The penalty is the one of RIDGES that does best on each home held back in turn; noise of a known variance in each
    value is, for a linear rule, a penalty of that size more. A defence must bring `Recovery.ratio` to 1.
    """

    name = "learned_inversion"

    RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
    """Shares of the mean square of a shadow row."""

    def __init__(
        self,
        updates: F64,
        targets: F64,
        homes: I64,
        members: int,
        noise_variance: float,
        generator: np.random.Generator,
    ) -> None:
        rows = [np.append(own, _others(homes, own, members - 1, generator)) for own in range(len(updates))]
        shadows = np.stack([updates[row].sum(0) for row in rows])
        self._mean, self._target = shadows.mean(0), targets.mean(0)
        self._centred = shadows - self._mean
        kernel = self._centred @ self._centred.T
        wanted, unit = targets - self._target, np.eye(len(kernel))
        fits = []
        for ridge in self.RIDGES:
            penalty = ridge * np.trace(kernel) / len(kernel) + len(kernel) * noise_variance
            inverse = np.linalg.inv(kernel + penalty * unit)
            weights = inverse @ wanted
            missed = [np.linalg.solve(inverse[np.ix_(row, row)], weights[row]) for row in _of_each(homes)]
            fits.append((float((np.concatenate(missed) ** 2).sum()), ridge, weights))
        self._weights = min(fits, key=lambda fit: fit[:2])[2]

    def guess(self, revealed: Revealed) -> F64:
        """The target of a member."""
        return np.asarray((revealed.total - self._mean) @ self._centred.T @ self._weights + self._target)


def _of_each(homes: I64) -> list[I64]:
    """The rows of every home."""
    return [np.flatnonzero(homes == home) for home in np.unique(homes)]


def _others(homes: I64, own: int, wanted: int, generator: np.random.Generator) -> I64:
    """That many rows of other homes, by chance."""
    rows = np.flatnonzero(homes != homes[own])
    return np.asarray(rows[generator.permutation(len(rows))[:wanted]])


@dataclass(frozen=True)
class RehearsedInversion:
    """Corrects a guess of all members' readings until their rehearsed updates add up to what was revealed.

    Begins with the prior. Each correction weighs the misfit, as far as it exceeds the known noise, against the prior; the
    rounded corner of the training loss (`SoftTrainer`) shrinks from correction to correction by `softness`. The
    derivative is taken reading by reading with steps of `nudge` deviations, so a correction costs as many rehearsals as
    there are readings. A defence must bring `Recovery.ratio` to 1; chance that the hub cannot draw again does.
    """

    prior: Prior
    softness: tuple[float, ...] = (0.5, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3, 0.2, 0.2, 0.1, 0.1, 0.05)
    nudge: float = 0.03
    name = "rehearsed_inversion"

    DAMPING = (1.0, 0.1)
    """Trials of the misfit's variance, as shares of what the misfit is now."""
    STRIDES = (1.0, 0.5)

    def guess(self, rehearsals: Sequence[Rehearsal], revealed: Revealed, generator: np.random.Generator) -> F64:
        """Readings [members, T] in the order of the rehearsals."""
        values = np.tile(self.prior.mean, (len(rehearsals), 1))
        inverse = np.kron(np.eye(len(rehearsals)), np.linalg.inv(self.prior.covariance))
        for softness in self.softness:
            values = self._corrected(rehearsals, revealed, values, inverse, softness, generator)
        return values

    def _corrected(
        self,
        rehearsals: Sequence[Rehearsal],
        revealed: Revealed,
        values: F64,
        inverse: F64,
        softness: float,
        generator: np.random.Generator,
    ) -> F64:
        updates = [rehearsal.update(row, softness) for rehearsal, row in zip(rehearsals, values, strict=True)]
        misfit = sum(updates) - revealed.total
        slopes = np.hstack(
            [
                self._slopes(rehearsal, row, update, softness, generator)
                for rehearsal, row, update in zip(rehearsals, values, updates, strict=True)
            ]
        )
        curvature = (slopes.T @ slopes).astype(np.float64)
        descent = (slopes.T @ misfit.astype(np.float32)).astype(np.float64)
        away = inverse @ (values - self.prior.mean).ravel()
        least = revealed.noise_variance + revealed.members * ROUNDING_VARIANCE
        best, closest = values, np.inf
        for damping in self.DAMPING:
            variance = max(least, damping * float(np.mean(misfit**2)))
            step = np.linalg.solve(curvature / variance + inverse, -descent / variance - away).reshape(values.shape)
            for stride in self.STRIDES:
                trial = values + stride * step
                sent = sum(item.update(row, softness) for item, row in zip(rehearsals, trial, strict=True))
                distance = float(np.linalg.norm(sent - revealed.total))
                if distance < closest:
                    best, closest = trial, distance
        return best

    def _slopes(self, rehearsal: Rehearsal, row: F64, update: F32, softness: float, generator: np.random.Generator) -> F32:
        """[P, T]: what a small change of each reading does to the update."""
        slopes = np.empty((len(update), len(row)), np.float32)
        for place, sign in enumerate(generator.choice((-self.nudge, self.nudge), len(row))):
            moved = row.copy()
            moved[place] += sign
            slopes[:, place] = (rehearsal.update(moved, softness) - update) / np.float32(sign)
        return slopes
