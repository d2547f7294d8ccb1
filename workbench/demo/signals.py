"""Ctrl-C, a request to end and a closed terminal, as an exception in the demo's main thread.

Rules: each signal raises Interrupted until `ignore` is called, so that a second Ctrl-C cuts short what the first one let
finish, but nothing disturbs the stopping of the children. A signal that was ignored when the command began (`nohup`) stays
ignored.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """The user asked to stop; `hung_up` when the terminal was closed, so that nobody waits for anything."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.strsignal(number) or str(number))
        self.hung_up = number == signal.SIGHUP


class Signals:
    """The handlers of one run."""

    def __init__(self) -> None:
        self._ignoring = False

    def ignore(self) -> None:
        """Nothing interrupts from now on: what is left ends by itself in bounded time."""
        self._ignoring = True

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Signals raise Interrupted inside; handlers are as before afterwards."""
        numbers = [number for number in HANDLED if signal.getsignal(number) is not signal.SIG_IGN]
        previous = {number: signal.signal(number, self._interrupt) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _interrupt(self, number: int, frame: object) -> None:
        if not self._ignoring:
            raise Interrupted(number)
