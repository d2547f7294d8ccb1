"""The hunt: every check passes on the unchanged core, and every planted bug fails its check."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hub.ppdl.consensus.replica import Replica
from hub.ppdl.sim.model.bench import Endless
from hub.ppdl.sim.mutants.catalogue import MUTANTS, Mutant
from hub.ppdl.sim.mutants.killers import Killer


@dataclass(frozen=True)
class Trial:
    """One mutant against its check; `verdict` is what the check said, None when it noticed nothing."""

    mutant: str
    source: str
    killer: str
    verdict: str | None
    seconds: float

    @property
    def killed(self) -> bool:
        """Whether the check noticed the bug."""
        return self.verdict is not None


@dataclass
class Hunt:
    """All trials, and the checks that fail without any bug (there must be none)."""

    false_alarms: dict[str, str] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def survivors(self) -> list[str]:
        """Mutants that nothing noticed."""
        return [trial.mutant for trial in self.trials if not trial.killed]

    @property
    def passed(self) -> bool:
        """Whether every check tells the true core from its mutants."""
        return not self.false_alarms and not self.survivors

    def row(self) -> dict[str, Any]:
        """For `--json`."""
        trials = [{**asdict(trial), "killed": trial.killed} for trial in self.trials]
        return {
            "mutants": len(self.trials),
            "survivors": self.survivors,
            "false_alarms": self.false_alarms,
            "seconds": self.seconds,
            "trials": trials,
        }


def judged(killer: Killer, replica_class: type[Replica] = Replica) -> str | None:
    """What a check says; a core that fails its own assertions or talks for ever is noticed as well."""
    try:
        return killer(replica_class)
    except (AssertionError, Endless) as error:
        return f"the core stops: {error!r}"


def try_mutant(mutant: Mutant) -> Trial:
    """Plant one bug and run its check."""
    began = time.monotonic()
    with mutant.plant() as replica_class:
        verdict = judged(mutant.killer, replica_class)
    seconds = round(time.monotonic() - began, 3)
    return Trial(mutant.name, mutant.source, mutant.killer.__name__, verdict, seconds)


def hunt(mutants: Sequence[Mutant] = MUTANTS, progress: Callable[[str], None] = lambda text: None) -> Hunt:
    """Every check of these mutants on the unchanged core, then the mutants."""
    began = time.monotonic()
    result = Hunt()
    checks = {mutant.killer.__name__: mutant.killer for mutant in mutants}
    for name, killer in checks.items():
        progress(f"unchanged core: {name}")
        complaint = judged(killer)
        if complaint is not None:
            result.false_alarms[name] = complaint
    for mutant in mutants:
        progress(f"mutant: {mutant.name}")
        result.trials.append(try_mutant(mutant))
    result.seconds = round(time.monotonic() - began, 3)
    return result
