"""Many runs: seeds, scripts and scenarios, in one process or several, with the figures that people ask for.

Every part of the work is a pure function of its numbers, so that the result does not depend on how many processes share it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TypeVar

from hub.ppdl.sim.enumeration import MAX_ROUNDS, Played, first_rounds, scripts_from
from hub.ppdl.sim.faults import draw
from hub.ppdl.sim.world import world_of

PART_SEEDS = 50
"""Seeds of one part: about a second of work, so that progress moves and no process waits long for the last."""
MAX_KEPT = 50
"""Failing seeds or scripts that are kept with their text; all are counted."""
MAX_VALIDATORS = 31

Note = Callable[[str], None]
_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class Seeds:
    """A part of a campaign: seeds `first` .. `first + count` - 1."""

    validators: int
    first: int
    count: int
    classes: tuple[str, ...]
    heights: int


@dataclass(frozen=True)
class Failure:
    """A run that broke a promise."""

    seed: int
    violations: tuple[str, ...]


@dataclass(frozen=True)
class SeedsDone:
    """What became of a part. `worst_ms`: longest time from healing to the goal."""

    count: int
    failures: tuple[Failure, ...]
    decided_heights: int
    events: int
    worst_ms: int


@dataclass(frozen=True)
class Simulated:
    """A campaign of seeds."""

    asked: Seeds
    seeds: int
    violations: int
    failures: tuple[Failure, ...]
    decided_heights: int
    events: int
    progress_ms: int
    seconds: float
    jobs: int

    @property
    def seeds_per_second(self) -> float:
        """Over all processes, wall time."""
        return self.seeds / self.seconds if self.seconds else 0.0

    def replay(self, seed: int) -> str:
        """The command that runs one seed again and tells its story."""
        asked = self.asked
        faults = ",".join(asked.classes) or "none"
        options = f"--validators {asked.validators} --heights {asked.heights} --faults {faults}"
        return f"openmg ppdl simulate --seed {seed} {options} --trace"

    def row(self) -> dict[str, object]:
        """For JSON."""
        shown = [{"seed": f.seed, "violations": list(f.violations), "replay": self.replay(f.seed)} for f in self.failures]
        return {
            "seeds": self.seeds,
            "first_seed": self.asked.first,
            "violations": self.violations,
            "seeds_per_second": round(self.seeds_per_second, 1),
            "jobs": self.jobs,
            "decided_heights": self.decided_heights,
            "events": self.events,
            "worst_progress_ms": self.progress_ms,
            "validators": self.asked.validators,
            "heights": self.asked.heights,
            "faults": list(self.asked.classes),
            "failures": shown,
        }


def run_seeds(part: Seeds) -> SeedsDone:
    """Run every seed of a part."""
    failures: list[Failure] = []
    decided = events = worst = 0
    gc.freeze()  # what is here already is not looked at
    gc.disable()  # a world is full of cycles, which are cut when its run is over
    try:
        for seed in range(part.first, part.first + part.count):
            world = world_of(seed, draw(seed, part.validators, part.classes))
            outcome = world.run(part.heights)
            world.dismantle()
            if outcome.violations:
                failures.append(Failure(seed, outcome.violations))
            decided += outcome.decided
            events += outcome.events
            worst = max(worst, outcome.now_ms - outcome.healed_ms)
    finally:
        gc.enable()
        gc.collect()
        gc.unfreeze()
    return SeedsDone(part.count, tuple(failures), decided, events, worst)


def simulate(asked: Seeds, jobs: int = 1, note: Note = lambda text: None) -> Simulated:
    """Run all seeds. Raises ValueError for numbers that make no campaign."""
    if not 1 <= asked.validators <= MAX_VALIDATORS:
        raise ValueError(f"validators is {asked.validators}; choose 1 to {MAX_VALIDATORS}")
    if asked.count < 1 or asked.heights < 1 or asked.first < 0:
        raise ValueError("seeds and heights must be at least 1, and the first seed at least 0")
    last = asked.first + asked.count
    parts = [
        Seeds(asked.validators, first, min(PART_SEEDS, last - first), asked.classes, asked.heights)
        for first in range(asked.first, last, PART_SEEDS)
    ]
    start = time.perf_counter()
    failures: list[Failure] = []
    seeds = violations = decided = events = worst = 0
    for done in _shared(run_seeds, parts, jobs):
        seeds += done.count
        violations += len(done.failures)
        failures += done.failures[: MAX_KEPT - len(failures)]
        decided, events, worst = decided + done.decided_heights, events + done.events, max(worst, done.worst_ms)
        rate = seeds / max(time.perf_counter() - start, 1e-9)
        note(f"{seeds} of {asked.count} seeds, {violations} with a violation, {rate:.0f} a second")
    seconds = time.perf_counter() - start
    return Simulated(asked, seeds, violations, tuple(failures), decided, events, worst, seconds, jobs)


@dataclass(frozen=True)
class _Part:
    first: Played
    rounds: int


@dataclass(frozen=True)
class Enumerated:
    """An enumeration: `scripts` played, those that failed with their first violations."""

    rounds: int
    scripts: int
    violations: int
    failures: tuple[Played, ...]
    seconds: float

    def row(self) -> dict[str, object]:
        """For JSON."""
        shown = [
            {"twin": p.twin, "script": " ".join(map(str, p.script)), "violations": list(p.failures)} for p in self.failures
        ]
        rate = round(self.scripts / self.seconds, 1) if self.seconds else 0.0
        return {
            "rounds": self.rounds,
            "scripts": self.scripts,
            "violations": self.violations,
            "scripts_per_second": rate,
            "failures": shown,
        }


def _run_part(part: _Part) -> tuple[int, list[Played]]:
    """Count of scripts beyond the first round, and those that failed."""
    count, failed = 0, []
    for played in scripts_from(part.first.twin, part.first.script, part.rounds):
        count += 1
        if played.failures:
            failed.append(played)
    return count, failed


def enumerate_scripts(rounds: int, jobs: int = 1, note: Note = lambda text: None) -> Enumerated:
    """Play every script of up to `rounds` rounds. Raises ValueError for a number of rounds that is not offered."""
    if not 1 <= rounds <= MAX_ROUNDS:
        raise ValueError(f"rounds is {rounds}; choose 1 to {MAX_ROUNDS}")
    start = time.perf_counter()
    firsts = first_rounds()
    scripts, failures = len(firsts), [played for played in firsts if played.failures]
    for number, (count, failed) in enumerate(_shared(_run_part, [_Part(first, rounds) for first in firsts], jobs), 1):
        scripts += count
        failures += failed
        note(f"{number} of {len(firsts)} first rounds, {scripts} scripts, {len(failures)} with a violation")
    return Enumerated(rounds, scripts, len(failures), tuple(failures[:MAX_KEPT]), time.perf_counter() - start)


def _shared(work: Callable[[_In], _Out], parts: Iterable[_In], jobs: int) -> Iterator[_Out]:
    """The results in the order of the parts."""
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}; one process at least does the work")
    if jobs == 1:
        yield from map(work, parts)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        yield from pool.map(work, parts)
