"""Progress of long commands: a line for each step with the time since the start, and one line that changes on a terminal."""

from __future__ import annotations

import sys
import time
from typing import TextIO


class Progress:
    """Prints to standard error, so that `--json` output on standard output stays clean."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._tty = self._stream.isatty()
        self._start = time.monotonic()
        self._live = ""

    @property
    def seconds(self) -> float:
        """Wall seconds since the command began."""
        return time.monotonic() - self._start

    def step(self, text: str) -> None:
        """A finished or started step, kept on the screen."""
        self._clear()
        print(f"{self.seconds:7.1f} s  {text}", file=self._stream, flush=True)

    def live(self, text: str) -> None:
        """What goes on now: replaces the last such line on a terminal, is a line of its own when it changed elsewhere."""
        if text == self._live:
            return
        if self._tty:
            self._clear()
            print(f"{self.seconds:7.1f} s  {text}", end="", file=self._stream, flush=True)
            self._live = text
        else:
            self.step(text)
            self._live = text

    def _clear(self) -> None:
        if self._tty and self._live:
            print("\r\x1b[2K", end="", file=self._stream)
        self._live = ""
