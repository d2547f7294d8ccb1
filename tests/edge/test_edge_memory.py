"""What the agent leaves out to stay small on a board."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("gmpy2", reason="gmpy2 is not installed here, so there is nothing to leave out")
SCRIPT = """
import sys
import edge_agent.cli
from openmg.zk.babyjub import commit
print(bool(sys.modules.get("gmpy2")), *map(int, commit(7, 9)))
"""


def test_plain_integers_leave_gmpy2_out_and_commit_to_the_same(repo_root: Path) -> None:
    said = []
    for plain in ("0", "1"):
        environment = os.environ | {"OPENMG_PLAIN_INTEGERS": plain}
        command = [sys.executable, "-c", SCRIPT]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=repo_root, check=True, timeout=60)
        said.append(result.stdout.split())
    assert [words[0] for words in said] == ["True", "False"] and said[0][1:] == said[1][1:]
