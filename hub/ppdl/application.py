"""The border between a consensus engine and the application it replicates, in the shape of ABCI 2.0.

An engine orders opaque transactions into blocks; an application gives them meaning. Both sides know only this
file, so that the PBFT engine here, a solo engine or CometBFT can drive one application, and one engine can
drive a test application.

Rules an application keeps
- Deterministic: two replicas that ran the same calls return the same bytes. No clock, randomness, float,
  `hash()` or set order; time comes from `BlockCtx.timestamp_ms` only.
- The engine calls every method from ONE worker thread, never two at once. A call may take long: consensus
  timers do not depend on it.
- `check_tx`, `prepare_proposal`, `process_proposal` and `query` read the last committed state and change
  nothing.
- `finalize_block` computes the next state without durable effect; `commit` makes exactly that state durable.
  A crash between the two means that the same block is finalised again. `info` reports the last *committed*
  height.
- `app_hash` of block h stands in header h + 1 (header 1 carries the app hash of `init_chain`).
- `validator_updates` of block h form the set that agrees on block h + 2.
- A replica may skip `process_proposal` for a block that a quorum has already prepared or decided:
  `finalize_block` must accept any block and turn each bad transaction into a failed `TxResult`.

Not here: snapshots for state transfer, vote extensions, evidence handling.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hub.ppdl.genesis import Genesis


@dataclass(frozen=True, slots=True)
class AppInfo:
    """Where the application stands.

    Last committed height (0 before block 1) and the 32-byte app hash after it.
    """

    last_height: int
    app_hash: bytes


@dataclass(frozen=True, slots=True)
class InitResult:
    """Answer to `init_chain`: the 32-byte app hash of the genesis state."""

    app_hash: bytes


@dataclass(frozen=True, slots=True)
class BlockCtx:
    """All an application may know about a block besides its transactions.

    Height, wall time in ms, 20-byte proposer address.
    """

    height: int
    timestamp_ms: int
    proposer: bytes


@dataclass(frozen=True, slots=True)
class TxVerdict:
    """Whether a transaction may enter the mempool.

    `reason` is one sentence for the sender when it may not; `malformed` says that no state would admit these bytes, so
    that who passes them on is at fault and not late. Of transactions with the same `subject` a chain admits at most one,
    so only one waits at a time; empty when the transaction excludes no other.
    """

    ok: bool
    reason: str = ""
    malformed: bool = False
    subject: bytes = b""


class Verdict(enum.Enum):
    """What a replica thinks of a proposed block."""

    ACCEPT = "accept"
    REJECT = "reject"
    UNAVAILABLE = "unavailable"  # something the block refers to has not arrived here yet: no vote now, asked again


@dataclass(frozen=True, slots=True)
class TxResult:
    """Outcome of one transaction of a finalised block; `data` is application defined."""

    ok: bool
    reason: str = ""
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class ValidatorUpdate:
    """Adds (`active`) or removes a validator, named by its 20-byte address; takes effect two blocks later."""

    address: bytes
    active: bool


@dataclass(frozen=True, slots=True)
class BlockResult:
    """Outcome of a block: the 32-byte app hash after it, one result per transaction in order, set changes,
    raw event bytes in order.
    """

    app_hash: bytes
    tx_results: tuple[TxResult, ...]
    validator_updates: tuple[ValidatorUpdate, ...] = ()
    events: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Answer to a query over the last committed state; `reason` says why when `ok` is false."""

    ok: bool
    value: bytes = b""
    height: int = 0
    reason: str = ""


class Application(Protocol):
    """A deterministic replicated state machine (method names of ABCI 2.0, one process)."""

    def info(self) -> AppInfo:
        """Return the last committed height and its app hash; called at start to find the blocks to replay."""
        ...

    def init_chain(self, genesis: Genesis) -> InitResult:
        """Build the genesis state from `genesis.app_state`.

        Called before block 1 whenever `info().last_height` is 0.
        """
        ...

    def check_tx(self, tx: bytes) -> TxVerdict:
        """Cheap test before the mempool; called again for waiting transactions after each block."""
        ...

    def prepare_proposal(self, ctx: BlockCtx, txs: Sequence[bytes], max_bytes: int) -> list[bytes]:
        """Choose and order the transactions of a new block.

        Their lengths add up to at most `max_bytes`. No transaction twice.
        """
        ...

    def process_proposal(self, ctx: BlockCtx, txs: Sequence[bytes]) -> Verdict:
        """Judge another validator's proposal on top of the last committed state."""
        ...

    def finalize_block(self, ctx: BlockCtx, txs: Sequence[bytes]) -> BlockResult:
        """Execute a decided block.

        Nothing durable yet. Raises only when this replica must stop (it is then told to the operator).
        """
        ...

    def commit(self) -> None:
        """Make the state of the last `finalize_block` durable.

        After it `info().last_height` is that height.
        """
        ...

    def query(self, path: str, data: bytes) -> QueryResult:
        """Answer a read of the last committed state."""
        ...
