"""One seed gives one run: in one process, in another one, and whatever the order of sets there."""

from __future__ import annotations

import os
import subprocess
import sys

from hub.ppdl.sim.faults import CLASSES, draw
from hub.ppdl.sim.world import world_of

SEEDS = (3, 8, 21)
PROGRAM = """
from hub.ppdl.sim.faults import CLASSES, draw
from hub.ppdl.sim.world import world_of
for seed in (3, 8, 21):
    world = world_of(seed, draw(seed, 4, CLASSES), trace=True)
    world.run(5)
    print(world.trace.hash)
"""


def hashes() -> list[str]:
    found = []
    for seed in SEEDS:
        world = world_of(seed, draw(seed, 4, CLASSES), trace=True)
        world.run(5)
        assert world.trace is not None
        found.append(world.trace.hash)
    return found


def test_the_same_seed_gives_the_same_trace_in_any_process() -> None:
    here = hashes()
    assert len(set(here)) == len(SEEDS)
    for hash_seed in ("0", "4242"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=120)
        assert done.stdout.split() == here, done.stderr


def test_tracing_changes_nothing() -> None:
    setup = draw(5, 4, CLASSES)
    assert world_of(5, setup, trace=True).run(5) == world_of(5, setup).run(5)


def test_a_trace_tells_what_happened() -> None:
    setup = draw(1, 4, ("crash", "partition"))
    world = world_of(1, setup, trace=True)
    world.run(5)
    assert world.trace is not None
    story = "\n".join(world.trace.lines)
    for words in ("CRASHES", "starts at h", "partition", "says PREPARE h1 v0", "decides h1", "the world heals"):
        assert words in story, words
