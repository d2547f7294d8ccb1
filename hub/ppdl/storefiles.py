"""The files of a validator's store by their names, and what may be wrong with them.

NAME                the SQLite file (`store.py`), and beside it SQLite's own SIDE_FILES
NAME.mark           its marker (`marker.py`)
NAME.damaged-1 ...  earlier ones that SQLite found malformed (`quarantine.py`)
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hub.ppdl.marker import Marker, marker_path

SIDE_FILES = ("-wal", "-shm")
"""What SQLite keeps beside a database."""
DAMAGE_ADVICE = (
    "check the disk and move the file away, the hub is then silent until it has caught up;"
    " never put an older copy in its place, it has forgotten what this validator signed"
)


class StoreError(RuntimeError):
    """The store cannot be used; the message is one sentence for the operator."""


class StoreDamaged(StoreError):
    """SQLite finds the file malformed. `reason`: in its words."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"the file in PPDL store {path} is damaged ({reason}): {DAMAGE_ADVICE}")
        self.reason = reason


def is_damage(error: Exception) -> bool:
    """Whether SQLite says that the bytes are wrong; and not that it cannot have them."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def side_files(path: Path) -> tuple[Path, ...]:
    """What SQLite may keep beside this database."""
    return tuple(path.with_name(path.name + suffix) for suffix in SIDE_FILES)


def set_aside_path(path: Path, number: int) -> Path:
    """Where a damaged store is kept."""
    return path.with_name(f"{path.name}.damaged-{number}")


def set_aside_numbers(path: Path) -> set[int]:
    """Of the damaged stores that are kept beside this one."""
    numbers = (found.name.rpartition("-")[2] for found in path.parent.glob(f"{path.name}.damaged-*"))
    return {int(number) for number in numbers if number.isdecimal()}


def voted_before(path: Path) -> bool:
    """Whether traces of an earlier store lie here, whose validator may have voted.

    A marker that counts no transaction is none: so much is there when provisioning was cut off.
    """
    if set_aside_numbers(path):
        return True
    mark_file = marker_path(path)
    if not mark_file.exists() or not mark_file.stat().st_size:
        return False
    marker = Marker(mark_file)
    try:
        mark = marker.read()
    finally:
        marker.close()
    return mark is None or mark.number > 0
