"""The client's invocation counter on disk, from which every protected request takes a number of its own.

Rules: a number is never used twice under one key, whatever is killed when and whichever commands run beside the agent:
AES-GCM gives its key away otherwise, and a meter refuses what is not higher than before. So numbers are reserved in blocks,
in the file before they are used; and a meter that is restored goes on above whatever its lost card can have used
(`number_after`), or, where that is not known, not at all until its owner says a number.
Not here: what they protect (`association`), backups (`edge_agent.backup`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from edge_agent.dlms_section import MAX_COUNTER
from openmg.durable import locked, replace_durably

BLOCK = 256
"""Numbers of one reservation: one write to disk for so many requests, and at the most so many lost by an end."""
FILE_NAME = "dlms-counter"
"""In the state folder: the number that the next protected request may have."""
NUMBERS_A_POLL = 16
"""What a poll takes at the most (two to associate, scaler and value of each of four registers), and a sixtieth of the block
that a start loses, rounded up: at a poll a second, a start a minute."""
LEAP = 2**27
"""Numbers left out by a restore: a year of a poll a second, four registers each, for a clock that shows too early a time; a
thirtieth of all there are."""
UNKNOWN = b"not known after a restore; set first_counter\n"
"""In place of a number; nothing is asked with it."""


class CounterError(Exception):
    """No number can be had: the file cannot be used, or the key has to be exchanged."""


class InvocationCounter:
    """Numbers from a file; `next` reserves another block when its own is used up."""

    def __init__(self, path: Path, first: int) -> None:
        self.path, self._first = path, first
        self._number = self._end = 0

    def next(self) -> int:
        """A number that nobody had before, higher than all that this object gave; CounterError."""
        if self._number >= self._end:
            self._start_block()
        self._number += 1
        return self._number - 1

    def start_session(self) -> None:
        """Before a session begins: a new block if another process took one since, whose numbers are higher than ours."""
        with _locked(self.path):
            if read_number(self.path) != self._end:
                self._reserve()

    def _start_block(self) -> None:
        with _locked(self.path):
            self._reserve()

    def _reserve(self) -> None:
        start = max(self._first, read_number(self.path))
        if start + BLOCK > MAX_COUNTER:
            raise CounterError(f"counter file {self.path} is at its end; the meter needs new keys")
        replace_durably(self.path, str(start + BLOCK).encode())
        self._number, self._end = start, start + BLOCK


def read_number(path: Path) -> int:
    """The number in a file; 0 when there is none. CounterError when it holds something else, OSError."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        raise CounterError(
            f"counter file {path} holds no number; remove it and set first_counter above what the meter has seen"
        )
    return int(text)


def number_after(kept: int, seconds: float, poll_seconds: float) -> int:
    """Above what a card used that stood at `kept` so many seconds ago; where that passes the last number, the last."""
    polls = int(seconds / min(1.0, poll_seconds)) + 1
    return min(MAX_COUNTER, kept + polls * NUMBERS_A_POLL + LEAP)


def move_ahead(path: Path, number: int) -> int:
    """Has the file hold the number, or the higher one that it holds; returns which. CounterError."""
    with _locked(path):
        number = max(number, read_number(path))
        replace_durably(path, str(number).encode())
    return number


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone with the file, among all processes. CounterError for what the disk refuses."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(path.with_name(path.name + ".lock")):
            yield
    except OSError as error:
        raise CounterError(f"counter file {path} cannot be used ({error.strerror}); check folder and space") from error
