"""State of a replica and the helpers all its parts share.

`HeightState` holds everything that belongs to one height; deciding a height, on whatever path, replaces the
whole object, so that nothing of an old height survives. `ReplicaCore` signs: every signature goes through
`_statement`, which returns the stored one when this validator spoke before in the same (kind, height, view),
and refuses to say anything else there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hub.ppdl.application import Verdict
from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.certs import CertError, Domain, Signer
from hub.ppdl.consensus.decoding import decode_message
from hub.ppdl.consensus.effects import (
    Complaint,
    Effect,
    PreparedProof,
    Propose,
    Report,
    Restored,
    Tip,
    VoteRecord,
)
from hub.ppdl.consensus.evidence import Evidence, Witness
from hub.ppdl.consensus.header import Header
from hub.ppdl.consensus.messages import Announcement, Commit, Kind, MessageError, NewView, Prepare, PrePrepare, ViewChange
from hub.ppdl.consensus.votes import ViewChangeBox, VoteBox

HELP_PER_TICK = 8  # answers to one peer between two ticks

Statement = PrePrepare | Prepare | Commit | ViewChange


@dataclass
class Proposal:
    """The block accepted in the current view; `verdict` is None while the application thinks."""

    block: Block
    verdict: Verdict | None


@dataclass
class HeightState:
    """All state of one height.

    `view` is the view this replica is in, or with `active` false the one it wants to enter.
    """

    view: int = 0
    active: bool = True
    proposal: Proposal | None = None
    prepared: PreparedProof | None = None
    deciding: bool = False
    timer_waits_for_new_view: bool = False
    new_view: NewView | None = None  # that started the current view
    frozen: tuple[ViewChange, ...] | None = None  # VIEW-CHANGEs on which a fresh block was asked for
    prepares: VoteBox = field(default_factory=VoteBox)
    commits: VoteBox = field(default_factory=VoteBox)
    view_changes: ViewChangeBox = field(default_factory=ViewChangeBox)
    mine: dict[tuple[Kind, int], Statement] = field(default_factory=dict)  # of the current view and later ones

    def enter(self, view: int, active: bool) -> None:
        """Move to a view; what was collected for earlier ones is dropped where it is of no more use."""
        self.view, self.active = view, active
        self.proposal = self.new_view = self.frozen = None
        self.timer_waits_for_new_view = False
        self.prepares.prune(view)
        self.commits.prune(view)
        self.mine = {key: said for key, said in self.mine.items() if key[1] >= view}

    def body(self, digest: bytes) -> Block | None:
        """The block with this hash, if any message of this height brought it."""
        for holder in (self.proposal, self.prepared):
            if holder is not None and holder.block.hash == digest:
                return holder.block
        attached = [vc.block for vc in self.view_changes.all() if vc.block is not None]
        return next((block for block in reversed(attached) if block.hash == digest), None)


def header_fault(tip: Tip, header: Header, chain_id: int) -> str | None:
    """Why `header` cannot follow `tip`, or None.

    Pure chain rules; says nothing about transactions or votes.
    """
    if header.chain_id != chain_id:
        return "chain id is another chain's"
    if header.height != tip.height + 1 or header.parent_hash != tip.hash:
        return "block does not follow the last decided one"
    if header.timestamp_ms <= tip.timestamp_ms:
        return "timestamp is not after the parent's"
    if header.proposer not in tip.validators.members:
        return "proposer is not a validator"
    if header.app_hash != tip.app_hash:
        return "app hash differs from this replica's"
    if (header.validators_hash, header.next_validators_hash) != (tip.validators.hash, tip.next_validators.hash):
        return "validator set hash differs from this replica's"
    return None


class ReplicaCore:
    """Fields and helpers of a replica. See `replica.Replica`."""

    def __init__(self, domain: Domain, address: bytes, sign: Signer, tip: Tip, restored: Restored) -> None:
        self.domain = domain
        self.address = address
        self.tip = tip
        self.height = tip.height + 1  # the one that this replica works on
        self.halted = False
        self.log_lost = not restored.complete
        self.abstain_through: int | None = None
        self.view_changes_started = 0
        self._helped: dict[bytes, int] = {}  # answers per peer since the last tick
        self._sign = sign
        self._out: list[Effect] = []
        self._witnesses: dict[int, Witness] = {}  # of the last decided height, this one and the next
        self._watch_heights()
        self.state = HeightState()
        self._restore(restored)

    @property
    def view(self) -> int:
        """The current view."""
        return self.state.view

    def _emit(self, *effects: Effect) -> None:
        self._out.extend(effects)

    def _report(self, complaint: Complaint, sender: bytes, detail: str) -> None:
        self._emit(Report(complaint, sender, detail))

    def _watch_heights(self) -> None:
        """Keep a witness for the height before this one, for it, and for the next; forget older ones."""
        now, kept = self.height, self._witnesses
        for height in [height for height in kept if height < now - 1]:
            del kept[height]
        if now not in kept:
            kept[now] = Witness(now, self.tip.validators)
        if now + 1 not in kept:
            kept[now + 1] = Witness(now + 1, self.tip.next_validators)

    def _hear(self, signer: bytes, said: Statement | Announcement) -> None:
        """Note a statement that `signer` is said to have made; report it with evidence when it contradicts another."""
        witness = self._witnesses.get(said.height)
        if witness is not None:
            self._accuse(signer, witness.hear(self.domain, signer, said.kind, said.view, said.digest, said.signature))

    def _accuse(self, signer: bytes, evidence: Evidence | None) -> None:
        if evidence is not None:
            detail = f"two {evidence.kind.name} statements for height {evidence.height} view {evidence.view}"
            self._emit(Report(Complaint.EQUIVOCATION, signer, detail, evidence))

    def _hear_signatures(self, kind: Kind, header: Header, view: int, signatures: tuple[bytes, ...]) -> None:
        """The votes inside a verified certificate: who cast two different ones may have sent them to different replicas."""
        place, witness = (kind, header.height, view, header.hash), self._witnesses.get(header.height)
        if witness is None:
            return
        for signature in signatures:
            signer = self.domain.signer(*place, signature)
            self._accuse(signer, witness.hear(self.domain, signer, kind, view, header.hash, signature))

    def _allowance(self, peer: bytes) -> bool:
        """Whether the peer may have one more answer before the next tick."""
        used = self._helped.get(peer, 0)
        self._helped[peer] = used + 1
        return used < HELP_PER_TICK

    def may_vote(self) -> bool:
        """Only members of the height's set vote, and never one that forgot what it signed at this height."""
        return not self.log_lost and self.address in self.tip.validators.members

    def _is_proposer(self, view: int) -> bool:
        return self.tip.validators.proposer(self.height, view) == self.address

    def _ask_for_block(self, view: int) -> None:
        self._emit(Propose(self.height, view, self.tip.timestamp_ms + 1))

    def _statement(self, kind: Kind, view: int, message: Statement) -> Statement | None:
        """Return `message` signed, or what was signed before at this (kind, view).

        None when that was something else.
        """
        known = self.state.mine.get((kind, view))
        if known is not None:
            return known if known.digest == message.digest else None
        self.state.mine[(kind, view)] = message
        return message

    def _signature(self, kind: Kind, view: int, digest: bytes) -> bytes:
        return self._sign(self.domain.digest(kind, self.height, view, digest))

    def _record(self, kind: Kind, message: Statement) -> VoteRecord:
        """The row to make durable.

        A block attached to a VIEW-CHANGE is kept with the prepared certificate instead.
        """
        said = message.bare() if isinstance(message, ViewChange) else message
        return VoteRecord(kind, message.height, message.view, message.digest, said)

    def _restore(self, restored: Restored) -> None:
        """Take up the height where the disk left it.

        In the highest view this validator ever spoke in, VIEW-CHANGE included.
        """
        state = self.state
        state.prepared = restored.prepared
        view = max((record.view for record in restored.votes), default=0)
        records = [r for r in restored.votes if r.view == view and r.height == self.height]
        state.view = view
        state.active = view == 0 or any(r.kind is not Kind.VIEW_CHANGE for r in records)
        for record in records:
            message = decode_message(record.wire)
            if not isinstance(message, PrePrepare | Prepare | Commit | ViewChange):
                raise MessageError(f"vote log holds a {record.kind.name}, which is no vote: the file is damaged")
            if not self._is_mine(message):
                raise MessageError(f"vote log holds a {record.kind.name} of another key: every key has a store of its own")
            if isinstance(message, ViewChange):
                message = self._with_block(message)
            state.mine[(record.kind, view)] = message
            match message:
                case PrePrepare():
                    state.proposal = Proposal(message.block, Verdict.ACCEPT)
                case Prepare():
                    state.prepares.add(message, self.address, view)
                case Commit():
                    state.commits.add(message, self.address, view)
                case ViewChange():
                    state.view_changes.add(message, self.address)

    def _is_mine(self, said: Statement) -> bool:
        try:
            signer = self.domain.signer(said.kind, said.height, said.view, said.digest, said.signature)
        except CertError:
            return False
        return signer == self.address

    def _with_block(self, message: ViewChange) -> ViewChange:
        """Attach the prepared block again to a VIEW-CHANGE whose certificate names it."""
        proof = self.state.prepared
        if message.cert is None or proof is None or proof.block.hash != message.cert.header.hash:
            return message
        return replace(message, block=proof.block)
