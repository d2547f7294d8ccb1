"""A node: one replica, its disk, its application; what the driver does in production, in simulated time.

Rules
- Effects are carried out one by one in order. At every boundary the node may die: before each effect, between write and
  sync, after the sync, between block and application. Then only the disk remains, and the node comes back after RESTART_MS.
- What belongs to an earlier life (timers, answers of the application) reaches nobody.
- Oracles hear of every statement and decision of an honest node before anybody else does.
- In `manual` surroundings no timer runs, no tick comes and no first proposal is made but by a script (`stage.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from hub.ppdl.consensus.effects import (
    Advanced,
    Broadcast,
    CancelTimer,
    Decide,
    Effect,
    Event,
    LogComplete,
    Persist,
    Propose,
    Proposed,
    Received,
    Report,
    Send,
    ServeBlocks,
    SetTimer,
    Tick,
    Timeout,
    Tip,
    Validate,
    Validated,
)
from hub.ppdl.consensus.messages import MAX_SYNC_BLOCKS, Decided, Message, SyncResponse
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.sim.bounds import memory_faults, overfull
from hub.ppdl.sim.clock import Clock
from hub.ppdl.sim.disk import Disk, Entry, SaveBlock, SecondVote
from hub.ppdl.sim.faults import Faults
from hub.ppdl.sim.keys import Scheme
from hub.ppdl.sim.ledger import Ledger
from hub.ppdl.sim.network import Network
from hub.ppdl.sim.oracles import Oracles
from hub.ppdl.sim.trace import Trace

TICK_MS = 300
VIEW_TIMEOUT_MS = 1_000
IDLE_MS = 400
MAX_BACKOFF_VIEWS = 6
BLOCK_INTERVAL_MS = 20
RESTART_MS = 700
APPLICATION_MS = 1
BAD_PROPOSAL_EVERY = 4  # a dishonest proposer's every fourth block breaks the application's rules


@dataclass
class Surroundings:
    """What all nodes of a world share."""

    clock: Clock
    network: Network
    oracles: Oracles
    ledger: Ledger
    faults: Faults
    random: Random
    scheme: Scheme
    genesis: Tip
    replica_class: type[Replica]
    trace: Trace | None = None
    manual: bool = False
    hazard: bool = False  # whether a crash may fall
    on_block: Callable[[int], None] = lambda height: None  # an honest node has stored this height
    nodes: list[Node] = field(default_factory=list)
    reports: list[tuple[int, Report]] = field(default_factory=list)


class Node:
    """One instance. `number` names it on the network; twins share key and address, and are not honest."""

    def __init__(self, number: int, name: str, address: bytes, honest: bool, around: Surroundings) -> None:
        self.number, self.name, self.address, self.honest = number, name, address, honest
        self.around = around
        self.disk = Disk()
        self.replica: Replica | None = None
        self.life = 0
        self.crashes = 0
        self.boundaries = 0  # passed so far, where a crash might have fallen
        self.armed: SetTimer | None = None
        self.asked: Propose | None = None
        self.peers: list[Node] = []
        self._timer = 0

    # Life and death

    def boot(self) -> None:
        """Start from what the disk holds."""
        around, disk = self.around, self.disk
        tip = self._recovered_tip()
        sign = around.scheme.signers[self.address]
        self.replica = around.replica_class(around.scheme.domain, self.address, sign, tip, disk.restored(tip.height + 1))
        if around.trace is not None:
            lost = "" if disk.log_complete else ", vote log lost"
            self.note(f"starts at h{tip.height + 1} with {len(disk.votes)} votes{lost}")
        if not around.manual:
            around.clock.after(around.random.randrange(TICK_MS), self._tick, self.life)
        self._carry_out(self.replica.start())

    def _recovered_tip(self) -> Tip:
        """The tip of the stored chain; an application that is behind executes what it has not committed."""
        disk, ledger, oracles = self.disk, self.around.ledger, self.around.oracles
        if disk.app_height > disk.height:
            oracles.violation(f"application of node {self.number} is ahead of its chain")
        while disk.app_height < disk.height:
            entry = disk.blocks[disk.app_height]
            before = disk.blocks[disk.app_height - 1].tip if disk.app_height else self.around.genesis
            if ledger.execute(before, entry.decided.block) != entry.tip:
                oracles.violation(f"node {self.number} computes another state for height {disk.app_height + 1} than it stored")
            disk.app_height += 1
        return disk.blocks[-1].tip if disk.blocks else self.around.genesis

    def crash(self) -> None:
        """Lose everything but the disk, and come back later."""
        self.go_down()
        self.around.clock.after(RESTART_MS, self._come_back, self.life)

    def go_down(self) -> None:
        """Lose everything but the disk."""
        around, faults = self.around, self.around.faults
        self.inspect()
        fate = self.disk.crash(around.random)
        self.replica = self.armed = self.asked = None
        self.life += 1
        self.crashes += 1
        self.note(f"CRASHES ({fate})")
        if faults.forgetful_disks:
            self.disk.forget_votes()
        if self.crashes == 1 and self.number in faults.lost_disks:
            self.disk = Disk(log_complete=False)
        if self.crashes == 1 and self.number in faults.lost_votes:
            self.disk.lose_votes()

    def _come_back(self, life: int) -> None:
        if self.life == life and self.replica is None:
            self.boot()

    def _dies_here(self) -> bool:
        """Whether the node crashes at this boundary; if so it has."""
        faults = self.around.faults
        self.boundaries += 1
        if faults.crash_at is not None:
            dies = faults.crash_at == (self.number, self.boundaries)
        else:
            dies = self.around.random.random() * 1000 < faults.crash_per_mille
        if dies:
            self.crash()
        return dies

    # Events

    def deliver(self, parcel: Received) -> None:
        """A message arrives; a node that is down hears nothing."""
        if self.replica is not None:
            self.step(parcel)

    def step(self, event: Event) -> None:
        """Tell the replica, and do what it wants."""
        replica, trace = self.replica, self.around.trace
        assert replica is not None
        if trace is not None:
            trace.event(self.around.clock.now, self.name, event)
        effects = replica.step(event)
        if effects:
            self._carry_out(effects)

    def _tick(self, life: int) -> None:
        if self.life == life and not self.around.manual:
            self.around.clock.after(TICK_MS, self._tick, life)
            self.pulse()

    def pulse(self) -> None:
        """A tick, with a look at the replica's memory before it."""
        if self.replica is None:
            return
        if self.honest:
            self._note_faults(overfull(self.replica, len(self.around.nodes)))
        self.step(Tick())

    def inspect(self) -> None:
        """The last look at a replica: are all of its containers known to have a bound, and within it?"""
        if self.honest and self.replica is not None:
            self._note_faults(memory_faults(self.replica, len(self.around.nodes)))

    def _note_faults(self, faults: list[str]) -> None:
        for fault in faults:
            self.around.oracles.violation(f"unbounded memory: node {self.number}: {fault}")

    def _answer(self, answer: tuple[int, Event]) -> None:
        life, event = answer
        if self.life == life:
            self.step(event)

    # Effects

    def _carry_out(self, effects: list[Effect]) -> None:
        """Effects in order; the node may die before each of them."""
        around, life = self.around, self.life
        hazard, trace = around.hazard, around.trace
        for effect in effects:
            if hazard and self._dies_here():
                return
            if trace is not None:
                trace.effect(around.clock.now, self.name, effect)
            _ACTIONS[type(effect)](self, effect)
            if self.life != life:
                return

    def _durable(self, entry: Entry) -> bool:
        """Write and sync; False when the node died at one of the three boundaries."""
        try:
            self.disk.write(entry)
        except SecondVote as error:
            if self.honest:
                self.around.oracles.on_second_vote(self.number, str(error))
            return True
        if self.around.hazard and self._dies_here():
            return False
        self.disk.sync()
        return not (self.around.hazard and self._dies_here())

    def _broadcast(self, effect: Broadcast) -> None:
        message = effect.message
        if self.honest:
            self.around.oracles.on_send(self.number, self.address, message, self.disk)
        self.around.network.send(self, self.peers, message)

    def _send(self, effect: Send) -> None:
        self.say(effect.peer, effect.message)

    def say(self, peer: bytes, message: Message) -> None:
        """Send to every instance of a peer."""
        if self.honest:
            self.around.oracles.on_send(self.number, self.address, message, self.disk)
        self.around.network.send(self, [node for node in self.around.nodes if node.address == peer], message)

    def _serve(self, effect: ServeBlocks) -> None:
        first = effect.height - 1
        blocks = tuple(entry.decided for entry in self.disk.blocks[first : first + MAX_SYNC_BLOCKS])
        self.say(effect.peer, SyncResponse(blocks))

    def _set_timer(self, effect: SetTimer) -> None:
        self.armed = effect
        if not self.around.manual:
            self.start_timer()

    def start_timer(self) -> None:
        """Let the timer that is set run."""
        effect = self.armed
        if effect is None:
            return
        self._timer += 1
        wait = VIEW_TIMEOUT_MS * 2 ** min(effect.view, MAX_BACKOFF_VIEWS) + (IDLE_MS if effect.idle else 0)
        self.around.clock.after(wait, self._fire, (self.life, self._timer))

    def _fire(self, mark: tuple[int, int]) -> None:
        if (self.life, self._timer) == mark:
            self.time_out()

    def time_out(self) -> bool:
        """The timer that is set runs out now; False when none is set."""
        effect = self.armed
        if effect is None or self.replica is None:
            return False
        self.armed = None
        self.step(Timeout(effect.height, effect.view))
        return True

    def _cancel_timer(self, effect: CancelTimer) -> None:
        self._timer += 1
        self.armed = None

    def _propose(self, effect: Propose) -> None:
        self.asked = effect
        if not self.around.manual or effect.view:
            self.answer_proposal()

    def answer_proposal(self) -> bool:
        """Let the application make the block it was asked for; False when it was not."""
        effect, around = self.asked, self.around
        if effect is None:
            return False
        self.asked = None
        good = self.honest or around.manual or around.random.randrange(BAD_PROPOSAL_EVERY) > 0
        txs = around.ledger.offer(self.number, around.clock.now, good)
        answer = Proposed(effect.height, effect.view, txs, around.clock.now)
        around.clock.after(0 if effect.view else BLOCK_INTERVAL_MS, self._answer, (self.life, answer))
        return True

    def _validate(self, effect: Validate) -> None:
        verdict = self.around.ledger.judge(effect.block)
        answer = Validated(effect.height, effect.view, effect.block.hash, verdict)
        self.around.clock.after(APPLICATION_MS, self._answer, (self.life, answer))

    def _decide(self, effect: Decide) -> None:
        assert self.replica is not None
        if self.honest:
            self.around.oracles.on_decide(self.number, self.replica.tip, effect.decided)
        self.around.clock.after(APPLICATION_MS, self._execute, (self.life, effect.decided))

    def _execute(self, job: tuple[int, Decided]) -> None:
        """Finalise, store block and outcome in one step, commit, next height."""
        life, decided = job
        if self.life != life or self.replica is None:
            return
        tip = self.around.ledger.execute(self.replica.tip, decided.block)
        if not self._durable(SaveBlock(decided, tip)):
            return
        self.disk.app_height = tip.height
        if self.honest:
            self.around.on_block(tip.height)
        if not (self.around.hazard and self._dies_here()):
            self.step(Advanced(tip))

    def _persist(self, effect: Persist | LogComplete) -> None:
        self._durable(effect)

    def _report(self, effect: Report) -> None:
        self.around.reports.append((self.number, effect))
        if self.honest:
            self.around.oracles.on_report(self.number, effect)

    def note(self, text: str) -> None:
        """A line of the trace, if there is one."""
        if self.around.trace is not None:
            self.around.trace.note(self.around.clock.now, self.name, text)


_ACTIONS: dict[type, Callable[[Node, Any], None]] = {
    Persist: Node._persist,
    LogComplete: Node._persist,
    Broadcast: Node._broadcast,
    Send: Node._send,
    ServeBlocks: Node._serve,
    SetTimer: Node._set_timer,
    CancelTimer: Node._cancel_timer,
    Propose: Node._propose,
    Validate: Node._validate,
    Decide: Node._decide,
    Report: Node._report,
}
