"""Progress of long commands: a line for each step with the time since the start, and one line that changes on a terminal.

Rules: progress is for people and never ends a run: a terminal that was closed, or a pipe that nobody reads any more, is
written to no longer.
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

_CLEAR_LINE = "\r\x1b[2K"


class Progress:
    """Prints to standard error, so that `--json` output on standard output stays clean."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._tty = self._stream.isatty()
        self._start = time.monotonic()
        self._live = ""
        self._gone = False

    @property
    def seconds(self) -> float:
        """Wall seconds since the command began."""
        return time.monotonic() - self._start

    def step(self, text: str) -> None:
        """A finished or started step, kept on the screen."""
        self._write(f"{self._clear()}{self.seconds:7.1f} s  {text}\n")
        self._live = ""

    def live(self, text: str, once: str = "") -> None:
        """What goes on now: replaces the last such line on a terminal; elsewhere a line of its own.

        Elsewhere nothing is written while `once` (default: the text) stays the same, so that a log does not fill up.
        """
        shown = text if self._tty else once or text
        if shown == self._live:
            return
        if self._tty:
            self._write(f"{self._clear()}{self.seconds:7.1f} s  {text}"[: self._columns()])
        else:
            self.step(text)
        self._live = shown

    def _columns(self) -> int:
        """What fits the line: one that wraps could not be replaced."""
        return shutil.get_terminal_size().columns + len(self._clear()) - 1

    def _clear(self) -> str:
        return _CLEAR_LINE if self._tty and self._live else ""

    def _write(self, text: str) -> None:
        if self._gone:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the terminal was closed, or the reader of a pipe ended
            self._gone = True
