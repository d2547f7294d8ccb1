"""The model check: bounds, properties, report.

Properties: *agreement*, no two honest replicas can decide different blocks; *no double vote* by an honest key, and nothing
sent before it is durable; *validity*, a decided block is one that honest applications accept; *accuracy*, no honest
validator is called faulty; and in every state looked at, a *fair completion* decides (`completion.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.sim.model.completion import Completion
from hub.ppdl.sim.model.forger import Forger
from hub.ppdl.sim.model.local import BAD, HEIGHT, Deeds, Instance, Key, Soup
from hub.ppdl.sim.model.network import Offers, collect
from hub.ppdl.sim.model.search import Found, Search, State
from hub.ppdl.sim.model.standin import Chain, name_of
from hub.ppdl.sim.model.tokens import Token
from hub.ppdl.sim.model.trace import explain

ADVERSARIES = ("forger", "twin", "none")
MAX_STATES = 6_000_000  # some 200 bytes each
MIN_VALIDATORS = 4  # fewer tolerate no Byzantine one
MAX_VALIDATORS, MAX_VIEW = 7, 3  # beyond these no search ends
OFFERS_KEPT = 20_000  # some kilobytes each
COMPLETIONS = 300  # fair completions in one search, spread over its states; each costs some milliseconds


@dataclass(frozen=True)
class Bounds:
    """What is explored: all behaviours of `validators` replicas at one height in views 0 .. `views`.

    byzantine: which validator is Byzantine (None: each in turn).  adversary: how (`none`: the validator is silent).
    restarts: honest replicas may crash and restart from disk at any time.  completions: at most so many states are
    completed fairly in one search.
    """

    validators: int = 4
    views: int = 2
    byzantine: int | None = None
    adversary: str = "forger"
    restarts: bool = False
    completions: int = COMPLETIONS
    max_states: int = MAX_STATES

    def __post_init__(self) -> None:
        if not MIN_VALIDATORS <= self.validators <= MAX_VALIDATORS:
            raise ValueError(
                f"model check: {MIN_VALIDATORS} to {MAX_VALIDATORS} validators can be explored, not {self.validators}"
            )
        if not 0 <= self.views <= MAX_VIEW:
            raise ValueError(f"model check: views 0 to at most {MAX_VIEW} can be explored, not {self.views}")
        if self.adversary not in ADVERSARIES:
            raise ValueError(f"model check: the adversary is one of {', '.join(ADVERSARIES)}")
        if self.byzantine is not None and not 0 <= self.byzantine < self.validators:
            raise ValueError(f"model check: validator {self.byzantine} is none of 0 to {self.validators - 1}")


@dataclass
class Report:
    """What was explored and found; `exhaustive` only when no bound on the number of states cut the search."""

    bounds: Bounds
    states: int = 0
    transitions: int = 0
    depth: int = 0
    core_steps: int = 0
    local_states: int = 0
    completions: int = 0
    exhaustive: bool = True
    seconds: float = 0.0
    violations: list[dict[str, Any]] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


Progress = Callable[[str], None]


def check(bounds: Bounds, replica_class: type[Replica] = Replica, progress: Progress = lambda text: None) -> Report:
    """Explore with each Byzantine validator in turn; stop at the first violation."""
    began = time.monotonic()
    report = Report(bounds)
    numbers = range(bounds.validators) if bounds.byzantine is None else (bounds.byzantine,)
    for number in numbers:
        one = Model(bounds, number, replica_class)
        where = f"validator {number} Byzantine ({bounds.adversary})"
        one.explore(lambda states, depth, w=where: progress(f"{w}: {states} states, depth {depth}"))  # type: ignore[misc]
        one.add_to(report)
        report.seconds = round(time.monotonic() - began, 3)
        if report.violations:
            break
    return report


def _fork(able: list[tuple[int, Block]]) -> str | None:
    """Two validators that can decide differently, or one that can decide either way, from (validator, block) pairs."""
    pairs = [(a, b) for a, b in combinations(able, 2) if a[1].hash != b[1].hash]
    if not pairs:
        return None
    (one, first), (other, second) = min(pairs, key=lambda pair: pair[0][0] == pair[1][0])
    return f"agreement: validator {one} can decide {name_of(first)}, validator {other} {name_of(second)}"


class Model:
    """One search with one Byzantine validator."""

    def __init__(self, bounds: Bounds, byzantine: int, replica_class: type[Replica]) -> None:
        self.bounds, self.byzantine = bounds, byzantine
        self.chain = Chain(bounds.validators)
        self.soup = Soup()
        self.deeds = Deeds()
        self.completions = 0
        self._class = replica_class
        self._leaders = {v: (HEIGHT + v) % bounds.validators for v in range(bounds.views + 1)}
        self._forger = Forger(self.chain, byzantine, self.soup) if bounds.adversary == "forger" else None
        self.instances = self._make_instances()
        self._honest = [i for i, instance in enumerate(self.instances) if instance.is_honest]
        self._memo: dict[tuple[frozenset[Any], ...], Offers] = {}
        self.search = Search(
            self.instances, self._offers, self._alike(), self._leaders, bounds.views, bounds.restarts, bounds.max_states
        )

    def _make_instances(self) -> list[Instance]:
        honest = frozenset(a for i, a in enumerate(self.chain.addresses) if i != self.byzantine)
        numbers = [(i, f"h{i}v") for i in range(self.bounds.validators) if i != self.byzantine]
        if self.bounds.adversary == "twin":
            numbers += [(self.byzantine, "twin-a-v"), (self.byzantine, "twin-b-v")]
        swap = self._forger.twins_of_blocks(self.bounds.views) if self._forger is not None else {}
        shared: dict[Key, int] = {}
        made = []
        for number, label in numbers:
            ids = shared if self._is_follower(number) else {}
            made.append(Instance(self.chain, number, label, self._class, self.soup, self.deeds, honest, ids, swap))
        return made

    def _is_follower(self, number: int) -> bool:
        return number != self.byzantine and number not in self._leaders.values()

    def _alike(self) -> tuple[int, ...]:
        return tuple(i for i, instance in enumerate(self.instances) if self._is_follower(instance.number))

    def _offers(self, state: State) -> Offers:
        return self.offers_of(tuple(instance.locals[local].said for instance, local in zip(self.instances, state, strict=True)))

    def offers_of(self, said: tuple[frozenset[Token], ...]) -> Offers:
        """What the network offers when the instances have said this."""
        offers = self._memo.get(said)
        if offers is None:
            if len(self._memo) >= OFFERS_KEPT:
                self._memo.clear()
            spoken = [(instance.number, tokens) for instance, tokens in zip(self.instances, said, strict=True)]
            offers = Offers(collect(spoken), self.deeds, self._forger, self.bounds.views, self.chain.validators.quorum)
            self._memo[said] = offers
        return offers

    def explore(self, progress: Callable[[int, int], None]) -> None:
        """Run the search, every property in every new state."""
        visits = 0

        def visit(state: State) -> str | None:
            nonlocal visits
            visits += 1
            return self._disagreement(state) or self._stuck(state, visits)

        self.search.run(visit, progress)

    def _disagreement(self, state: State) -> str | None:
        """Which two blocks honest replicas can decide in this state, or which bad one."""
        offers = self._offers(state)
        if not offers.seals:
            return None
        able: list[tuple[int, Block]] = []
        for place in self._honest:
            instance = self.instances[place]
            for hear, learn in offers.decisions(instance.number):
                outcome = instance.outcome(state[place], hear)
                if outcome.decided is None and learn is not None:
                    outcome = instance.outcome(state[place], learn)
                if outcome.faults:
                    return outcome.faults[0]
                if outcome.decided is None:
                    continue
                if name_of(outcome.decided).startswith(BAD):
                    return f"validity: validator {instance.number} can decide a block that applications refuse"
                able.append((instance.number, outcome.decided))
        return _fork(able)

    def _stuck(self, state: State, visits: int) -> str | None:
        """Complete every state while there are few, later ever fewer of them (at visits 1 .. 256, then spread out)."""
        if self.completions >= self.bounds.completions or visits % (1 + visits // 256):
            return None
        self.completions += 1
        completion = Completion(self.chain, [self.instances[i] for i in self._honest], self.soup)
        return completion.failure([state[i] for i in self._honest])

    def add_to(self, report: Report) -> None:
        """Add the figures of this search."""
        search = self.search
        report.states += search.states
        report.transitions += search.transitions
        report.depth = max(report.depth, search.depth)
        report.core_steps += sum(instance.steps for instance in self.instances)
        report.local_states += sum(len(instance.locals) for instance in self.instances)
        report.completions += self.completions
        report.exhaustive = report.exhaustive and (search.exhausted or search.found is not None)
        if search.found is not None:
            report.violations.append(self._violation(search.found))

    def _violation(self, found: Found) -> dict[str, Any]:
        steps = [explain(self.soup, self.instances[place], self.deeds.all[deed]) for place, deed in found.path]
        return {"byzantine": self.byzantine, "property": found.property, "trace": steps}
