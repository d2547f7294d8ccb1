"""Long runs: tapes drawn from a seed, and changes of tapes that led to something new.

Without coverage there is one guide: a tape with an outcome that no tape had before is kept, and half of all later tapes are
changes of kept ones. Each target has its own chance, so its n-th tape depends on the seed alone and not on the clock.
A tape that breaks a rule is written to a file. Not here: coverage-guided runs (`coverage.py`).
"""

from __future__ import annotations

import hashlib
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from workbench.ppdl_fuzz.mutation import bent
from workbench.ppdl_fuzz.tape import TAPE_BYTES, Tape
from workbench.ppdl_fuzz.targets import Target

MAX_KEPT = 512
"""Tapes kept for changes, of each target; then the oldest makes room."""
TURN_SECONDS = 0.5
"""How long a target runs before the next one's turn."""
TURNS = {"core": 8, "transactions": 4, "transfer": 2}
"""Turns of a target in each round, where it is not one: those that go deep run slowly."""
MAX_FINDINGS = 8
"""Of one target, each with another place or sentence; a target with more is broken enough to be looked at."""
MAX_OUTCOMES = 4096
"""Different outcomes that are counted, of each target."""


@dataclass(frozen=True)
class Broken:
    """A tape that broke a rule: what happened, the file with the tape and the command that runs it again."""

    target: str
    what: str
    file: str
    replay: str


@dataclass
class Progress:
    """What one target went through."""

    name: str
    target: Target
    draw: random.Random
    runs: int = 0
    seconds: float = 0.0
    slowest_ms: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    kept: list[bytes] = field(default_factory=list)
    found: dict[str, Broken] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What came of a run."""

    seconds: float
    targets: tuple[dict[str, object], ...]
    findings: tuple[Broken, ...]

    def row(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def next_tape(draw: random.Random, kept: Sequence[bytes]) -> bytes:
    """A fresh tape, or a change of a kept one."""
    if kept and draw.random() < 0.5:
        changes = Tape(draw.randbytes(256))
        return bent(changes, draw.choice(kept))
    return draw.randbytes(draw.choice(TAPE_BYTES))


def what_broke(target: Target, data: bytes) -> tuple[str, set[str]]:
    """("", outcomes) when every rule held; else where and what was raised, and nothing."""
    try:
        return "", target(Tape(data))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {place.name}: {str(error)[:300]}", set()


def run_one(one: Progress, folder: Path) -> None:
    """Run the target's next tape."""
    data, began = next_tape(one.draw, one.kept), time.perf_counter()
    broke, outcomes = what_broke(one.target, data)
    one.slowest_ms = max(one.slowest_ms, 1000 * (time.perf_counter() - began))
    one.runs += 1
    if broke:
        _note(one, data, broke, folder)
        return
    if any(outcome not in one.outcomes for outcome in outcomes):
        one.kept = [*one.kept, data][-MAX_KEPT:]
    one.outcomes.update(o for o in outcomes if o in one.outcomes or len(one.outcomes) < MAX_OUTCOMES)


def _note(one: Progress, data: bytes, broke: str, folder: Path) -> None:
    """Write the tape of a new finding to a file."""
    if broke in one.found or len(one.found) >= MAX_FINDINGS:
        return
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{one.name}-{hashlib.sha256(data).hexdigest()[:12]}.tape"
    file.write_bytes(data)
    replay = f"openmg ppdl fuzz --target {one.name} --replay {file}"
    one.found[broke] = Broken(one.name, broke, str(file), replay)


def fuzz(
    targets: dict[str, Target],
    seconds: float,
    seed: int,
    folder: Path,
    progress: Callable[[str, str], None] = lambda text, once: None,
) -> Report:
    """Run the targets in turn until the time is over or every one of them has MAX_FINDINGS.

    `progress` is told what goes on, and a text that changes with every round only.
    """
    began = time.monotonic()
    all_of_them = [Progress(name, target, random.Random(f"{name} {seed}")) for name, target in targets.items()]
    said = "begins"
    while time.monotonic() - began < seconds and any(len(one.found) < MAX_FINDINGS for one in all_of_them):
        for one in all_of_them:
            progress(f"{said}; now {one.name}", said)
            end = min(began + seconds, time.monotonic() + TURN_SECONDS * TURNS.get(one.name, 1))
            _turn(one, end, folder)
        said = f"{sum(p.runs for p in all_of_them)} tapes, {sum(len(p.found) for p in all_of_them)} findings"
    rows = tuple(_row(one) for one in all_of_them)
    return Report(round(time.monotonic() - began, 2), rows, tuple(b for one in all_of_them for b in one.found.values()))


def _turn(one: Progress, end: float, folder: Path) -> None:
    """Run the target until then."""
    began = time.monotonic()
    while time.monotonic() < end and len(one.found) < MAX_FINDINGS:
        run_one(one, folder)
    one.seconds += time.monotonic() - began


def _row(one: Progress) -> dict[str, object]:
    return {
        "target": one.name,
        "tapes": one.runs,
        "tapes_per_second": round(one.runs / one.seconds) if one.seconds else 0,
        "slowest_ms": round(one.slowest_ms, 1),
        "kept": len(one.kept),
        "outcomes": dict(one.outcomes.most_common()),
    }
