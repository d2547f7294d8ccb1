"""What every engine offers to a console, a relay and the roles of a hub, whichever agreement protocol it runs.

An engine drives one `Application` (`hub/ppdl/application.py`), keeps the chain on disk, and replays what the application
has not committed. All methods belong to one asyncio loop.

What differs between engines
- Certificates (`scheme`): `pbft` and `solo` seal PPDL headers, which `PpdlRelay` verifies; a solo chain is a set of one
  validator whose quorum is one. `cometbft` headers carry CometBFT's own commit, signed by the same secp256k1 keys, which
  `engines/cometbft/commit.py` verifies and no contract here does yet.
- Blocks when nobody wants anything: CometBFT adds one empty block after each block that changed the state, so that the
  new app hash is signed at once; PBFT waits for the heartbeat.
- A CometBFT node that still fetches blocks from others refuses transactions; PBFT takes and passes them on.
- Fairness: the mempool of PBFT gives one origin at most a share; CometBFT's is first come, first served.
- Messages beside consensus (gossip) and quiescence exist in `PbftEngine` only, so they are not here.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Protocol

from hub.ppdl.application import BlockResult, QueryResult
from hub.ppdl.store import SignedHeader


class CertificateScheme(enum.StrEnum):
    """How the headers of an engine prove that they were decided."""

    PPDL = "ppdl-secp256k1-v1"
    """A quorum of commit seals over 320-byte PPDL headers (`hub.ppdl.consensus.certs.verify_qc`)."""
    COMET = "comet-commit"
    """A CometBFT commit over a CometBFT header (`hub.ppdl.engines.cometbft.commit.verify_commit`)."""


class DecidedHeader(Protocol):
    """What a listener may read of a header, whatever its format."""

    @property
    def timestamp_ms(self) -> int:
        """Wall time of the block, later than that of the block before."""
        ...

    @property
    def proposer(self) -> bytes:
        """20-byte address."""
        ...


class DecidedBlock(Protocol):
    """A decided block as a listener sees it."""

    @property
    def height(self) -> int: ...

    @property
    def hash(self) -> bytes:
        """32 bytes, the block's identity in its own chain."""
        ...

    @property
    def header(self) -> DecidedHeader: ...

    @property
    def txs(self) -> tuple[bytes, ...]: ...


class EngineState(Protocol):
    """The part of a status that every engine has; `failure` is one sentence once the engine takes part in no more
    blocks.
    """

    @property
    def height(self) -> int: ...

    @property
    def validators(self) -> int: ...

    @property
    def mempool(self) -> int: ...

    @property
    def malformed(self) -> int: ...

    @property
    def failure(self) -> str | None: ...


class Engine(Protocol):
    """One node of a replicated chain."""

    address: bytes

    async def start(self) -> None:
        """Bring the application to the last block of the chain here and take part.

        Raises one of START_ERRORS (`registry.py`), one sentence for the operator.
        """
        ...

    async def stop(self) -> None:
        """Take part no more; a block being committed is finished first."""
        ...

    async def submit(self, tx: bytes) -> bytes:
        """Let a transaction wait for a block; return its keccak-256 hash. Raises TxRefused with a reason.

        One that waits already or was committed lately is accepted again without effect.
        """
        ...

    async def query(self, path: str, data: bytes = b"") -> QueryResult:
        """Ask the application about its last committed state."""
        ...

    def headers_after(self, height: int, limit: int) -> list[SignedHeader]:
        """At most `limit` decided headers above `height` with their certificates, ascending, without gaps.

        The header of every height that `wait_height` has returned is there.
        """
        ...

    def status(self) -> EngineState:
        """Where the engine stands now."""
        ...

    async def wait_height(self, height: int, timeout_s: float | None = None) -> int:
        """Wait until block `height` is committed here; return the height then. Raises TimeoutError or EngineFailed."""
        ...

    def on_decided(self, listener: Callable[[DecidedBlock, BlockResult], None]) -> None:
        """Call `listener(block, result)` after each block committed from now on, in height order; not for blocks
        replayed at start.
        """
        ...
