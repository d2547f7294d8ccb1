"""The model check without its reductions: one delivery at a time, to everybody, nothing forgotten, nothing merged.

Slow and simple; it shares with the real search the core, the stand-in chain, and who can say what, but none of the ideas
that make that one small. States are told apart by everything in `HeightState`, certificates' signers included.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from hub.ppdl.consensus.effects import Received, Timeout
from hub.ppdl.sim.model.check import Bounds, Model
from hub.ppdl.sim.model.fork import fork
from hub.ppdl.sim.model.local import HEIGHT, Disk, Local, Run
from hub.ppdl.sim.model.tokens import Token

Vector = tuple[frozenset[Token], ...]
MAX_PLAIN_STATES = 400_000


def frozen(value: Any) -> Any:
    """A hashable picture of everything in a value."""
    if isinstance(value, dict):
        return tuple(sorted(((frozen(k), frozen(v)) for k, v in value.items()), key=repr))
    if isinstance(value, set):
        return frozenset(frozen(item) for item in value)
    if isinstance(value, list | tuple):
        return tuple(frozen(item) for item in value)
    if dataclasses.is_dataclass(value):
        names = [f.name for f in dataclasses.fields(value)]
        if "header" in names and "txs" in names:
            return value.hash  # a block is its hash
        return (type(value).__name__, *(frozen(getattr(value, name)) for name in names))
    return value


class PlainSearch:
    """All states of one model, reached by single deliveries. COMMITs are delivered with `commits` only."""

    def __init__(self, bounds: Bounds, byzantine: int, replica_class: type, commits: bool = False) -> None:
        self.model = Model(bounds, byzantine, replica_class)
        self.bounds = bounds
        self.commits = commits
        self.places = self.model.instances
        self.locals: list[dict[Any, Local]] = [{} for _ in self.places]
        self.memo: dict[Any, Any] = {}
        self.decided: set[tuple[int, bytes]] = set()

    def run(self) -> set[Vector]:
        """Statements of all honest replicas in every reachable state."""
        start = tuple(self._begin(i) for i in range(len(self.places)))
        seen, todo = {start}, [start]
        while todo:
            state = todo.pop()
            for i, after in self._steps(state):
                following = (*state[:i], after, *state[i + 1 :])
                if following not in seen:
                    assert len(seen) < MAX_PLAIN_STATES, "the plain search is too large for this bound"
                    seen.add(following)
                    todo.append(following)
        return {tuple(self.locals[i][key].said for i, key in enumerate(state)) for state in seen}

    def _begin(self, i: int) -> Any:
        replica = self.places[i].replica()
        run = Run(self.places[i], replica, Disk(), frozenset())
        run.carry(replica.start())
        return self._intern(i, run)

    def _intern(self, i: int, run: Run) -> Any:
        assert not run.faults, run.faults
        said = frozenset(run.said)
        state = run.replica.state
        for known in (state.proposal, state.prepared):
            if known is not None:
                self.model.soup.blocks.setdefault(known.block.hash, known.block)
        key = (frozen(state), said)
        self.locals[i].setdefault(key, Local(fork(state), run.disk, said))
        return key

    def _messages(self, state: Any) -> set[tuple[int, Token]]:
        """Everything that anybody has said or, Byzantine, could say now."""
        spoken = tuple(self.locals[i][key].said for i, key in enumerate(state))
        offers = self.model.offers_of(spoken)
        messages = set(offers.openings)
        groups = [*offers.votes, *(offers.seals if self.commits else [])]
        messages |= {(sender, token) for token, who in groups for sender in who}
        for by_sender in offers.changes.values():
            messages |= {(sender, token) for sender, tokens in by_sender.items() for token in tokens}
        return messages

    def _steps(self, state: Any) -> Iterator[tuple[int, Any]]:
        messages = self._messages(state)
        for i, instance in enumerate(self.places):
            local = self.locals[i][state[i]]
            if local.state.view < self.bounds.views:
                yield i, self._after(i, state[i], None)
            for heard in messages:
                if heard[0] != instance.number:
                    yield i, self._after(i, state[i], heard)

    def _after(self, i: int, key: Any, heard: tuple[int, Token] | None) -> Any:
        place = (i, key, heard)
        if place not in self.memo:
            local, instance = self.locals[i][key], self.places[i]
            run = Run(instance, instance.resumed(local), local.disk.copy(), local.said)
            if heard is None:
                run.feed(Timeout(HEIGHT, run.replica.view))
            else:
                sender = self.model.chain.addresses[heard[0]]
                run.feed(Received(sender, self.model.soup.messages[heard]))
            if run.decided is not None:
                self.decided.add((instance.number, run.decided.hash))
            self.memo[place] = self._intern(i, run)
        return self.memo[place]
