"""What a running agent says of itself, in a small file that `openmg-agent status` and `doctor` read.

Rules: the file is replaced as a whole, never synced (it is news, not a record), and tells when it was written and by which
process. A reader can say whether the agent lives: somebody holds the state folder, and that process is no other of its number.
The boot is not asked for: in a container a service with a /proc of its own sees another one than the shell beside it.
It holds nothing that the owner's own store does not.
Not here: the counters themselves (their owners), the store's (`store`).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
from pathlib import Path
from typing import Any

from edge_agent.state_folder import is_held

FILE_NAME = "status.json"
WRITE_SECONDS = 30.0
"""Wall time between writings: 3,000 a day, 25 MB of flash; the store's own writes are ten times that."""
MAX_BYTES = 256 * 1024
"""247 units as owner's and guests', with room to spare."""


def write_status(folder: Path, table: dict[str, Any]) -> None:
    """Replaces the status file of a state folder; OSError when the disk takes none."""
    head = {"pid": os.getpid(), "started": _own_start(os.getpid()), "written_ms": time.time_ns() // 1_000_000}
    text = json.dumps(head | table, ensure_ascii=False)
    fresh = folder / f"{FILE_NAME}.new"
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(folder / FILE_NAME)


def remove_status(folder: Path) -> None:
    """Removes the file of an agent that ended in order."""
    with contextlib.suppress(OSError):
        (folder / FILE_NAME).unlink(missing_ok=True)


def read_status(folder: Path) -> dict[str, Any] | None:
    """The last status of a state folder; None when there is none, or none that can be read."""
    try:
        with (folder / FILE_NAME).open("rb") as file:
            table = json.loads(file.read(MAX_BYTES))
    except (OSError, ValueError):
        return None
    return table if isinstance(table, dict) and isinstance(table.get("pid"), int) else None


def is_running(folder: Path, table: dict[str, Any]) -> bool:
    """Whether the process that wrote this status of the folder still lives; another one may have its number by now."""
    return table.get("started") is not None and table["started"] == _started(table["pid"]) and is_held(folder)


@functools.lru_cache(maxsize=1)
def _own_start(pid: int) -> str | None:
    """That of this process, which a gateway writes hundreds of times a minute."""
    return _started(pid)


def _started(pid: int) -> str | None:
    """The clock tick since the boot in which a process began; None when there is none (proc(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, ValueError, IndexError):
        return None
