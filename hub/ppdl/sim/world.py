"""The world: event queue, lossy network, crashing disks, partitions, twins.

Time is an integer number of milliseconds. A node is a replica, a disk that holds exactly what was persisted,
and a toy application whose state is a hash chain. Effects are carried out one by one in order; a crash may
fall before any of them, and then only the disk remains. A *twin* is a second instance under a validator's key
with a disk of its own: the two equivocate in every way the protocol allows (Twins, OPODIS 2021).

Determinism: one `random.Random(seed)`, a heap with a running number as tie-break, no set iteration.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from hub.ppdl.application import Verdict
from hub.ppdl.consensus.certs import Domain
from hub.ppdl.consensus.effects import (
    Advanced,
    Broadcast,
    CancelTimer,
    Complaint,
    Decide,
    Effect,
    Event,
    LogComplete,
    Persist,
    PreparedProof,
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
    VoteRecord,
)
from hub.ppdl.consensus.messages import MAX_SYNC_BLOCKS, Decided, Kind, Message, SyncResponse
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.sim.oracles import Oracles
from openmg.hashing import keccak256, word
from openmg.signing import address_of, sign_digest

TICK_MS = 300
VIEW_TIMEOUT_MS = 1_000
IDLE_MS = 400
MAX_BACKOFF_VIEWS = 6
BLOCK_INTERVAL_MS = 20
RESTART_MS = 700
MAX_EVENTS = 400_000
CHAIN_ID = 77

SetRule = Callable[[int], tuple[tuple[bytes, bool], ...]]
"""Validator changes that executing a height causes."""


@dataclass(frozen=True)
class Faults:
    """Fault rates in per cent, delays in ms.

    `until_ms`: after it the world heals (no loss, no crash, no partition).
    """

    drop_percent: int = 0
    duplicate_percent: int = 0
    delay_ms: tuple[int, int] = (1, 10)
    crash_per_mille: int = 0  # before any one effect
    partition_ms: int = 0  # a new random partition each time, 0 for none
    until_ms: int = 20_000
    forgetful_disks: bool = False  # a planted fault: persisted votes do not survive a crash
    lost_disks: tuple[int, ...] = ()  # nodes whose disk is wiped at their first crash


@dataclass
class Disk:
    """What survives a crash."""

    votes: dict[tuple[Kind, int, int], VoteRecord] = field(default_factory=dict)
    prepared: PreparedProof | None = None
    blocks: list[tuple[Decided, Tip]] = field(default_factory=list)
    log_complete: bool = True

    def restored(self, height: int) -> Restored:
        """What a replica of this height starts from."""
        votes = tuple(record for _, record in sorted(self.votes.items()) if record.height == height)
        prepared = self.prepared
        if prepared is not None and prepared.block.height != height:
            prepared = None
        return Restored(votes, prepared, self.log_complete)


@dataclass
class Node:
    """One instance. `number` names it on the network; twins share `key`."""

    number: int
    key: bytes
    address: bytes
    honest: bool
    disk: Disk
    replica: Replica | None = None
    life: int = 0  # counts restarts: events of an earlier life are void
    timer: int = 0
    crashes: int = 0


def validator_keys(count: int) -> list[bytes]:
    """Deterministic keys in ascending address order."""
    keys = [keccak256(b"openmg.sim.validator" + word(i)) for i in range(count)]
    return sorted(keys, key=address_of)


class World:
    """A run. `n` validators.

    `spare` further nodes that hold keys but start outside the set; `twins` lists validators that run twice.
    """

    def __init__(
        self,
        n: int,
        seed: int,
        faults: Faults,
        twins: tuple[int, ...] = (),
        spare: int = 0,
        set_rule: SetRule | None = None,
        replica_class: type[Replica] = Replica,
    ) -> None:
        self.random = random.Random(seed)
        self.faults = faults
        self.now = 0
        self.events = 0
        self.reports: list[tuple[int, Report]] = []
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0
        self._side: dict[int, int] = {}
        self._set_rule = set_rule
        self._replica_class = replica_class
        keys = validator_keys(n + spare)
        self.domain = Domain(CHAIN_ID, keccak256(b"openmg.sim.genesis"))
        self.oracles = Oracles(self.domain)
        validators = ValidatorSet(tuple(address_of(k) for k in sorted(keys[:n], key=address_of)))
        root = keccak256(b"app")
        self.genesis = Tip(0, self.domain.genesis_hash, 0, root, validators, validators)
        owners = [*range(n + spare), *twins]
        self.nodes = [Node(number, keys[i], address_of(keys[i]), i not in twins, Disk()) for number, i in enumerate(owners)]

    def run(self, target: int, limit_ms: int) -> bool:
        """Run until every honest node has decided `target` blocks.

        False when `limit_ms` or MAX_EVENTS pass first.
        """
        for node in self.nodes:
            self._boot(node)
        if self.faults.partition_ms:
            self._repartition()
        while self._heap and self.now < limit_ms and self.events < MAX_EVENTS:
            self.now, _, action = heapq.heappop(self._heap)
            self.events += 1
            action()
            if all(len(node.disk.blocks) >= target for node in self.nodes if node.honest):
                return True
        return False

    def _at(self, delay: int, action: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (self.now + delay, self._sequence, action))

    def _healed(self) -> bool:
        return self.now >= self.faults.until_ms

    def _repartition(self) -> None:
        if self._healed():
            self._side = {}
            return
        self._side = {node.number: self.random.randrange(2) for node in self.nodes}
        self._at(self.faults.partition_ms, self._repartition)

    def _boot(self, node: Node) -> None:
        tip = node.disk.blocks[-1][1] if node.disk.blocks else self.genesis
        restored = node.disk.restored(tip.height + 1)
        key = node.key
        node.replica = self._replica_class(self.domain, node.address, lambda digest: sign_digest(key, digest), tip, restored)
        life = node.life
        self._at(self.random.randrange(TICK_MS), lambda: self._tick(node, life))
        self._carry_out(node, node.replica.start())

    def _tick(self, node: Node, life: int) -> None:
        if node.life == life and node.replica is not None:
            self._at(TICK_MS, lambda: self._tick(node, life))
            self._step(node, life, Tick())

    def _step(self, node: Node, life: int, event: Event) -> None:
        if node.life == life and node.replica is not None:
            self._carry_out(node, node.replica.step(event))

    def _crash(self, node: Node) -> None:
        node.replica = None
        node.life += 1
        node.crashes += 1
        if self.faults.forgetful_disks:
            node.disk.votes.clear()
            node.disk.prepared = None
        if node.number in self.faults.lost_disks and node.crashes == 1:
            node.disk = Disk(log_complete=False)
        self._at(RESTART_MS, lambda: self._boot(node))

    def _carry_out(self, node: Node, effects: list[Effect]) -> None:
        """Effects in order; the node may die before each of them."""
        for effect in effects:
            if not self._healed() and self.random.randrange(1000) < self.faults.crash_per_mille:
                self._crash(node)
                return
            self._effect(node, effect)

    def _effect(self, node: Node, effect: Effect) -> None:
        life = node.life
        match effect:
            case Persist():
                self._persist(node.disk, effect)
            case LogComplete():
                node.disk.log_complete = True
            case Broadcast():
                for peer in self.nodes:
                    if peer.address != node.address:
                        self._send(node, peer, effect.message)
            case Send():
                for peer in self._instances(effect.peer):
                    self._send(node, peer, effect.message)
            case ServeBlocks():
                self._serve(node, effect)
            case SetTimer():
                self._set_timer(node, effect)
            case CancelTimer():
                node.timer += 1
            case Propose():
                answer = Proposed(effect.height, effect.view, (self._tx(node),), self.now)
                delay = BLOCK_INTERVAL_MS if effect.view == 0 else 0
                self._at(delay, lambda: self._step(node, life, answer))
            case Validate():
                verdict = Validated(effect.height, effect.view, effect.block.hash, Verdict.ACCEPT)
                self._at(1, lambda: self._step(node, life, verdict))
            case Decide():
                self._decide(node, effect.decided)
            case Report():
                self.reports.append((node.number, effect))

    def _instances(self, address: bytes) -> list[Node]:
        return [node for node in self.nodes if node.address == address]

    def _tx(self, node: Node) -> bytes:
        return word(node.number) + word(node.life) + word(self._sequence) + word(self.now)

    def _persist(self, disk: Disk, effect: Persist) -> None:
        for record in effect.votes:
            disk.votes.setdefault((record.kind, record.height, record.view), record)
        if effect.prepared is not None:
            disk.prepared = effect.prepared

    def _set_timer(self, node: Node, effect: SetTimer) -> None:
        node.timer += 1
        mark, life = node.timer, node.life
        wait = VIEW_TIMEOUT_MS * 2 ** min(effect.view, MAX_BACKOFF_VIEWS) + (IDLE_MS if effect.idle else 0)

        def fire() -> None:
            if node.timer == mark:
                self._step(node, life, Timeout(effect.height, effect.view))

        self._at(wait, fire)

    def _serve(self, node: Node, effect: ServeBlocks) -> None:
        first = effect.height - 1
        blocks = tuple(decided for decided, _ in node.disk.blocks[first : first + MAX_SYNC_BLOCKS])
        if blocks:
            for peer in self._instances(effect.peer):
                self._send(node, peer, SyncResponse(blocks))

    def _send(self, node: Node, peer: Node, message: Message) -> None:
        if node.honest:
            durable = {place: record.digest for place, record in node.disk.votes.items()}
            self.oracles.on_send(node.address, message, durable)
        copies = 1
        if not self._healed():
            if self._side.get(node.number, 0) != self._side.get(peer.number, 0):
                return
            if self.random.randrange(100) < self.faults.drop_percent:
                return
            copies += self.random.randrange(100) < self.faults.duplicate_percent
        for _ in range(copies):
            self._at(self.random.randint(*self.faults.delay_ms), lambda: self._deliver(node.address, peer, message))

    def _deliver(self, sender: bytes, peer: Node, message: Message) -> None:
        self._step(peer, peer.life, Received(sender, message))

    def _decide(self, node: Node, decided: Decided) -> None:
        """Execute: the toy application chains hashes, and may change the validator set two heights on."""
        replica = node.replica
        assert replica is not None
        tip = replica.tip
        if node.honest:
            self.oracles.on_decide(node.number, tip, decided)
        header = decided.block.header
        app_hash = keccak256(tip.app_hash + header.hash)
        changes = self._set_rule(header.height) if self._set_rule else ()
        following = tip.next_validators.updated(changes)
        new = Tip(header.height, header.hash, header.timestamp_ms, app_hash, tip.next_validators, following)
        node.disk.blocks.append((decided, new))
        node.disk.votes = {p: r for p, r in node.disk.votes.items() if r.height > header.height}
        life = node.life
        self._at(1, lambda: self._step(node, life, Advanced(new)))

    def diverged(self) -> list[int]:
        """Nodes that stopped because a quorum decided against their state."""
        return [number for number, report in self.reports if report.complaint is Complaint.DIVERGED]
