"""Seeded worlds: safety in every run, progress after healing (more of it, and planted bugs: `tests/ppdl_sim`)."""

from __future__ import annotations

import pytest

from hub.ppdl.sim.faults import Faults
from hub.ppdl.sim.world import World, rotating_sets

LOSSY = Faults(drop_percent=5, duplicate_percent=5, delay_ms=(1, 60))
SLOW = Faults(drop_percent=20, duplicate_percent=5, delay_ms=(1, 900))
CRASHING = Faults(drop_percent=5, crash_per_mille=8, delay_ms=(1, 60))
SPLIT = Faults(partition_ms=1500, crash_per_mille=2, delay_ms=(1, 60))
TWINS = Faults(partition_ms=700, drop_percent=5, delay_ms=(1, 300))


def check(world: World, target: int, what: str) -> None:
    outcome = world.run(target)
    assert outcome.violations == (), what
    assert outcome.decided >= target, what


@pytest.mark.parametrize(
    ("name", "n", "faults", "seeds", "twins"),
    [
        ("lossy", 4, LOSSY, range(10), ()),
        ("slow", 4, SLOW, range(4), ()),
        ("crashing", 4, CRASHING, range(2), ()),
        ("split", 4, SPLIT, range(6), ()),
        ("twins", 4, TWINS, range(6), (0,)),
        ("n=1", 1, CRASHING, range(5), ()),
        ("n=5", 5, CRASHING, range(2), ()),
        ("n=7", 7, CRASHING, range(2), ()),
        ("n=7 two twins", 7, TWINS, range(2), (2, 5)),
    ],
)
def test_safety_and_progress(name: str, n: int, faults: Faults, seeds: range, twins: tuple[int, ...]) -> None:
    for seed in seeds:
        check(World(n, seed, faults, twins=twins), 6, f"{name} seed {seed}")


def test_a_seed_gives_one_run() -> None:
    runs = []
    for _ in range(2):
        world = World(4, 11, CRASHING)
        world.run(6)
        runs.append((world.now, world.events, world.oracles.decided))
    assert runs[0] == runs[1]


@pytest.mark.parametrize("faults", [LOSSY, CRASHING], ids=["lossy", "crashing"])
def test_row_12_validator_set_changes_with_every_block(faults: Faults) -> None:
    rule = rotating_sets(4)
    for seed in range(3):
        world = World(4, seed, faults, spare=1, set_rule=rule)
        check(world, 10, f"rotating set seed {seed}")
        sets = {entry.tip.validators.hash for entry in world.nodes[0].disk.blocks}
        assert len(sets) >= 5


def test_row_8_one_lost_disk_recovers_and_votes_again() -> None:
    recovered = 0
    for seed in range(8):
        faults = Faults(drop_percent=2, crash_per_mille=10, delay_ms=(1, 40), lost_disks=(1,))
        world = World(4, seed, faults)
        check(world, 20, f"lost disk seed {seed}")
        node = world.nodes[1]
        recovered += node.crashes > 0 and node.disk.log_complete
    assert recovered >= 2
