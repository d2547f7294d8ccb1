"""One replica under fuzz, with its disk, and the rules that hold after every step, whatever it was fed.

Rules, none of which takes the word of the code under test
- `step` never raises, and takes no more signature checks than CHECKS_FOR_EACH for each signature that it was given.
- A statement of this replica is on its disk before it leaves, and there is one for each (kind, height, view).
- A vote that counts was signed by whom it counts for, and no more is kept than the bounds allow, claims among it.
- A decided block follows the tip and has the seals of a quorum of distinct members.
- What no member signed moves nothing: it is reported under the name of its sender, or ignored.
- A report names who sent the message, or who is proved guilty by the evidence in it, or this replica itself.
- What leaves fits a frame and has one encoding.

The seals and members of a certificate are counted here once more. Not here: what is fed (`core.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from hub.ppdl.consensus.catchup import MAX_STRANGERS
from hub.ppdl.consensus.certs import CertError
from hub.ppdl.consensus.decoding import decode_message
from hub.ppdl.consensus.effects import (
    Advanced,
    Announced,
    Broadcast,
    Complaint,
    Decide,
    Effect,
    Event,
    LogComplete,
    Persist,
    Propose,
    Received,
    Report,
    Send,
    SetTimer,
    Tip,
    Validate,
)
from hub.ppdl.consensus.evidence import Evidence
from hub.ppdl.consensus.messages import (
    Announceable,
    Commit,
    Decided,
    DecidedAnnouncement,
    Kind,
    Message,
    NewView,
    NewViewAnnouncement,
    Prepare,
    PrePrepare,
    SyncResponse,
    ViewChange,
    encode_message,
    kind_of,
)
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.net.transport import CHANNEL_BYTES, Channel
from hub.ppdl.sim.bounds import memory_faults
from hub.ppdl.sim.disk import Disk, SaveBlock, SecondVote
from hub.ppdl.sim.keys import KeyedDomain, Scheme
from hub.ppdl.sim.oracles import least_quorum
from workbench.ppdl_fuzz.tape import require

Signed = PrePrepare | Prepare | Commit | ViewChange | NewView
Asked = Propose | Validate | Decide | SetTimer

CHECKS_FOR_EACH = 4
"""Signature checks for each signature of a message: on its way in, as a vote of a certificate, and twice as evidence."""
CHECKS_AT_REST = 512
"""What a step may check beside its message: messages of the next height, synced blocks and claims that waited."""
MAX_ASKED = 64
"""Questions of the replica that wait for an answer here; the oldest are forgotten, as a crash would."""
MAX_SAID = 64
"""Messages of the replica that may come back to it."""
MAX_DETAIL = 400
"""Characters of a report: it is written to a log."""


_NUMBERS = re.compile(r"[0-9a-f]{40}|[0-9]+")


@dataclass
class CountingDomain(KeyedDomain):
    """Counts how often a signature was checked."""

    checks: int = 0

    def signer(self, kind: Kind, height: int, view: int, digest: bytes, signature: bytes) -> bytes:
        """Address that signed. Raises CertError."""
        self.checks += 1
        return super().signer(kind, height, view, digest, signature)


@dataclass
class Subject:
    """The replica of `address`, standing on `tip`."""

    scheme: Scheme
    address: bytes
    tip: Tip
    replica_class: type[Replica] = Replica
    disk: Disk = field(default_factory=Disk)
    asked: list[Asked] = field(default_factory=list)
    said: list[Message] = field(default_factory=list)
    outcomes: set[str] = field(default_factory=set)
    senders: set[bytes] = field(default_factory=set)
    signed: dict[tuple[Kind, int, int], bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        domain = self.scheme.domain
        assert isinstance(domain, CountingDomain)
        self.domain = domain
        self.start()

    def start(self, log_lost: bool = False) -> None:
        """Begin, or begin again, with what the disk holds."""
        if log_lost:
            self.disk.lose_votes()
            self.signed.clear()  # beyond f faulty validators nothing can be promised any more
        self.asked.clear()
        restored = self.disk.restored(self.tip.height + 1)
        sign = self.scheme.signers[self.address]
        self.replica = self.replica_class(self.domain, self.address, sign, self.tip, restored)
        self._after(self.replica.start(), None)

    # a step

    def step(self, event: Event) -> list[Effect]:
        """Feed one event; raises Finding when a rule does not hold afterwards, or whatever the replica raises."""
        if isinstance(event, Received | Announced):
            self.senders.add(event.sender)
        before, checks = self._standing(), self.domain.checks
        effects = self.replica.step(event)
        allowed = CHECKS_AT_REST + CHECKS_FOR_EACH * _signatures(event)
        spent = self.domain.checks - checks
        require(spent <= allowed, f"{spent} signature checks for a {_name(event)}, allowed are {allowed}")
        if isinstance(event, Received) and not self._member_said(event.message):
            require(self._standing() == before, f"a {_name(event)} that no member signed has moved the replica")
            require(not any(isinstance(e, Decide | Persist) for e in effects), "an unsigned message made the replica vote")
        require(not isinstance(event, Announced) or self._standing() == before, "an announced proposal moved the replica")
        if isinstance(event, Advanced) and self.replica.tip is event.tip:
            self.tip = event.tip
        self._after(effects, event)
        return effects

    def _standing(self) -> tuple[object, ...]:
        """All that decides what this replica says next about its height; hints and unverified claims are not part of it."""
        state, tip = self.replica.state, self.replica.tip
        proposal = None if state.proposal is None else (state.proposal.block.hash, state.proposal.verdict)
        place = tip.height, tip.hash, state.view, state.active, state.deciding, self.replica.halted
        votes = [sum(map(len, box._views.values())) for box in (state.prepares, state.commits)]
        kept = *votes, len(state.view_changes.all())
        return (*place, proposal, state.prepared, *kept, tuple(state.mine.items()), state.frozen)

    def _member_said(self, message: Message) -> bool:
        """Whether a member of this or the next height signed the message, as far as messages are signed."""
        if isinstance(message, Decided | SyncResponse):
            blocks = message.blocks if isinstance(message, SyncResponse) else (message,)
            return any(self._proves(decided) for decided in blocks)
        if not isinstance(message, Signed):
            return False
        place = kind_of(message), message.height, message.view, message.digest
        members = {*self.replica.tip.validators.addresses, *self.replica.tip.next_validators.addresses}
        return self._signer(*place, message.signature) in members

    def _signer(self, kind: Kind, height: int, view: int, digest: bytes, signature: bytes) -> bytes | None:
        try:
            return KeyedDomain.signer(self.domain, kind, height, view, digest, signature)
        except CertError:
            return None

    def _proves(self, decided: Decided) -> bool:
        """Whether the seals are those of a quorum."""
        header, qc, members = decided.block.header, decided.qc, self.replica.tip.validators.addresses
        signers = {self._signer(Kind.COMMIT, header.height, qc.view, header.hash, seal) for seal in qc.seals}
        return sum(signer in members for signer in signers) >= least_quorum(len(members))

    # the rules

    def _after(self, effects: list[Effect], event: Event | None) -> None:
        for effect in effects:
            self._take(effect, event)
        self._check_kept()

    def _take(self, effect: Effect, event: Event | None) -> None:
        self.outcomes.add(type(effect).__name__)
        match effect:
            case Persist() | LogComplete():
                self._keep(effect)
            case Broadcast():
                self._check_sent(effect.message)
                self.said = [*self.said, effect.message][-MAX_SAID:]
            case Send():
                self._check_encoding(effect.message)
            case Report():
                self._check_report(effect)
            case Decide():
                self._check_decision(effect.decided)
                self.asked.append(effect)
            case Propose() | Validate() | SetTimer():
                self.asked = [*self.asked, effect][-MAX_ASKED:]

    def _keep(self, entry: Persist | LogComplete) -> None:
        if isinstance(entry, Persist):
            for vote in entry.votes:
                first = self.signed.setdefault((vote.kind, vote.height, vote.view), vote.digest)
                what = f"{vote.kind.name} of height {vote.height} view {vote.view}"
                require(first == vote.digest, f"double vote: two {what}")
        try:
            self.disk.write(entry)
        except SecondVote as error:
            require(False, f"double vote: {error}")
        self.disk.sync()

    def _check_sent(self, message: Message) -> None:
        self._check_encoding(message)
        said = message.proposal if isinstance(message, NewView) else message
        if isinstance(said, PrePrepare | Prepare | Commit | ViewChange):
            place = kind_of(said), said.height, said.view
            require(self._signer(*place, said.digest, said.signature) == self.address, "it sent another one's statement")
            require(self.signed.get(place) == said.digest, f"a {place[0].name} left before it was durable")

    def _check_encoding(self, message: Message) -> None:
        wire = encode_message(message)
        require(len(wire) < CHANNEL_BYTES[Channel.CONSENSUS], f"a message of {len(wire)} bytes fits no frame")
        require(decode_message(wire) == message, "what it sent is read as something else")

    def _check_report(self, report: Report) -> None:
        self.outcomes.add(f"{report.complaint.name}: {_NUMBERS.sub('N', report.detail)}")
        require(len(report.detail) <= MAX_DETAIL, f"a report of {len(report.detail)} characters")
        if report.evidence is not None:
            require(self._guilty(report.evidence) == report.sender, "evidence does not prove whom it accuses")
            return
        require(report.complaint is not Complaint.EQUIVOCATION, "an accusation without evidence")
        named = report.sender in {*self.senders, self.address}  # perhaps for what it claimed before
        require(named, f"{report.complaint.name} names one who sent nothing")

    def _guilty(self, evidence: Evidence) -> bytes | None:
        place = evidence.kind, evidence.height, evidence.view
        one = self._signer(*place, evidence.digest_a, evidence.signature_a)
        other = self._signer(*place, evidence.digest_b, evidence.signature_b)
        return one if one == other and evidence.digest_a != evidence.digest_b else None

    def _check_decision(self, decided: Decided) -> None:
        header, tip = decided.block.header, self.replica.tip
        require((header.height, header.parent_hash) == (tip.height + 1, tip.hash), "it decided a block that does not follow")
        require(header.proposer in tip.validators, "it decided a stranger's block")
        require(self._proves(decided), "it decided without the seals of a quorum")

    def _check_kept(self) -> None:
        state, tip = self.replica.state, self.replica.tip
        for box in (state.prepares, state.commits):
            for votes in box._views.values():
                for sender, vote in votes.items():
                    self._check_own(sender, vote)
        for sender, change in state.view_changes._by_sender.items():
            self._check_own(sender, change)
        faults = memory_faults(self.replica, len(self.senders))
        require(not faults, "; ".join(faults))
        last = self.replica._decided_by
        members = {*tip.validators.addresses, *tip.next_validators.addresses, *(last.addresses if last else ())}
        require(self.replica.hints.keys() <= members, "a stranger's hint is kept")
        strangers = self.replica.peer_heights.keys() - members
        require(len(strangers) <= MAX_STRANGERS, f"heights of {len(strangers)} strangers are kept")

    def _check_own(self, sender: bytes, said: Prepare | Commit | ViewChange) -> None:
        signer = self._signer(kind_of(said), said.height, said.view, said.digest, said.signature)
        require(signer == sender, "a vote is counted for one who did not cast it")
        require(sender in self.replica.tip.validators, "a stranger's vote is counted")
        require(said.height == self.replica.height, "a vote of another height is counted")

    def save(self, decided: Decided, tip: Tip) -> None:
        """The decided block and its outcome become durable."""
        self.disk.write(SaveBlock(decided, tip))
        self.disk.sync()
        self.disk.votes = {place: vote for place, vote in self.disk.votes.items() if vote.height > tip.height}


def _name(event: Event) -> str:
    return type(event.message).__name__ if isinstance(event, Received) else type(event).__name__


def _signatures(event: Event) -> int:
    match event:
        case Received():
            return _carried([event.message])
        case Announced():
            return _carried([event.announcement])
    return 0


def _carried(messages: Iterable[Message | Announceable]) -> int:
    """How many signatures messages carry."""
    count = 0
    for message in messages:
        match message:
            case NewView() | NewViewAnnouncement():
                count += 2 + _carried(message.view_changes)
            case ViewChange():
                count += 1 + (len(message.cert.signatures) if message.cert else 0)
            case Decided() | DecidedAnnouncement():
                count += len(message.qc.seals)
            case SyncResponse():
                count += _carried(message.blocks)
            case _:
                count += 1
    return count
