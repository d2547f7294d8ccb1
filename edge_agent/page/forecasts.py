"""The forecast that the page shows: made by a child when somebody looks, kept until the next hour or the next model.

Rules: one child at a time, however many homes are served; whoever asks waits a little and is then told that it is being made. A
child that fails is not started again for a while. While nobody looks nothing is computed. Not here: the forecast (`outlook`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from edge_agent.config import AgentConfig
from edge_agent.learning.agreed_names import FILES
from openmg.tasks import end_task

log = logging.getLogger(__name__)
HOUR_SECONDS = 3600
COMPUTING = "computing"
"""The reason while a child is at work."""
PATIENCE_SECONDS = 5.0
"""Whoever asks waits so long; a small board takes some seconds for the first forecast of an hour."""
LONGEST_SECONDS = 120.0
AGAIN_SECONDS = 60.0
"""After a child that failed, or found nothing to forecast from."""
MAX_ANSWER_BYTES = 256 * 1024
"""Of 72 hours in steps of five minutes, twice, some 100 KiB."""

Answer = dict[str, Any]


def no_forecast(key: str) -> Answer:
    """An answer without a forecast; `key` names the reason."""
    reason = {"key": key, "names": {}}
    return {"unknown": reason, "next": [], "yesterday": [], "actual": [], "yesterday_unknown": reason}


class Forecasts:
    """Those of one home. one_child: held while a child is at work, by all who share it."""

    def __init__(self, config: AgentConfig, one_child: asyncio.Lock) -> None:
        self._config, self._one_child = config, one_child
        self._answer: Answer | None = None
        self._made_for: tuple[object, ...] = ()
        self._made_at = 0.0
        self._child: asyncio.Task[None] | None = None
        self._failed_at: float | None = None

    async def get(self, now: float) -> Answer:
        """The forecast at simulated second `now`, or why there is none."""
        wanted = self._key(now)
        if self._answer is not None and self._made_for == wanted and self._lasts(self._answer):
            return self._answer
        if self._child is None or self._child.done():
            if self._failed_at is not None and time.monotonic() - self._failed_at < AGAIN_SECONDS:
                return no_forecast("forecast_failed")
            self._child = asyncio.get_running_loop().create_task(self._make(now, wanted))
        await asyncio.wait((self._child,), timeout=PATIENCE_SECONDS)
        if not self._child.done():
            return no_forecast(COMPUTING)
        return self._answer or no_forecast("forecast_failed")

    async def stop(self) -> None:
        """Ends the child, if one is at work."""
        await end_task(self._child)

    def _key(self, now: float) -> tuple[object, ...]:
        """What a forecast is made for: the hour, and the files of the models as they are."""
        models = sorted((path.name, _changed(path)) for path in self._config.device.state_dir.glob(FILES))
        return int(now // HOUR_SECONDS), *models

    async def _make(self, now: float, wanted: tuple[object, ...]) -> None:
        config = self._config
        words = (str(config.store_path), str(config.device.state_dir), config.home.timezone, str(now))
        try:
            async with self._one_child:
                answer = await _in_child(words)
        except (OSError, ValueError) as error:
            self._failed_at, self._answer = time.monotonic(), None
            log.warning("page: no forecast was made (%s); trying again in %.0f s", error, AGAIN_SECONDS)
            return
        self._failed_at, self._answer = None, answer
        self._made_for, self._made_at = wanted, time.monotonic()

    def _lasts(self, answer: Answer) -> bool:
        """A reason why there is none may be gone soon."""
        return answer["unknown"] is None or time.monotonic() - self._made_at < AGAIN_SECONDS


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # replaced just now
        return 0


async def _in_child(words: tuple[str, ...]) -> Answer:
    """The child's answer; ValueError with its last sentence when it has none."""
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "edge_agent.page.forecast_child", *words)
    child = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, limit=MAX_ANSWER_BYTES)
    try:
        said, complaint = await asyncio.wait_for(child.communicate(), LONGEST_SECONDS)
    except TimeoutError as error:
        raise ValueError(f"it took over {LONGEST_SECONDS:.0f} s") from error
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode or len(said) > MAX_ANSWER_BYTES:
        last = complaint.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no message"]
        raise ValueError(f"code {child.returncode}: {last[0]}")
    answer: Answer = json.loads(said)
    return answer
