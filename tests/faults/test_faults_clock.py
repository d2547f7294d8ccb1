"""The wall clock of a home's agent is set back by a year, and set right again."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from edge_kit import Broker, wait_for
from faults_kit import FEEDER, HOMES, PATIENCE_S, World

from openmg.units import SLOT_SECONDS, SLOTS_PER_DAY

YEAR_S = 365 * SLOTS_PER_DAY * SLOT_SECONDS
pytestmark = [pytest.mark.timeout(1200), pytest.mark.slow]


class WallClock:
    """What an agent takes for the wall clock, under `LD_PRELOAD`."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("no C compiler, with which the clock of one process is set")
        library = folder / "wall_clock.so"
        source = Path(__file__).with_name("wall_clock.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source], check=True)
        self._file = folder / "wall_clock.back"
        self.environment = {"LD_PRELOAD": str(library), "OPENMG_FAULTS_CLOCK": str(self._file)}
        self.set_back(0.0)

    def set_back(self, seconds: float) -> None:
        """Wall seconds behind the true time, from now on; written in one piece."""
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT, 0o600)
        os.pwrite(descriptor, struct.pack("=d", seconds), 0)
        os.close(descriptor)


@pytest.fixture
def wall(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path)


@pytest.mark.parametrize("names", [FEEDER, HOMES], ids=["feeder", "group"])
@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_the_clock_is_set_back_by_a_year_for_some_slots(
    keeper: Broker, make_world: Callable[..., World], wall: WallClock, names: tuple[str, ...], restarted: bool
) -> None:
    """Also when the agent begins anew while it is wrong."""
    world, name = make_world(keeper, names=names, past_s=2 * YEAR_S), names[-1]
    agent = world.agents[name]
    world.start(environment={name: wall.environment})
    world.delivered(2)
    world.remember()
    right = agent.running_slot()
    wall.set_back(YEAR_S / world.speed)
    wait_for(lambda: agent.running_slot() < right - 300 * SLOTS_PER_DAY, PATIENCE_S)
    if restarted:
        agent.kill()
        agent.start(environment=wall.environment)
    world.pass_slots(2)
    with world.recovering(name):
        wall.set_back(0.0)
    wait_for(lambda: agent.running_slot() > right, PATIENCE_S)
    world.delivered(1)
    said = agent.log.read_text(encoding="utf-8")
    assert "the clock was set back by" in said and "no slot is closed again, all energy goes to slot" in said
    assert "the clock was set ahead by" in said
    world.judge(least_slots=3)
