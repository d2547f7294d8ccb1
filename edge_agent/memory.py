"""Keeping the agent small on a board with little memory.

glibc gives each thread that allocates an arena of its own, and what was freed in one is not reused by another; an agent has
several threads that each work for moments. Not here: what the parts hold (their own bounds say so).
"""

from __future__ import annotations

import contextlib
import ctypes

M_ARENA_MAX = -8
"""malloc.h of glibc."""
ARENAS = 1
"""For all threads together: they seldom work at the same time."""
M_MMAP_THRESHOLD = -3
MMAP_FROM_BYTES = 64 * 1024
"""What is larger has pages of its own, which go back to the system at once. Left alone glibc raises this to 32 MB with the
first large array that is freed, and the arrays of a training then leave holes between small objects."""


def use_few_arenas() -> None:
    """Before threads start; does nothing where the C library has no such setting."""
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_ARENA_MAX, ARENAS)
        library.mallopt(M_MMAP_THRESHOLD, MMAP_FROM_BYTES)


def give_back() -> None:
    """After work that took much for a moment: what is free goes back to the system, some milliseconds' work."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
