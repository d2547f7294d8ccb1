"""The engines by name, for a configuration file: how each keeps its chain, and how to provision and make one.

Not here: reading configuration, peers' certificates, key files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hub.ppdl.application import Application
from hub.ppdl.chain import ExecutionError
from hub.ppdl.engine import (
    DEFAULT_BLOCK_INTERVAL_S,
    DEFAULT_HEARTBEAT_S,
    DEFAULT_VIEW_TIMEOUT_S,
    EngineFailed,
    PbftEngine,
)
from hub.ppdl.engines.base import CertificateScheme, Engine
from hub.ppdl.engines.cometbft.binary import BinaryError
from hub.ppdl.engines.cometbft.engine import CometEngine
from hub.ppdl.engines.cometbft.home import CometPeer, initialise_home
from hub.ppdl.engines.cometbft.process import ProcessError
from hub.ppdl.engines.solo import solo_engine
from hub.ppdl.genesis import Genesis
from hub.ppdl.net.transport import PeerAddress
from hub.ppdl.store import StoreError, initialise_store

SCHEMES: Mapping[str, CertificateScheme] = {
    "pbft": CertificateScheme.PPDL,
    "solo": CertificateScheme.PPDL,
    "cometbft": CertificateScheme.COMET,
}
"""Every engine, and the certificates of its headers."""

START_ERRORS = (StoreError, ExecutionError, EngineFailed, BinaryError, ProcessError, OSError, ValueError)
"""What `start` raises, besides the transport's errors of `pbft`."""


@dataclass(frozen=True, slots=True)
class NodeSetup:
    """One node, whichever its engine.

    folder: where it keeps its chain, for this node alone.  peers: for `pbft`.  comet_peers, public_keys (address ->
    33-byte key, of every validator that may come): for `cometbft`.  listen: not used by `solo`.
    """

    genesis: Genesis
    private_key: bytes
    app: Application
    folder: Path
    listen: tuple[str, int] = ("127.0.0.1", 0)
    peers: Sequence[PeerAddress] = ()
    comet_peers: Sequence[CometPeer] = ()
    public_keys: Mapping[bytes, bytes] = field(default_factory=dict)
    block_interval_s: float = DEFAULT_BLOCK_INTERVAL_S
    heartbeat_s: float = DEFAULT_HEARTBEAT_S
    view_timeout_s: float = DEFAULT_VIEW_TIMEOUT_S

    @property
    def store(self) -> Path:
        """The chain of `pbft` and `solo`; the same file, so that a solo chain can grow."""
        return self.folder / "ppdl.sqlite"

    @property
    def home(self) -> Path:
        """The home of the CometBFT node."""
        return self.folder / "cometbft"


def provision(name: str, genesis: Genesis, folder: Path) -> None:
    """Make the storage of a new validator; call it once. Raises ValueError for an unknown name."""
    _known(name)
    if name == "cometbft":
        initialise_home(folder / "cometbft", genesis)
    else:
        initialise_store(folder / "ppdl.sqlite", genesis)


def make_engine(name: str, setup: NodeSetup) -> Engine:
    """The engine of that name. Raises ValueError for an unknown name or a setup that does not fit it."""
    _known(name)
    if name == "solo":
        return solo_engine(
            setup.genesis,
            setup.private_key,
            setup.app,
            setup.store,
            block_interval_s=setup.block_interval_s,
            heartbeat_s=setup.heartbeat_s,
        )
    if name == "pbft":
        return PbftEngine(
            setup.genesis,
            setup.private_key,
            setup.app,
            setup.store,
            setup.listen,
            setup.peers,
            block_interval_s=setup.block_interval_s,
            heartbeat_s=setup.heartbeat_s,
            view_timeout_s=setup.view_timeout_s,
        )
    return CometEngine(
        setup.genesis,
        setup.private_key,
        setup.app,
        setup.home,
        setup.listen,
        setup.comet_peers,
        setup.public_keys,
        block_interval_s=setup.block_interval_s,
        heartbeat_s=setup.heartbeat_s,
        view_timeout_s=setup.view_timeout_s,
    )


def _known(name: str) -> None:
    if name not in SCHEMES:
        raise ValueError(f"there is no PPDL engine {name!r}: choose one of {', '.join(SCHEMES)}")
