"""Opening the agent's databases so that nothing can be written, beside an agent that writes, or without one.

Rules: SQLite opens the file with mode=ro. A reader of a write-ahead log needs its index; where that is missing and cannot be
made (no agent runs, and the folder is read-only to this process) nothing is in the log either, and the file is read as it
stands. Connections are for one question and closed after it: an open read would keep the agent's log from being cut.
Not here: what is read (`history`, `statements`).
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from edge_agent.store import StoreError

TIMEOUT_SECONDS = 5.0
CACHE_KIB = 256


def open_readonly(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. StoreError when there is no such file, or none that can be read."""
    if not path.exists():
        raise StoreError(f"{path} does not exist; run the agent or `openmg-agent import` first")
    try:
        return _opened(path, "mode=ro")
    except sqlite3.OperationalError as error:
        if _log_of(path).exists():
            raise StoreError(f"{path} cannot be read ({error}); check its owner") from error
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read ({error}); is it an agent's?") from error
    try:
        return _opened(path, "mode=ro&immutable=1")
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read ({error}); check its owner") from error


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _opened(path: Path, how: str) -> sqlite3.Connection:
    """Without waiting for a first question to see whether it can be read."""
    place = f"file:{quote(str(path.absolute()))}?{how}"
    db = sqlite3.connect(place, uri=True, isolation_level=None, check_same_thread=False, timeout=TIMEOUT_SECONDS)
    try:
        db.execute("PRAGMA query_only=ON")
        db.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    except BaseException:
        db.close()
        raise
    return db


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The database for one question; what it cannot answer is a StoreError."""
    db = open_readonly(path)
    try:
        yield db
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read ({error}); try again, then `openmg-agent doctor`") from error
    finally:
        db.close()
