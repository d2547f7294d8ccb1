"""A meter that only the owner's own profile knows: `detect` names it and `doctor` advises it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from edge_kit import T0, agent_toml

from edge_agent import doctor_meter
from edge_agent.config import AgentConfig
from edge_agent.doctor_finding import CheckFailed
from firmware_sim.meter import Meter
from firmware_sim.server import MeterServer
from openmg.clock import VirtualClock
from openmg.config import load_toml
from openmg.profiles.profile import known_profiles, load_profile

NAME = "own-x1"
OPERATOR = ("--operator", "0x" + "11" * 20, "--chain-id", "7", "--mqtt", "mqtt://127.0.0.1:1883")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The profile of a model that calls itself 777."""
    made = tmp_path / "profiles"
    made.mkdir()
    lines = known_profiles()["em340"].read_text(encoding="utf-8").splitlines()
    text = "\n".join("values = [777]" if line.startswith("values = [1648") else line for line in lines)
    assert "values = [777]" in text
    (made / f"{NAME}.toml").write_text(text, encoding="utf-8")
    return made


@pytest.fixture
async def meter(folder: Path) -> AsyncIterator[MeterServer]:
    profile = load_profile(NAME, (folder,))
    shown = Meter(lambda _step: 1_200, T0 - 900, seed=3, phases=profile.device.phases)
    server = MeterServer(shown, profile, VirtualClock(T0, time.time(), 1.0), "127.0.0.1", 0)
    await server.start()
    yield server
    await server.stop()


async def test_detect_names_it_and_writes_a_file_that_finds_it_again(
    meter: MeterServer, folder: Path, tmp_path: Path, repo_root: Path
) -> None:
    config = tmp_path / "agent.toml"
    place = ("detect", "--host", "127.0.0.1", "--port", str(meter.port), "--units", "1", "--demo-key")
    written = ("--write", str(config), "--name", "home-7", "--microgrid", "1", *OPERATOR)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "edge_agent.cli", *arguments]
        return subprocess.run(line, capture_output=True, text=True, cwd=repo_root, timeout=60)

    without = await asyncio.to_thread(run, *place)
    assert NAME not in without.stdout
    done = await asyncio.to_thread(run, *place, "--profile-dir", str(folder), *written)
    assert done.returncode == 0 and f"unit 1: {NAME} (" in done.stdout, done.stderr
    section = load_toml(config, AgentConfig).meter
    assert (section.profile, section.profile_dirs) == (NAME, (folder,))


async def test_doctor_advises_it_where_another_is_configured(meter: MeterServer, folder: Path, tmp_path: Path) -> None:
    path = agent_toml(tmp_path, meter.port, "mqtt://127.0.0.1:1")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("poll_s", f'profile = "em340"\nprofile_dirs = ["{folder}"]\npoll_s'), encoding="utf-8")
    with pytest.raises(CheckFailed, match=f"set profile = '{NAME}'"):
        await doctor_meter.meter(load_toml(path, AgentConfig))
