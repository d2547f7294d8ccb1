"""One home's side of a learning round: evaluate the agreed model, train it a little, hand back the difference.

The quantity is the home's hourly net energy, import minus export, standardised by its own mean and deviation over the
training span. Training windows end before `plan.evaluation_start_hour`; the evaluation windows begin there and nobody
trains on them, so that losses of different rounds can be compared. Both spans are fixed by the plan.
Rules: the order of batches depends on (device, round, model) only; the trainer is used by one thread at a time.
Not here: threads and messages (`service`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.features import Standard, Windows, build_windows, series
from openmg.forecast.model import to_float
from openmg.forecast.spec import HORIZON_HOURS, MIN_HISTORY_HOURS
from openmg.forecast.trainer import BATCH_ROWS, Trainer, get_trainer, run_steps
from openmg.hashing import keccak256, word
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import model_hash, quantise, update_bytes

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]

HourlyHistory = Callable[[], tuple[int, Sequence[int | None]]]
"""Start (hours since 1970, UTC) and the hourly net energies in Wh from there on; None where nothing was metered."""

MICRO = 1_000_000
MAX_LOSS_MICRO = (1 << 48) - 1


class LearnerNotReady(RuntimeError):
    """This home cannot take part yet; the message says what is missing."""


@dataclass(frozen=True)
class UpdateResult:
    """What a meter answers to a round: clipped int16 update at 2^-18 (little-endian) on the model named by its hash.

    `loss_micro` (evaluation loss of the base model, in millionths) is a message of its own; `n_samples` (windows it
    trained on) and `cpu_ms` (thread time of evaluation and training, the first time also of building the windows)
    stay on the meter.
    """

    round: int
    base_hash: bytes
    update_int16: bytes
    n_samples: int
    loss_micro: int
    cpu_ms: int


class LocalLearner:
    """Trains and evaluates the agreed model on one home's history.

    device: 20-byte address, only used to order batches. trainer: None takes `get_trainer("auto")` at first use.
    """

    def __init__(
        self, device: bytes, plan: LearningPlan, hourly_history: HourlyHistory, trainer: Trainer | None = None
    ) -> None:
        self.device = device
        self.plan = plan
        self._hourly_history = hourly_history
        self._given_trainer = trainer

    @cached_property
    def trainer(self) -> Trainer:
        return self._given_trainer or get_trainer("auto")

    @cached_property
    def _spans(self) -> tuple[Windows, Windows]:
        """Training and evaluation windows; built once, the spans never move. Not kept after a refusal, so that a home
        whose past is imported later is asked again.
        """
        start_hour, energy_wh = self._hourly_history()
        plan = self.plan
        evaluation = plan.evaluation_start_hour - start_hour
        first = max(0, evaluation - plan.train_hours)
        end = evaluation + plan.evaluation_hours
        if evaluation - first < MIN_HISTORY_HOURS + HORIZON_HOURS or end > len(energy_wh):
            raise LearnerNotReady(
                f"learning: the store holds hours {start_hour}..{start_hour + len(energy_wh)}, the plan needs"
                f" {plan.evaluation_start_hour - plan.train_hours}..{start_hour + end}; import the home's history"
            )
        values_wh = series(energy_wh[first:end])
        split = evaluation - first
        try:
            standard = Standard.of(values_wh[:split])
        except ValueError as error:
            raise LearnerNotReady(str(error)) from error
        values = standard.apply(values_wh)
        train = self._windows(values, start_hour + first, MIN_HISTORY_HOURS, split)
        held_out = self._windows(values, start_hour + first, split, len(values))
        if len(train) < BATCH_ROWS or len(held_out) == 0:
            raise LearnerNotReady(
                f"learning: {len(train)} training and {len(held_out)} evaluation windows are complete, at least"
                f" {BATCH_ROWS} and 1 are needed; the home's history has gaps"
            )
        return train, held_out

    def _windows(self, values: F64, start_hour: int, first: int, end: int) -> Windows:
        """Windows whose origins and targets lie in first..end-1."""
        origins = np.arange(first, end - HORIZON_HOURS + 1, dtype=np.int64)
        return build_windows(values, start_hour, origins, self.plan.holiday_days, self.plan.utc_offset_hours)

    def evaluate(self, master: I32) -> int:
        """Mean squared error of the standardised forecast on the evaluation windows, in millionths.

        Raises LearnerNotReady when the history is too short or has too many gaps.
        """
        _, held_out = self._spans
        error = (self.trainer.predict(to_float(master), held_out.inputs) - held_out.residual).astype(np.float64)
        loss = float(np.mean(error * error)) * MICRO
        return MAX_LOSS_MICRO if not loss < MAX_LOSS_MICRO else round(loss)

    def baseline(self) -> int:
        """The same loss for the base forecast alone (an untrained output of zero): what a model must beat."""
        residual = self._spans[1].residual.astype(np.float64)
        return round(float(np.mean(residual * residual)) * MICRO)

    def train(self, master: I32, round_number: int) -> UpdateResult:
        """The round's update: `local_steps` Adam steps from the master, clipped and quantised.

        Raises LearnerNotReady as `evaluate`, ValueError when training diverged.
        """
        began = time.thread_time()
        train, _ = self._spans
        base_hash = model_hash(master)
        loss_micro = self.evaluate(master)
        start = to_float(master)
        pull = self.plan.prox_micro + self.plan.ridge_micro
        weights, _ = run_steps(
            self.trainer,
            start,
            self._batches(train, round_number, base_hash),
            anchor=start * np.float32(self.plan.prox_micro / max(1, pull)),
            learning_rate=self.plan.learning_rate_micro / MICRO,
            prox=pull / MICRO,
        )
        update = quantise(weights - start, self.plan.clip_units)
        cpu_ms = int((time.thread_time() - began) * 1000)
        return UpdateResult(round_number, base_hash, update_bytes(update), len(train), loss_micro, cpu_ms)

    def _batches(self, windows: Windows, round_number: int, base_hash: bytes) -> Iterator[tuple[F32, F32]]:
        """`local_steps` batches with noise on their inputs: the windows in random order, again and again."""
        seed = int.from_bytes(keccak256(self.device + word(round_number) + base_hash), "big")
        random = np.random.default_rng(seed)
        noise = np.float32(self.plan.noise_milli / 1000)
        waiting = np.empty(0, dtype=np.int64)
        for _ in range(self.plan.local_steps):
            if len(waiting) < BATCH_ROWS:
                waiting = np.concatenate([waiting, random.permutation(len(windows))])
            rows, waiting = waiting[:BATCH_ROWS], waiting[BATCH_ROWS:]
            inputs = windows.inputs[rows]
            yield inputs + noise * random.standard_normal(inputs.shape, np.float32), windows.residual[rows]
