"""`openmg zk export` as a process: paths on standard output, progress on standard error, one sentence for each fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from openmg.zk import pyecc_verify
from openmg.zk.circuits import transfer
from openmg.zk.export.snarkjs_json import parse_proof
from openmg.zk.keys import ensure_keys
from workbench.cli import app


@pytest.fixture(scope="module")
def cache(key_cache: Path) -> Path:
    ensure_keys(transfer.NAME, key_cache)
    return key_cache


@pytest.fixture
def export(cache: Path, tmp_path: Path):
    def run(*options: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "workbench.cli", "zk", "export", *map(str, options)]
        environment = os.environ | {"OPENMG_CACHE": str(cache)}
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)

    return run


def test_snarkjs_files_hold_a_proof_that_py_ecc_accepts(export, cache, tmp_path):
    out = tmp_path / "new" / "folder"
    done = export("--circuit", "transfer", "--format", "snarkjs", "--out", out)
    assert done.returncode == 0, done.stderr
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert paths == [out / "verification_key.json", out / "proof.json", out / "public.json"]
    assert "proving" in done.stderr
    proof, publics = (json.loads(path.read_text()) for path in paths[1:])
    key = ensure_keys(transfer.NAME, cache).verifying_key
    assert pyecc_verify.verify(key, [int(value) for value in publics], parse_proof(proof).to_bytes())


def test_iden3_files(export, tmp_path):
    done = export("--format", "iden3", "--out", "here")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"here/transfer.{suffix}" for suffix in ("r1cs", "wtns", "zkey")]
    heads = [(tmp_path / "here" / f"transfer.{suffix}").read_bytes()[:8] for suffix in ("r1cs", "wtns", "zkey")]
    assert heads == [b"r1cs\1\0\0\0", b"wtns\2\0\0\0", b"zkey\1\0\0\0"]


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        (("--circuit", "transfers", "--out", "new"), 2, "no example of a circuit 'transfers'; use one of"),
        (("--out", "file"), 1, "cannot be written to file"),
        (("--format", "circom", "--out", "new"), 2, "circom"),
        ((), 2, "--out"),
    ],
)
def test_what_cannot_be_exported_says_why_and_writes_nothing(cache, tmp_path, monkeypatch, options, code, why):
    monkeypatch.setenv("OPENMG_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("a file where the folder should be")
    result = CliRunner().invoke(app, ["zk", "export", *options])
    assert (result.exit_code, result.stdout) == (code, "") and why in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_help_has_an_example():
    result = CliRunner().invoke(app, ["zk", "export", "--help"])
    assert result.exit_code == 0
    assert "openmg zk export --circuit transfer --format snarkjs --out" in " ".join(result.stdout.split())
