"""Serial lines for the tests: a pseudo-terminal in front of a simulated meter, and a pair of joined ones, by socat."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from edge_kit import Processes, wait_for


def socat() -> str:
    path = shutil.which("socat")
    if path is None:
        pytest.skip("socat is not installed")
    return path


def line_to(processes: Processes, port: int, folder: Path) -> Path:
    """A serial port behind which the RTU server on that TCP port answers."""
    path = folder / f"tty-{port}"
    processes.start(socat(), f"pty,rawer,link={path}", f"tcp:127.0.0.1:{port}")
    wait_for(path.exists)
    return path


def joined_lines(processes: Processes, folder: Path) -> tuple[Path, Path]:
    """The two ends of one serial cable."""
    ends = folder / "tty-a", folder / "tty-b"
    processes.start(socat(), *(f"pty,rawer,link={path}" for path in ends))
    wait_for(lambda: all(path.exists() for path in ends))
    return ends
