"""View changes: how a silent or faulty proposer is passed over without forgetting what may be decided.

Rules
- A VIEW-CHANGE carries the sender's highest prepared certificate; after it the sender votes in no lower view
  (it is durable like a vote).
- NEW-VIEW proves a quorum of them and proposes the block of the *highest* certificate again, or a fresh block
  when there is none. There is no local lock: a higher certificate overrides mine.
- Escalation: after my VIEW-CHANGE for v the timer runs only once a quorum wants v or more, so that nobody
  runs ahead alone. Joining: when f + 1 others are in later views I go to the (f + 1)-th highest at once; one
  of them is honest, so no liar sets the pace. Beyond that a view number is only bounded by its encoding
  (MAX_VIEW): a low cap would shut out a replica that was away for long, and two kept messages per sender
  bounds memory.
- In a view that is open a VIEW-CHANGE without a certificate is only claimed by its sender, and verified once f + 1 others
  claim a later view or this replica leaves its own. A certificate is heard at once: it may hold evidence, or bring a block.
"""

from __future__ import annotations

from hub.ppdl.consensus.block import Block, BlockError
from hub.ppdl.consensus.certs import CertError, select_certificate, verify_new_view, verify_view_change
from hub.ppdl.consensus.effects import (
    Broadcast,
    CancelTimer,
    Complaint,
    Persist,
    Proposed,
    Send,
    SetTimer,
    Timeout,
)
from hub.ppdl.consensus.header import HeaderError
from hub.ppdl.consensus.messages import (
    MAX_VIEW,
    Kind,
    NewView,
    NewViewAnnouncement,
    PreparedCert,
    PrePrepare,
    ViewChange,
)
from hub.ppdl.consensus.normal import NormalCase


class ViewChanging(NormalCase):
    """Handlers of VIEW-CHANGE and NEW-VIEW."""

    def _on_timeout(self, event: Timeout) -> None:
        state = self.state
        if state.deciding or (event.height, event.view) != (self.height, state.view):
            return
        if state.view < MAX_VIEW and self.may_vote():
            self._start_view_change(state.view + 1)

    def _carried_certificate(self) -> PreparedCert | None:
        """What my VIEW-CHANGE must tell the next proposer: the highest certificate I hold."""
        return None if self.state.prepared is None else self.state.prepared.cert

    def _start_view_change(self, view: int) -> None:
        """Leave the current view for `view` and say so."""
        state = self.state
        self.view_changes_started += 1
        state.enter(view, active=False)
        self._emit(CancelTimer())
        cert = self._carried_certificate()
        bare = ViewChange(self.height, view, cert, b"")
        signature = self._signature(Kind.VIEW_CHANGE, view, bare.digest)
        message = self._with_block(ViewChange(self.height, view, cert, signature))
        said = self._statement(Kind.VIEW_CHANGE, view, message)
        if not isinstance(said, ViewChange):
            return
        self._emit(Persist((self._record(Kind.VIEW_CHANGE, said),)), Broadcast(said))
        state.view_changes.add(said, self.address)
        self._check_view_change()

    def _on_view_change(self, sender: bytes, message: ViewChange) -> None:
        state = self.state
        validators = self.tip.validators
        if state.active and message.view <= state.view:
            self._help_into_view(sender)
        if sender in validators and not state.view_changes.is_news(sender, message.view):
            return
        if state.active and message.cert is None and sender in validators:
            state.view_changes.claim(message, sender)
            self._check_view_change()
        elif self._count_view_change(message):
            self._check_decided_body()
            if not state.deciding:
                self._check_view_change()

    def _count_view_change(self, message: ViewChange) -> bool:
        """Verify a VIEW-CHANGE and keep it; false when its signer has gone further. Raises CertError."""
        signer = verify_view_change(self.domain, self.tip.validators, message)
        self._hear_view_change(signer, message)
        news = self.state.view_changes.is_news(signer, message.view)
        self.state.view_changes.add(message, signer)
        return news

    def _redeem_view_changes(self) -> None:
        """Verify what was only claimed."""
        for sender, message in self.state.view_changes.redeem():
            try:
                self._count_view_change(message)
            except CertError as error:
                self._report(Complaint.INVALID, sender, str(error))

    def _hear_view_change(self, signer: bytes, message: ViewChange) -> None:
        """A verified VIEW-CHANGE and the votes that it carries."""
        self._hear(signer, message)
        if message.cert is not None:
            self._hear_signatures(Kind.PREPARE, message.cert.header, message.cert.view, message.cert.signatures)

    def _help_into_view(self, peer: bytes) -> None:
        """A peer still asks for the view we are in: its NEW-VIEW got lost."""
        new_view = self.state.new_view
        if new_view is not None and self._allowance(peer):
            self._emit(Send(peer, new_view))

    def _check_view_change(self) -> None:
        """Join, arm the timer, or open the view, as far as the collected messages allow."""
        state, validators = self.state, self.tip.validators
        if not self.may_vote():
            return
        joinable = state.view_changes.joinable_view(validators.max_faulty, self.address)
        if joinable > state.view or not state.active:
            self._redeem_view_changes()
            joinable = state.view_changes.joinable_view(validators.max_faulty, self.address)
        if joinable > state.view:
            self._start_view_change(joinable)
            return
        if state.active:
            return
        if state.view_changes.count_from(state.view) >= validators.quorum:
            self._arm_escalation()
        if self._is_proposer(state.view):
            self._try_open_view()

    def _arm_escalation(self) -> None:
        state = self.state
        if not state.timer_waits_for_new_view:
            state.timer_waits_for_new_view = True
            self._emit(SetTimer(self.height, state.view, idle=False))

    def _try_open_view(self) -> None:
        """As proposer of the wanted view.

        Once a quorum wants exactly it, propose what their certificates force.
        """
        state = self.state
        if state.frozen is not None or (Kind.PRE_PREPARE, state.view) in state.mine:
            return
        wanting = state.view_changes.for_view(state.view)
        usable = [vc for vc in wanting if vc.cert is None or state.body(vc.cert.header.hash) is not None]
        if len(usable) < self.tip.validators.quorum:
            return
        state.frozen = tuple(usable)
        cert = select_certificate(usable)
        if cert is None:
            self._ask_for_block(state.view)
            return
        block = state.body(cert.header.hash)
        assert block is not None  # `usable` holds only certificates whose block is here
        self._open_view(block)

    def _on_proposed_later(self, event: Proposed) -> None:
        """A fresh block for the view I am about to open."""
        state = self.state
        if state.active or state.frozen is None or not self.may_vote():
            return
        try:
            block = self._fresh_block(event)
        except (BlockError, HeaderError) as error:
            self._report(Complaint.INVALID, self.address, f"own application proposed a bad block: {error}")
            return
        self._open_view(block)

    def _open_view(self, block: Block) -> None:
        """Send NEW-VIEW with my proposal and enter the view."""
        state = self.state
        changes, view = state.frozen, state.view
        assert changes is not None
        proposal = self._signed_proposal(view, block)
        if proposal is None:
            return
        message = self._signed_new_view(proposal, changes)
        state.enter(view, active=True)
        state.new_view = message
        self._propose(proposal, Broadcast(message))

    def _signed_new_view(self, proposal: PrePrepare, changes: tuple[ViewChange, ...]) -> NewView:
        bare = tuple(vc.bare() for vc in changes)
        unsigned = NewView(self.height, proposal.view, bare, proposal, b"")
        signature = self._signature(Kind.NEW_VIEW, proposal.view, unsigned.digest)
        return NewView(self.height, proposal.view, bare, proposal, signature)

    def _is_old_view(self, view: int) -> bool:
        """Whether nothing more is wanted of a NEW-VIEW for this view."""
        state = self.state
        return view < state.view or (view == state.view and state.active and state.proposal is not None)

    def _lacks_new_view(self, seen: NewViewAnnouncement) -> bool:
        """Whether the view announced, which is of this height, would be entered with the block."""
        if self.state.deciding or self._is_old_view(seen.view):
            return False
        try:
            cert = verify_new_view(self.domain, self.tip.validators, seen)
        except CertError:
            return False
        return self._fault(seen.proposal, certified=cert is not None) is None

    def _on_new_view(self, sender: bytes, message: NewView | NewViewAnnouncement) -> None:
        """Enter a later view, or the wanted one, on proof that a quorum wants it.

        One that was only announced opens nothing, it is only judged.
        """
        state = self.state
        self._hear(self.tip.validators.proposer(message.height, message.view), message.proposal)
        if self._is_old_view(message.view):
            return
        cert = verify_new_view(self.domain, self.tip.validators, message)
        if isinstance(message, NewViewAnnouncement):
            self._check_header(message.proposal, certified=cert is not None)
            return
        for change in message.view_changes:
            place = Kind.VIEW_CHANGE, change.height, change.view, change.digest
            self._hear_view_change(self.domain.signer(*place, change.signature), change)
        state.enter(message.view, active=True)
        state.new_view = message
        self._emit(SetTimer(self.height, message.view, idle=False))
        self._accept(message.proposal, certified=cert is not None)
