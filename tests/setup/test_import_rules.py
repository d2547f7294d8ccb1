"""The import rules in pyproject.toml catch what they are there for (the clean tree is checked by `make test`)."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from setup_support import NOT_COPIED, ROOT

PACKAGES = ("openmg", "edge_agent", "firmware_sim", "hub", "workbench")
PLANTED = {
    "edge_agent/planted.py": "import hub.config\nimport web3\n",
    "hub/ppdl/consensus/planted.py": "def now() -> float:\n    import time\n\n    return time.time()\n",
    "firmware_sim/planted.py": "import paho.mqtt.client\n",
    "openmg/planted.py": "from py_ecc import bn128\n",
}
CAUGHT = (
    "edge_agent.planted -> hub.config",
    "edge_agent.planted -> web3",
    "hub.ppdl.consensus.planted -> time",
    "firmware_sim.planted -> paho",
    "openmg.planted -> py_ecc",
)


def test_forbidden_imports_are_caught(tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=NOT_COPIED)
    shutil.copy2(ROOT / "pyproject.toml", tmp_path)
    for name, text in PLANTED.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run(
        [str(linter), "--config", "pyproject.toml", "--no-cache"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    said = re.sub(r"\s+", " ", done.stdout)
    assert done.returncode == 1, done.stdout + done.stderr
    for line in CAUGHT:
        assert line in said, f"not caught: {line}\n{done.stdout}"
