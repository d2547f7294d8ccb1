"""The committed artifacts are what the sources give."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest


@pytest.mark.slow  # `make test` compares the artifacts by itself
def test_artifacts_reproduce(repo_root):
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed, so the contracts cannot be recompiled")
    if not (repo_root / "contracts" / "node_modules" / "solc").is_dir():
        pytest.skip("the npm package solc is not installed; run npm ci --ignore-scripts in contracts/")
    command = [sys.executable, str(repo_root / "contracts" / "build.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_artifacts_name_no_place_and_fit_the_chain(repo_root):
    folder = repo_root / "contracts" / "artifacts"
    for path in folder.rglob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert str(repo_root) not in text
        artifact = json.loads(text)
        assert len(artifact["deployedBytecode"]) // 2 - 1 <= 24_576, path.name
        assert artifact["settings"]["metadata"] == {"appendCBOR": False, "bytecodeHash": "none"}


def test_lock_file_holds_no_address(repo_root):
    text = (repo_root / "contracts" / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in text
    assert "http" not in text
