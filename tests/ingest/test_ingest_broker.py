"""The embedded broker as a process."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def test_a_port_in_use_is_one_sentence(free_port: Callable[[], int], repo_root: Path) -> None:
    port = free_port()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        result = subprocess.run(
            [sys.executable, "-m", "hub.ingest.broker", "--port", str(port)],
            capture_output=True, text=True, cwd=repo_root, timeout=30,
        )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.strip() == f"port {port} on 127.0.0.1 cannot be opened for MQTT; free it or choose another"
