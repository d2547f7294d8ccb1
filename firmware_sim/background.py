"""Simulated meters in a thread of this process: for tests that need real sockets at once and no child process.

Rules: `Background` owns one thread with one asyncio loop, and devices answer in it; from outside a test only sets the
clock and single fields of a device's faults. The clock stands still unless it is given a speed or advanced, so that a
test knows what the meters show.
Not here: fixtures (`pytest_plugin`), what is served (`assembly`).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from openmg.clock import VirtualClock

START_TIMEOUT_S = 30.0


class Line(Protocol):
    """A port or a serial line."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class ManualClock:
    """A simulated time that stands still between `advance`s, or runs on from there at a speed."""

    def __init__(self, start: float, speed: float = 0.0) -> None:
        self._ahead = 0.0
        self._start = start
        self._running = VirtualClock(0, time.time(), speed) if speed > 0 else None

    def now(self) -> float:
        """Simulated Unix seconds."""
        return self._start + self._ahead + (self._running.now() if self._running is not None else 0.0)

    def advance(self, seconds: float) -> None:
        """Moves the simulated time forward; ValueError for a negative step."""
        if seconds < 0:
            raise ValueError(f"the clock cannot go back by {-seconds} s")
        self._ahead += seconds


class Background:
    """Serves lines from a thread until `close`; errors of the start are raised by the constructor."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines = tuple(lines)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openmg-sim", daemon=True)
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(START_TIMEOUT_S)
        except BaseException:
            self.close()
            raise

    async def _start(self) -> None:
        for line in self._lines:
            await line.start()

    async def _stop(self) -> None:
        for line in self._lines:
            await line.stop()
        await asyncio.sleep(0)  # closed transports say so to their protocols in the next turn

    def close(self) -> None:
        """Ends lines, loop and thread; may be called twice."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(START_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_TIMEOUT_S)
        self._loop.close()
