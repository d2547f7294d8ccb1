"""When the hub's models are trained: one at a time, in a child process, each again after a day of the virtual clock.

Rules: a child takes one thread and the lowest priority, and ends with this job, whatever step it is at. Each model is
tried at most once in MIN_WALL_SECONDS, so a fast virtual clock does not keep a machine busy for ever. A history that is too
short is no error: `missing` says what is lacking, and the next hour looks again.
Not here: what is trained (`models`), the child (`train_child`), forecasts (`desk`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from hub.inference.database import InferenceStoreError
from hub.inference.history import HistoryStore
from hub.inference.hub_model import MIN_TRAIN_WEEKS, HistoryTooShort
from hub.inference.models import KeptModel, ModelInputs, ModelKey, inputs_of, spec_of
from hub.inference.train_child import TOO_SHORT_EXIT_CODE
from hub.inference.training import TrainingFailed, TrainingTask, kept_from_json
from openmg.forecast.features import Almanac
from openmg.forecast.spec import HOURS_PER_DAY

log = logging.getLogger(__name__)

STEP_SECONDS = 5.0
RETRAIN_HOURS = HOURS_PER_DAY
"""Of the virtual clock."""
RETRY_HOURS = 1
"""For a key without a model: the operator may have imported its past meanwhile."""
MIN_WALL_SECONDS = 600.0
MAX_TRAIN_SECONDS = 3_600.0
MAX_ANSWER_BYTES = 2**21
"""The largest model has MAX_PARAMETERS weights, base64 of 800 kB."""
ONE_THREAD = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}

AlmanacOf = Callable[[int], Almanac]
"""The site's calendar for a history that begins at this hour."""


class TrainerJob:
    """Trains until `stop` is set; `models` has the newest of each key, `missing` why there is none.

    `keep` stores a new model, in a thread; `on_change` is called once it is in `models`.
    """

    def __init__(
        self,
        history: HistoryStore,
        keys: Sequence[ModelKey],
        known: dict[ModelKey, KeptModel],
        almanac_of: AlmanacOf,
        hour: Callable[[], int],
        steps: int,
        keep: Callable[[KeptModel], None],
        on_change: Callable[[], None],
    ) -> None:
        self._history = history
        self.keys = tuple(keys)
        self._almanac_of = almanac_of
        self._hour = hour
        self._steps = steps
        self._keep = keep
        self._on_change = on_change
        self.models = {key: kept for key, kept in known.items() if key in self.keys}
        self.missing: dict[ModelKey, str] = {}
        self._tried: dict[ModelKey, tuple[int, float]] = {}
        """Virtual hour and wall second (monotonic) of the last attempt in this process."""

    async def run(self, stop: asyncio.Event) -> None:
        """One model after the other, as they fall due; returns when `stop` is set."""
        while not stop.is_set():
            key = self.due(self._hour(), time.monotonic())
            if key is not None:
                await self._until(stop, self.train(key))
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), STEP_SECONDS)

    def due(self, hour: int, wall_s: float) -> ModelKey | None:
        """The model that waited longest among those whose day is over."""
        waiting = [(self._last(key)[0], place, key) for place, key in enumerate(self.keys) if self._is_due(key, hour, wall_s)]
        return min(waiting)[2] if waiting else None

    def _is_due(self, key: ModelKey, hour: int, wall_s: float) -> bool:
        tried_hour, tried_wall = self._last(key)
        wait_hours = RETRAIN_HOURS if key in self.models else RETRY_HOURS
        return hour - tried_hour >= wait_hours and wall_s - tried_wall >= MIN_WALL_SECONDS

    def _last(self, key: ModelKey) -> tuple[int, float]:
        if key in self._tried:
            return self._tried[key]
        kept = self.models.get(key)
        return (kept.trained_hour, -MIN_WALL_SECONDS) if kept is not None else (-RETRAIN_HOURS, -MIN_WALL_SECONDS)

    async def train(self, key: ModelKey) -> None:
        """One attempt; its outcome is in `models` or `missing`."""
        hour = self._hour()
        self._tried[key] = hour, time.monotonic()
        try:
            task = await asyncio.to_thread(self._task, key, hour)
            kept = await train_in_child(task)
            await asyncio.to_thread(self._keep, kept)
        except ValueError as error:  # HistoryTooShort, or years of which no holidays are known
            self.missing[key] = str(error)
        except (TrainingFailed, InferenceStoreError) as error:
            log.warning("inference: %s; the last model stays, it is tried again later", error)
            self.missing.setdefault(key, str(error))
        else:
            self.missing.pop(key, None)
            self.models[key] = kept
            self._on_change()
            log.info("inference: trained %s, model 0x%s", key, kept.model_hash.hex())

    def _task(self, key: ModelKey, hour: int) -> TrainingTask:
        inputs = inputs_of(self._history, key)
        spec = spec_of(key, len(inputs.values))
        require_weeks(key, inputs, spec.steps_per_week)
        almanac = self._almanac_of(inputs.start_step // spec.steps_per_hour)
        return TrainingTask(key, spec, inputs, almanac, self._steps, hour)

    async def _until(self, stop: asyncio.Event, training: Coroutine[Any, Any, None]) -> None:
        """The training, unless the hub ends first; the child then ends with it."""
        task, waiting = asyncio.create_task(training), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            if not task.done():
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def require_weeks(key: ModelKey, inputs: ModelInputs, steps_per_week: int) -> None:
    """HistoryTooShort unless enough weeks are known; said here, so that no child starts in vain."""
    known = sum(value is not None for value in inputs.values)
    if known < MIN_TRAIN_WEEKS * steps_per_week:
        have = f"{known} of {MIN_TRAIN_WEEKS * steps_per_week} steps are known"
        raise HistoryTooShort(f"{key}: {have} ({MIN_TRAIN_WEEKS} weeks); wait or import the past")


async def train_in_child(task: TrainingTask, timeout_seconds: float = MAX_TRAIN_SECONDS) -> KeptModel:
    """The model of a task. HistoryTooShort, TrainingFailed; cancelling ends the child."""
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "hub.inference.train_child")
    try:
        child = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, limit=MAX_ANSWER_BYTES, env=os.environ | ONE_THREAD
        )
    except OSError as error:
        raise TrainingFailed(f"training of {task.key}: no process can be started ({error.strerror})") from error
    try:
        request = await asyncio.to_thread(task.to_json)
        async with asyncio.timeout(timeout_seconds):
            answer, complaint = await child.communicate(request.encode())
    except TimeoutError as error:
        raise TrainingFailed(f"training of {task.key}: not done after {timeout_seconds:g} s") from error
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    text = answer[:MAX_ANSWER_BYTES].decode("utf-8", "replace").strip()
    if child.returncode == TOO_SHORT_EXIT_CODE:
        raise HistoryTooShort(text)
    if child.returncode != 0:
        last = complaint.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise TrainingFailed(f"training of {task.key}: the process ended with {child.returncode} ({last[:200]})")
    return kept_from_json(task, text)
