"""Many transcripts with hidden bits, and what classifiers and scripted links make of them.

Rules: bits are drawn, half of the runs each on average; the world's keys stay for a study, as homes do, everything else is
fresh each run. Not here: the world (`world`), printing (`workbench.linkage_cli`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import mean

import numpy as np

from workbench.linkage.classify import Advantage, advantages, margin
from workbench.linkage.features import vector
from workbench.linkage.scripted import LINKS
from workbench.linkage.world import Guards, LinkageWorld, Prove, Transcript, random_proof

PROGRESS_EVERY = 25


@dataclass(frozen=True)
class Study:
    """Advantages by classifier, on half of the runs, and by scripted link, on all of them."""

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


def _judged(name: str, guesses: list[bool]) -> Advantage:
    accuracy = mean(guesses)
    return Advantage(name, len(guesses), accuracy, 2 * abs(accuracy - 0.5), margin(len(guesses)))


def study(
    runs: int,
    guards: Guards | None = None,
    prove: Prove = random_proof,
    progress: Callable[[str], None] = lambda text: None,
) -> Study:
    """`runs` transcripts of one world; ValueError for fewer than four, of which nothing could be learnt."""
    if runs < 4:
        raise ValueError(f"runs is {runs}; four are the fewest from which anything can be learnt")
    world = LinkageWorld(guards, prove)
    bits = [secrets.randbelow(2) for _ in range(runs)]
    rows, guesses = [], {name: list[bool]() for name in LINKS}
    for number, bit in enumerate(bits, 1):
        seen: Transcript = world.run(bit)
        rows.append(vector(seen))
        for name, link in LINKS.items():
            guesses[name].append(link(seen) == bit)
        if number % PROGRESS_EVERY == 0 or number == runs:
            progress(f"{number} of {runs} runs recorded")
    links = tuple(_judged(name, made) for name, made in guesses.items())
    return Study(runs, advantages(np.array(rows), np.array(bits, dtype=np.float64)), links)
