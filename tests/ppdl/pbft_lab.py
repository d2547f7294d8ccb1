"""A hand-driven network of replicas.

A test decides which message arrives where. No time, no loss but what the script asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hub.ppdl.application import Verdict
from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.certs import Domain
from hub.ppdl.consensus.effects import (
    Advanced,
    Broadcast,
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
    Timeout,
    Tip,
    Validate,
    Validated,
    VoteRecord,
)
from hub.ppdl.consensus.header import Header
from hub.ppdl.consensus.messages import (
    Commit,
    Decided,
    Kind,
    Message,
    NewView,
    Prepare,
    PreparedCert,
    PrePrepare,
    QuorumCert,
    SyncResponse,
    ViewChange,
)
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.sim.world import validator_keys
from openmg.hashing import keccak256, merkle_root
from openmg.signing import address_of, sign_digest

Rule = Callable[[int, int, Message], bool]
LAB_CHAIN = 9


@dataclass
class Member:
    replica: Replica
    decided: list[Decided] = field(default_factory=list)
    records: list[VoteRecord] = field(default_factory=list)
    prepared: Persist | None = None
    reports: list[Report] = field(default_factory=list)
    timers: list[SetTimer] = field(default_factory=list)
    wants: list[Propose] = field(default_factory=list)
    up: bool = True


class Lab:
    """n replicas at height 1; the proposer of (height, view) is number (height + view) % n."""

    def __init__(self, n: int = 4, verdict: Verdict = Verdict.ACCEPT) -> None:
        self.keys = validator_keys(n)
        self.addresses = [address_of(k) for k in self.keys]
        self.domain = Domain(LAB_CHAIN, keccak256(b"lab"))
        self.set = ValidatorSet(tuple(self.addresses))
        self.tip = Tip(0, self.domain.genesis_hash, 0, bytes(32), self.set, self.set)
        self.verdict = verdict
        self.wire: list[tuple[int, int, Message]] = []
        self.members = [Member(self.make(i)) for i in range(n)]
        for i, member in enumerate(self.members):
            self.carry(i, member.replica.start())

    def make(self, i: int, tip: Tip | None = None, restored: Restored | None = None) -> Replica:
        key = self.keys[i]
        domain = Domain(LAB_CHAIN, keccak256(b"lab"))
        return Replica(domain, address_of(key), lambda d: sign_digest(key, d), tip or self.tip, restored or Restored())

    def restart(self, i: int, keep_log: bool = True) -> None:
        """Replace a replica by one that knows only what was persisted."""
        member = self.members[i]
        height = member.replica.height
        votes = tuple(r for r in member.records if r.height == height) if keep_log else ()
        top = max((r.view for r in votes), default=0)
        proof = member.prepared.prepared if keep_log and member.prepared else None
        if proof is not None and proof.block.height != height:
            proof = None
        restored = Restored(tuple(r for r in votes if r.view == top), proof, keep_log)
        member.replica = self.make(i, member.replica.tip, restored)
        self.carry(i, member.replica.start())

    def step(self, i: int, event: Event) -> list[Effect]:
        effects = self.members[i].replica.step(event)
        self.carry(i, effects)
        return effects

    def carry(self, i: int, effects: list[Effect]) -> None:
        member = self.members[i]
        for effect in effects:
            match effect:
                case Broadcast():
                    self.wire += [(i, j, effect.message) for j in range(len(self.members)) if j != i]
                case Send():
                    self.wire.append((i, self.addresses.index(effect.peer), effect.message))
                case Persist():
                    member.records += effect.votes
                    member.prepared = effect if effect.prepared else member.prepared
                case Validate():
                    block = effect.block
                    self.step(i, Validated(effect.height, effect.view, block.hash, self.verdict))
                case Decide():
                    self.advance(i, effect.decided)
                case ServeBlocks():
                    known = tuple(d for d in member.decided if d.height >= effect.height)
                    if known:
                        self.wire.append((i, self.addresses.index(effect.peer), SyncResponse(known[:16])))
                case Report():
                    member.reports.append(effect)
                case SetTimer():
                    member.timers.append(effect)
                case Propose():
                    member.wants.append(effect)
                    if effect.view > 0:
                        self.propose(i, f"fresh in view {effect.view}".encode())

    def advance(self, i: int, decided: Decided) -> None:
        member = self.members[i]
        member.decided.append(decided)
        header = decided.block.header
        tip = member.replica.tip
        state = keccak256(tip.app_hash + header.hash)
        new = Tip(header.height, header.hash, header.timestamp_ms, state, tip.next_validators, tip.next_validators)
        self.step(i, Advanced(new))

    def propose(self, i: int, tx: bytes = b"tx") -> None:
        """Give proposer i the block its replica waits for."""
        want = self.members[i].wants[-1]
        self.step(i, Proposed(want.height, want.view, (tx,), 1000 * want.height + want.view))

    def time_out(self, *numbers: int) -> None:
        for i in numbers:
            replica = self.members[i].replica
            self.step(i, Timeout(replica.height, replica.view))

    def deliver(self, rule: Rule = lambda a, b, m: True) -> None:
        """Deliver everything under way, and what it causes, as far as the rule lets it; the rest is lost."""
        for _ in range(10_000):
            if not self.wire:
                return
            a, b, message = self.wire.pop(0)
            if self.members[a].up and self.members[b].up and rule(a, b, message):
                self.step(b, Received(self.addresses[a], message))
        raise AssertionError("messages never end")

    def heights(self) -> list[int]:
        return [len(member.decided) for member in self.members]

    def hashes(self, height: int) -> set[bytes]:
        return {m.decided[height - 1].block.hash for m in self.members if len(m.decided) >= height}

    # hand-made messages

    def block(self, proposer: int, *txs: bytes, timestamp_ms: int = 5, tip: Tip | None = None) -> Block:
        t = tip or self.tip
        place = t.height + 1, t.hash, timestamp_ms, self.addresses[proposer]
        state = merkle_root(txs), t.app_hash, t.validators.hash, t.next_validators.hash
        return Block(Header(LAB_CHAIN, *place, *state), txs)

    def sign(self, i: int, kind: Kind, height: int, view: int, digest: bytes, domain: Domain | None = None) -> bytes:
        return sign_digest(self.keys[i], (domain or self.domain).digest(kind, height, view, digest))

    def pre_prepare(self, i: int, view: int, block: Block) -> PrePrepare:
        return PrePrepare(view, block, self.sign(i, Kind.PRE_PREPARE, block.height, view, block.hash))

    def prepare(self, i: int, view: int, block: Block) -> Prepare:
        signature = self.sign(i, Kind.PREPARE, block.height, view, block.hash)
        return Prepare(block.height, view, block.hash, signature)

    def commit(self, i: int, view: int, block: Block) -> Commit:
        return Commit(block.height, view, block.hash, self.sign(i, Kind.COMMIT, block.height, view, block.hash))

    def cert(self, view: int, block: Block, signers: tuple[int, ...] = (0, 1, 2)) -> PreparedCert:
        return PreparedCert(view, block.header, tuple(self.prepare(i, view, block).signature for i in signers))

    def qc(self, view: int, block: Block, signers: tuple[int, ...] = (0, 1, 2)) -> QuorumCert:
        return QuorumCert(view, tuple(self.commit(i, view, block).signature for i in signers))

    def view_change(
        self, i: int, view: int, cert: PreparedCert | None = None, block: Block | None = None, height: int = 1
    ) -> ViewChange:
        digest = ViewChange(height, view, cert, b"").digest
        return ViewChange(height, view, cert, self.sign(i, Kind.VIEW_CHANGE, height, view, digest), block)

    def new_view(self, i: int, view: int, changes: tuple[ViewChange, ...], block: Block) -> NewView:
        proposal = self.pre_prepare(i, view, block)
        digest = NewView(block.height, view, changes, proposal, b"").digest
        signature = self.sign(i, Kind.NEW_VIEW, block.height, view, digest)
        return NewView(block.height, view, changes, proposal, signature)


PHASES = ("idle", "proposal seen", "prepared", "view changing", "far view")


def stuck_in(phase: str) -> Lab:
    """Height 1 is decided by 1, 2, 3; node 0 missed it in the given phase."""
    lab = Lab()
    lab.propose(1, b"A")
    if phase == "idle":
        lab.deliver(lambda a, b, m: b != 0)
    elif phase == "proposal seen":
        lab.deliver(lambda a, b, m: b != 0 or isinstance(m, PrePrepare))
    elif phase == "prepared":
        lab.deliver(lambda a, b, m: b != 0 or not isinstance(m, Commit))
    elif phase == "view changing":
        lab.time_out(0)
        lab.deliver(lambda a, b, m: 0 not in (a, b))
    elif phase == "far view":
        lab.deliver(lambda a, b, m: 0 not in (a, b))
        for i in (2, 3):
            lab.step(0, Received(lab.addresses[i], lab.view_change(i, 40)))
        assert lab.members[0].replica.view == 40
    lab.wire.clear()
    assert lab.heights() == [0, 1, 1, 1]
    return lab
