"""A tape: one byte string from which every choice of a fuzzed run is read.

The same bytes make the same choices, so a failing run is a file; whoever changes the bytes changes the run, so hypothesis
can shrink it and coverage-guided mutation can steer it. Past its end a tape reads zeros: the simplest choice each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from hub.ppdl.genesis import MAX_U64

T = TypeVar("T")

MAX_TAPE_BYTES = 1 << 16
"""Longer than any drawn run reads; what a file holds beyond it is not used."""
TAPE_BYTES = (16, 64, 256, 1024, 4096)
"""Lengths of drawn tapes: short ones are easy to read when they fail, long ones get further."""
_EDGES = (0, 1, 2, 23, 24, 255, 256, 2**16, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, MAX_U64 - 1, MAX_U64)


class Finding(AssertionError):
    """A rule that did not hold; the text says which."""


def require(holds: bool, text: str) -> None:
    """Raises Finding unless the rule holds."""
    if not holds:
        raise Finding(text)


class Tape:
    """Reads choices from bytes."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data[:MAX_TAPE_BYTES], 0

    @property
    def left(self) -> bool:
        """Whether anything is left to read."""
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        """The next bytes, with zeros for those that are missing."""
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken + bytes(size - len(taken))

    def below(self, bound: int) -> int:
        """A number from 0 to `bound` - 1."""
        size = (max(1, (bound - 1).bit_length()) + 7) // 8
        return int.from_bytes(self.take(size), "big") % bound

    def rarely(self, one_in: int) -> bool:
        """True once in so many times, and never past the end."""
        return self.below(one_in) == one_in - 1

    def pick(self, choices: Sequence[T]) -> T:
        """One of them."""
        return choices[self.below(len(choices))]

    def number(self, high: int, near: int = 0) -> int:
        """A number from 0 to `high`: beside `near`, on an edge of an encoding, or any."""
        how = self.below(8)
        if how < 4:
            value = near + (0, 1, -1, 2)[how]
        elif how < 7:
            value = self.pick((*_EDGES, high, high - 1))
        else:
            value = self.below(high + 1)
        return min(max(value, 0), high)

    def chunk(self, most: int = 48) -> bytes:
        """Some bytes, few as a rule."""
        return self.take(self.below(most + 1))
