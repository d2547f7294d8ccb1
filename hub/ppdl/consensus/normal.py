"""The normal case: PRE-PREPARE, PREPARE, COMMIT, decide.

Rules: one proposal per view; PREPARE only for a block that follows the tip and that the application accepted
(or that a certificate forces); COMMIT only after a quorum of PREPAREs of the current view, and durable
together with that certificate; a quorum of COMMITs of one view decides, in whatever view or phase this
replica is.
"""

from __future__ import annotations

from hub.ppdl.application import Verdict
from hub.ppdl.consensus.block import Block, BlockError, tx_root
from hub.ppdl.consensus.certs import CertError, verify_pre_prepare, vote_signer
from hub.ppdl.consensus.core import Proposal, ReplicaCore, header_fault
from hub.ppdl.consensus.effects import (
    Broadcast,
    CancelTimer,
    Complaint,
    Decide,
    Persist,
    PreparedProof,
    Proposed,
    SetTimer,
    Validate,
    Validated,
    VoteRecord,
)
from hub.ppdl.consensus.header import Header, HeaderError
from hub.ppdl.consensus.messages import (
    Announcement,
    Commit,
    Decided,
    Kind,
    Prepare,
    PreparedCert,
    PrePrepare,
    QuorumCert,
)
from hub.ppdl.consensus.votes import Added, VoteBox


class NormalCase(ReplicaCore):
    """Handlers of the three phases."""

    def _fresh_block(self, event: Proposed) -> Block:
        """A new block on the tip. Raises BlockError when the transactions break a bound."""
        tip = self.tip
        header = Header(
            chain_id=self.domain.chain_id,
            height=self.height,
            parent_hash=tip.hash,
            timestamp_ms=max(event.timestamp_ms, tip.timestamp_ms + 1),
            proposer=self.address,
            tx_root=tx_root(event.txs),
            app_hash=tip.app_hash,
            validators_hash=tip.validators.hash,
            next_validators_hash=tip.next_validators.hash,
        )
        return Block(header, event.txs)

    def _signed_proposal(self, view: int, block: Block) -> PrePrepare | None:
        """My PRE-PREPARE, or None when I proposed another block in this view before."""
        signature = self._signature(Kind.PRE_PREPARE, view, block.hash)
        said = self._statement(Kind.PRE_PREPARE, view, PrePrepare(view, block, signature))
        return said if isinstance(said, PrePrepare) else None

    def _on_proposed_first(self, event: Proposed) -> None:
        """View 0: propose and prepare my own fresh block."""
        state = self.state
        if not (state.active and self.may_vote() and self._is_proposer(0)) or state.proposal is not None:
            return
        try:
            proposal = self._signed_proposal(0, self._fresh_block(event))
        except (BlockError, HeaderError) as error:
            self._report(Complaint.INVALID, self.address, f"own application proposed a bad block: {error}")
            return
        if proposal is not None:
            self._propose(proposal, Broadcast(proposal))

    def _propose(self, proposal: PrePrepare, announcement: Broadcast) -> None:
        """Accept my own proposal, and send it once it is durable together with my PREPARE."""
        self.state.proposal = Proposal(proposal.block, Verdict.ACCEPT)
        self._emit(SetTimer(self.height, proposal.view, idle=False))
        self._prepare((self._record(Kind.PRE_PREPARE, proposal),), (announcement,))

    def _lacks_proposal(self, seen: Announcement) -> bool:
        """Whether the block announced, which is of this height, would become the proposal."""
        state = self.state
        if state.deciding or state.proposal is not None or not state.active or (state.view, seen.view) != (0, 0):
            return False
        try:
            verify_pre_prepare(self.domain, self.tip.validators, seen)
        except CertError:
            return False
        return self._fault(seen, certified=False) is None

    def _on_pre_prepare(self, sender: bytes, message: PrePrepare | Announcement) -> None:
        """Only view 0 opens with a bare PRE-PREPARE; later views open with NEW-VIEW."""
        state = self.state
        if message.view != 0:
            raise CertError("proposal of a later view came without its new view")
        if state.view != 0 or not state.active:
            return
        self._hear(verify_pre_prepare(self.domain, self.tip.validators, message), message)
        if state.proposal is None:
            self._accept(message, certified=False)

    def _fault(self, message: PrePrepare | Announcement, certified: bool) -> str | None:
        """Which chain rule the header of a proposal breaks."""
        fault = header_fault(self.tip, message.header, self.domain.chain_id)
        if fault is None and not certified and message.header.proposer != self._proposer_of(message):
            fault = "fresh block names another proposer than its signer"
        return fault

    def _check_header(self, message: PrePrepare | Announcement, certified: bool) -> None:
        """Raises CertError when the header of a proposal breaks a chain rule."""
        fault = self._fault(message, certified)
        if fault is not None:
            raise CertError(f"proposal is unusable: {fault}")

    def _accept(self, message: PrePrepare | Announcement, certified: bool) -> None:
        """Take a verified proposal of the current view; one that was only announced has no block to take.

        Raises CertError when the block breaks a chain rule.
        """
        self._check_header(message, certified)
        if isinstance(message, Announcement):
            return
        self.state.proposal = Proposal(message.block, Verdict.ACCEPT if certified else None)
        self._emit(SetTimer(self.height, message.view, idle=False))
        if certified:
            self._prepare()
        else:
            self._emit(Validate(self.height, message.view, message.block))
        self._check_decided_body()

    def _proposer_of(self, message: PrePrepare | Announcement) -> bytes:
        return self.tip.validators.proposer(message.height, message.view)

    def _on_validated(self, event: Validated) -> None:
        state, proposal = self.state, self.state.proposal
        if state.deciding or proposal is None or proposal.verdict is Verdict.ACCEPT:
            return
        if (event.height, event.view, event.digest) != (self.height, state.view, proposal.block.hash):
            return
        proposal.verdict = event.verdict
        if event.verdict is Verdict.ACCEPT and state.active:
            self._prepare()

    def _prepare(self, before: tuple[VoteRecord, ...] = (), announcements: tuple[Broadcast, ...] = ()) -> None:
        """Vote PREPARE for the current proposal.

        `before` becomes durable with the vote, `announcements` go out ahead of it.
        """
        state = self.state
        assert state.proposal is not None
        digest, view = state.proposal.block.hash, state.view
        vote = None
        if self.may_vote():
            signature = self._signature(Kind.PREPARE, view, digest)
            vote = self._statement(Kind.PREPARE, view, Prepare(self.height, view, digest, signature))
        if isinstance(vote, Prepare):
            self._emit(Persist((*before, self._record(Kind.PREPARE, vote))), *announcements, Broadcast(vote))
            state.prepares.add(vote, self.address, view)
        self._check_prepared()

    def _on_vote(self, sender: bytes, vote: Prepare | Commit) -> None:
        """Keep a PREPARE or COMMIT; whoever passed it on, its signer counts. One of another view is only claimed by its
        sender until a quorum may come of it; a second one there is verified, so that noise is blamed.
        """
        state = self.state
        prepare = isinstance(vote, Prepare)
        box = state.prepares if prepare else state.commits
        if not box.wants(vote.view, state.view) or box.holds(vote, sender, claimed=vote.view != state.view):
            return
        if vote.view != state.view and sender in self.tip.validators and not box.knows(vote.view, sender):
            box.claim(vote, sender)
            if prepare:
                return  # no quorum of another view's PREPAREs moves anything
        elif not self._count_vote(box, sender, vote):
            return
        if prepare:
            self._check_prepared()
        else:
            self._check_decided(vote.view, vote.digest)

    def _count_vote(self, box: VoteBox, sender: bytes, vote: Prepare | Commit) -> bool:
        """Verify a vote and keep it; false when its signer has voted in its view. Raises CertError."""
        signer = vote_signer(self.domain, self.tip.validators, vote)
        if signer != sender:  # what the sender itself said has been heard
            self._hear(signer, vote)
        return box.add(vote, signer, self.state.view) is Added.NEW

    def _redeem(self, box: VoteBox, view: int, digest: bytes) -> None:
        """Verify the claims for a block if a quorum may come of them."""
        for sender, vote in box.redeem(view, digest, self.tip.validators.quorum):
            try:
                self._count_vote(box, sender, vote)
            except CertError as error:
                self._report(Complaint.INVALID, sender, str(error))

    def _check_prepared(self) -> None:
        """Commit once a quorum prepared the current proposal and this replica accepted it."""
        state = self.state
        proposal, view = state.proposal, state.view
        if proposal is None or proposal.verdict is not Verdict.ACCEPT or not state.active or (Kind.COMMIT, view) in state.mine:
            return
        digest, needed = proposal.block.hash, self.tip.validators.quorum
        self._redeem(state.prepares, view, digest)
        if state.prepares.count(view, digest) < needed or not self.may_vote():
            return
        signatures = state.prepares.signatures(view, digest)[:needed]
        cert = PreparedCert(view, proposal.block.header, signatures)
        seal = self._signature(Kind.COMMIT, view, digest)
        vote = self._statement(Kind.COMMIT, view, Commit(self.height, view, digest, seal))
        if not isinstance(vote, Commit):
            return
        state.prepared = PreparedProof(cert, proposal.block)
        self._emit(Persist((self._record(Kind.COMMIT, vote),), state.prepared), Broadcast(vote))
        state.commits.add(vote, self.address, view)
        self._check_decided(view, digest)

    def _check_decided(self, view: int, digest: bytes) -> None:
        """Decide once a quorum sealed one block in one view and its body is here."""
        state, needed = self.state, self.tip.validators.quorum
        if state.deciding:
            return
        self._redeem(state.commits, view, digest)
        if state.commits.count(view, digest) < needed:
            return
        block = state.body(digest)
        if block is not None:
            seals = state.commits.signatures(view, digest)[:needed]
            self._decide(Decided(block, QuorumCert(view, seals)))

    def _check_decided_body(self) -> None:
        """A body has arrived: a quorum of COMMITs may have been waiting for it."""
        for view, digest in self.state.commits.candidates(self.tip.validators.quorum):
            self._check_decided(view, digest)

    def _decide(self, decided: Decided) -> None:
        """The height is over, whatever phase it was in. The certificate has been checked."""
        fault = header_fault(self.tip, decided.block.header, self.domain.chain_id)
        if fault is not None:
            self.halted = True
            detail = f"height {self.height}: {fault}; compare the application's state with another hub's"
            self._report(Complaint.DIVERGED, self.address, detail)
            return
        self.state.deciding = True
        self._emit(CancelTimer(), Decide(decided))
