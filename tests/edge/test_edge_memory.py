"""What the agent leaves out to stay small on a board."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from edge_kit import Processes, agent_toml, start_simulator, wait_for

from edge_agent.status import read_status

UNUSED = (
    "cryptography.x509", "csv", "decimal", "edge_agent.backup", "edge_agent.config_file", "edge_agent.dlms", "edge_agent.enrol",
    "edge_agent.homeassistant", "edge_agent.learning", "edge_agent.market", "edge_agent.modbus.detect",
    "edge_agent.modbus.proxy", "edge_agent.serial_line", "edge_agent.page", "edge_agent.wallet.service", "http.server",
    "mnemonic", "numpy", "openmg.learning", "pymodbus", "serial", "sqlite_utils", "tflite_runtime",
)  # fmt: skip
"""What an agent of one Modbus TCP meter, which neither learns nor trades, has no use for."""
SCRIPT = """
import sys
import edge_agent.cli
from openmg.zk.babyjub import commit
print(bool(sys.modules.get("gmpy2")), *map(int, commit(7, 9)))
"""


@pytest.mark.skipif(importlib.util.find_spec("gmpy2") is None, reason="gmpy2 is not installed here: nothing to leave out")
def test_plain_integers_leave_gmpy2_out_and_commit_to_the_same(repo_root: Path) -> None:
    said = []
    for plain in ("0", "1"):
        environment = os.environ | {"OPENMG_PLAIN_INTEGERS": plain}
        command = [sys.executable, "-c", SCRIPT]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=repo_root, check=True, timeout=60)
        said.append(result.stdout.split())
    assert [words[0] for words in said] == ["True", "False"] and said[0][1:] == said[1][1:]


def test_a_running_agent_has_loaded_nothing_that_it_does_not_use(
    tmp_path: Path, free_port: Callable[[], int], processes: Processes
) -> None:
    meter = start_simulator(processes, tmp_path, {"home-1": ("consumer", free_port())}).ports["home-1"]
    path = agent_toml(tmp_path, meter, f"mqtt://127.0.0.1:{free_port()}")
    log = tmp_path / "imports"
    with log.open("wb") as said:
        agent = processes.start(
            sys.executable, "-X", "importtime", "-m", "edge_agent", "run", "--config", str(path),
            stderr=said, env=os.environ | {"OPENMG_PLAIN_INTEGERS": "1"},
        )  # fmt: skip
        wait_for(lambda: (read_status(path.parent / "state") or {}).get("last_reading"))
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(20) == 0
    loaded = set(re.findall(r"\| +([\w.]+)$", log.read_text(encoding="utf-8"), re.MULTILINE))
    assert {"edge_agent.agent", "edge_agent.modbus.connection", "sqlite3"} <= loaded  # it was listened to
    assert not {name for name in loaded for unused in UNUSED if name == unused or name.startswith(f"{unused}.")}
