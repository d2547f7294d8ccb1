"""Whether an agent runs, from its status file and its hold on the state folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from edge_kit import agent_toml

from edge_agent.config import AgentConfig
from edge_agent.state_folder import is_held, lock_state
from edge_agent.status import is_running, read_status, write_status
from edge_agent.store import StoreError
from openmg.config import load_toml


def test_status_of_an_agent_that_was_killed_is_not_believed(tmp_path: Path) -> None:
    with lock_state(tmp_path):
        write_status(tmp_path, {"polls": 1})
        said = read_status(tmp_path)
        assert said is not None and is_running(tmp_path, said)
        with subprocess.Popen(["true"]) as ended:
            ended.wait()
        assert not is_running(tmp_path, said | {"pid": ended.pid}) and not is_running(tmp_path, said | {"pid": 1})
    assert not is_running(tmp_path, said), "nobody holds the folder"
    (tmp_path / "status.json").write_text("{", encoding="ascii")
    assert read_status(tmp_path) is None


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="only root can give a process another /proc")
def test_status_is_believed_where_the_boot_has_another_name(tmp_path: Path) -> None:
    """As in a container, whose services see the host's."""
    path = agent_toml(tmp_path, 1502, "mqtt://127.0.0.1:1883")
    other = tmp_path / "boot_id"
    other.write_text("b" * 32 + "\n", encoding="ascii")
    state = load_toml(path, AgentConfig).device.state_dir
    with lock_state(state):
        write_status(state, {"last_reading": None, "bus": {"units": {"1": {"problem": ""}}, "problem": ""}})
        shell = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
        status = [sys.executable, "-m", "edge_agent.cli", "status", "--config", str(path), "--json"]
        asked = ["unshare", "--mount", "sh", "-c", shell, str(other), *status]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["running"] is True, done.stderr


def test_looking_at_a_folder_keeps_no_agent_out(tmp_path: Path) -> None:
    with lock_state(tmp_path), ThreadPoolExecutor(2) as pool:
        assert list(pool.map(is_held, [tmp_path] * 50)) == [True] * 50
        with pytest.raises(StoreError, match="another agent uses"):
            lock_state(tmp_path)
    ended = threading.Event()
    watcher = threading.Thread(target=lambda: [is_held(tmp_path) for _ in iter(ended.is_set, True)])
    watcher.start()
    try:
        for _ in range(50):
            lock_state(tmp_path).close()
    finally:
        ended.set()
        watcher.join()
