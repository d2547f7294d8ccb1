"""A stage: a world in which a script decides everything that chance decides elsewhere.

No timer runs, no tick comes, no first block of a height is proposed and no link fails but by a line of the script; what is
sent arrives in the order in which it was sent. A script reads like the story it tells:

    stage = Stage(4)
    stage.lose("COMMIT", to=(0, 2, 3))      # everybody prepares, node 1 alone hears the votes
    stage.propose(1)
    stage.deliver()
    stage.everything_passes()
    stage.time_out(0, 2, 3)
    stage.recover(1)                        # the world heals: all must decide, and the oracles look
    assert not stage.failures

Nodes are numbered like validators; the proposer of (height h, view v) is (h + v) % n. `recover` ends the script: from there on
timers and ticks run by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from hub.ppdl.consensus.effects import Received
from hub.ppdl.consensus.messages import Message, kind_of
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.sim.faults import Faults
from hub.ppdl.sim.forge import Forger
from hub.ppdl.sim.ledger import SetRule
from hub.ppdl.sim.network import Fate
from hub.ppdl.sim.node import Node
from hub.ppdl.sim.world import MAX_EVENTS, PROGRESS_MS, World

SCRIPTED = Faults(reorder=False, delay_ms=(1, 1), until_ms=10**9)
MAX_STEP_EVENTS = 20_000
"""What one `deliver` may cause: a script's handful of messages causes some hundreds."""


@dataclass(frozen=True)
class Rule:
    """Which messages meet which fate; an empty field means any."""

    fate: Fate
    kinds: tuple[str, ...] = ()
    sender: tuple[int, ...] = ()
    to: tuple[int, ...] = ()
    height: int | None = None
    view: int | None = None

    def covers(self, sender: int, to: int, message: Message) -> bool:
        """Whether the rule speaks of this message."""
        return (
            (not self.kinds or kind_of(message).name in self.kinds)
            and (not self.sender or sender in self.sender)
            and (not self.to or to in self.to)
            and (self.height is None or getattr(message, "height", None) == self.height)
            and (self.view is None or getattr(message, "view", None) == self.view)
        )


class Stage:
    """A world of `n` validators under a script. `failures` collects what the script expected and did not see.

    `silent` nodes are dishonest: they run nothing, the script speaks for them.
    """

    def __init__(
        self,
        n: int = 4,
        twins: tuple[int, ...] = (),
        spare: int = 0,
        set_rule: SetRule | None = None,
        replica_class: type[Replica] = Replica,
        faults: Faults = SCRIPTED,
        silent: tuple[int, ...] = (),
        trace: bool = False,
        sink: Callable[[str], None] | None = None,
    ) -> None:
        scripted = replace(faults, until_ms=SCRIPTED.until_ms, delay_ms=(1, 1), reorder=False)
        self.world = World(n, 0, scripted, twins, (), spare, set_rule, replica_class, False, trace, sink)
        self.forge = Forger(self.world.around.scheme)
        self.expected: list[str] = []
        self._rules: list[Rule] = []
        self.world.around.manual = True
        self.world.around.network.filter = self._fate
        for number in silent:
            self.world.nodes[number].honest = False
        self.world.honest = [node for node in self.world.nodes if node.honest]
        self.world.oracles.honest = frozenset(node.address for node in self.world.honest)
        self._silent = silent
        for node in self.world.nodes:
            if node.number not in silent:
                node.boot()

    # Who hears what

    def lose(self, *kinds: str, sender: Iterable[int] = (), to: Iterable[int] = (), view: int | None = None) -> None:
        """From now on messages of these kinds (all, when none is named) on these links are lost."""
        self._rules.append(Rule(Fate.LOSE, kinds, tuple(sender), tuple(to), None, view))

    def hold(self, *kinds: str, sender: Iterable[int] = (), to: Iterable[int] = (), view: int | None = None) -> None:
        """From now on such messages wait on their link until `release`."""
        self._rules.append(Rule(Fate.HOLD, kinds, tuple(sender), tuple(to), None, view))

    def cut(self, *sides: Iterable[int]) -> None:
        """Only nodes of one side hear each other; who is on no side hears nobody."""
        side_of = {node: number for number, side in enumerate(sides) for node in side}
        self.world.around.network.sides = [side_of.get(node.number, -1 - node.number) for node in self.world.nodes]

    def everything_passes(self) -> None:
        """No rule and no cut any more; what is held back stays held back."""
        self._rules.clear()
        self.cut(range(len(self.world.nodes)))

    def release(self) -> None:
        """Deliver what was held back."""
        self.world.around.network.release()
        self.deliver()

    def _fate(self, sender: int, to: int, message: Message) -> Fate:
        return next((rule.fate for rule in self._rules if rule.covers(sender, to, message)), Fate.PASS)

    # What happens

    def deliver(self) -> None:
        """Everything under way arrives, and what it causes, until nobody says anything more."""
        clock = self.world.around.clock
        clock.run(10**9, clock.done + MAX_STEP_EVENTS)
        self.expect(not len(clock), "messages end")

    def propose(self, node: int) -> None:
        """The application of the height's first proposer makes its block."""
        self.expect(self.world.nodes[node].answer_proposal(), f"node {node} waits for a block to propose")

    def time_out(self, *nodes: int) -> list[int]:
        """The timers of these nodes run out; returns those that had one running."""
        return [number for number in nodes if self.world.nodes[number].time_out()]

    def tick(self, *nodes: int) -> None:
        """These nodes say again what may have been lost."""
        for number in nodes:
            self.world.nodes[number].pulse()

    def crash(self, *nodes: int) -> None:
        """These nodes lose everything but their disks, and stay down."""
        for number in nodes:
            self.world.nodes[number].go_down()

    def restart(self, *nodes: int) -> None:
        """These nodes come back from their disks."""
        for number in nodes:
            self.world.nodes[number].boot()

    def say(self, sender: int, message: Message, *to: int) -> None:
        """A dishonest `sender` puts a message of its own making on the links to these nodes."""
        address = self.world.nodes[sender].address
        for number in to:
            self.world.around.clock.after(1, self.world.nodes[number].deliver, Received(address, message))
        self.deliver()

    def prepared_only_at(self, *nodes: int) -> None:
        """From now on these nodes alone hear PREPAREs, and nobody hears a COMMIT."""
        others = [node.number for node in self.world.nodes if node.number not in nodes]
        self.lose("PREPARE", to=others)
        self.lose("COMMIT")

    def recover(self, more: int = 1, down: Iterable[int] = ()) -> None:
        """The world heals: every honest node must decide `more` heights beyond the highest, in bounded time.

        Nodes that are `down` stay so, and nothing is expected of them.
        """
        self._heal(tuple(down))
        goal = max(self.world.heights()) + more
        reached = self.world.reach(goal, self.world.now + PROGRESS_MS)
        self.expect(reached, f"every honest node decides height {goal}, not {self.world.heights()}")

    def recover_in_vain(self, for_ms: int) -> None:
        """The world heals, and yet nobody may decide a height that nobody had."""
        before = max(self.world.heights())
        self._heal(())
        self.world.around.on_block = lambda height: self.world.stop_when(height > before)
        self.world.around.clock.run(self.world.now + for_ms, MAX_EVENTS)
        self.expect(max(self.world.heights()) == before, f"nobody decides anything more, heights {self.world.heights()}")

    def _heal(self, down: tuple[int, ...]) -> None:
        world, around = self.world, self.world.around
        world.honest = [node for node in world.honest if node.number not in down]
        around.manual, around.network.filter = False, None
        world.heal()
        around.network.release()
        for node in world.nodes:
            if node.number in down or node.number in self._silent:
                continue
            if node.replica is None:
                node.boot()
                continue
            around.clock.after(0, node._tick, node.life)
            node.start_timer()
            node.answer_proposal()

    def expect(self, seen: bool, what: str) -> None:
        """Note what the script expects."""
        if not seen:
            self.expected.append(f"expected that {what}")

    # What is to be seen

    @property
    def failures(self) -> list[str]:
        """Violations of the oracles and unmet expectations."""
        self.world.inspect()
        return [*self.world.oracles.violations, *self.expected]

    def node(self, number: int) -> Node:
        """One instance."""
        return self.world.nodes[number]

    def replica(self, number: int) -> Replica:
        """The replica of a node that is up."""
        replica = self.world.nodes[number].replica
        assert replica is not None
        return replica

    def prepared_view(self, number: int) -> int | None:
        """View of the prepared certificate on a node's disk."""
        proof = self.world.nodes[number].disk.prepared
        return None if proof is None else proof.cert.view

    def block_at(self, height: int, number: int) -> bytes | None:
        """Hash of a node's decided block."""
        blocks = self.world.nodes[number].disk.blocks
        return blocks[height - 1].tip.hash if len(blocks) >= height else None


assert MAX_STEP_EVENTS < MAX_EVENTS
