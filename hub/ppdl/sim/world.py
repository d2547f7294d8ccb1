"""The world: a clock, a network, nodes with disks, and oracles that watch; one seed gives one run.

A run has two parts. First everything that `Faults` allows goes wrong. Then, at `until_ms` or as soon as an honest node has
decided `heights` blocks, the world *heals*: no loss, no crash, no partition, short delays; whoever is down comes back. From
then on every honest node must decide `heights` blocks, and two more than anybody had at that moment, within PROGRESS_MS of
simulated time. Safety is watched through both.

A *twin* is a second instance under a validator's key with a disk of its own: the two equivocate in every way the protocol
allows (Twins, OPODIS 2021). A *liar* says whatever it likes (`liar.py`).

Determinism: one `random.Random(seed)`, one queue with a running number as tie-break, no iteration over sets.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from hub.ppdl.consensus.effects import Report, Tip
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.sim.clock import Clock
from hub.ppdl.sim.faults import NO_FAULTS, Faults, Setup
from hub.ppdl.sim.keys import make_scheme, validator_addresses, validator_keys
from hub.ppdl.sim.ledger import Ledger, SetRule
from hub.ppdl.sim.liar import Liar
from hub.ppdl.sim.network import Network
from hub.ppdl.sim.node import Node, Surroundings
from hub.ppdl.sim.oracles import Oracles
from hub.ppdl.sim.trace import Trace
from openmg.hashing import keccak256

__all__ = ["PROGRESS_MS", "Faults", "Outcome", "World", "rotating_sets", "validator_keys", "world_of"]

PROGRESS_MS = 60_000
"""Simulated time from healing to progress. In 20 s of faults views reach 4 or so, whose timer runs 16 s; after it an honest
proposer's turn comes with the next view at the latest, with 32 s. The longest seen in thousands of seeds: 10 s."""
MAX_EVENTS = 400_000
"""Things that happen in one run; a faulty run of ten heights has some thousands."""
APP_GENESIS = keccak256(b"app")
EXTRA_HEIGHTS = 2


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `heights`: decided blocks of each honest node."""

    violations: tuple[str, ...]
    heights: tuple[int, ...]
    now_ms: int
    events: int
    healed_ms: int

    @property
    def decided(self) -> int:
        """Heights that every honest node decided."""
        return min(self.heights)


class World:
    """`n` validators; `spare` further nodes hold keys and start outside the set; `twins` run twice; `liars` lie."""

    def __init__(
        self,
        n: int,
        seed: int,
        faults: Faults = NO_FAULTS,
        twins: tuple[int, ...] = (),
        liars: tuple[int, ...] = (),
        spare: int = 0,
        set_rule: SetRule | None = None,
        replica_class: type[Replica] = Replica,
        real_crypto: bool = False,
        trace: bool = False,
        sink: Callable[[str], None] | None = None,
    ) -> None:
        count = n + spare
        addresses = validator_addresses(count)
        chance = random.Random(seed)
        clock, ledger, scheme = Clock(), Ledger(set_rule), make_scheme(count, real_crypto)
        validators = ValidatorSet(tuple(addresses[:n]))
        genesis = Tip(0, scheme.domain.genesis_hash, 0, APP_GENESIS, validators, validators)
        network = Network(clock, chance, faults, count + len(twins))
        names = {address: f"n{i}" for i, address in enumerate(addresses)}
        record = Trace(names, sink) if trace else None
        oracles = Oracles(scheme.domain, ledger)
        self.around = Surroundings(
            clock, network, oracles, ledger, faults, chance, scheme, genesis, replica_class, record,
            hazard=faults.until_ms > 0 and bool(faults.crash_per_mille or faults.crash_at),
        )  # fmt: skip
        owners = [*range(count), *twins]
        for number, i in enumerate(owners):
            kind = Liar if i in liars else Node
            name = f"n{i}" + ("'" if number >= count else "")
            honest = i not in twins and i not in liars
            self.around.nodes.append(kind(number, name, addresses[i], honest, self.around))
        for node in self.around.nodes:
            node.peers = [peer for peer in self.around.nodes if peer.address != node.address]
        self.honest = [node for node in self.around.nodes if node.honest]
        oracles.honest = frozenset(node.address for node in self.honest)
        self.healed_ms = 0
        self._repartitions = 0

    @property
    def nodes(self) -> list[Node]:
        """All instances; a twin's second one stands behind the others."""
        return self.around.nodes

    @property
    def oracles(self) -> Oracles:
        return self.around.oracles

    @property
    def now(self) -> int:
        """Simulated ms since the start."""
        return self.around.clock.now

    @property
    def events(self) -> int:
        """What has happened so far."""
        return self.around.clock.done

    @property
    def trace(self) -> Trace | None:
        """The account of the run, if it was asked for."""
        return self.around.trace

    @property
    def reports(self) -> list[tuple[int, Report]]:
        """Complaints by (node, report)."""
        return self.around.reports

    def start(self) -> None:
        """Boot every node."""
        for node in self.nodes:
            node.boot()

    def run(self, heights: int) -> Outcome:
        """A whole run; see the head of this file."""
        faults, clock = self.around.faults, self.around.clock
        self.start()
        if faults.partition_ms:
            self._repartition(0)
        if faults.until_ms > 0:
            self.around.on_block = lambda height: self.stop_when(height >= heights)
            clock.run(faults.until_ms, MAX_EVENTS)
        self.heal()
        goal = max(heights, self._top() + EXTRA_HEIGHTS) if faults.until_ms > 0 else heights
        if not self.reach(goal, clock.now + PROGRESS_MS):
            self.oracles.violation(
                f"no progress: heights {self.heights()} of {goal}, {clock.now - self.healed_ms} ms after healing"
            )
        return self.outcome()

    def heal(self) -> None:
        """No faults from now on."""
        self.healed_ms = self.now
        self.around.hazard = False
        self.around.network.heal()
        if self.trace is not None and self.around.faults.until_ms > 0:
            self.trace.note(self.now, "----", "the world heals")

    def reach(self, goal: int, limit_ms: int) -> bool:
        """Go on until every honest node has `goal` blocks; False when time or events run out first.

        Only after healing: no node loses blocks any more.
        """
        waiting = sum(height < goal for height in self.heights())

        def on_block(height: int) -> None:
            nonlocal waiting
            waiting -= height == goal
            self.stop_when(waiting == 0)

        self.around.on_block = on_block
        return waiting == 0 or self.around.clock.run(limit_ms, MAX_EVENTS)

    def stop_when(self, reached: bool) -> None:
        """Let what runs the clock stop, if so."""
        if reached:
            self.around.clock.stopped = True

    def heights(self) -> list[int]:
        """Decided blocks of each honest node."""
        return [len(node.disk.blocks) for node in self.honest]

    def outcome(self) -> Outcome:
        """What is to be said of the run, which ends here."""
        self.inspect()
        return Outcome(tuple(self.oracles.violations), tuple(self.heights()), self.now, self.events, self.healed_ms)

    def inspect(self) -> None:
        """The last look at the memory of every honest node."""
        for node in self.honest:
            node.inspect()

    def dismantle(self) -> None:
        """Cut the circles of references, so that all memory comes back at once and no collector has to look for it."""
        self.around.clock.clear()
        for node in self.nodes:
            node.peers = []
        self.nodes.clear()
        self.honest = []
        self.around.on_block = lambda height: None

    def _top(self) -> int:
        return max(len(node.disk.blocks) for node in self.honest)

    def _repartition(self, _: int) -> None:
        network = self.around.network
        if not network.healed:
            network.sides = [self.around.random.randrange(2) for _ in network.sides]
            if self.trace is not None:
                sides = [[n.name for n in self.nodes if network.sides[n.number] == side] for side in (0, 1)]
                self.trace.note(self.now, "----", f"partition {' '.join(sides[0])} | {' '.join(sides[1])}")
            self.around.clock.after(self.around.faults.partition_ms, self._repartition, 0)


def rotating_sets(n: int) -> SetRule:
    """Every block swaps one validator out and the one that was out in, over n + 1 keys; number n is out at first.

    The set keeps its size, so that it stands as many faulty members as before.
    """
    addresses = validator_addresses(n + 1)

    def rule(height: int) -> tuple[tuple[bytes, bool], ...]:
        out, back = addresses[(height - 1) % (n + 1)], addresses[(height - 2) % (n + 1)]
        return ((back, True), (out, False))

    return rule


def world_of(
    seed: int,
    setup: Setup,
    replica_class: type[Replica] = Replica,
    trace: bool = False,
    sink: Callable[[str], None] | None = None,
    real_crypto: bool = False,
) -> World:
    """The world of a seed and its setup."""
    n = setup.validators
    rule = rotating_sets(n) if setup.rotating_sets else None
    return World(
        n, seed, setup.faults, setup.twins, setup.liars, int(setup.rotating_sets), rule, replica_class, real_crypto, trace, sink
    )  # fmt: skip
