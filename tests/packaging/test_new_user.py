"""A new user follows docs/INSTALL_METER.md in a fresh Debian 12, word by word: by the package, and by pipx.

What is simulated is the meter, behind a pseudo terminal that has the name of a USB adapter. Slow: `make test-deb`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from edge_kit import CHAIN_ID, OPERATOR_KEY, Broker, Processes, wait_for
from fresh_root import ENVIRONMENT, FreshRoot, built, mounted, need_tools

from openmg.signing import address_of
from scripts.build_deb import ARCHES, requirements

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
CONFIG = "/etc/openmg-agent/agent.toml"
KEY = "/etc/openmg-agent/commit.key"
PORT = "/dev/ttyUSB0"
HOME = "/srv/owner"
"""Of whoever installs by pipx in a fresh root."""
POLLS = 5
BEACON = f"0x{'5a' * 32}"


def sudo(root: FreshRoot, document: str, command: str, *more: str) -> str:
    """Runs as root what the document says with sudo, and nothing that it does not say."""
    assert f"sudo {command}" in re.sub(r" \\\n +", " ", document), f"the document does not say: sudo {command}"
    return root.run("sh", "-c", " ".join((command, *more)))


@contextlib.contextmanager
def meter_on_a_port(root: FreshRoot, processes: Processes) -> Iterator[None]:
    """A simulated meter behind /dev/ttyUSB0 of the root, with the group and mode that udev gives to such a port."""
    line = root.path / PORT.lstrip("/")
    command = ("--meters", "1", "--profile", "em340", "--serial", str(line), "--baud", "9600")
    (root.path / "dev/pts").mkdir(exist_ok=True)
    # Whether an agent runs is read from /proc.
    with mounted("proc", root.path / "proc", "-t", "proc"), mounted("/dev/pts", root.path / "dev/pts", "--bind"):
        simulator = processes.python("firmware_sim.cli", *command, stdout=subprocess.PIPE)
        try:
            assert simulator.stdout is not None and simulator.stdout.readline().startswith("serving")
            root.run("chgrp", "dialout", PORT)
            root.run("chmod", "660", PORT)
            yield
        finally:
            simulator.terminate()
            simulator.wait(30)


@pytest.fixture(scope="module")
def ceremony_key(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the operator hands out: the key of a ceremony of `commit`, with one party (docs/CEREMONY.md)."""
    folder = tmp_path_factory.mktemp("ceremony")

    def ceremony(*words: str) -> None:
        command = [sys.executable, "-m", "workbench.cli", "zk", "ceremony", *words]
        subprocess.run(command, cwd=repo_root, input="some letters\n", text=True, check=True, capture_output=True)

    tau, phase2 = folder / "tau", folder / "commit"
    ceremony("init", "--circuit", "commit", "--out", f"{tau}.0")
    ceremony("contribute", f"{tau}.0", "--name", "Ada", "--out", f"{tau}.1")
    ceremony("init", "--circuit", "commit", "--phase1", f"{tau}.1", "--out", f"{phase2}.0")
    ceremony("contribute", f"{phase2}.0", "--name", "Ada", "--out", f"{phase2}.1")
    ceremony("finalise", f"{phase2}.1", "--beacon", BEACON, "--name", "a block", "--out", str(folder / "keys"))
    return folder / "keys/commit.pk"


def test_by_the_package(
    repo_root: Path,
    tmp_path: Path,
    fresh_root: Callable[..., FreshRoot],
    processes: Processes,
    free_port: Callable[[], int],
    ceremony_key: Path,
) -> None:
    need_tools("dpkg-deb", "chroot")
    document = (repo_root / "docs/INSTALL_METER.md").read_text(encoding="utf-8")
    root, broker = fresh_root("amd64"), Broker("amqtt", free_port(), tmp_path, processes)
    broker.start()
    root.install(root.bring(built(repo_root, "amd64")))
    shutil.copy(ceremony_key, root.path / KEY.lstrip("/"))
    with meter_on_a_port(root, processes):
        assert f"{PORT} at 9600 N unit 1: em340" in sudo(root, document, "openmg-agent detect")
        who = {"name": "home-1", "microgrid": "1", "mqtt": broker.url, "operator": f"0x{address_of(OPERATOR_KEY).hex()}"}
        digest = hashlib.sha256(ceremony_key.read_bytes()).hexdigest()
        answers = [*who.values(), str(CHAIN_ID)]
        command = f"openmg-agent detect --state-dir /var/lib/openmg-agent --write {CONFIG} --slot-key {KEY} --slot-key-sha256"
        assert f"sudo {command} HEX" in re.sub(r" \\\n +", " ", document)
        assert f"{CONFIG} is written" in _answering(root, answers, "sh", "-c", f"{command} {digest}")
        sudo(root, document, f"chgrp openmg-agent {CONFIG} {KEY}")
        sudo(root, document, f"chmod 640 {CONFIG} {KEY}")
        assert "right; device home-1" in sudo(root, document, f"openmg-agent check --config {CONFIG}")
        assert "voltage_l1_v" in sudo(root, document, f"openmg-agent read --config {CONFIG} --group slow")
        assert f"openmg-agent doctor --config {CONFIG}" in document
        found = json.loads(root.try_run("openmg-agent", "doctor", "--config", CONFIG, "--json").stdout)
        wrong = {item["check"] for item in found if not item["ok"]}
        assert wrong - {"clock"} == {"group"}, found  # nobody else is there; the clock is this machine's
        polled = _run_for_some_polls(root)
        assert polled["running"] and polled["agent"]["broker"]["connected"]
    left = json.loads(root.try_run("openmg-agent", "status", "--config", CONFIG, "--json").stdout)
    assert left["store"]["polled"] >= POLLS and not left["running"]


def _answering(root: FreshRoot, answers: list[str], *command: str) -> str:
    """Runs a command at a terminal, on which the answers are typed; what it prints."""
    ours, theirs = os.openpty()
    try:
        line = ["chroot", str(root.path), *command]
        process = subprocess.Popen(line, env=ENVIRONMENT, stdin=theirs, stdout=subprocess.PIPE, text=True)
        os.write(ours, "".join(f"{answer}\n" for answer in answers).encode())
        said, _ = process.communicate(timeout=300)
    finally:
        os.close(theirs)
        os.close(ours)
    assert process.returncode == 0, said
    return said


def _run_for_some_polls(root: FreshRoot) -> dict[str, object]:
    """Runs the agent as the service does; what `status` says when it has polled some times."""
    agent = root.start("openmg-agent", "run", "--config", CONFIG)
    said: dict[str, object] = {}

    def enough() -> bool:
        assert agent.poll() is None, agent.communicate()[1][-2000:]
        shown = root.try_run("openmg-agent", "status", "--config", CONFIG, "--json")
        said.update(json.loads(shown.stdout))
        store = said["store"]
        return shown.returncode == 0 and isinstance(store, dict) and store["polled"] >= POLLS

    try:
        wait_for(enough, 240)
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(60) == 0
    finally:
        agent.kill()
        agent.communicate()
    return said


def test_by_pipx(repo_root: Path, tmp_path: Path, fresh_root: Callable[..., FreshRoot], processes: Processes) -> None:
    """The wheels were fetched before, by this machine's own pip settings."""
    need_tools("chroot")
    wheels = tmp_path / "wheels"
    pip = [sys.executable, "-m", "pip"]
    build = [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(wheels), "."]
    fetch = [*pip, "download", "--quiet", "--only-binary", ":all:", "-c", "scripts/constraints.txt", "-d", str(wheels)]
    for command in (build, [*fetch, "pip", "setuptools", "wheel", *requirements(ARCHES["amd64"])]):
        subprocess.run(command, cwd=repo_root, check=True)
    document = (repo_root / "docs/INSTALL_METER.md").read_text(encoding="utf-8")
    root = fresh_root("amd64")
    assert "sudo apt install pipx" in document
    root.install("pipx")
    home = root.path / HOME.lstrip("/")
    home.mkdir(parents=True)
    shutil.copytree(wheels, root.path / "srv/wheels")
    own = next(wheels.glob("openmg-*.whl")).name
    assert f"pipx install './{own}[agent]'" in document
    offline = {"HOME": HOME, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/srv/wheels"}
    root.run("sh", "-c", f"cd /srv/wheels && pipx install './{own}[agent]'", **offline)
    agent = f"{HOME}/.local/bin/openmg-agent"
    assert root.run(agent, "--version").startswith("openmg-agent ")
    config = f"{HOME}/agent.toml"
    who = ("--name", "home-1", "--microgrid", "1", "--mqtt", "mqtt://127.0.0.1:1", "--chain-id", "7")
    operator = ("--operator", f"0x{address_of(OPERATOR_KEY).hex()}", "--demo-key")
    with meter_on_a_port(root, processes):
        root.run(agent, "detect", "--write", config, *who, *operator)
        assert "right; device home-1" in root.run(agent, "check", "--config", config)
        doctor = root.try_run(agent, "doctor", "--config", config, "--json", HOME=HOME)
        failed = {finding["check"] for finding in json.loads(doctor.stdout) if not finding["ok"]}
        assert failed - {"clock"} == {"broker"}, doctor.stderr  # none is there
    root.run("pipx", "uninstall", "openmg", HOME=HOME)
    assert not (root.path / agent.lstrip("/")).is_symlink() and (root.path / config.lstrip("/")).exists()
