"""Catching up: how a replica that missed blocks gets them, and how one that lost its vote log becomes a voter
again.

Rules: what a peer says about its height is a hint that only chooses whom to ask; only blocks with a quorum
certificate of the right set move state. Requests go to one peer at a time and to another one at each tick. A
height reached this way resets everything, like any decision.

Lost vote log: such a validator does not know what it signed, so it stays silent (no PREPARE, COMMIT,
VIEW-CHANGE or proposal) until a height it cannot have voted in. If it voted at height H, block H - 1 was
committed by a quorum, of which at least one honest member is among any quorum - 1 others that answer now
(with this validator counted among the f faulty), and that member works at H - 1 or later. So after hints from
quorum - 1 others it stays silent through the highest hint + 1. When more than f logs are lost, nobody speaks
and the chain stops: safe, and for the operator to solve.
"""

from __future__ import annotations

from hub.ppdl.consensus.certs import CertError, verify_qc
from hub.ppdl.consensus.effects import Complaint, LogComplete, Send, ServeBlocks
from hub.ppdl.consensus.messages import Decided, Status, SyncRequest, SyncResponse
from hub.ppdl.consensus.viewchange import ViewChanging

ASK_TICKS = 4  # a peer that has not answered after so many ticks is passed over


class CatchUp(ViewChanging):
    """Handlers of STATUS, SYNC-REQUEST, SYNC-RESPONSE and DECIDED."""

    def _init_catchup(self) -> None:
        self.peer_heights: dict[bytes, int] = {}
        self.hints: dict[bytes, int] = {}
        self._queue: tuple[Decided, ...] = ()
        self._queue_from = b""
        self._asked: bytes | None = None
        self._asked_ticks = 0
        self._turn = 0

    def _hear_height(self, peer: bytes, height: int) -> None:
        """Note a hint (validators only, so that the map is bounded)."""
        if peer in self.tip.validators or peer in self.tip.next_validators:
            self.peer_heights[peer] = height

    def _on_status(self, sender: bytes, message: Status) -> None:
        self._hear_height(sender, message.height)
        if self.log_lost and self.abstain_through is None and sender in self.tip.validators:
            self.hints[sender] = message.height
            others = len(self.hints) - (self.address in self.hints)
            if others >= max(1, self.tip.validators.quorum - 1):
                self.abstain_through = max(self.hints.values()) + 1
        if message.height > self.height + 1:
            self._ask()

    def _check_log(self) -> None:
        """At the start of a height.

        Speak again once it is past every height this validator may have voted in.
        """
        if self.log_lost and self.abstain_through is not None and self.height > self.abstain_through:
            self.log_lost = False
            self._emit(LogComplete())

    def _ask(self) -> None:
        """Ask one peer that claims to be ahead, another one each time."""
        ahead = sorted(p for p, h in self.peer_heights.items() if h > self.height and p != self.address)
        if self._asked is not None or self.state.deciding or not ahead:
            return
        self._turn += 1
        self._asked_ticks = 0
        self._asked = ahead[self._turn % len(ahead)]
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
        if not self.state.deciding:
            self._queue, self._queue_from = message.blocks, sender
            self._next_queued()

    def _next_queued(self) -> None:
        """Decide the block of this height from the queue, if it is there; at its end ask for more.

        A block without proof ends the batch: it is reported here, since the block before it may have been executed
        long after the message came.
        """
        self._queue = tuple(d for d in self._queue if d.height >= self.height)
        if not self._queue:
            if self._queue_from and self.peer_heights.get(self._queue_from, 0) > self.height + 1:
                self._ask()
            self._queue_from = b""
            return
        first, self._queue = self._queue[0], self._queue[1:]
        try:
            self._on_decided(self._queue_from, first)
        except CertError as error:
            self._queue = ()
            self._report(Complaint.INVALID, self._queue_from, str(error))

    def _on_decided(self, sender: bytes, message: Decided) -> None:
        """Raises CertError when the certificate does not prove the block."""
        if message.height != self.height or self.state.deciding:
            return
        verify_qc(self.domain, self.tip.validators, message.block.header, message.qc)
        self._decide(message)
