"""Vouched inference: the replicas forecast a microgrid's next day in integers, over what the chain itself has recorded.

Input: the microgrid's hourly net energy on the chain, the calendar of the plan, the agreed model (of several the first);
output: 24 hourly net energies in Wh and an event that the plasma chain's `Inference` contract checks. A request counts once
per (plasma chain, contract, request id); a block holds at most MAX_ANSWERS_IN_BLOCK answers.
Not here: the contract, payment, and a home's forecast for itself, which never leaves the meter.
"""

from __future__ import annotations

from dataclasses import replace

from hub.ppdl.app.governance import require_validator
from hub.ppdl.app.rejected import Rejected
from hub.ppdl.app.state import MAX_ANSWERS, Answer, Env, State
from hub.ppdl.app.transactions import InferenceRequest
from openmg.forecast.fixedpoint import forecast_wh
from openmg.forecast.model import master_from_bytes
from openmg.hashing import keccak256, words
from openmg.messages.base import Signed
from openmg.units import SLOTS_PER_HOUR

MAX_ANSWERS_IN_BLOCK = 16
"""A forecast takes a millisecond, and only a validator asks for one: none of them may fill blocks that outlast a view."""
INFERENCE_EVENT_TAG = keccak256(b"openmg.event.inference.v1")


def answers_hash(answer_wh: tuple[int, ...]) -> bytes:
    """keccak of the answers as int256 words."""
    return keccak256(words(*answer_wh))


def event_of(answer: Answer, chain_id: int) -> bytes:
    """[tag, PPDL chain, contract, plasma chain, request, microgrid, as-of slot, model hash, answers hash] as words."""
    return words(
        INFERENCE_EVENT_TAG,
        chain_id,
        answer.contract,
        answer.plasma_chain_id,
        answer.request_id,
        answer.microgrid,
        answer.as_of_slot,
        answer.model_hash,
        answers_hash(answer.answer_wh),
    )


def answer_request(state: State, signed: Signed[InferenceRequest], height: int, env: Env) -> tuple[State, bytes]:
    """The state with the answer, and its event. Raises Rejected."""
    request = signed.message
    require_validator(state, signed.signer, height, "inference request")
    grid = next((grid for grid in state.grids if grid.microgrid == request.microgrid), None)
    if grid is None:
        raise Rejected(f"inference request: microgrid {request.microgrid} is not in the genesis")
    key = (request.plasma_chain_id, request.contract, request.request_id)
    if any((known.plasma_chain_id, known.contract, known.request_id) == key for known in state.answers):
        raise Rejected(f"inference request: request {request.request_id} is already answered")
    if sum(known.height == height for known in state.answers) >= MAX_ANSWERS_IN_BLOCK:
        raise Rejected(f"inference request: block {height} has {MAX_ANSWERS_IN_BLOCK} answers already; wait for the next")
    plan, model = env.genesis.plans[0], state.models[0].model
    spec = plan.spec
    master = master_from_bytes(spec, model.master)
    forecast = forecast_wh(spec, master, grid.net_wh, grid.end_hour, plan.holiday_days, plan.utc_offset_hours)
    as_of_slot = grid.end_hour * SLOTS_PER_HOUR - 1
    answer = Answer(*key, request.microgrid, as_of_slot, model.model_hash, forecast.mean_wh, height)
    answers = (*state.answers, answer)[-MAX_ANSWERS:]
    return replace(state, answers=answers), event_of(answer, env.chain_id)
