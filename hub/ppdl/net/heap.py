"""Where the memory of large payloads comes from.

A payload of 2 MiB is held for a moment. From the heap it would leave a hole there that smaller things move into, so that the
next one finds no room and the heap grows, again and again while a peer floods. glibc takes what is large from the system
instead, and gives it back at once, but moves its limit up to the largest that was ever freed, unless it was told one.
"""

from __future__ import annotations

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""malloc.h of glibc."""
MMAP_BYTES = 512 * 1024
"""Twice the largest frame that holds no block, answer or snapshot. What is smaller stays with the heap, which is faster."""
TRIM_BYTES = 1024 * 1024
"""Free at the end of the heap before it is given back; told too, since one that is told stops the other from moving."""


def keep_large_payloads_off() -> None:
    """For this process; does nothing where the C library has no such setting."""
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)
        library.mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)
