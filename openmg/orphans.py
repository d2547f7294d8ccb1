"""A child process that ends when its parent does, however the parent ended.

Rules: the kernel sends SIGKILL when the thread that started the child ends (PR_SET_PDEATHSIG, prctl(2)); a child with state
that matters must survive that anyway. Linux only: elsewhere nothing is done.
Not here: starting and stopping processes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(parent: int | None = None) -> None:
    """Tie this process to the one that started it.

    parent: its process id, where it is known: a parent that has gone already, before the tie, ends this process at once.
    Safe between fork and exec.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if parent is not None and os.getppid() != parent:
            os._exit(1)
