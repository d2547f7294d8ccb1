"""Replacing a small file so that a power cut leaves the old one or the new one, whole; one writer at a time where order counts.

Rules: each writer has a draft of its own, so that two who write one file at once replace it one after the other, both whole.
A draft that a killed writer left is removed by a later one.

Not here: what is in it; files that must not be there yet; keys, whose drafts are removed at once (`openmg.keys.files`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

DRAFT_LIFE_S = 3600
"""A draft so much older than another writer's is nobody's any more."""


def replace_durably(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Written beside, synced and renamed; durable when it returns. Its owner alone reads it unless `mode` says otherwise.

    Raises OSError, and then leaves no draft.
    """
    draft = path.with_name(f".{path.name}.{os.urandom(4).hex()}.part")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            written_s = os.fstat(file.fileno()).st_mtime
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _remove_drafts(path, written_s - DRAFT_LIFE_S)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """The names in it outlive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits until no other process or thread is inside with this lock file, which is made when missing. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_drafts(path: Path, before_s: float) -> None:
    for name in os.listdir(path.parent):
        if name.startswith(f".{path.name}.") and name.endswith(".part"):
            with contextlib.suppress(FileNotFoundError):  # another writer was faster
                if (path.parent / name).stat().st_mtime < before_s:
                    (path.parent / name).unlink()
