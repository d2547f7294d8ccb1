"""The disk of a home's agent is full for some slots: a file system without room, or files that may not grow."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from edge_kit import Broker, wait_for
from faults_kit import FEEDER, HOMES, PATIENCE_S, AgentProcess, World

pytestmark = [pytest.mark.timeout(1200), pytest.mark.slow]
BYTES = 16_000_000
REFUSED, AGAIN = "check free space and the disk (trying again)", "takes rows again"


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of BYTES on the folder; skips where this user may mount none."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={BYTES}", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("a file system of its own needs the right to mount one")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Takes all the room there is; returns the file that has it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (65_536, 512):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    return filler


def full_for_some_slots(world: World, agent: AgentProcess, fill_up: Callable[[], None], make_room: Callable[[], None]) -> None:
    world.start()
    world.delivered(2)
    world.remember()
    fill_up()
    wait_for(lambda: REFUSED in agent.said(), PATIENCE_S)
    world.pass_slots(2)
    agent.pid  # noqa: B018  it lives
    with world.recovering(agent.name):
        make_room()
    wait_for(lambda: AGAIN in agent.said(), PATIENCE_S)
    world.delivered(1)
    world.judge()
    assert agent.said().count(REFUSED) == agent.said().count(AGAIN)  # said once each time


@pytest.mark.parametrize("names", [FEEDER, HOMES], ids=["feeder", "group"])
def test_the_file_system_of_the_state_is_full(keeper: Broker, make_world: Callable[..., World], names: tuple[str, ...]) -> None:
    world = make_world(keeper, names=names)
    agent = world.agents[names[-1]]
    state = agent.config.device.state_dir
    with small_disk(state):
        fillers: list[Path] = []
        full_for_some_slots(world, agent, lambda: fillers.append(fill(state)), lambda: fillers[0].unlink())


def test_no_file_may_grow(keeper: Broker, make_world: Callable[..., World]) -> None:
    """RLIMIT_FSIZE of the running agent: what an ordinary user can try."""
    world = make_world(keeper)
    agent = world.agents[HOMES[-1]]

    def no_growth() -> None:
        agent.limit_files(max(file.stat().st_size for file in agent.config.device.state_dir.glob("*.sqlite*")))

    full_for_some_slots(world, agent, no_growth, lambda: agent.limit_files(None))
