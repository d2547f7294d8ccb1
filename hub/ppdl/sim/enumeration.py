"""Systematic enumeration in the manner of Twins (OPODIS 2021): every script of a stated set, none by chance.

Four validators, one of which runs twice under one key, so five instances; they begin at height 1. A script is a sequence of
rounds. In each round the timers that are set run out, and then only the instances of one *side* hear each other, and one *cut*
says how far they get:

    through       everything arrives
    no commits    nobody hears a COMMIT
    prepares to x PREPAREs reach x alone, nobody hears a COMMIT
    commits to x  COMMITs reach x alone

The sides are those with exactly a quorum of keys (three instances with three keys), all five, and nobody. After the last round
the world heals; then every honest instance must decide three more heights, and the oracles look at all of it. Every validator
takes its turn as the twin: proposers pass on with the views, so the twin stands at each distance from them.

Symmetry: the two instances of a key begin alike, so a script and the one with their names exchanged are one; only that one
is run in which the first side that tells them apart holds the first instance. A side with a cut is run only when the cut
could bite: when votes were cast in that side in that round (seen from the run without a cut). Only the first CUT_ROUNDS
rounds have cuts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hub.ppdl.consensus.messages import Commit, Message, Prepare
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.sim.network import Fate
from hub.ppdl.sim.stage import Stage

VALIDATORS = 4
MORE_HEIGHTS = 1
CUT_ROUNDS = 2
"""Rounds that may have a cut; later ones are plain. Two suffice to prepare one block, then decide another at one node."""
MAX_ROUNDS = 5
"""The first two rounds multiply the scripts by about 36 each, every later one by 8: five rounds are hours."""


@dataclass(frozen=True)
class Round:
    """Who hears each other, and how far they get. `learner` None with a cut: nobody learns."""

    side: tuple[int, ...]
    cut: str = "through"  # through, prepares, commits
    learner: int | None = None

    def __str__(self) -> str:
        names = ",".join(f"{node}" for node in self.side) or "nobody"
        if self.cut == "through":
            return f"[{names}]"
        return f"[{names} {self.cut} to {'nobody' if self.learner is None else self.learner}]"


Script = tuple[Round, ...]


class Enumerated(Stage):
    """A stage that plays scripts. Instance 4 is the twin's second one."""

    def __init__(self, twin: int, replica_class: type[Replica] = Replica, trace: bool = False) -> None:
        super().__init__(VALIDATORS, twins=(twin,), replica_class=replica_class, trace=trace)
        self.voted = False  # in the last round, within the side
        self._round: Round | None = None

    def play(self, script: Script) -> None:
        """All rounds."""
        everybody = tuple(node.number for node in self.world.nodes)
        for number, one in enumerate(script):
            self.voted, self._round = False, one
            self.cut(one.side)
            self.tick(*everybody)
            self.deliver()
            if number == 0:
                self._propose_first()
            else:
                self.time_out(*everybody)
            self.deliver()
        self._round = None
        self.everything_passes()

    def _propose_first(self) -> None:
        for node in self.world.nodes:
            node.answer_proposal()

    def _fate(self, sender: int, to: int, message: Message) -> Fate:
        one, kind = self._round, type(message)
        if one is None or (kind is not Prepare and kind is not Commit):
            return Fate.PASS
        if sender in one.side and to in one.side:
            self.voted = True
        if kind is Prepare:
            return Fate.PASS if one.cut != "prepares" or to == one.learner else Fate.LOSE
        return Fate.PASS if one.cut == "through" or (one.cut == "commits" and to == one.learner) else Fate.LOSE


def _sides(twin: int) -> tuple[tuple[int, ...], ...]:
    """Quorums of three keys, everybody, nobody."""
    second = VALIDATORS
    others = [i for i in range(VALIDATORS) if i != twin]
    pairs = [(a, b) for a in others for b in others if a < b]
    threes = [tuple(others), *(tuple(sorted((*pair, t))) for t in (twin, second) for pair in pairs)]
    return (tuple(range(VALIDATORS + 1)), *threes, ())


def _cuts(side: tuple[int, ...]) -> Iterator[Round]:
    """The ways in which a side may be stopped half way."""
    yield Round(side, "commits", None)
    for learner in side:
        yield Round(side, "prepares", learner)
        yield Round(side, "commits", learner)


def _first_of_its_kind(script: Script, twin: int) -> bool:
    """Whether this script stands for itself and the one with the twin's two instances exchanged."""
    for one in script:
        first, second = twin in one.side, VALIDATORS in one.side
        if first != second:
            return first
        if one.learner in (twin, VALIDATORS):
            return one.learner == twin
    return True


@dataclass(frozen=True)
class Played:
    """One script and what went wrong in it."""

    twin: int
    script: Script
    failures: tuple[str, ...] = ()


def play(twin: int, script: Script, replica_class: type[Replica] = Replica) -> tuple[Played, bool]:
    """Run one script to its end; also whether votes were cast within the last round's side."""
    stage = Enumerated(twin, replica_class)
    stage.play(script)
    stage.recover(MORE_HEIGHTS)
    return Played(twin, script, tuple(stage.failures)), stage.voted


def scripts_from(twin: int, prefix: Script, rounds: int, replica_class: type[Replica] = Replica) -> Iterator[Played]:
    """Play every script of up to `rounds` rounds that begins with `prefix`, itself left out."""
    if len(prefix) >= rounds:
        return
    for side in _sides(twin):
        plain = (*prefix, Round(side))
        if not _first_of_its_kind(plain, twin):
            continue
        played, voted = play(twin, plain, replica_class)
        yield played
        yield from scripts_from(twin, plain, rounds, replica_class)
        for one in _cuts(side) if voted and len(prefix) < CUT_ROUNDS else ():
            script = (*prefix, one)
            if _first_of_its_kind(script, twin):
                yield play(twin, script, replica_class)[0]
                yield from scripts_from(twin, script, rounds, replica_class)


def first_rounds(replica_class: type[Replica] = Replica) -> list[Played]:
    """Every script of one round, for each twin: the parts into which the enumeration is divided among processes."""
    return [played for twin in range(VALIDATORS) for played in scripts_from(twin, (), 1, replica_class)]
