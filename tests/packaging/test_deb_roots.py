"""The Debian package in fresh roots: install, use, upgrade, remove, purge; amd64 here, arm64 by qemu-user.

Slow: `make test-deb` builds the packages and runs this.
"""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from edge_kit import Broker, Processes, agent_toml, start_simulator, wait_for
from fresh_root import FreshRoot, built, need_tools, running_foreign

from openmg.zk.circuits import commit
from openmg.zk.export.example import SEED_BYTES, witness_example
from openmg.zk.prover import ProofRequest, ProofResult

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]
ETC, STATE = "/etc/openmg-agent", "/var/lib/openmg-agent"
CONFIG = f"{ETC}/agent.toml"
OLDER = "0.0.1"
NOTE = "# a line of the owner\n"


def as_older(package: Path, folder: Path) -> Path:
    """The same package as an older version would be: with a file that is gone now."""
    tree = folder / "older"
    subprocess.run(["dpkg-deb", "-R", str(package), str(tree)], check=True)
    control = tree / "DEBIAN/control"
    lines = [f"Version: {OLDER}" if line.startswith("Version:") else line for line in control.read_text().splitlines()]
    control.write_text("\n".join(lines) + "\n")
    (tree / "opt/openmg-agent/lib/gone.py").write_text("")
    target = folder / "older.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(target)], check=True, capture_output=True
    )
    shutil.rmtree(tree)
    return target


def feeder_config(root: FreshRoot, folder: Path, meter_port: int, broker_url: str) -> None:
    """A feeder's, whose slots take a second: it reports without keys of a ceremony."""
    text = agent_toml(folder, meter_port, broker_url, role="feeder", speed=900.0).read_text(encoding="utf-8")
    text = text.replace('"keys/device.key"', f'"{STATE}/keys/device.key"').replace('"state"', f'"{STATE}"')
    (root.path / CONFIG.lstrip("/")).write_text(NOTE + text, encoding="utf-8")


def outbox(root: FreshRoot) -> list[tuple[int, bytes]]:
    store = root.path / f"{STATE}/store.sqlite".lstrip("/")
    if not store.exists():
        return []
    db = sqlite3.connect(store)
    try:
        return db.execute("SELECT seq, payload FROM outbox ORDER BY seq").fetchall()
    except sqlite3.OperationalError:  # not made yet
        return []
    finally:
        db.close()


@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_install_use_upgrade_remove_purge(
    arch: str,
    repo_root: Path,
    tmp_path: Path,
    fresh_root: Callable[..., FreshRoot],
    processes: Processes,
    free_port: Callable[[], int],
) -> None:
    need_tools("dpkg-deb", "chroot")
    package = built(repo_root, arch)
    with running_foreign(arch):
        root = fresh_root(arch)
        broker = Broker("amqtt", free_port(), tmp_path, processes)
        simulator = start_simulator(processes, tmp_path, {"home-1": ("consumer", free_port())}, speed=900.0)
        root.install(root.bring(as_older(package, tmp_path)))
        assert root.run("openmg-agent", "--version").startswith("openmg-agent ")
        feeder_config(root, tmp_path, simulator.ports["home-1"], broker.url)
        assert "right; device home-1" in root.run("openmg-agent", "check", "--config", CONFIG)
        _run_agent_until_reports_wait(root)
        waiting = outbox(root)
        example = root.path / f"{ETC}/agent.toml.example".lstrip("/")
        example.write_text(example.read_text() + NOTE)

        root.install(root.bring(package))
        assert root.run("dpkg-query", "-W", "-f", "${Version}", "openmg-agent") != OLDER
        assert outbox(root) == waiting and len(waiting) >= 3
        assert (root.path / CONFIG.lstrip("/")).read_text(encoding="utf-8").startswith(NOTE)
        assert example.read_text().endswith(NOTE)
        assert not (root.path / "opt/openmg-agent/lib/gone.py").exists()
        broker.start()
        findings = json.loads(root.run("openmg-agent", "doctor", "--config", CONFIG, "--json"))
        assert [f["check"] for f in findings if not f["ok"]] == [] and len(findings) >= 8
        assert f"{len(waiting)} reports waiting" in str(findings)
        assert json.loads(root.run("openmg-agent", "read", "--config", CONFIG, "--json"))["values"]["power_total_w"] is not None
        _prove_there_and_verify_here(root, repo_root, tmp_path)

        root.run("apt-get", "remove", "--yes", "openmg-agent")
        assert not (root.path / "opt/openmg-agent").exists() and not (root.path / "usr/bin/openmg-agent").exists()
        assert outbox(root) == waiting and (root.path / CONFIG.lstrip("/")).exists()
        root.run("apt-get", "purge", "--yes", "openmg-agent")
        assert not (root.path / ETC.lstrip("/")).exists() and not (root.path / STATE.lstrip("/")).exists()
        assert "openmg-agent" not in (root.path / "etc/passwd").read_text()


def _prove_there_and_verify_here(root: FreshRoot, repo_root: Path, folder: Path) -> None:
    """The package's native prover proves a fresh statement; py_ecc on this machine, which shares nothing with it, verifies."""
    witness = witness_example(commit.NAME, secrets.token_bytes(SEED_BYTES))
    request = ProofRequest(commit.NAME, witness, "native", Path("/tmp/keys"), demo=True)
    (root.path / "tmp/request.json").write_text(request.to_json(), encoding="ascii")
    prove = "/opt/openmg-agent/bin/python3 -I -m openmg.zk.prove < /tmp/request.json"
    result = ProofResult.from_json(root.run("sh", "-c", prove))
    assert result.backend == "native"
    for changed, code in ((0, 0), (1, 1)):
        publics = [hex(result.publics[0] ^ changed), *map(hex, result.publics[1:])]
        file = folder / f"proof-{changed}.json"
        file.write_text(json.dumps({"circuit": commit.NAME, "proof": result.proof.hex(), "publics": publics}))
        command = [sys.executable, "-m", "workbench.cli", "zk", "verify", str(file), "--json"]
        assert subprocess.run(command, cwd=repo_root, capture_output=True, text=True).returncode == code


def _run_agent_until_reports_wait(root: FreshRoot) -> None:
    """Runs the installed agent without a broker, so that its reports stay in the outbox."""
    agent = root.start("openmg-agent", "run", "--config", CONFIG)
    try:
        wait_for(lambda: len(outbox(root)) >= 3 or agent.poll() is not None, 240)
        assert agent.poll() is None, agent.communicate()[1][-2000:]
        owner = (root.path / f"{STATE}/store.sqlite".lstrip("/")).stat().st_uid
        assert owner != 0, "the store belongs to root: the service could not use it"
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(60) == 0
    finally:
        agent.kill()
        agent.communicate()
