"""Evaluations as a rule: each device's loss of the model a round started from, counted once, for the latest rounds only.

A loss is what the meter says it is; it is shown and decides nothing.
Not here: ballots, which do decide (`committee`).
"""

from __future__ import annotations

from bisect import insort
from dataclasses import replace

from hub.ppdl.app.commits import require_device
from hub.ppdl.app.learning_env import LearningEnv
from hub.ppdl.app.learning_view import LearningView
from hub.ppdl.app.rejected import Rejected
from hub.ppdl.app.round_state import EVALUATED_ROUNDS, Loss
from openmg.messages.base import Signed
from openmg.messages.learning import Evaluation


def admit_evaluation(state: LearningView, signed: Signed[Evaluation], env: LearningEnv) -> LearningView:
    """The state with the loss counted for its round. Raises Rejected."""
    device, message = signed.signer, signed.message
    require_device(device, env, "evaluation")
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
