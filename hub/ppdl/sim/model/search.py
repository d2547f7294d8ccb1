"""Breadth-first search through the global states, so that a trace to a violation is a shortest one.

A global state is one local state for each replica; the network is what all of them have said, so it needs no place of its
own. Every deed of one replica is a transition. The search is exhaustive within its bounds (`check.Bounds`) up to these
reductions, none of which loses a behaviour in which a property fails:

1. *Late delivery.* A vote that completes no quorum changes nothing that others can see, and the network keeps what was
   sent. Votes are therefore delivered just before the quorum they complete, and what a replica still holds of others' votes
   afterwards is forgotten, since it can be delivered again. (Only a Byzantine sender has two votes for one place; the one
   that counts is then the one delivered.) The same holds for the VIEW-CHANGEs that a proposer collects.
2. *Idle deliveries.* A deed after which the local state is the same is no transition. The core itself says so.
3. *Tokens.* Certificates of one view and block are interchangeable (`tokens.py`).
4. *Decisions are not followed.* A replica that decides says nothing more in its height; one that has not yet heard the
   COMMITs may be silent as well. In every state it is checked who could decide what; it is not explored.
5. *Joining* a later view on f + 1 VIEW-CHANGEs is not offered: time-outs reach the same local state and say more, and
   whatever more messages allow includes what fewer allow.
6. *Symmetry.* Honest replicas that lead no view within the bounds differ in name only, and so do the two blocks that the
   forger may propose; states that are equal up to exchanging them are one.
7. *Vote before leaving.* A replica that could vote PREPARE in its view does so before its timer runs out: what it said in a
   view it has left binds it to nothing, and one message more allows whatever one less allows. (A COMMIT does bind, through
   the certificate that later VIEW-CHANGEs carry, and is never forced.)
8. *Refused proposals* are tried and not followed: they only keep a replica from voting for a better one.

5, 7 and 8 leave out states in which less was said than in one that is kept. Nothing bad can happen there that cannot happen
with more said; fair completions of such states are not looked at.

The forger is stateless (`forger.py`); twins are two instances that the search steps like all others.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hub.ppdl.application import Verdict
from hub.ppdl.consensus.messages import Kind
from hub.ppdl.sim.model.local import RESTART, TIMEOUT, Deed, Instance, Local, Outcome
from hub.ppdl.sim.model.network import Offers

ID_BITS = 24
"""A local state's number fits; a run with more would exceed every bound on states first."""

State = tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """A property that fails: what it says, and the (instance, deed) pairs that lead there."""

    property: str
    path: tuple[tuple[int, int], ...]


class Search:
    """One exploration.

    offers: what the network offers for given local states.  alike: instances that may be exchanged.  leaders: proposer of each
    view.
    """

    def __init__(
        self,
        instances: list[Instance],
        offers: Callable[[State], Offers],
        alike: tuple[int, ...],
        leaders: dict[int, int],
        max_view: int,
        restarts: bool,
        max_states: int,
    ) -> None:
        self.instances = instances
        self.transitions = 0
        self.depth = 0
        self.exhausted = False
        self.found: Found | None = None
        self._offers, self._alike, self._leaders = offers, alike, leaders
        self._max_view, self._restarts, self._max_states = max_view, restarts, max_states
        self._seen: set[int] = set()
        self._parents = array("l")
        self._deeds = array("l")
        self._movers = array("b")

    @property
    def states(self) -> int:
        """Distinct states found so far."""
        return len(self._seen)

    def run(self, visit: Callable[[State], str | None], progress: Callable[[int, int], None]) -> None:
        """Explore until nothing is new, a property fails, or the bound on states is reached.

        `visit` looks at each new state once and returns the property that fails there.
        """
        start = self._start()
        frontier = [(start, self._note(start, -1, (0, TIMEOUT)))] if self.found is None else []
        while frontier and self.found is None:
            following: list[tuple[State, int]] = []
            for state, index in frontier:
                fault = visit(state)
                if fault is not None:
                    self.found = Found(fault, self._path(index))
                    return
                for number, deed, outcome in self._successors(state):
                    self.transitions += 1
                    if outcome.faults:
                        self.found = Found(outcome.faults[0], (*self._path(index), (number, deed)))
                        return
                    after = (*state[:number], outcome.after, *state[number + 1 :])
                    packed = self._packed(after)
                    if packed not in self._seen:
                        following.append((after, self._note(after, index, (number, deed))))
                if len(self._seen) > self._max_states:
                    return
            if following:
                self.depth += 1
            progress(self.states, self.depth)
            frontier = following
        self.exhausted = self.found is None

    def _start(self) -> State:
        begun = [instance.begin() for instance in self.instances]
        for outcome in begun:
            if outcome.faults:
                self.found = Found(outcome.faults[0], ())
        return tuple(outcome.after for outcome in begun)

    def _successors(self, state: State) -> Iterator[tuple[int, int, Outcome]]:
        offers = self._offers(state)
        for number, instance in enumerate(self.instances):
            local = state[number]
            here = instance.locals[local]
            votes = False
            for deed in self._heard(instance, here, offers):
                outcome = instance.outcome(local, deed)
                if outcome.faults:
                    yield number, deed, outcome
                elif outcome.after != local and not self._only_blocks(instance, here, outcome):
                    votes = votes or self._opens(instance.deeds.all[deed], here)
                    yield number, deed, outcome
            for deed in self._spontaneous(here, votes):
                outcome = instance.outcome(local, deed)
                if outcome.after != local or outcome.faults:
                    yield number, deed, outcome

    def _heard(self, instance: Instance, here: Local, offers: Offers) -> Iterator[int]:
        yield from offers.to(instance.number)
        if not here.state.active and self._leaders.get(here.state.view) == instance.number:
            yield from offers.to_proposer(instance.number, here.state.view)

    def _spontaneous(self, here: Local, votes: bool) -> Iterator[int]:
        if here.state.view < self._max_view and not votes:
            yield TIMEOUT
        if self._restarts:
            yield RESTART

    def _only_blocks(self, instance: Instance, here: Local, outcome: Outcome) -> bool:
        """Whether a refused proposal was noted: that takes a choice away and gives none (reduction 8)."""
        proposal = instance.locals[outcome.after].state.proposal
        refused = proposal is not None and proposal.verdict is Verdict.REJECT
        return refused and here.state.view == instance.locals[outcome.after].state.view

    def _opens(self, deed: Deed, here: Local) -> bool:
        """Whether the deed is a proposal for the view that the replica is in or wants (reduction 7)."""
        token = deed.heard[0][1]
        return token.kind in (Kind.PRE_PREPARE, Kind.NEW_VIEW) and token.view == here.state.view

    def _packed(self, state: State) -> int:
        """One number for a state and all that differ from it in names only."""
        mirrored = tuple(instance.mirror[part] for instance, part in zip(self.instances, state, strict=True))
        here = self._joined(state)
        return here if mirrored == state else min(here, self._joined(mirrored))

    def _joined(self, state: State) -> int:
        parts = list(state)
        if len(self._alike) > 1:
            ordered = sorted(state[number] for number in self._alike)
            for number, part in zip(self._alike, ordered, strict=True):
                parts[number] = part
        joined = 0
        for part in parts:
            joined = joined << ID_BITS | part
        return joined

    def _note(self, state: State, parent: int, deed: tuple[int, int]) -> int:
        self._seen.add(self._packed(state))
        self._parents.append(parent)
        self._movers.append(deed[0])
        self._deeds.append(deed[1])
        return len(self._parents) - 1

    def _path(self, index: int) -> tuple[tuple[int, int], ...]:
        path: list[tuple[int, int]] = []
        while self._parents[index] >= 0:
            path.append((self._movers[index], self._deeds[index]))
            index = self._parents[index]
        return tuple(reversed(path))
