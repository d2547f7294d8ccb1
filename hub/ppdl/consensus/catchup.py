"""Catching up: how a replica that missed blocks gets them, and how one that lost its vote log becomes a voter
again.

Rules: what a peer says about its height is a hint that only chooses whom to ask; only blocks with a quorum
certificate of the right set move state. Requests go to one peer at a time: again to one whose blocks came promptly, else to
another one, at once when it says that it does not keep these blocks (it began after a snapshot), else at a tick. A height
reached this way resets everything, like any decision.

Lost vote log: such a validator does not know what it signed, so it stays silent (no PREPARE, COMMIT, VIEW-CHANGE or
proposal) until a height it cannot have voted in. If it voted at height H, every height w < H was decided by a quorum of
its own set, whose honest members work at w or later. Of r other members of that set that answer, k = q + r - n - liars
are such, where liars is f, less one when this validator is in the set (it counts among the f faulty). So a replica that
has decided w stays silent through the k-th highest of these answers plus one: for w < H that is w + 1 at least. Liars can
neither lower the bound below the truth nor, once the others have answered, raise it; with a smaller k one of them could
silence this validator for ever. With another set the counting starts again. When more than f logs are lost, nobody
speaks and the chain stops: safe, and for the operator to solve.
"""

from __future__ import annotations

from hub.ppdl.consensus.certs import CertError, verify_qc
from hub.ppdl.consensus.effects import Complaint, LogComplete, Send, ServeBlocks
from hub.ppdl.consensus.messages import Decided, DecidedAnnouncement, Kind, Status, SyncRequest, SyncResponse
from hub.ppdl.consensus.viewchange import ViewChanging

MAX_STRANGERS = 64  # peers outside the sets known here (they came later, or left) whose heights are remembered
ASK_TICKS = 4  # a peer that has not answered after so many ticks is passed over
PROMPT_TICKS = 1  # who took longer is not asked again next: a liar could else be as slow as ASK_TICKS allow, for ever


class CatchUp(ViewChanging):
    """Handlers of STATUS, SYNC-REQUEST, SYNC-RESPONSE and DECIDED."""

    def _init_catchup(self) -> None:
        self.peer_heights: dict[bytes, int] = {}
        self.hints: dict[bytes, int] = {}  # of validators, while the vote log is lost
        self._decided_by = self.tip.validators if self.tip.height == 0 else None  # the set of the last height; None: unknown
        self._hinting = self._decided_by  # the set under which `abstain_through` was found
        self._queue: tuple[Decided, ...] = ()
        self._queue_from = b""
        self._queue_prompt = False
        self._asked: bytes | None = None
        self._asked_ticks = 0
        self._last_asked = b""

    def _is_member(self, peer: bytes) -> bool:
        """Whether the peer is a validator of the last, this or the next height."""
        sets = (self._decided_by, self.tip.validators, self.tip.next_validators)
        return any(members is not None and peer in members for members in sets)

    def _hear_height(self, peer: bytes, height: int) -> None:
        """Note a hint. All validators, and MAX_STRANGERS others: to a newcomer today's validators may all be strangers."""
        if peer not in self.peer_heights and not self._is_member(peer) and len(self._strangers()) >= MAX_STRANGERS:
            return
        self.peer_heights[peer] = height

    def _strangers(self) -> list[bytes]:
        return sorted(peer for peer in self.peer_heights if not self._is_member(peer))

    def _forget_strangers(self) -> None:
        """The set may have changed: who left it is one of MAX_STRANGERS now."""
        if len(self.peer_heights) > MAX_STRANGERS:
            for peer in self._strangers()[MAX_STRANGERS:]:
                del self.peer_heights[peer]
        if self.hints:
            self.hints = {peer: height for peer, height in self.hints.items() if self._is_member(peer)}

    def _on_status(self, sender: bytes, message: Status) -> None:
        self._hear_height(sender, message.height)
        if self.log_lost and self._is_member(sender):
            self.hints[sender] = message.height
            self._bound_silence()
        if message.height > self.height + 1:
            self._ask()

    def _bound_silence(self) -> None:
        """Lower the bound of what this validator may have voted in, as far as the answers of the last height's set allow."""
        members = self._decided_by
        if members != self._hinting:
            self._hinting, self.abstain_through = members, None
        if members is None:
            return
        answers = sorted((h for p, h in self.hints.items() if p in members and p != self.address), reverse=True)
        liars = max(0, members.max_faulty - (self.address in members))
        committers = members.quorum + len(answers) - len(members) - liars
        if committers >= 1:
            through = answers[committers - 1] + 1
            self.abstain_through = through if self.abstain_through is None else min(through, self.abstain_through)

    def _check_log(self) -> None:
        """At the start of a height.

        Speak again once it is past every height this validator may have voted in.
        """
        if not self.log_lost:
            return
        self._bound_silence()
        if self.abstain_through is not None and self.height > self.abstain_through:
            self.log_lost = False
            self._emit(LogComplete())

    def _ask(self, first: bytes = b"") -> None:
        """Ask one peer that claims to be ahead: `first`, else another one each time."""
        ahead = sorted(p for p, h in self.peer_heights.items() if h > self.height and p != self.address)
        if self._asked is not None or self.state.deciding or not ahead:
            return
        self._asked_ticks = 0
        if first not in ahead:  # the next in a circle
            first = next((p for p in ahead if p > self._last_asked), ahead[0])
        self._asked = self._last_asked = first
        self._emit(Send(self._asked, SyncRequest(self.height)))

    def _age_request(self) -> None:
        """One tick more without an answer: give the peer up after ASK_TICKS."""
        self._asked_ticks += 1
        if self._asked_ticks >= ASK_TICKS:
            self._asked = None

    def _serve(self, peer: bytes, height: int) -> None:
        if height < self.height and self._allowance(peer):
            self._emit(ServeBlocks(peer, height))

    def _on_sync_response(self, sender: bytes, message: SyncResponse) -> None:
        if sender != self._asked:
            return
        self._asked = None
        self._queue, self._queue_from = message.blocks, sender
        self._queue_prompt = len(message.blocks) > 0 and self._asked_ticks <= PROMPT_TICKS
        if not self.state.deciding:
            self._next_queued()

    def _next_queued(self) -> None:
        """Decide the block of this height from the queue, if it is there; at its end ask for more.

        A block without proof ends the batch: it is reported here, since the block before it may have been executed
        long after the message came.
        """
        if self._queue:
            self._queue = tuple(d for d in self._queue if d.height >= self.height)
        if not self._queue:
            if self._queue_from and self.peer_heights.get(self._queue_from, 0) > self.height + 1:
                self._ask(self._queue_from if self._queue_prompt else b"")
            self._queue_from = b""
            return
        first, self._queue = self._queue[0], self._queue[1:]
        try:
            self._on_decided(self._queue_from, first)
        except CertError as error:
            self._report(Complaint.INVALID, self._queue_from, str(error))
            self._queue, self._queue_from = (), b""

    def _on_decided(self, sender: bytes, message: Decided | DecidedAnnouncement) -> None:
        """Raises CertError when the certificate does not prove the block. What was only announced decides nothing."""
        if message.height != self.height or self.state.deciding:
            return
        verify_qc(self.domain, self.tip.validators, message.header, message.qc)
        self._hear_signatures(Kind.COMMIT, message.header, message.qc.view, message.qc.seals)
        if isinstance(message, Decided):
            self._decide(message)
