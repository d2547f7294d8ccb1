"""Which large frames an engine takes, and of whom: said to the transport before they are read.

Rules. Validators of this height and the next send blocks without being asked: proposals, and view changes with what they carry,
at most MAX_UNASKED_BYTES. Everybody else, and anything longer, only answers: block sync from the peer that was asked, state
transfer from those it still wants to hear. A peer whose set is not known here yet, since this hub is behind, loses its large
frames, and this hub nothing: their heights are too far for it, and what it needs it asks for.

State transfer costs a peer frames and no bytes: it sends what this hub asked for, in its order. Who was asked pays for a
quarter of a large frame. So does a validator while large frames are in season: one of the last SEASON_BLOCKS blocks was large,
or this height's proposal is. Out of season it pays four times: a large block costs every hub tens of milliseconds to take
apart, and a validator could keep them at it. One such frame is in the burst; with that a season begins. What is too long to be
taken is never taken apart: its bytes are all that it costs, so a validator that sends it is heard beside it.
Not here: how often a peer may speak (`net/limits.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from hub.ppdl.driver import Driver
from hub.ppdl.net.limits import Progress
from hub.ppdl.net.transport import LARGE_PAYLOAD_BYTES, MAX_UNASKED_BYTES, Channel
from hub.ppdl.snapshots.service import SnapshotService

LARGE_DISCOUNT = 4
"""Of large frames a validator may send 8 MiB a second, 32 MiB at once: with a timeout under a second a block of 2 MiB has to
come through beside as many transactions, in view after view, and an answer of block sync before another peer is asked."""
SEASON_BLOCKS = 64
"""Small blocks, heartbeats among them, come between large ones."""
UNSEASONED_PRICE = 4
"""The largest block then costs the burst, and another one may follow every four seconds: some 12 ms of work a second."""


class EngineGate:
    """The `Gate` of an engine. Its driver changes with a snapshot, so both parts are asked for each time."""

    def __init__(self, driver: Callable[[], Driver], snapshots: Callable[[], SnapshotService]) -> None:
        self._driver, self._snapshots = driver, snapshots

    def progress(self) -> Progress:
        """Blocks decided here since the start."""
        return self._driver().progress

    def takes(self, peer: bytes, channel: Channel, size: int) -> bool:
        """Whether a large payload can be of use now."""
        match channel:
            case Channel.CONSENSUS:
                return self._driver().asked == peer or (size <= MAX_UNASKED_BYTES and self._votes(peer))
            case Channel.SNAPSHOT:
                return self._snapshots().sync.expects(peer)
            case Channel.TX | Channel.GOSSIP:
                return True

    def price(self, peer: bytes, channel: Channel, size: int) -> int:
        """Bytes that a large payload costs its peer."""
        if channel is Channel.SNAPSHOT and self.takes(peer, channel, size):
            return 0
        if self._driver().asked == peer:
            return size // LARGE_DISCOUNT
        if channel is not Channel.CONSENSUS or size > MAX_UNASKED_BYTES or not self._votes(peer):
            return size  # passed over, or not taken apart: it costs this hub no more than its bytes
        return size // LARGE_DISCOUNT if self._in_season() else size * UNSEASONED_PRICE

    def _in_season(self) -> bool:
        driver = self._driver()
        replica, proposal = driver.replica, driver.replica.state.proposal
        if driver.last_large_height > 0 and replica.height - driver.last_large_height <= SEASON_BLOCKS:
            return True
        return proposal is not None and proposal.block.size > LARGE_PAYLOAD_BYTES

    def _votes(self, peer: bytes) -> bool:
        tip = self._driver().replica.tip
        return peer in tip.validators or peer in tip.next_validators

    async def room(self, peer: bytes, size: int) -> None:
        """Wait until the inbox has room."""
        await self._driver().inbox.room(peer, size)
