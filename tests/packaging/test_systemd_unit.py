"""The unit as systemd itself judges it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

MAX_EXPOSURE = 2.0
PROGRAM = "/opt/openmg-agent/bin/python3"


@pytest.fixture
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("there is no systemd-analyze on this machine")
    return found


@pytest.fixture
def unit(repo_root: Path) -> Path:
    return repo_root / "deploy/systemd/openmg-agent.service"


def exposure(analyze: str, unit: Path) -> float:
    """systemd's figure for how much of the system the service could reach: 0 is nothing, 10 everything."""
    command = [analyze, "security", "--offline=yes", "--no-pager", str(unit)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    found = re.search(rf"exposure level for {unit.name}: ([0-9.]+)", result.stdout)
    if found is None:
        pytest.skip(f"systemd-analyze cannot judge a file: {result.stderr.strip()}")
    return float(found[1])


def test_the_service_can_reach_little(analyze: str, unit: Path, tmp_path: Path) -> None:
    assert exposure(analyze, unit) <= MAX_EXPOSURE
    bare = tmp_path / "openmg-agent.service"
    bare.write_text(re.sub(r"(?m)^(Protect|Restrict|System|Capability|NoNew|Private).*\n", "", unit.read_text()))
    assert exposure(analyze, bare) > MAX_EXPOSURE


@pytest.mark.parametrize(
    ("name", "drop_in"),
    [("openmg-agent.service", "gateway.conf"), ("openmg-agent-page.service", "gateway-page.conf")],
)
def test_a_gateway_is_the_same_service_with_other_files(
    analyze: str, repo_root: Path, tmp_path: Path, name: str, drop_in: str
) -> None:
    """The drop-in as systemd reads it: the command is replaced, and everything that confines the service stays."""
    unit = repo_root / "deploy/systemd" / name
    service, dropped = tmp_path / unit.name, tmp_path / f"{unit.name}.d"
    dropped.mkdir()
    text = (unit.parent / drop_in).read_text()
    assert f"ExecStart=\nExecStart={PROGRAM} " in text and "--config-dir /etc/openmg-agent/meters.d" in text
    for path, lines in ((service, unit.read_text()), (dropped / "gateway.conf", text)):
        path.write_text(lines.replace(PROGRAM, shutil.which("true") or "/bin/true"))
    result = subprocess.run([analyze, "verify", str(service)], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    assert not re.findall(r"(?m)^(?:Protect|Restrict|System|Capability|NoNew|Private|Device|User)", text)


def test_systemd_understands_every_line(analyze: str, unit: Path, tmp_path: Path) -> None:
    """The program is where the package puts it; here another one stands for it."""
    text = unit.read_text()
    assert f"ExecStart={PROGRAM} " in text
    copy = tmp_path / "openmg-agent.service"
    copy.write_text(text.replace(PROGRAM, shutil.which("true") or "/bin/true"))
    result = subprocess.run([analyze, "verify", str(copy)], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    copy.write_text(copy.read_text().replace("WatchdogSec=30", "WatchdogSecs=30"))
    result = subprocess.run([analyze, "verify", str(copy)], capture_output=True, text=True, timeout=60)
    assert "WatchdogSecs" in result.stderr


def test_the_page_is_a_service_that_can_write_its_own_folder_alone(analyze: str, repo_root: Path, tmp_path: Path) -> None:
    unit = repo_root / "deploy/systemd/openmg-agent-page.service"
    text = unit.read_text()
    assert exposure(analyze, unit) <= MAX_EXPOSURE and f"ExecStart={PROGRAM} " in text
    assert re.findall("(?m)^StateDirectory=(.*)", text) == ["openmg-agent/page"] and "ReadWritePaths" not in text
    assert "\nInaccessiblePaths=-/var/lib/openmg-agent/keys\n" in text
    copy = tmp_path / unit.name
    copy.write_text(text.replace(PROGRAM, shutil.which("true") or "/bin/true"))
    result = subprocess.run([analyze, "verify", str(copy)], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and result.stderr == "", result.stderr
