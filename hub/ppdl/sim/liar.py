"""A liar: a validator's key in hostile hands.

At every tick it says a few things that an honest validator would not, to some peers and not to others: two proposals, votes
for both, floods of view numbers, heights that do not exist, blocks and new views without proof, and old messages of others
again. It knows what its peers say, and signs with its own key only.
"""

from __future__ import annotations

from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.effects import Received, Tip
from hub.ppdl.consensus.messages import MAX_VIEW, Decided, Message, NewView, PrePrepare, Status, SyncResponse
from hub.ppdl.sim.forge import Forger
from hub.ppdl.sim.keys import Scheme
from hub.ppdl.sim.node import TICK_MS, Node

LIE_MS = TICK_MS // 2
MAX_HEARD = 64
"""Messages of others that it keeps to say again."""
FLOOD = 24
"""Messages of one flood: more than the 17 views of one sender that a vote box keeps."""


class Liar(Node):
    """Has no replica; looks over the shoulder of an honest node to know what its lies must fit to."""

    def boot(self) -> None:
        self._heard: list[Message] = []
        self._forger = Forger(Scheme(self.around.scheme.domain, {self.address: self.around.scheme.signers[self.address]}))
        self.around.clock.after(LIE_MS, self._lie, 0)

    def deliver(self, parcel: Received) -> None:
        """Remember some of what is heard."""
        if len(self._heard) < MAX_HEARD:
            self._heard.append(parcel.message)
        else:
            self._heard[self.around.random.randrange(MAX_HEARD)] = parcel.message

    def _lie(self, _: int) -> None:
        around = self.around
        around.clock.after(LIE_MS, self._lie, 0)
        victims = [node for node in around.nodes if node.honest and node.replica is not None]
        if not victims:
            return
        tip = around.random.choice(victims).replica.tip  # type: ignore[union-attr]
        lies = (self._equivocate, self._flood_views, self._flood_votes, self._claim_heights, self._forge_proofs, self._repeat)
        around.random.choice(lies)(tip)

    def _some(self, message: Message) -> None:
        """Say it to some peers."""
        random = self.around.random
        self.around.network.send(self, [peer for peer in self.peers if random.randrange(3)], message)

    def _block(self, tip: Tip) -> Block:
        around = self.around
        txs = around.ledger.offer(self.number, around.clock.now, good=around.random.randrange(2) > 0)
        return self._forger.block(tip, self.address, txs, around.clock.now)

    def _equivocate(self, tip: Tip) -> None:
        """Two proposals, and votes for both."""
        for _ in range(2):
            block = self._block(tip)
            for view in (0, 1):
                self._some(self._forger.pre_prepare(self.address, view, block))
                self._some(self._forger.prepare(self.address, block.height, view, block.hash))
                self._some(self._forger.commit(self.address, block.height, view, block.hash))

    def _flood_views(self, tip: Tip) -> None:
        """View numbers without end (row 4 of the bug table)."""
        start = self.around.random.choice((1, 5, 1_000, MAX_VIEW - FLOOD))
        for view in range(start, start + FLOOD):
            self._some(self._forger.view_change(self.address, tip.height + 1, view))

    def _flood_votes(self, tip: Tip) -> None:
        """Votes of all views for a block that nobody has, in this height and the next."""
        digest = tip.app_hash
        for view in range(FLOOD):
            self._some(self._forger.prepare(self.address, tip.height + 1 + view % 2, view, digest))
            self._some(self._forger.commit(self.address, tip.height + 1 + view % 2, view, digest))

    def _claim_heights(self, tip: Tip) -> None:
        """A height that does not exist (row 11)."""
        for height in (tip.height + 2, tip.height + 1_000, 2**63):
            self._some(Status(height))

    def _forge_proofs(self, tip: Tip) -> None:
        """Blocks and new views that prove nothing."""
        block = self._block(tip)
        lone = self._forger.decided((self.address,), 0, block)
        twice = Decided(block, type(lone.qc)(0, lone.qc.seals * 3))
        change = self._forger.view_change(self.address, block.height, 1)
        for message in (lone, twice, SyncResponse((lone,)), self._forger.new_view(self.address, 1, (change,), block)):
            self._some(message)

    def _repeat(self, tip: Tip) -> None:
        """What others said, again and out of place."""
        for message in self._heard[:8]:
            if isinstance(message, NewView | PrePrepare):
                self._some(message)
            else:
                self.around.network.send(self, self.peers[:2], message)
