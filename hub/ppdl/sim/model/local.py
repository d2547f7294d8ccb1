"""Local states: one replica's side of a global state, interned, and what each deed makes of it.

A local state is the core's `HeightState` without what the network may deliver again (the votes and VIEW-CHANGEs of
others), the disk, and the set of statements said so far. Equal local states get one number, so that `Replica.step` runs
once for each (local state, deed) and never again.

Each outcome also carries the faults that one replica can commit alone: to sign twice, to send before the disk has it, to
call an honest validator a liar.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hub.ppdl.application import Verdict
from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.core import HeightState
from hub.ppdl.consensus.effects import (
    Broadcast,
    Complaint,
    Decide,
    Effect,
    Event,
    Persist,
    PreparedProof,
    Propose,
    Proposed,
    Received,
    Report,
    Restored,
    Timeout,
    Validate,
    Validated,
    VoteRecord,
)
from hub.ppdl.consensus.messages import Decided, Kind, Message, NewView, QuorumCert
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.consensus.votes import ViewChangeBox, VoteBox
from hub.ppdl.sim.model.fork import fork
from hub.ppdl.sim.model.standin import FRESH_MS, Chain, name_of, stand_in_signature
from hub.ppdl.sim.model.tokens import Names, Token, lock_of, token_of

BAD = "bad"  # blocks whose name begins so are refused by every honest application
HEIGHT = 1
VOTE_KINDS = (Kind.PRE_PREPARE, Kind.PREPARE, Kind.COMMIT, Kind.VIEW_CHANGE)


class Deed(NamedTuple):
    """What happens to one replica: `hear` messages (sender, token) in order until it reacts, `timeout`, `restart`, or
    `learn` a decided block from the commits that were sent for it.
    """

    kind: str
    heard: tuple[tuple[int, Token], ...] = ()


class Deeds:
    """Deeds by number: what the search stores and compares. The first two are the spontaneous ones."""

    def __init__(self) -> None:
        self.all: list[Deed] = [Deed("timeout"), Deed("restart")]
        self._numbers = {deed: number for number, deed in enumerate(self.all)}

    def number(self, deed: Deed) -> int:
        """The number of a deed; the same for equal ones."""
        number = self._numbers.setdefault(deed, len(self.all))
        if number == len(self.all):
            self.all.append(deed)
        return number


TIMEOUT, RESTART = 0, 1


class Disk:
    """What survives a crash: one row for each (kind, view), the first stays, and the highest certificate."""

    def __init__(self) -> None:
        self.votes: dict[tuple[Kind, int], VoteRecord] = {}
        self.prepared: PreparedProof | None = None

    def copy(self) -> Disk:
        """Another disk with the same rows."""
        other = Disk()
        other.votes, other.prepared = dict(self.votes), self.prepared
        return other

    def write(self, effect: Persist) -> list[str]:
        """Keep the rows; return a sentence for each that contradicts one already there."""
        faults = []
        for record in effect.votes:
            known = self.votes.setdefault((record.kind, record.view), record)
            if known.digest != record.digest:
                faults.append(f"double vote: a second {record.kind.name} of view {record.view} goes to disk")
        self.prepared = effect.prepared or self.prepared
        return faults

    def restored(self) -> Restored:
        """As a vote log hands it back: the rows of the highest view."""
        top = max((view for _, view in self.votes), default=0)
        rows = tuple(self.votes[place] for place in sorted(self.votes) if place[1] == top)
        return Restored(rows, self.prepared)


@dataclass
class Local:
    """One interned local state; `state` and `disk` are never changed, only forked."""

    state: HeightState
    disk: Disk
    said: frozenset[Token]


@dataclass(frozen=True)
class Outcome:
    """What a deed led to."""

    after: int
    decided: Block | None = None
    faults: tuple[str, ...] = ()


@dataclass
class Soup:
    """Every message that was ever sent, by sender and token, and the blocks in them."""

    messages: dict[tuple[int, Token], Message] = field(default_factory=dict)
    blocks: dict[bytes, Block] = field(default_factory=dict)
    names: Names = field(default_factory=Names)

    def add(self, sender: int, message: Message) -> Token | None:
        """Remember a message; the first with its token stands for all."""
        token = token_of(message)
        if token is not None:
            self.messages.setdefault((sender, token), message)
            self.names.learn(message)
        return token


class Run:
    """One replica carrying out one deed."""

    def __init__(self, owner: Instance, replica: Replica, disk: Disk, said: frozenset[Token]) -> None:
        self.replica = replica
        self.disk = disk
        self.said = set(said)
        self.decided: Block | None = None
        self.faults: list[str] = []
        self._owner = owner
        self._said_before = len(said)

    @property
    def reacted(self) -> bool:
        """Whether anybody could notice: something new was said, or the height is decided."""
        return len(self.said) > self._said_before or self.decided is not None or bool(self.faults)

    def feed(self, event: Event) -> None:
        """Step the core and carry out what it asks for."""
        self.carry(self.replica.step(event))

    def carry(self, effects: list[Effect]) -> None:
        """Effects in order. The application answers at once, and refuses blocks with a bad name."""
        for effect in effects:
            match effect:
                case Persist():
                    self.faults += self.disk.write(effect)
                case Broadcast():
                    self._say(effect.message)
                case Validate():
                    self._owner.soup.blocks.setdefault(effect.block.hash, effect.block)
                    verdict = Verdict.REJECT if name_of(effect.block).startswith(BAD) else Verdict.ACCEPT
                    self.feed(Validated(effect.height, effect.view, effect.block.hash, verdict))
                case Propose():
                    name = f"{self._owner.label}{effect.view}"
                    self.feed(Proposed(effect.height, effect.view, (name.encode(),), FRESH_MS))
                case Decide():
                    self.decided = effect.decided.block
                case Report():
                    self._judge(effect)

    def _say(self, message: Message) -> None:
        token = self._owner.soup.add(self._owner.number, message)
        if token is None or token in self.said:
            return
        self.said.add(token)
        kind, digest = token.kind, getattr(message, "digest", b"")
        if isinstance(message, NewView):
            kind, digest = Kind.PRE_PREPARE, message.proposal.digest
        if kind in VOTE_KINDS:
            row = self.disk.votes.get((kind, token.view))
            if row is None or row.digest != digest:
                self.faults.append(f"a {token.kind.name} of view {token.view} is sent before it is durable")

    def _judge(self, report: Report) -> None:
        if report.complaint is Complaint.DIVERGED:
            self.faults.append(f"validity: {report.detail}")
        elif report.sender in self._owner.honest:
            self.faults.append(f"an honest validator is called {report.complaint.value}: {report.detail}")


def double_votes(said: frozenset[Token]) -> list[str]:
    """A sentence for each place in which two different statements were signed."""
    faults, places = [], dict[tuple[Kind, int], Token]()
    for token in sorted(said, key=repr):
        kind = Kind.PRE_PREPARE if token.kind is Kind.NEW_VIEW else token.kind
        first = places.setdefault((kind, token.view), token)
        if first != token:
            faults.append(f"double vote: two {kind.name} statements of view {token.view}")
    return faults


Key = tuple[object, ...]


def exchanged(value: Any, swap: dict[bytes, bytes]) -> Any:
    """A key with some block hashes exchanged for others. Nothing in a key is ordered by them."""
    if isinstance(value, bytes):
        return swap.get(value, value)
    if isinstance(value, Token):
        return Token(*(exchanged(item, swap) for item in value))
    if isinstance(value, tuple):
        return tuple(exchanged(item, swap) for item in value)
    if isinstance(value, frozenset):
        return frozenset(exchanged(item, swap) for item in value)
    return value


class Instance:
    """One replica of the model: its identity, its local states and their outcomes.

    label: begins the names of its blocks.  honest: addresses whose accusation would be a fault.  ids: numbers of local
    states; instances that play the same part share the table, so that their states can be compared.  swap: blocks that
    differ in name only; `mirror` maps a local state to the one with those blocks exchanged.
    """

    def __init__(
        self,
        chain: Chain,
        number: int,
        label: str,
        replica_class: type[Replica],
        soup: Soup,
        deeds: Deeds,
        honest: frozenset[bytes],
        ids: dict[Key, int],
        swap: dict[bytes, bytes],
    ) -> None:
        self.number, self.label = number, label
        self.address = chain.addresses[number]
        self.honest, self.soup = honest, soup
        self.locals: dict[int, Local] = {}
        self.is_honest = self.address in honest
        self.mirror: dict[int, int] = {}
        self.deeds = deeds
        self._chain, self._class, self._ids, self._swap = chain, replica_class, ids, swap
        self._outcomes: dict[tuple[int, int], Outcome] = {}
        self.steps = 0

    def replica(self, restored: Restored | None = None) -> Replica:
        """A replica at the start of the height."""
        me, tip, domain = self.address, self._chain.tip, self._chain.domain
        return self._class(domain, me, lambda digest: stand_in_signature(me, digest), tip, restored or Restored())

    def begin(self) -> Outcome:
        """The start of the height; a proposer proposes."""
        replica = self.replica()
        run = Run(self, replica, Disk(), frozenset())
        run.carry(replica.start())
        return self._finish(run)

    def outcome(self, local: int, deed: int) -> Outcome:
        """What a deed (by number) makes of a local state.

        An AssertionError of the core is a fault, not an end of the search.
        """
        place = local, deed
        known = self._outcomes.get(place)
        if known is None:
            known = self._outcomes[place] = self._perform(local, self.deeds.all[deed])
        return known

    def _perform(self, number: int, deed: Deed) -> Outcome:
        self.steps += 1
        local = self.locals[number]
        run = Run(self, self.resumed(local), local.disk.copy(), local.said)
        try:
            self._do(run, deed)
        except AssertionError as error:
            return Outcome(number, None, (f"the core fails an assertion: {error!r}",))
        return self._finish(run)

    def resumed(self, local: Local) -> Replica:
        """A replica that goes on from a local state."""
        replica = self.replica()
        replica.state = fork(local.state)
        return replica

    def _do(self, run: Run, deed: Deed) -> None:
        match deed.kind:
            case "timeout":
                run.feed(Timeout(HEIGHT, run.replica.view))
            case "restart":
                run.replica = self.replica(run.disk.restored())
                run.carry(run.replica.start())
            case "learn":
                run.feed(Received(self._chain.addresses[deed.heard[0][0]], self._decided(deed)))
            case _:
                for sender, token in deed.heard:
                    run.feed(Received(self._chain.addresses[sender], self.soup.messages[(sender, token)]))
                    if run.reacted:
                        return

    def _decided(self, deed: Deed) -> Decided:
        """The decided block that anybody could assemble from these commits."""
        token = deed.heard[0][1]
        by_signer = sorted(self.soup.messages[heard].signature for heard in deed.heard)  # type: ignore[union-attr]
        seals = tuple(by_signer[: self._chain.validators.quorum])
        return Decided(self.soup.blocks[token.digest], QuorumCert(token.view, seals))

    def _finish(self, run: Run) -> Outcome:
        state, said = run.replica.state, frozenset(run.said)
        self._forget(state)
        for proposal in (state.proposal, state.prepared):
            if proposal is not None:
                self.soup.blocks.setdefault(proposal.block.hash, proposal.block)
        faults = (*run.faults, *double_votes(said))
        key = (self._key(state), said)
        number = self._ids.setdefault(key, len(self._ids))
        if number not in self.locals:
            self.locals[number] = Local(state, run.disk, said)
            swapped = exchanged(key, self._swap)
            self.mirror[number] = self._ids.setdefault(swapped, len(self._ids))
        return Outcome(number, run.decided, faults if self.is_honest else ())

    def _forget(self, state: HeightState) -> None:
        """Drop what others said and the network can deliver again, and the timer, which may fire at any time."""
        state.prepares = self._own(state.prepares)
        state.commits = self._own(state.commits)
        mine = state.view_changes.get(self.address)
        state.view_changes = ViewChangeBox()
        if mine is not None:
            state.view_changes.add(mine, self.address)
        state.timer_waits_for_new_view = False
        state.frozen = None

    def _own(self, box: VoteBox) -> VoteBox:
        kept = VoteBox()
        for view, votes in box._views.items():
            if self.address in votes:
                kept.add(votes[self.address], self.address, view)
        return kept

    def _key(self, state: HeightState) -> Key:
        """Everything of a height's state that can still matter."""
        proposal = state.proposal and (state.proposal.block.hash, state.proposal.verdict)
        own = [
            (view, votes[self.address].digest) for box in (state.prepares, state.commits) for view, votes in box._views.items()
        ]
        change = state.view_changes.get(self.address)
        return (
            state.view,
            state.active,
            proposal,
            state.prepared and lock_of(state.prepared.cert),
            state.deciding,
            tuple(sorted((*place, token_of(said)) for place, said in state.mine.items())),
            (len(state.prepares), *sorted(own)),
            change and token_of(change),
        )
