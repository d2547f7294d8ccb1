"""How much better than guessing a learner is: two classifiers on held-out transcripts, with a confidence interval.

Advantage = 2 |accuracy - 1/2|: 0 is guessing, 1 is knowing; who is wrong more often than right has learnt nothing, unless
far more often. Ridge logistic regression and the nearest class mean, on
standardised features; each half of the transcripts teaches, and is judged by what the other half taught. Both judgements rest
on the same difference between the same halves, so of the trials only half count as independent.
Rules: numpy alone; the interval is the normal one of a share of n trials, at 95 %. An advantage inside what n trials of pure
guessing give says nothing against the homes' privacy. Not here: features (`features`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

STEPS, RATE, RIDGE = 200, 0.5, 0.05
Z95 = 1.96
GUESSING_MARGINS = 2.5

Classify = Callable[[NDArray[np.float32], NDArray[np.float64], NDArray[np.float32]], NDArray[np.bool_]]
"""Rows and bits to learn from, and rows to judge, to the bits that it guesses."""


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


def _standardised(train: NDArray[np.float32], test: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    mean, spread = train.mean(axis=0), train.std(axis=0)
    varied = spread > 1e-12
    return (train[:, varied] - mean[varied]) / spread[varied], (test[:, varied] - mean[varied]) / spread[varied]


def _logistic(train: NDArray[np.float32], labels: NDArray[np.float64], test: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Gradient descent on the ridge-penalised loss; the step is bounded by the features' number."""
    weights, bias = np.zeros(train.shape[1], dtype=np.float32), 0.0
    rate = RATE / max(1.0, sqrt(train.shape[1]))
    for _ in range(STEPS):
        error = 1 / (1 + np.exp(-np.clip(train @ weights + bias, -30, 30))) - labels
        weights -= np.float32(rate) * (train.T @ error.astype(np.float32) / len(labels) + RIDGE * weights)
        bias -= rate * float(error.mean())
    return np.asarray(test @ weights + bias > 0)


def _nearest(train: NDArray[np.float32], labels: NDArray[np.float64], test: NDArray[np.float32]) -> NDArray[np.bool_]:
    zero, one = train[labels == 0].mean(axis=0), train[labels == 1].mean(axis=0)
    return np.asarray(((test - one) ** 2).sum(axis=1) < ((test - zero) ** 2).sum(axis=1))


CLASSIFIERS: dict[str, Classify] = {"logistic": _logistic, "nearest mean": _nearest}


def advantages(rows: NDArray[np.float32], bits: NDArray[np.float64]) -> tuple[Advantage, ...]:
    """Both classifiers; no transcript is judged by what it taught, so there are as many trials as rows."""
    half = len(rows) // 2
    right = {name: [*_right(classify, rows, bits, half)] for name, classify in CLASSIFIERS.items()}
    return tuple(judged(name, found, len(found) // 2) for name, found in right.items())


def _right(classify: Classify, rows: NDArray[np.float32], bits: NDArray[np.float64], half: int) -> Iterator[bool]:
    """Whether each transcript was classified rightly, the second half first."""
    for teaching, judging in ((slice(half), slice(half, None)), (slice(half, None), slice(half))):
        train, test = _standardised(rows[teaching], rows[judging])
        yield from classify(train, bits[teaching], test) == (bits[judging] == 1)


def judged(name: str, right: list[bool], independent: int | None = None) -> Advantage:
    """The advantage of whoever was right so often; `independent`: how many of the trials are, all unless given."""
    accuracy = float(np.mean(right))
    return Advantage(name, len(right), accuracy, 2 * abs(accuracy - 0.5), margin(independent or len(right)))
