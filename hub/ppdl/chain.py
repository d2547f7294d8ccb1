"""Execution: from decided blocks to application state, and back to the right place after a restart.

Order for each block: `finalize_block`, then block + outcome durable in one transaction, then the
application's `commit`. So the application is never ahead of the chain, and a crash anywhere is repaired by
finalising the stored blocks that it has not committed.

An application that is ahead of its chain all the same shows that the store went back in time (an older copy, or a new
file): the application is set back to the genesis, and the vote log is trusted no longer. One that is behind the
snapshot after which the chain begins has lost its state: chain and application begin at the genesis, and what follows
comes from the other hubs. An application without snapshots cannot be set back; then the operator is told.

Blocking code: the engine runs it in the application's thread and the store's thread.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from hub.ppdl.application import Application, BlockCtx, BlockResult, Snapshot, SnapshotApplication
from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.effects import Tip
from hub.ppdl.consensus.messages import Decided
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.genesis import Genesis
from hub.ppdl.store import PpdlStore, StoredBlock

log = logging.getLogger(__name__)

REPLAY_BATCH = 32
HASH_BYTES = 32


class ExecutionError(RuntimeError):
    """Application and chain do not fit together; the message is one sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Executed:
    """A finalised block: what to store, what the next height builds on, what to tell listeners."""

    stored: StoredBlock
    tip: Tip
    result: BlockResult


def context_of(block: Block) -> BlockCtx:
    """What the application may know of a block."""
    return BlockCtx(block.height, block.header.timestamp_ms, block.header.proposer)


def finalise(app: Application, tip: Tip, decided: Decided) -> Executed:
    """Execute a decided block on `tip`, without durable effect.

    Raises ExecutionError when the application breaks its contract.
    """
    block = decided.block
    result = app.finalize_block(context_of(block), block.txs)
    if len(result.app_hash) != HASH_BYTES or len(result.tx_results) != len(block.txs):
        raise ExecutionError(f"application returned a malformed result for block {block.height}")
    updates = tuple((update.address, update.active) for update in result.validator_updates)
    try:
        following = tip.next_validators.updated(updates)
    except ValueError as error:
        raise ExecutionError(f"application returned bad validator updates in block {block.height}: {error}") from error
    new = Tip(block.height, block.hash, block.header.timestamp_ms, result.app_hash, tip.next_validators, following)
    opened = tip.next_validators.addresses if tip.next_validators != tip.validators else ()
    return Executed(StoredBlock(decided, result.app_hash, updates, opened), new, result)


def genesis_tip(genesis: Genesis, app_hash: bytes) -> Tip:
    """The tip before block 1."""
    validators = ValidatorSet(genesis.validators)
    return Tip(0, genesis.hash, genesis.genesis_time_ms, app_hash, validators, validators)


def recover(app: Application, store: PpdlStore, genesis: Genesis) -> Tip:
    """Bring the application to the last stored block; return the tip there.

    Raises ExecutionError when the application does not fit the store and cannot be set back, or computes another state
    than the store has.
    """
    if not store.base_height() <= app.info().last_height <= store.last_height():
        _set_back(app, store)
    info, stored_height = app.info(), store.last_height()
    if info.last_height == 0:
        tip = genesis_tip(genesis, app.init_chain(genesis).app_hash)
    else:
        tip = _tip_at(store, genesis, info.last_height)
        if tip.app_hash != info.app_hash:
            raise ExecutionError(_mismatch(info.last_height))
    while tip.height < stored_height:
        for stored in store.blocks_from(tip.height + 1, REPLAY_BATCH):
            executed = finalise(app, tip, stored.decided)
            if executed.tip.app_hash != stored.app_hash:
                raise ExecutionError(_mismatch(executed.tip.height))
            app.commit()
            tip = executed.tip
    return tip


def _set_back(app: Application, store: PpdlStore) -> None:
    """Let the application begin at the genesis again, and the store too where its blocks do not reach back."""
    height, end, base = app.info().last_height, store.last_height(), store.base_height()
    if not isinstance(app, SnapshotApplication):
        raise ExecutionError(
            f"application is at block {height} but the chain store holds blocks {base + 1} to {end}: one of them was"
            " replaced; remove the application's state too, both are fetched again from the other hubs"
        )
    log.warning("PPDL application is at block %d, its chain store holds %d to %d: it begins again", height, base + 1, end)
    if base:
        store.forget_chain()
    elif store.log_complete():
        store.mark_log_lost()
    app.offer_snapshot(Snapshot(0, 0, b""), b"")
    if app.info().last_height != 0:
        raise ExecutionError(f"application stays at block {app.info().last_height} although it was told to begin again")


def _mismatch(height: int) -> str:
    return (
        f"application state after block {height} is not the one this hub stored: the application changed or its state"
        " is damaged; remove the application's state to rebuild it from the chain"
    )


def _tip_at(store: PpdlStore, genesis: Genesis, height: int) -> Tip:
    """The tip after stored block `height`, without executing.

    Block b's changes are in the sets from height b + 2 on.
    """
    base = store.base()
    if base is not None and base.height == height:
        return base
    (stored,) = store.blocks_from(height, 1)
    validators = following = ValidatorSet(genesis.validators) if base is None else base.next_validators
    for changed_at, changes in store.updates_through(height):
        following = following.updated(changes)
        if changed_at < height:
            validators = validators.updated(changes)
    header = stored.decided.block.header
    return Tip(height, header.hash, header.timestamp_ms, stored.app_hash, validators, following)
