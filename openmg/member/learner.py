"""One member's side of a learning round: evaluate the agreed model, train it a little, hand back the difference.

Rules: order of batches and noise on inputs depend on (chance, round, model) only; who knows all three can repeat the training,
and find readings by trying which of them make the update. The trainer is used by one thread at a time.
Not here: the windows (`spans`), threads and messages (`service`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import cos, pi

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.features import Windows
from openmg.forecast.loss import loss as loss_of
from openmg.forecast.model import to_float
from openmg.forecast.trainer import BATCH_ROWS, Trainer, get_trainer, run_steps
from openmg.hashing import keccak256, word
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import model_hash, quantise, update_bytes
from openmg.member.spans import Spans, SpansOf, Split

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

MICRO = 1_000_000
MAX_LOSS_MICRO = (1 << 48) - 1
LAST_RATE = 0.01
"""The rate after the plan's `rate_decay_rounds`, as a part of the first."""
CHANCE_BYTES = 32


@dataclass(frozen=True)
class UpdateResult:
    """What a member answers to a round: clipped int16 update at 2^-18 (little-endian) on the model named by its hash.

    `loss_micro` (evaluation loss of the base model, in millionths) is a message of its own; `n_samples` (windows it
    trained on) and `cpu_ms` (thread time of evaluation and training, the first time also of building the windows)
    stay with the member.
    """

    round: int
    base_hash: bytes
    update_int16: bytes
    n_samples: int
    loss_micro: int
    cpu_ms: int


class LocalLearner:
    """Trains and evaluates the agreed model on one member's windows.

    chance: bytes that order the batches and make the noise: with a member CHANCE_BYTES random ones that nobody else learns and
    that end with the process. trainer: one of the plan's spec; None takes the best that runs here, at first use.
    """

    def __init__(self, chance: bytes, plan: LearningPlan, spans_of: SpansOf, trainer: Trainer | None = None) -> None:
        self.chance = chance
        self.plan = plan
        self._spans_of = spans_of
        self._given_trainer = trainer

    @cached_property
    def trainer(self) -> Trainer:
        return self._given_trainer or get_trainer(self.plan.spec)

    @classmethod
    def of_spans(cls, chance: bytes, plan: LearningPlan, spans: Spans, trainer: Trainer | None = None) -> LocalLearner:
        """A learner of windows that are built already."""
        return cls(chance, plan, lambda _: spans, trainer)

    @cached_property
    def spans(self) -> Split:
        """Built once, because the spans never move; not kept after a refusal, so that a home whose past is imported later
        is asked again. Raises LearnerNotReady.
        """
        return self._spans_of(self.plan)

    def rest(self) -> None:
        """Lets go of windows and interpreter until they are needed again: a megabyte of the meter's, for milliseconds."""
        self.__dict__.pop("spans", None)
        if self._given_trainer is None:
            self.__dict__.pop("trainer", None)

    def evaluate(self, master: I32) -> int:
        """Loss of the standardised forecast of both heads on the evaluation windows, in millionths.

        Raises LearnerNotReady when the history is too short or has too many gaps.
        """
        held_out = self.spans.held_out
        loss = loss_of(self.trainer.predict(to_float(master), held_out.inputs), held_out.residual) * MICRO
        return MAX_LOSS_MICRO if not loss < MAX_LOSS_MICRO else round(loss)

    def baseline(self) -> int:
        """The same loss for the base forecast alone (an untrained output of zero): what a model must beat."""
        residual = self.spans.held_out.residual
        return round(loss_of(np.zeros((len(residual), self.plan.spec.outputs), np.float32), residual) * MICRO)

    def train(self, master: I32, round_number: int) -> UpdateResult:
        """The round's update: `local_steps` Adam steps from the master, clipped and quantised.

        Raises LearnerNotReady as `evaluate`, ValueError when training diverged.
        """
        began = time.thread_time()
        train = self.spans.train
        base_hash = model_hash(self.plan.spec, master)
        loss_micro = self.evaluate(master)
        start = to_float(master)
        pull = self.plan.prox_micro + self.plan.ridge_micro
        weights, _ = run_steps(
            self.trainer,
            start,
            self._batches(train, round_number, base_hash),
            anchor=start * np.float32(self.plan.prox_micro / max(1, pull)),
            learning_rate=self._learning_rate(round_number),
            prox=pull / MICRO,
        )
        update = quantise(weights - start, self.plan.clip_units)
        cpu_ms = int((time.thread_time() - began) * 1000)
        return UpdateResult(round_number, base_hash, update_bytes(update), len(train), loss_micro, cpu_ms)

    def _learning_rate(self, round_number: int) -> float:
        """Falls on a cosine (Loshchilov and Hutter 2017): what homes differ in moves the model by as much as they step."""
        first, rounds = self.plan.learning_rate_micro / MICRO, self.plan.rate_decay_rounds
        if not rounds:
            return first
        done = min(1.0, round_number / rounds)
        return first * (LAST_RATE + (1 - LAST_RATE) * (1 + cos(pi * done)) / 2)

    def _batches(self, windows: Windows, round_number: int, base_hash: bytes) -> Iterator[tuple[F32, F32]]:
        """`local_steps` batches with noise on their inputs: the windows in random order, again and again."""
        seed = int.from_bytes(keccak256(self.chance + word(round_number) + base_hash), "big")
        random = np.random.default_rng(seed)
        noise = np.float32(self.plan.noise_milli / 1000)
        waiting = np.empty(0, dtype=np.int64)
        for _ in range(self.plan.local_steps):
            if len(waiting) < BATCH_ROWS:
                waiting = np.concatenate([waiting, random.permutation(len(windows))])
            rows, waiting = waiting[:BATCH_ROWS], waiting[BATCH_ROWS:]
            inputs = windows.inputs[rows]
            yield inputs + noise * random.standard_normal(inputs.shape, np.float32), windows.residual[rows]
