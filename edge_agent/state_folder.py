"""The state folder: one agent's at a time, and what it takes of the disk.

Rules: who changes the folder holds its lock; the kernel drops the lock with the process. Not here: what is in the files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import IO

from edge_agent.store_file import StoreError

LOCK_NAME = "lock"
LOCK_TRIES, LOCK_PAUSE_S = 5, 0.1
"""Who only asks whether the folder is held has its lock for some microseconds."""


def lock_state(folder: Path) -> IO[bytes]:
    """Holds the folder, made when missing, for this process until the file is closed; StoreError when another one does."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (folder / LOCK_NAME).open("wb")
    except OSError as error:
        raise StoreError(f"state folder {folder} cannot be used ({error.strerror}); check its owner and free space") from error
    for _ in range(LOCK_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        time.sleep(LOCK_PAUSE_S)
    file.close()
    raise StoreError(f"another agent uses {folder}; stop it or choose another state_dir")


def is_held(folder: Path) -> bool:
    """Whether a process holds the folder now; asking takes the lock for a moment, if nobody has it."""
    try:
        with (folder / LOCK_NAME).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; what vanishes meanwhile counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                total += path.stat().st_size
    return total


def free_bytes(folder: Path) -> int:
    """Bytes that an ordinary user can still write on the folder's disk; OSError when there is no folder."""
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize
