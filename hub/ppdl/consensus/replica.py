"""The PBFT replica: `step(event) -> list[Effect]`, one height at a time (Castro and Liskov, OSDI 1999,
section 4, in single-height form).

A replica is a pure function of its start state and its events. It never looks at a clock: timers, ticks and
proposals come in as events. Whoever runs it carries effects out in order and releases those after a `Persist`
only when that is durable (`effects.py`).

Bounds: one vote per (kind, view, sender) within VIEW_WINDOW views, one VIEW-CHANGE per sender, messages of the
next heights as far as `early.py` lets them in, one batch of synced blocks. Messages of other heights are hints
at most.

Parts: `core.py` state and signing, `normal.py` the three phases, `viewchange.py`, `catchup.py`, `early.py`. Not
here: execution, storage, network.
"""

from __future__ import annotations

from typing import assert_never

from hub.ppdl.application import Verdict
from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.catchup import CatchUp
from hub.ppdl.consensus.certs import CertError, Domain, Signer, verify_new_view, verify_qc, verify_view_change
from hub.ppdl.consensus.core import HeightState, Statement
from hub.ppdl.consensus.early import EarlyBox
from hub.ppdl.consensus.effects import (
    Advanced,
    Announced,
    Broadcast,
    Complaint,
    Effect,
    Event,
    Proposed,
    Received,
    Restored,
    SetTimer,
    Tick,
    Timeout,
    Tip,
    Validate,
    Validated,
)
from hub.ppdl.consensus.messages import (
    Announceable,
    Announcement,
    Commit,
    Decided,
    DecidedAnnouncement,
    Kind,
    Message,
    NewView,
    NewViewAnnouncement,
    Prepare,
    PrePrepare,
    Status,
    SyncRequest,
    SyncResponse,
    ViewChange,
)

Voting = PrePrepare | Announcement | Prepare | Commit | ViewChange | NewView | NewViewAnnouncement


class Replica(CatchUp):
    """One validator's (or observer's) consensus state.

    domain: the chain.  address, sign: this validator's identity.  tip: last executed state.  restored: what
    the vote log remembers of height tip.height + 1. Raises MessageError when that log is damaged.
    """

    def __init__(self, domain: Domain, address: bytes, sign: Signer, tip: Tip, restored: Restored) -> None:
        super().__init__(domain, address, sign, tip, restored)
        self._init_catchup()
        self._early = EarlyBox()
        self._last_pulse: tuple[object, ...] = ()

    def start(self) -> list[Effect]:
        """Effects with which a (re)started replica begins.

        What it said before is repeated at the next ticks.
        """
        self._open_height()
        return self._take()

    def step(self, event: Event) -> list[Effect]:
        """Handle one event. Never raises on what a peer sent: bad messages become a `Report`."""
        if self.halted:
            return []
        match event:
            case Received():
                self._on_received(event.sender, event.message)
            case Announced():
                self._on_received(event.sender, event.announcement)
            case Timeout():
                self._on_timeout(event)
            case Tick():
                self._on_tick()
            case Proposed():
                self._on_proposed(event)
            case Validated():
                self._on_validated(event)
            case Advanced():
                self._on_advanced(event.tip)
            case _:
                assert_never(event)
        return self._take() if self._out else []

    # before a message is read whole (`reading.py`)

    def held(self, digest: bytes) -> Block | None:
        """The block with this hash, if any message of this height or a later one brought it."""
        return self.state.body(digest) or self._early.block(digest)

    def lacks_proposal(self, sender: bytes, seen: Announcement, size: int) -> bool:
        """Whether the block of `size` bytes that `sender` announces would be taken, now or when its height has come."""
        if seen.height <= self.height:
            return seen.height == self.height and self._lacks_proposal(seen)
        if not self._early.lacks(sender, seen, size, self.height, self.tip.next_validators):
            return False
        try:
            return self.domain.signer(seen.kind, seen.height, seen.view, seen.digest, seen.signature) == sender
        except CertError:
            return False

    def lacks_attached(self, change: ViewChange) -> bool:
        """Whether the block beside a VIEW-CHANGE would be kept; `change` is without it."""
        ahead = change.height - self.height
        if ahead not in (0, 1) or change.cert is None:
            return False
        try:
            signer = verify_view_change(self.domain, (self.tip.validators, self.tip.next_validators)[ahead], change)
        except CertError:
            return False
        return ahead == 1 or (not self.state.deciding and self.state.view_changes.is_news(signer, change.view))

    def lacks_new_view(self, sender: bytes, seen: NewViewAnnouncement) -> bool:
        """Whether the view that `sender` announces would be entered with its block, now or at the next height."""
        ahead = seen.height - self.height
        if ahead not in (0, 1):
            return False
        if ahead == 0:
            return self._lacks_new_view(seen)
        if not self._early.lacks_view(sender, seen, self.tip.next_validators):
            return False
        try:
            verify_new_view(self.domain, self.tip.next_validators, seen)
        except CertError:
            return False
        return True

    def lacks_decision(self, seen: DecidedAnnouncement) -> bool:
        """Whether a DECIDED with this header would decide the height under way."""
        if seen.height != self.height or self.state.deciding:
            return False
        try:
            verify_qc(self.domain, self.tip.validators, seen.header, seen.qc)
        except CertError:
            return False
        return True

    def _take(self) -> list[Effect]:
        out, self._out = self._out, []
        return out

    def _open_height(self) -> None:
        """Begin (or after a restart resume) a height."""
        self._check_log()
        state = self.state
        if state.active:
            self._emit(SetTimer(self.height, state.view, idle=state.view == 0 and state.proposal is None))
        if state.view == 0 and state.proposal is None and self.may_vote() and self._is_proposer(0):
            self._ask_for_block(0)
        self._check_prepared()
        self._check_decided_body()
        if not state.deciding:
            self._check_view_change()

    def _on_advanced(self, tip: Tip) -> None:
        if not self.state.deciding or tip.height != self.height:
            return
        self._decided_by = self.tip.validators
        self.tip, self.height = tip, tip.height + 1
        self.state = HeightState()
        self._watch_heights()
        self._forget_strangers()
        self._open_height()
        for sender, message in self._early.take(self.height, self.tip.next_validators):
            self._on_received(sender, message)
        if not self.state.deciding:
            self._next_queued()
        if self._early.missed >= self.height:
            self._ask()

    def _on_received(self, sender: bytes, message: Message | Announceable) -> None:
        try:
            match message:
                case Prepare() | Commit() | PrePrepare() | ViewChange() | NewView():
                    self._on_voting(sender, message)
                case Announcement() | NewViewAnnouncement():
                    self._on_voting(sender, message)
                case Status():
                    self._on_status(sender, message)
                case SyncRequest():
                    self._serve(sender, message.height)
                case SyncResponse():
                    self._on_sync_response(sender, message)
                case Decided() | DecidedAnnouncement():
                    self._on_decided(sender, message)
                case _:
                    assert_never(message)
        except CertError as error:
            self._report(Complaint.INVALID, sender, str(error))

    def _on_voting(self, sender: bytes, message: Voting) -> None:
        """Messages that belong to one height.

        Handle mine, keep the next ones', help peers that are stuck in an old one. Whoever contradicts itself is
        noticed in the last decided height too: its other vote often comes when the first has decided.
        """
        if not isinstance(message, NewView | NewViewAnnouncement):
            self._hear(sender, message)
        ahead = message.height - self.height
        if ahead:
            self._on_other_height(sender, message, ahead)
            return
        if self.state.deciding:
            return
        match message:
            case Prepare() | Commit():
                self._on_vote(sender, message)
            case PrePrepare() | Announcement():
                self._on_pre_prepare(sender, message)
            case ViewChange():
                self._on_view_change(sender, message)
            case NewView() | NewViewAnnouncement():
                self._on_new_view(sender, message)
            case _:
                assert_never(message)

    def _on_other_height(self, sender: bytes, message: Voting, ahead: int) -> None:
        """A message of `ahead` heights later than mine, or earlier."""
        if ahead > 0:
            self._hear_height(sender, message.height)
            self._early.keep(sender, message, self.height, self.tip.next_validators)
            if ahead > 1:
                self._ask()
        elif isinstance(message, ViewChange):
            self._serve(sender, message.height)

    def _on_proposed(self, event: Proposed) -> None:
        if self.state.deciding or (event.height, event.view) != (self.height, self.state.view):
            return
        if event.view == 0:
            self._on_proposed_first(event)
        else:
            self._on_proposed_later(event)

    def _on_tick(self) -> None:
        """Say where I am; if nothing moved since the last tick, repeat my part of the conversation and look
        for missing blocks.
        """
        self._helped.clear()
        self._age_request()
        self._emit(Broadcast(Status(self.height)))
        state = self.state
        progress = (self.height, state.view, state.active, len(state.prepares), len(state.commits))
        stuck, self._last_pulse = progress == self._last_pulse, progress
        if state.deciding or not stuck:
            return
        self._ask()
        for said in self._to_repeat():
            self._emit(Broadcast(said))
        proposal = state.proposal
        if proposal is not None and proposal.verdict is Verdict.UNAVAILABLE:
            self._emit(Validate(self.height, state.view, proposal.block))

    def _to_repeat(self) -> list[Statement | NewView]:
        """What I said in the current view, in the order of the protocol."""
        state = self.state
        if not state.active:
            wish = state.mine.get((Kind.VIEW_CHANGE, state.view))
            return [] if wish is None else [wish]
        opening: Statement | NewView | None = state.mine.get((Kind.PRE_PREPARE, state.view))
        if opening is not None and state.view > 0:
            opening = state.new_view
        votes = (state.mine.get((kind, state.view)) for kind in (Kind.PREPARE, Kind.COMMIT))
        return [said for said in (opening, *votes) if said is not None]
