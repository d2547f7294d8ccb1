"""Progress on the terminal: a line per step, with seconds; on a tty a live line with the child's last words.

Rules: no escape sequence unless stdout is a terminal that understands it; never fails on a letter the
terminal cannot show. Not here: what the steps do.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from types import TracebackType
from typing import TextIO

LIVE_LINE_INTERVAL_S = 0.1
STILL_RUNNING_INTERVAL_S = 30.0  # without a terminal: a sign of life in a log, and no flood
CLEAR_LINE = "\r\x1b[2K"


def open_stdout() -> TextIO:
    """stdout, set so that a letter it cannot encode is replaced instead of raising."""
    stream = sys.stdout
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace", line_buffering=True)
    return stream


class Step:
    """One line of progress. Use as a context manager; `note` is fed with the child's output lines."""

    def __init__(self, console: Console, number: int, total: int, title: str) -> None:
        self._console = console
        self._label = f"[{number}/{total}] {title}"
        self._began = time.monotonic()
        self._shown_at = self._began
        self.outcome = "done"

    def __enter__(self) -> Step:
        self._console.live(f"{self._label} ...")
        return self

    def note(self, line: str) -> None:
        """Show one line of a child's output, at most ten a second, cut to the terminal."""
        now = time.monotonic()
        seconds = now - self._began
        if self._console.is_live:
            if now - self._shown_at >= LIVE_LINE_INTERVAL_S:
                self._shown_at = now
                self._console.live(f"{self._label} ({seconds:.0f} s) {line}")
        elif now - self._shown_at >= STILL_RUNNING_INTERVAL_S:
            self._shown_at = now
            self._console.line(f"{self._label}: still running, {seconds:.0f} s")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = time.monotonic() - self._began
        self._console.line(f"{self._label}: {'failed' if error else self.outcome} ({seconds:.1f} s)")


class Console:
    """Writes whole lines; on a terminal also one live line that the next write replaces."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else open_stdout()
        self.is_live = self._stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._live_shown = False

    def step(self, number: int, total: int, title: str) -> Step:
        return Step(self, number, total, title)

    def line(self, text: str = "") -> None:
        self._clear()
        self._stream.write(text + "\n")
        self._stream.flush()

    def live(self, text: str) -> None:
        """Show `text` until the next write. Without a terminal nothing is written."""
        if not self.is_live:
            return
        # ASCII only: the width of other letters differs between terminals and would wrap the line.
        plain = "".join(letter if " " <= letter <= "~" else "?" for letter in text.rstrip())
        width = shutil.get_terminal_size().columns - 1
        self._clear()
        self._stream.write(plain[:width])
        self._stream.flush()
        self._live_shown = True

    def _clear(self) -> None:
        if self._live_shown:
            self._stream.write(CLEAR_LINE)
            self._live_shown = False
