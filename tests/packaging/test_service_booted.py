"""The service in a fresh Debian 12 that really boots: the unit's sandbox, readiness, watchdog and stop, by systemd itself.

Slow: `make test-deb`.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from edge_kit import agent_toml, wait_for
from fresh_root import FreshRoot, base_image, built, need_tools, unpack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
STATE = "/var/lib/openmg-agent"
CONFIG = "etc/openmg-agent/agent.toml"
IN_SANDBOX = (
    "import coincurve, gmpy2, openmg_native, pathlib, openmg.forecast as f; from tflite_runtime.interpreter import Interpreter;"
    "a = next(pathlib.Path(f.__file__).parent.glob('assets/*.tflite')); i = Interpreter(str(a)); i.allocate_tensors();"
    "print('loaded', len(i.get_signature_list()))"
)
"""The libraries with machine code of their own: none may need memory that is writable and executable."""


class Booted:
    """A container whose first process is systemd."""

    def __init__(self, root: FreshRoot) -> None:
        command = ["systemd-nspawn", "--quiet", "--keep-unit", "--register=no", "-D", str(root.path), "--boot"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(self._leader, 60)
        wait_for(lambda: self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"), 120)

    def _leader(self) -> str:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        assert self._process.poll() is None, "systemd-nspawn ended"
        return children.read_text().split(" ")[0]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        line = ["nsenter", "-t", self._leader(), "-m", "-u", "-i", "-n", "-p", "-C", "env", "-i", path, *command]
        return subprocess.run(line, capture_output=True, text=True, timeout=200)

    def shows(self, name: str) -> str:
        return self.run("systemctl", "show", "openmg-agent", "--property", name, "--value").stdout.strip()

    def end(self) -> None:
        if self._process.poll() is None:
            self.run("systemctl", "poweroff")
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


@pytest.fixture
def booted(repo_root: Path, tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Booted]:
    need_tools("systemd-nspawn", "nsenter")
    root = unpack(base_image("amd64", repo_root / "dist/roots"), tmp_path / "root")
    root.install(root.bring(built(repo_root, "amd64")), "systemd", "systemd-sysv", "dbus")
    text = agent_toml(tmp_path, free_port(), f"mqtt://127.0.0.1:{free_port()}", role="feeder").read_text(encoding="utf-8")
    text = text.replace('"keys/device.key"', f'"{STATE}/keys/device.key"').replace('"state"', f'"{STATE}"')
    (root.path / CONFIG).write_text(text, encoding="utf-8")
    root.run("chgrp", "openmg-agent", f"/{CONFIG}")
    (root.path / "etc/machine-id").write_text("")
    machine = Booted(root)
    yield machine
    machine.end()
    shutil.rmtree(root.path)


def test_the_service_starts_is_watched_and_stops(booted: Booted) -> None:
    """Neither meter nor broker is there: the service is ready all the same, and stays."""
    assert booted.shows("ActiveState") == "inactive", "an installation must not start it"
    started = booted.run("systemctl", "enable", "--now", "openmg-agent")
    assert started.returncode == 0, booted.run("journalctl", "-u", "openmg-agent", "--no-pager").stdout
    assert booted.shows("ActiveState") == "active" and booted.shows("StatusText").startswith("poll ")
    time.sleep(45)  # longer than the watchdog's 30 s
    assert booted.shows("NRestarts") == "0"
    keys = booted.run("stat", "-c", "%U %a", f"{STATE}/keys/device.key", f"{STATE}/store.sqlite").stdout.split("\n")
    assert keys[:2] == ["openmg-agent 600", "openmg-agent 600"]

    booted.run("systemctl", "kill", "--signal=STOP", "openmg-agent")
    wait_for(lambda: booted.shows("NRestarts") == "1" and booted.shows("ActiveState") == "active", 120)
    journal = booted.run("journalctl", "-u", "openmg-agent", "--no-pager", "-o", "cat").stdout
    assert "Failed with result 'watchdog'" in journal and "in run_forever" in journal  # where it stood

    sandbox = [line for line in booted.run("systemctl", "cat", "openmg-agent").stdout.splitlines() if _is_sandbox(line)]
    options = [word for line in sandbox for word in ("-p", line)]
    assert len(sandbox) > 20
    program = ("/opt/openmg-agent/bin/python3", "-I", "-c", IN_SANDBOX)
    tried = booted.run("systemd-run", "--wait", "--pipe", *options, *program)
    assert "loaded 3" in tried.stdout, tried.stderr

    assert booted.run("systemctl", "stop", "openmg-agent").returncode == 0 and booted.shows("Result") == "success"
    assert booted.run("openmg-agent", "doctor", "--config", f"/{CONFIG}").returncode == 1  # no meter, no broker
    owners = booted.run("find", STATE, "!", "-user", "openmg-agent").stdout
    assert owners == "", "what root's command made belongs to root"


def _is_sandbox(line: str) -> bool:
    """Whether a line of the unit limits what the service may do."""
    starts = (
        "User=",
        "Protect",
        "Private",
        "Restrict",
        "Memory",
        "SystemCall",
        "Capability",
        "NoNew",
        "Lock",
        "Device",
        "State",
    )
    return line.startswith(starts) and "Start" not in line and not line.startswith("RestartPrevent")
