"""Rounds of learning as rules of the chain: which update enters, when a round closes, what comes out.

A round is open from the block after `opened_height`. It takes one update per registered device and closes at the end
of the first block at or after opened_height + round_blocks in which it holds min_participants updates; it is void at
opened_height + max_round_blocks. Then the next number opens, on the new model or, after a void round, on the same.
The included set is what the chain holds at that height, so nobody chooses it. An evaluation names the model that its
round started from.
Rules: integers only; the aggregate is `openmg.learning.aggregate`, the same bits on each replica.
Not here: commit and reveal of updates, the committee that refuses a worse model.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import replace

import numpy as np

from hub.ppdl.app.rejected import Rejected
from hub.ppdl.app.state import EVALUATED_ROUNDS, MAX_RECORDS, Env, Loss, Model, Round, RoundRecord, State, Update
from openmg.forecast.model import master_bytes, master_from_bytes
from openmg.learning.aggregate import Aggregate, ServerState, aggregate, apply_step
from openmg.learning.quantise import model_hash, norm_units, update_from_bytes
from openmg.messages.base import Signed
from openmg.messages.learning import Evaluation, ModelUpdate


def admit_update(state: State, signed: Signed[ModelUpdate], env: Env) -> State:
    """The state with the update in its round. Raises Rejected."""
    device, message = signed.signer, signed.message
    if device not in env.devices:
        raise Rejected(f"update: device 0x{device.hex()} is not registered; it must be in the genesis")
    if message.round != state.round.number:
        raise Rejected(f"update: round {message.round} is not open; the open round is {state.round.number}")
    if message.base_hash != state.model.model_hash:
        raise Rejected("update: it was trained on another model than the round's; take the published one", device)
    if any(known.device == device for known in state.updates):
        raise Rejected(f"update: device 0x{device.hex()} already has one in round {message.round}")
    try:
        norm = norm_units(update_from_bytes(env.genesis.plan.spec, message.update))
    except ValueError as error:
        raise Rejected(str(error), device) from error
    if norm > env.genesis.plan.clip_units:
        raise Rejected(f"update: its norm {norm} exceeds {env.genesis.plan.clip_units} units; clip it", device)
    updates = sorted((*state.updates, Update(device, message.update)), key=lambda update: update.device)
    return replace(state, updates=tuple(updates))


def admit_evaluation(state: State, signed: Signed[Evaluation], env: Env) -> State:
    """The state with the loss counted for its round. Raises Rejected."""
    device, message = signed.signer, signed.message
    if device not in env.devices:
        raise Rejected(f"evaluation: device 0x{device.hex()} is not registered; it must be in the genesis")
    if not state.round.number - EVALUATED_ROUNDS < message.round <= state.round.number:
        raise Rejected(f"evaluation: round {message.round} is not one of the last {EVALUATED_ROUNDS}")
    place = next(i for i, record in enumerate(state.records) if record.number == message.round)
    record = state.records[place]
    if message.model_hash != record.base_hash:
        raise Rejected(f"evaluation: round {message.round} started from another model", device)
    loss = Loss(message.round, device, message.loss_micro)
    if any(known.round == loss.round and known.device == device for known in state.losses):
        raise Rejected(f"evaluation: device 0x{device.hex()} already gave one for round {message.round}")
    losses = list(state.losses)
    insort(losses, loss, key=lambda item: (item.round, item.device))
    counted = replace(record, loss_sum_micro=record.loss_sum_micro + loss.loss_micro, loss_count=record.loss_count + 1)
    records = (*state.records[:place], counted, *state.records[place + 1 :])
    return replace(state, losses=tuple(losses), records=records)


def end_block(state: State, height: int, env: Env) -> State:
    """The state after the block's transactions: the round closed, void, or still open."""
    plan, age = env.genesis.plan, height - state.round.opened_height
    if age >= plan.round_blocks and len(state.updates) >= plan.min_participants:
        return _complete(state, height, env)
    if age >= plan.max_round_blocks:
        return _void(state, height)
    return state


def _complete(state: State, height: int, env: Env) -> State:
    plan, spec = env.genesis.plan, env.genesis.plan.spec
    updates = {update.device: update_from_bytes(spec, update.update) for update in state.updates}
    outcome = aggregate(updates, plan, len(env.devices))
    before = ServerState(master_from_bytes(spec, state.model.master), master_from_bytes(spec, state.model.momentum))
    after = apply_step(before, outcome.step, plan)
    model = Model(master_bytes(after.master), master_bytes(np.asarray(after.momentum)), model_hash(spec, after.master))
    closed = _closed(state, height, model.model_hash, outcome)
    opening = Round(state.round.number + 1, height, state.round.completed + 1, state.round.voided)
    return _open(replace(state, model=model), closed, opening)


def _void(state: State, height: int) -> State:
    closed = replace(_closed(state, height, state.model.model_hash, None), void=True)
    opening = Round(state.round.number + 1, height, state.round.completed, state.round.voided + 1)
    return _open(state, closed, opening)


def _closed(state: State, height: int, new_hash: bytes, outcome: Aggregate | None) -> RoundRecord:
    return replace(
        state.records[-1],
        closed_height=height,
        model_hash=new_hash,
        participants=tuple(update.device for update in state.updates),
        hostile=outcome.hostile if outcome else 0,
        capped=outcome.capped if outcome else (),
    )


def _open(state: State, closed: RoundRecord, opening: Round) -> State:
    """The state with the closed round's record and the next round open; the oldest records but round 0 make room."""
    name = state.model.model_hash
    record = RoundRecord(opening.number, opening.opened_height, 0, name, name, (), 0, (), False, 0, 0)
    records = (*state.records[:-1], closed, record)
    if len(records) > MAX_RECORDS:
        records = (records[0], *records[len(records) - MAX_RECORDS + 1 :])
    oldest = opening.number - EVALUATED_ROUNDS
    losses = tuple(loss for loss in state.losses if loss.round > oldest)
    return replace(state, round=opening, updates=(), losses=losses, records=records)
