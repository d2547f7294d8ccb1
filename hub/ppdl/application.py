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

Snapshots (`SnapshotApplication`) are optional: an application without them is rebuilt from block 1 only.
- Two replicas at one height make the same snapshot, byte for byte: a new hub takes one only when validators of which
  one at least is honest name the same.
- After block h with h a multiple of SNAPSHOT_INTERVAL it makes one, and keeps the last SNAPSHOTS_KEPT.
- A restored state is proved by the app hash that `offer_snapshot` was given; until it is, the old state stays.

Not here: vote extensions; what evidence means, which is a transaction like any other (`hub.ppdl.app.offences`).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from hub.ppdl.genesis import Genesis
from openmg.hashing import keccak256

SNAPSHOT_INTERVAL = 128
"""Blocks between snapshots, a power of two. Above the 16 blocks of one sync answer, so that a hub that missed little gets
blocks, and low enough that after a snapshot at most 128 blocks are executed again."""
SNAPSHOTS_KEPT = 2
"""A hub that began to fetch one just before the next was made has a whole interval more to finish."""
CHUNK_BYTES = 256 * 1024
"""Size of a chunk, the last one excepted: 16 fit a frame, so that votes never wait long behind one."""
MAX_CHUNKS = 4096
"""1 GiB of state; the hashes of so many chunks, 128 KiB, are all that one manifest makes a hub keep in memory."""
CHUNK_HASH_BYTES = 32


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


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of the state after block `height`.

    `format` is the application's own number for its layout; `metadata` the keccak-256 hashes of the chunks one after
    the other, `hash` the keccak-256 of it. A snapshot of height 0 has no chunk: the state of a new application.
    """

    height: int
    format: int
    metadata: bytes

    @property
    def chunks(self) -> int:
        """How many chunks it has."""
        return len(self.metadata) // CHUNK_HASH_BYTES

    @property
    def hash(self) -> bytes:
        """Names its content."""
        return keccak256(self.metadata)

    def chunk_hash(self, index: int) -> bytes:
        """keccak-256 of one chunk."""
        return self.metadata[index * CHUNK_HASH_BYTES : (index + 1) * CHUNK_HASH_BYTES]


class OfferResult(enum.Enum):
    """Whether an application takes an offered snapshot."""

    ACCEPT = "accept"
    REJECT = "reject"  # not this one
    REJECT_FORMAT = "reject format"  # none of this layout


class ChunkResult(enum.Enum):
    """What an application says of a chunk."""

    ACCEPT = "accept"  # taken; after the last chunk: the state is the snapshot's, and durable
    REJECT_SNAPSHOT = "reject snapshot"  # the chunks do not make the state that was proved; the old state stays


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


@runtime_checkable
class SnapshotApplication(Protocol):
    """The part of an application that can hand its state on whole (method names of ABCI 2.0)."""

    def list_snapshots(self) -> Sequence[Snapshot]:
        """Return the snapshots kept, ascending."""
        ...

    def load_snapshot_chunk(self, height: int, format: int, chunk: int) -> bytes:
        """Return one chunk; empty when it is not kept."""
        ...

    def offer_snapshot(self, snapshot: Snapshot, app_hash: bytes) -> OfferResult:
        """Begin to restore a snapshot whose app hash a quorum of validators has proved.

        Forgets an earlier one that was not finished. Height 0 takes effect at once: the application forgets its state
        durably and is as new, `init_chain` follows.
        """
        ...

    def apply_snapshot_chunk(self, index: int, chunk: bytes, sender: bytes) -> ChunkResult:
        """Take the chunks of the offered snapshot, in order.

        With the last one the state becomes the snapshot's, in one durable step, if its app hash is the proved one.
        """
        ...
