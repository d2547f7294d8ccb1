"""How much better than guessing a learner is: two classifiers on held-out transcripts, with a confidence interval.

Advantage = 2 |accuracy - 1/2|: 0 is guessing, 1 is knowing. Ridge logistic regression and the nearest class mean, on
standardised features; half of the transcripts teach, the other half judge.
Rules: numpy alone; the interval is the normal one of a share of n trials, at 95 %. An advantage inside what n trials of pure
guessing give says nothing against the homes' privacy. Not here: features (`features`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

STEPS, RATE, RIDGE = 200, 0.5, 0.05
Z95 = 1.96
GUESSING_MARGINS = 2.5


@dataclass(frozen=True)
class Advantage:
    """Of one classifier; `margin` is half the width of the 95 % interval of pure guessing in as many trials."""

    classifier: str
    trials: int
    accuracy: float
    advantage: float
    margin: float

    @property
    def is_guessing(self) -> bool:
        """Whether guessing would do as well; at 2.5 margins, one study in a million of pure guessing is called otherwise."""
        return self.advantage <= GUESSING_MARGINS * self.margin


def margin(trials: int) -> float:
    """Half the 95 % interval of the advantage of pure guessing."""
    return 2 * Z95 * sqrt(0.25 / trials)


def _standardised(train: NDArray[np.float64], test: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean, spread = train.mean(axis=0), train.std(axis=0)
    varied = spread > 1e-12
    return (train[:, varied] - mean[varied]) / spread[varied], (test[:, varied] - mean[varied]) / spread[varied]


def _logistic(train: NDArray[np.float64], labels: NDArray[np.float64], test: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Gradient descent on the ridge-penalised loss; the step is bounded by the features' number."""
    weights, bias = np.zeros(train.shape[1]), 0.0
    rate = RATE / max(1.0, sqrt(train.shape[1]))
    for _ in range(STEPS):
        error = 1 / (1 + np.exp(-np.clip(train @ weights + bias, -30, 30))) - labels
        weights -= rate * (train.T @ error / len(labels) + RIDGE * weights)
        bias -= rate * float(error.mean())
    return np.asarray(test @ weights + bias > 0)


def _nearest(train: NDArray[np.float64], labels: NDArray[np.float64], test: NDArray[np.float64]) -> NDArray[np.bool_]:
    zero, one = train[labels == 0].mean(axis=0), train[labels == 1].mean(axis=0)
    return np.asarray(((test - one) ** 2).sum(axis=1) < ((test - zero) ** 2).sum(axis=1))


def advantages(rows: NDArray[np.float64], bits: NDArray[np.float64]) -> tuple[Advantage, ...]:
    """Both classifiers, taught by the first half of the rows and judged by the second."""
    half = len(rows) // 2
    train, test = _standardised(rows[:half], rows[half:])
    found = []
    for name, classify in (("logistic", _logistic), ("nearest mean", _nearest)):
        accuracy = float((classify(train, bits[:half], test) == (bits[half:] == 1)).mean()) if train.shape[1] else 0.5
        found.append(Advantage(name, len(test), accuracy, 2 * abs(accuracy - 0.5), margin(len(test))))
    return tuple(found)
