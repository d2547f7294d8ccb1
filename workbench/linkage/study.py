"""Many transcripts with hidden bits, and what classifiers and scripted links make of them.

Rules: bits are drawn, half of the runs each on average; the world's keys stay for a study, as homes do, everything else is
fresh each run. Not here: the world (`world`), printing (`workbench.linkage_cli`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from workbench.linkage.classify import Advantage, advantages, judged
from workbench.linkage.features import vector
from workbench.linkage.scripted import LINKS
from workbench.linkage.world import Guards, LinkageWorld, Prove, Transcript, random_proof

PART_RUNS = 25
"""Runs that a process makes in one go; after each the progress is told."""


@dataclass(frozen=True)
class Study:
    """Advantages by classifier, and by scripted link, on all runs."""

    runs: int
    classifiers: tuple[Advantage, ...]
    links: tuple[Advantage, ...]

    def row(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)

    @property
    def is_guessing(self) -> bool:
        """Whether nobody did better than guessing."""
        return all(item.is_guessing for item in (*self.classifiers, *self.links))


@dataclass(frozen=True)
class _Part:
    """Runs that one process makes: the world's seed and guards, the first epoch and the bit of each run."""

    seed: bytes
    guards: Guards
    prove: Prove
    first_epoch: int
    bits: tuple[int, ...]

    def recorded(self) -> tuple[NDArray[np.float32], dict[str, list[bool]]]:
        """A row for each run, and by link whether it found the bit."""
        world = LinkageWorld(self.guards, self.prove, self.seed)
        rows, right = [], {name: list[bool]() for name in LINKS}
        for epoch, bit in enumerate(self.bits, self.first_epoch):
            seen: Transcript = world.run(bit, epoch)
            rows.append(vector(seen))
            for name, link in LINKS.items():
                right[name].append(link(seen) == bit)
        return np.array(rows), right


def study(
    runs: int,
    guards: Guards | None = None,
    prove: Prove = random_proof,
    progress: Callable[[str], None] = lambda text: None,
    jobs: int = 1,
) -> Study:
    """`runs` transcripts of one world, made by `jobs` processes.

    Raises ValueError for fewer than four runs, of which nothing could be learnt, and for no job.
    """
    if runs < 4:
        raise ValueError(f"runs is {runs}; four are the fewest from which anything can be learnt")
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}; one process at least makes the runs")
    seed, bits = secrets.token_bytes(32), tuple(secrets.randbelow(2) for _ in range(runs))
    starts = range(0, runs, PART_RUNS)
    parts = [_Part(seed, guards or Guards(), prove, start, bits[start : start + PART_RUNS]) for start in starts]
    rows: list[NDArray[np.float32]] = []
    right = {name: list[bool]() for name in LINKS}
    for made, found in _all_recorded(parts, jobs):
        rows.append(made)
        for name in LINKS:
            right[name] += found[name]
        progress(f"{min(runs, len(rows) * PART_RUNS)} of {runs} runs recorded")
    links = tuple(judged(name, found) for name, found in right.items())
    return Study(runs, advantages(np.concatenate(rows), np.array(bits, dtype=np.float64)), links)


def _all_recorded(parts: list[_Part], jobs: int) -> Iterator[tuple[NDArray[np.float32], dict[str, list[bool]]]]:
    """The parts in their order."""
    if jobs == 1:
        yield from map(_Part.recorded, parts)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        yield from pool.map(_Part.recorded, parts)
