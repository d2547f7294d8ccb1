"""Execution: from decided blocks to application state, and back to the right place after a restart.

Order for each block: `finalize_block`, then block + outcome durable in one transaction, then the
application's `commit`. So the application is never ahead of the chain, and a crash anywhere is repaired by
finalising the stored blocks that it has not committed.

Blocking code: the engine runs it in the application's thread and the store's thread.
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.ppdl.application import Application, BlockCtx, BlockResult
from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.effects import Tip
from hub.ppdl.consensus.messages import Decided
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.genesis import Genesis
from hub.ppdl.store import PpdlStore, StoredBlock

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
    return Executed(StoredBlock(decided, result.app_hash, updates), new, result)


def genesis_tip(genesis: Genesis, app_hash: bytes) -> Tip:
    """The tip before block 1."""
    validators = ValidatorSet(genesis.validators)
    return Tip(0, genesis.hash, genesis.genesis_time_ms, app_hash, validators, validators)


def recover(app: Application, store: PpdlStore, genesis: Genesis) -> Tip:
    """Bring the application to the last stored block; return the tip there.

    Raises ExecutionError when the application is ahead of the store, or computes another state than the store
    has.
    """
    info, stored_height = app.info(), store.last_height()
    if info.last_height > stored_height:
        raise ExecutionError(
            f"application is at block {info.last_height} but the chain store ends at {stored_height}: the store was"
            " replaced; remove the application's state too, both are fetched again from the other hubs"
        )
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


def _mismatch(height: int) -> str:
    return (
        f"application state after block {height} is not the one this hub stored: the application changed or its state"
        " is damaged; remove the application's state to rebuild it from the chain"
    )


def _tip_at(store: PpdlStore, genesis: Genesis, height: int) -> Tip:
    """The tip after stored block `height`, without executing.

    Block b's changes are in the sets from height b + 2 on.
    """
    (stored,) = store.blocks_from(height, 1)
    validators = following = ValidatorSet(genesis.validators)
    for changed_at, changes in store.updates_through(height):
        following = following.updated(changes)
        if changed_at < height:
            validators = validators.updated(changes)
    header = stored.decided.block.header
    return Tip(height, header.hash, header.timestamp_ms, stored.app_hash, validators, following)
