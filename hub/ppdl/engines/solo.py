"""`solo`: one validator alone, for a test bench, a demo or a first operator without partners.

It is PBFT with n = 1 and no network: the same store, the same replay, the same mempool, and headers with one seal that
`PpdlRelay` verifies unchanged, since the quorum of one validator is one. So there is no second code path to trust, and a
solo chain grows into a PBFT network: once a validator update names a second validator, blocks up to two heights later
are still decided here, then the node needs the other's vote; start it as `pbft` with that peer on the same store.
"""

from __future__ import annotations

from pathlib import Path

from hub.ppdl.application import Application
from hub.ppdl.engine import DEFAULT_BLOCK_INTERVAL_S, DEFAULT_HEARTBEAT_S, DEFAULT_VIEW_TIMEOUT_S, PbftEngine
from hub.ppdl.genesis import Genesis
from hub.ppdl.net.transport import Channel, Deliver, LinkStats
from openmg.signing import address_of


class NoNetwork:
    """A transport without peers: everything sent is dropped, nothing arrives."""

    def __init__(self) -> None:
        self.stats = LinkStats()

    async def start(self, deliver: Deliver) -> None:
        """Nothing to listen to."""

    async def stop(self) -> None:
        """Nothing to close."""

    def send(self, peer: bytes, channel: Channel, payload: bytes) -> None:
        """Nobody is there."""
        self.stats.frames_dropped += 1

    def broadcast(self, channel: Channel, payload: bytes) -> None:
        """Nobody to tell."""

    def blame(self, peer: bytes, frames: int = 1) -> None:
        """Nobody sends anything."""

    def connected(self) -> tuple[bytes, ...]:
        """No peers."""
        return ()


def solo_engine(
    genesis: Genesis,
    private_key: bytes,
    app: Application,
    store_path: Path,
    *,
    block_interval_s: float = DEFAULT_BLOCK_INTERVAL_S,
    heartbeat_s: float = DEFAULT_HEARTBEAT_S,
) -> PbftEngine:
    """The only validator of `genesis`. Raises ValueError when the genesis names another one or several."""
    if genesis.validators != (address_of(private_key),):
        raise ValueError(
            f"a solo chain has this node as its only validator, but the genesis names {len(genesis.validators)} and this"
            f" node is 0x{address_of(private_key).hex()}: use the engine pbft or another genesis"
        )
    return PbftEngine(
        genesis,
        private_key,
        app,
        store_path,
        ("127.0.0.1", 0),
        [],
        block_interval_s=block_interval_s,
        heartbeat_s=heartbeat_s,
        view_timeout_s=DEFAULT_VIEW_TIMEOUT_S,
        transport=NoNetwork(),
    )
