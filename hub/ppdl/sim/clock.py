"""The world's only clock: integer milliseconds, and the queue of what is to happen.

Rules: what is due at the same millisecond happens in the order in which it was put in; nothing else decides the order, so
that one seed gives one run on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

MAX_QUEUED = 100_000
"""Events under way at once: a world of sixteen nodes in a storm has some thousands; more means that something multiplies."""

Action = Callable[[Any], None]


class Clock:
    """`now` in ms since the start of the run."""

    def __init__(self) -> None:
        self.now = 0
        self.done = 0
        self.stopped = False
        self._sequence = 0
        self._heap: list[tuple[int, int, Action, Any]] = []

    def after(self, delay_ms: int, action: Action, what: Any) -> None:
        """Call `action(what)` in `delay_ms`."""
        self._sequence = sequence = self._sequence + 1
        heap = self._heap
        if len(heap) >= MAX_QUEUED:
            raise RuntimeError(f"simulation: {MAX_QUEUED} events are under way at {self.now} ms: something multiplies")
        heappush(heap, (self.now + delay_ms, sequence, action, what))

    def run(self, limit_ms: int, max_done: int) -> bool:
        """Let things happen until somebody sets `stopped`; False when time, events or the queue end first."""
        heap = self._heap
        self.stopped = False
        while heap and self.now < limit_ms and self.done < max_done:
            self.now, _, action, what = heappop(heap)
            self.done += 1
            action(what)
            if self.stopped:
                return True
        return False

    def clear(self) -> None:
        """Forget what was to happen."""
        self._heap.clear()

    def __len__(self) -> int:
        return len(self._heap)
