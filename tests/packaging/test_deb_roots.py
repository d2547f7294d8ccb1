"""The Debian package in fresh roots: install, use, upgrade, remove, purge; amd64 here, arm64 by qemu-user; 32 bits refused.

Slow: `make test-deb` builds the packages and runs this.
"""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from edge_kit import Broker, Processes, agent_toml, start_simulator, wait_for
from fresh_root import FreshRoot, base_image, built, need_tools, running_foreign, unpack

from scripts.build_deb import ARCHES, requirements

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
ETC, STATE = "/etc/openmg-agent", "/var/lib/openmg-agent"
CONFIG = f"{ETC}/agent.toml"
OLDER = "0.0.1"
HOME = "/srv/owner"
"""Of whoever installs by pipx in a fresh root."""
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


@pytest.fixture
def fresh_root(repo_root: Path, tmp_path: Path) -> Iterator[Callable[[str, str], FreshRoot]]:
    made: list[Path] = []

    def make(arch: str, include: str = "") -> FreshRoot:
        made.append(tmp_path / f"root-{arch}")
        return unpack(base_image(arch, repo_root / "dist/roots", include), made[-1])

    yield make
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)


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
        bench = ("openmg-agent", "doctor", "--bench", "--backend", "native", "--circuit", "commit", "--runs", "1", "--json")
        assert json.loads(root.run(*bench))["backend"] == "native"

        root.run("apt-get", "remove", "--yes", "openmg-agent")
        assert not (root.path / "opt/openmg-agent").exists() and not (root.path / "usr/bin/openmg-agent").exists()
        assert outbox(root) == waiting and (root.path / CONFIG.lstrip("/")).exists()
        root.run("apt-get", "purge", "--yes", "openmg-agent")
        assert not (root.path / ETC.lstrip("/")).exists() and not (root.path / STATE.lstrip("/")).exists()
        assert "openmg-agent" not in (root.path / "etc/passwd").read_text()


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
    time.sleep(0.1)


def test_pipx_installs_the_wheel(repo_root: Path, tmp_path: Path, fresh_root: Callable[..., FreshRoot]) -> None:
    """As docs/INSTALL_METER.md says; the wheels were fetched before, by this machine's own pip settings."""
    need_tools("chroot")
    wheels = tmp_path / "wheels"
    pip = [sys.executable, "-m", "pip"]
    build = [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(wheels), "."]
    fetch = [*pip, "download", "--quiet", "--only-binary", ":all:", "-c", "scripts/constraints.txt", "-d", str(wheels)]
    for command in (build, [*fetch, "pip", "setuptools", "wheel", *requirements(ARCHES["amd64"])]):
        subprocess.run(command, cwd=repo_root, check=True)
    root = fresh_root("amd64")
    root.install("pipx")
    home = root.path / HOME.lstrip("/")
    home.mkdir(parents=True)
    shutil.copytree(wheels, root.path / "srv/wheels")
    own = next(wheels.glob("openmg-*.whl")).name
    offline = {"HOME": HOME, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/srv/wheels"}
    root.run("pipx", "install", f"/srv/wheels/{own}[agent]", **offline)
    command = f"{HOME}/.local/bin/openmg-agent"
    assert root.run(command, "--version").startswith("openmg-agent ")
    (home / "agent.toml").write_text(agent_toml(tmp_path, 1, "mqtt://127.0.0.1:1").read_text(encoding="utf-8"))
    assert "right; device home-1" in root.run(command, "check", "--config", f"{HOME}/agent.toml")
    doctor = root.try_run(command, "doctor", "--config", f"{HOME}/agent.toml", "--json", HOME=HOME)
    failed = {finding["check"] for finding in json.loads(doctor.stdout) if not finding["ok"]}
    assert failed == {"meter", "broker"}, doctor.stderr  # neither is there
    root.run("pipx", "uninstall", "openmg", HOME=HOME)
    assert not (root.path / command.lstrip("/")).is_symlink() and (home / "agent.toml").exists()


def test_32_bits_are_refused_in_one_sentence(repo_root: Path, fresh_root: Callable[..., FreshRoot]) -> None:
    """A real 32-bit system: by the package's preinst, and by the program itself where it comes otherwise."""
    need_tools("dpkg-deb", "chroot")
    package = built(repo_root, "amd64")
    root = fresh_root("i386", "python3")
    result = root.try_run("dpkg", "--force-architecture", "--force-depends", "-i", root.bring(package))
    assert result.returncode != 0
    said = [line for line in result.stderr.splitlines() if "64-bit" in line]
    assert len(said) == 1 and "this one is i386" in said[0]
    assert not (root.path / "opt/openmg-agent").exists()
    shutil.copytree(repo_root / "edge_agent", root.path / "srv/edge_agent")
    started = root.try_run("python3", "-m", "edge_agent", "run", PYTHONPATH="/srv")
    assert started.returncode == 2 and started.stdout == ""
    assert started.stderr.count("\n") == 1 and "32 bits" in started.stderr
