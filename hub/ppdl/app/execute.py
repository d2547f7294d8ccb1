"""One transaction, and one block, as pure functions of the state.

Rules: a transaction either takes effect whole or raises; the caller keeps the old state then. The end of a block runs
after its transactions. Not here: files, hashes of the result (`app`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hub.ppdl.app import inference, learning, slots
from hub.ppdl.app.rejected import Rejected
from hub.ppdl.app.state import Env, State
from hub.ppdl.app.transactions import (
    KIND_EVALUATION,
    KIND_SLOT_SUM,
    KIND_UPDATE,
    InvalidTransaction,
    decode_tx,
    open_evaluation,
    open_inference,
    open_slot_sum,
    open_update,
)
from hub.ppdl.application import TxResult


@dataclass(frozen=True, slots=True)
class Executed:
    """A block's outcome: the next state, the result of each transaction in order, the events in order."""

    state: State
    results: tuple[TxResult, ...]
    events: tuple[bytes, ...]


def execute_tx(state: State, tx: bytes, height: int, env: Env) -> tuple[State, tuple[bytes, ...]]:
    """The state and events after the transaction. Raises InvalidTransaction (form, signature) or Rejected (state)."""
    transaction = decode_tx(tx)
    if transaction.kind == KIND_UPDATE:
        return learning.admit_update(state, open_update(transaction.payload, env.chain_id), env), ()
    if transaction.kind == KIND_EVALUATION:
        return learning.admit_evaluation(state, open_evaluation(transaction.payload, env.chain_id), env), ()
    if transaction.kind == KIND_SLOT_SUM:
        slot_sum, reports = open_slot_sum(transaction.payload, env.chain_id)
        state, event = slots.record_slot_sum(state, slot_sum, reports, env)
        return state, (event,)
    state, event = inference.answer_request(state, open_inference(transaction.payload, env.chain_id), height, env)
    return state, (event,)


def execute_block(state: State, txs: Sequence[bytes], height: int, env: Env) -> Executed:
    """Every transaction in order, then the end of the block; a bad transaction is a failed result and nothing else."""
    results: list[TxResult] = []
    events: list[bytes] = []
    for tx in txs:
        try:
            state, new_events = execute_tx(state, tx, height, env)
        except (InvalidTransaction, Rejected) as error:
            results.append(TxResult(False, str(error)))
        else:
            results.append(TxResult(True))
            events.extend(new_events)
    return Executed(learning.end_block(state, height, env), tuple(results), tuple(events))
