"""A hand-driven network of replicas: who drives it decides which message arrives where. No time, no chance.

Used by fair completions (`completion.py`) and by the scenarios that kill planted bugs (`hub.ppdl.sim.mutants`). A replica's
disk is `local.Disk`; the application accepts everything unless told otherwise.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from hub.ppdl.application import Verdict
from hub.ppdl.consensus.effects import (
    Advanced,
    Broadcast,
    CancelTimer,
    Decide,
    Effect,
    Event,
    Persist,
    Propose,
    Proposed,
    Received,
    Report,
    Restored,
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
from hub.ppdl.sim.model.local import Disk
from hub.ppdl.sim.model.standin import FRESH_MS, Chain, stand_in_signature

MAX_DELIVERIES = 20_000
"""Messages that one `deliver` may cause; more means replicas that talk for ever."""

Rule = Callable[[int, int, Message], bool]


class Endless(RuntimeError):
    """Messages caused messages without end."""


@dataclass
class Member:
    """One replica and what it did."""

    replica: Replica
    disk: Disk = field(default_factory=Disk)
    decided: list[Decided] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    wants: list[Propose] = field(default_factory=list)
    timer: Timeout | None = None
    effects: list[Effect] = field(default_factory=list)


class Bench:
    """Members at one height; validator i proposes in (h, v) when i = (h + v) % n. Members without a replica are silent."""

    def __init__(self, chain: Chain, replica_class: type[Replica] = Replica, numbers: tuple[int, ...] | None = None) -> None:
        self.chain = chain
        self.members: dict[int, Member] = {}
        self.wire: deque[tuple[int, int, Message]] = deque()
        self.verdict = Verdict.ACCEPT
        self._class = replica_class
        for number in range(len(chain.addresses)) if numbers is None else numbers:
            self.members[number] = Member(self.replica(number))

    def replica(self, number: int, tip: Tip | None = None, restored: Restored | None = None) -> Replica:
        """A replica of this validator on `tip`."""
        me, domain = self.chain.addresses[number], self.chain.domain
        return self._class(
            domain, me, lambda digest: stand_in_signature(me, digest), tip or self.chain.tip, restored or Restored()
        )

    def start(self) -> None:
        """Start every member."""
        for number in self.members:
            self.carry(number, self.members[number].replica.start())

    def restart(self, number: int, keep_log: bool = True) -> None:
        """A crash: the replica comes back with what its disk knows."""
        member = self.members[number]
        restored = member.disk.restored() if keep_log else Restored(complete=False)
        member.replica = self.replica(number, member.replica.tip, restored)
        self.carry(number, member.replica.start())

    def step(self, number: int, event: Event) -> list[Effect]:
        """One event for one member; its effects are carried out and returned."""
        effects = self.members[number].replica.step(event)
        self.carry(number, effects)
        return effects

    def hear(self, number: int, sender: int, message: Message) -> list[Effect]:
        """A message by hand."""
        return self.step(number, Received(self.chain.addresses[sender], message))

    def carry(self, number: int, effects: list[Effect]) -> None:
        """Carry effects out in order."""
        member = self.members[number]
        for effect in effects:
            member.effects.append(effect)
            match effect:
                case Broadcast():
                    self.wire += [(number, other, effect.message) for other in self.members if other != number]
                case Send():
                    self._send(number, effect.peer, effect.message)
                case Persist():
                    member.disk.write(effect)
                case Validate():
                    self.step(number, Validated(effect.height, effect.view, effect.block.hash, self.verdict))
                case Decide():
                    self._advance(number, effect.decided)
                case ServeBlocks():
                    known = tuple(d for d in member.decided if d.height >= effect.height)[:MAX_SYNC_BLOCKS]
                    self._send(number, effect.peer, SyncResponse(known))
                case Report():
                    member.reports.append(effect)
                case SetTimer():
                    member.timer = Timeout(effect.height, effect.view)
                case CancelTimer():
                    member.timer = None
                case Propose():
                    member.wants.append(effect)
                    if effect.view > 0:
                        self.propose(number, f"fresh{effect.view}")

    def _send(self, number: int, peer: bytes, message: Message) -> None:
        other = self.chain.addresses.index(peer)
        if other in self.members:
            self.wire.append((number, other, message))

    def _advance(self, number: int, decided: Decided) -> None:
        member = self.members[number]
        member.decided.append(decided)
        member.disk = Disk()
        self.step(number, Advanced(self.chain.after(member.replica.tip, decided.block)))

    def propose(self, number: int, name: str) -> None:
        """Give a proposer the block that its replica waits for."""
        want = self.members[number].wants[-1]
        self.step(number, Proposed(want.height, want.view, (name.encode(),), want.height * 1000 + FRESH_MS))

    def time_out(self, *numbers: int) -> None:
        """The view timers of these members run out, whether they are set or not."""
        for number in numbers:
            replica = self.members[number].replica
            self.step(number, Timeout(replica.height, replica.view))

    def fire_timers(self) -> None:
        """Every timer that is set runs out."""
        for number, member in list(self.members.items()):
            timer, member.timer = member.timer, None
            if timer is not None:
                self.step(number, timer)

    def tick(self) -> None:
        """A pulse for everybody."""
        for number in self.members:
            self.step(number, Tick())

    def deliver(self, rule: Rule = lambda a, b, m: True) -> None:
        """Deliver what is under way and what it causes, as far as the rule lets it; the rest is lost. Raises Endless."""
        for _ in range(MAX_DELIVERIES):
            if not self.wire:
                return
            sender, receiver, message = self.wire.popleft()
            if rule(sender, receiver, message):
                self.hear(receiver, sender, message)
        raise Endless(f"more than {MAX_DELIVERIES} deliveries without an end")

    def hashes(self, height: int = 1) -> set[bytes]:
        """Blocks that members decided at a height."""
        return {m.decided[height - 1].block.hash for m in self.members.values() if len(m.decided) >= height}
