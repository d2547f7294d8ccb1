"""What queries return: frozen dataclasses in canonical CBOR, read with `openmg.messages.base.decode(Class, value)`.

path                class              meaning
models              ModelsAnswer       (`round_answers`) the chain's models: names, hashes, rounds; vouched is the first
model/NAME          ModelAnswer        (`round_answers`) the open round's model, its candidate and the learning plan
round/NAME          RoundAnswer        (`round_answers`) how far the open round is
rounds/NAME         RoundsAnswer       (`round_answers`) the latest rounds and round 0
participation/NAME  ParticipationAnswer
                                       (`participation`) who does what in the open round, and did in the last closed one
private/NAME        PrivateNotice      (`openmg.messages.private`) the step of a private round that is open to meters
reputation/NAME     ReputationAnswer   (`round_answers`) devices without full reputation
wrong-aggregates/NAME
                    WrongAnswer        (`round_answers`) leaders that proposed a wrong aggregate
evaluations/NAME    EvaluationsAnswer  mean loss of the model that each round started from
                                       NAME is a model's short name, 16 hex digits, as `models` gives it
slots/MICROGRID     SlotsAnswer        agreed sums of the last two days
slot-leaves/MICROGRID/SLOT
                    SlotLeavesNotice   (`openmg.messages.market`) the leaves under a recorded slot's root
history/MICROGRID   HistoryAnswer      hourly net energy on which forecasts are made
prices/MICROGRID    PricesAnswer       the pool's prices that the genesis records, from which the price model is learnt
inference/ID        InferenceAnswer    the latest answer to a request with this number, and its event; with
                                       inference/ID/CHAIN/0xCONTRACT that contract's (plasma chain id, address)
events/HEIGHT       EventsAnswer       the block's events with their proofs; they hold in header HEIGHT + 1
validators          ValidatorsAnswer   (`membership`) the latest validator sets with their heights, and who is flagged
validators/HEIGHT   SetAnswer          (`membership`) the set that agrees on one height
proposals           ProposalsAnswer    (`membership`) open changes of the set and their votes
evidence            OffencesAnswer     (`membership`) recorded equivocation
rejections          RejectionsAnswer   what this replica refused from meters at fault (not agreed on, since its start)

Answers about learning name devices by pseudonym (`reputation`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hub.ppdl.app.inference import event_of
from hub.ppdl.app.learning_env import LearningEnv
from hub.ppdl.app.learning_view import LearningView, model_named
from hub.ppdl.app.membership import OffencesAnswer, SetAnswer, proposals_answer, set_answer, validators_answer
from hub.ppdl.app.participation import participation_answer
from hub.ppdl.app.private_answers import private_notice
from hub.ppdl.app.rejected import Rejected
from hub.ppdl.app.round_answers import (
    WrongAnswer,
    latest,
    model_answer,
    models_answer,
    reputation_answer,
    round_answer,
    rounds_answer,
)
from hub.ppdl.app.state import Answer, Env, Grid, SlotRecord, State
from hub.ppdl.app.storage import BlockRow, Storage
from openmg.hashing import merkle_proof
from openmg.messages.base import Message, encode
from openmg.messages.private import PrivateNotice

LOSSES_SHOWN = 128
REJECTIONS_SHOWN = 64


@dataclass(frozen=True)
class RoundLoss:
    """Mean loss in millionths over the `homes` that evaluated the model of the round's start."""

    round: int
    model_hash: bytes
    loss_micro: int
    homes: int


@dataclass(frozen=True)
class EvaluationsAnswer:
    PURPOSE: ClassVar[str] = "query"
    rounds: tuple[RoundLoss, ...]


@dataclass(frozen=True)
class SlotsAnswer:
    PURPOSE: ClassVar[str] = "query"
    microgrid: int
    slots: tuple[SlotRecord, ...]


@dataclass(frozen=True)
class HistoryAnswer:
    PURPOSE: ClassVar[str] = "query"
    microgrid: int
    start_hour: int
    net_wh: tuple[int, ...]


@dataclass(frozen=True)
class PricesAnswer:
    """Wei per Wh of each slot from `start_slot` on; 0 where the pool had no price."""

    PURPOSE: ClassVar[str] = "query"
    microgrid: int
    start_slot: int
    wei_per_wh: tuple[int, ...]


@dataclass(frozen=True)
class InferenceAnswer:
    PURPOSE: ClassVar[str] = "query"
    answer: Answer
    event: bytes


@dataclass(frozen=True)
class EventProof:
    """One event and its Merkle path (`openmg.hashing.merkle_verify`)."""

    event: bytes
    index: int
    count: int
    proof: tuple[bytes, ...]


@dataclass(frozen=True)
class EventsAnswer:
    """app_hash = keccak(app tag | state_hash | Merkle root of the events | model_hash)."""

    PURPOSE: ClassVar[str] = "query"
    height: int
    app_hash: bytes
    state_hash: bytes
    model_hash: bytes
    events: tuple[EventProof, ...]


@dataclass(frozen=True)
class Refusal:
    """What was refused, and the pseudonym of the device that sent it."""

    device: bytes
    reason: str


@dataclass(frozen=True)
class RejectionsAnswer:
    PURPOSE: ClassVar[str] = "query"
    total: int
    latest: tuple[Refusal, ...]


class NoAnswer(ValueError):
    """The path names nothing that is known; the message is one sentence."""


def events_answer(row: BlockRow) -> EventsAnswer:
    """The proofs of all events of a block."""
    events = tuple(
        EventProof(event, index, len(row.events), tuple(merkle_proof(row.events, index)))
        for index, event in enumerate(row.events)
    )
    return EventsAnswer(row.height, row.app_hash, row.state_hash, row.model_hash, events)


def _evaluations(state: LearningView) -> EvaluationsAnswer:
    return EvaluationsAnswer(
        tuple(
            RoundLoss(record.number, record.base_hash, record.loss_sum_micro // record.loss_count, record.loss_count)
            for record in latest(state.records, LOSSES_SHOWN)
            if record.loss_count
        )
    )


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 78:
        raise NoAnswer(f"query: {text[:80]!r} is not a number")
    return int(text)


def _grid(state: State, text: str) -> Grid:
    grid = next((grid for grid in state.grids if grid.microgrid == _number(text)), None)
    if grid is None:
        raise NoAnswer(f"query: microgrid {text} is not in the genesis")
    return grid


def _prices(env: Env, text: str) -> PricesAnswer:
    record = next((record for record in env.genesis.prices if record.microgrid == _number(text)), None)
    if record is None:
        raise NoAnswer(f"query: the genesis records no prices of microgrid {text}")
    return PricesAnswer(record.microgrid, record.start_slot, record.wei_per_wh)


def _leaves(storage: Storage, text: str) -> bytes:
    microgrid, _, slot = text.partition("/")
    numbers = _number(microgrid), _number(slot)
    notice = storage.leaves(*numbers) if max(numbers) < 2**63 else None
    if notice is None:
        raise NoAnswer(f"query: slot {slot} of microgrid {microgrid} is not recorded yet or no longer kept")
    return notice


def _inference(state: State, text: str, env: Env) -> InferenceAnswer:
    """`ID` or `ID/CHAIN/CONTRACT`; requests of different contracts may have the same number."""
    name, _, asked_by = text.partition("/")
    number = _number(name)
    for answer in reversed(state.answers):
        contract = f"{answer.plasma_chain_id}/0x{answer.contract.hex()}"
        if answer.request_id == number and asked_by in ("", contract):
            return InferenceAnswer(answer, event_of(answer, env.chain_id))
    raise NoAnswer(f"query: inference request {text[:160]} is not answered (yet, or any more)")


def _events(storage: Storage, text: str) -> EventsAnswer:
    row = storage.block(_number(text)) if len(text) < 19 else None
    if row is None:
        raise NoAnswer(f"query: block {text} is not committed yet or no longer kept")
    return events_answer(row)


def _private(state: LearningView, height: int, env: LearningEnv) -> PrivateNotice:
    notice = private_notice(state, height, env)
    if notice is None:
        raise NoAnswer(f"query: no step of a private round is open; round {state.round.number} is in {state.round.phase}")
    return notice


def _set(state: State, height: int, text: str) -> SetAnswer:
    answer = set_answer(state, height, _number(text))
    if answer is None:
        raise NoAnswer(f"query: the validators of height {text} are not decided yet or no longer remembered")
    return answer


LEARNING_PATHS = ("model", "round", "rounds", "participation", "private", "reputation", "wrong-aggregates", "evaluations")


def _learning(head: str, text: str, state: State, height: int, env: Env) -> Message:
    """An answer about one model."""
    try:
        now = model_named(state, bytes.fromhex(text), env, "query")
    except ValueError as error:
        why = error if isinstance(error, Rejected) else f"query: {text[:80]!r} is not a model's name; ask for models"
        raise NoAnswer(str(why)) from error
    if head == "model":
        return model_answer(now.view, height, now.env)
    if head == "round":
        return round_answer(now.view, height, now.env)
    if head == "rounds":
        return rounds_answer(now.view, now.env)
    if head == "participation":
        return participation_answer(now.view, height, now.env)
    if head == "private":
        return _private(now.view, height, now.env)
    if head == "reputation":
        return reputation_answer(now.view, now.env)
    if head == "wrong-aggregates":
        return WrongAnswer(now.view.wrong_aggregates)
    return _evaluations(now.view)


def answer_query(path: str, state: State, height: int, env: Env, storage: Storage) -> bytes:
    """The encoded answer to a path of the table above (but `rejections`). Raises NoAnswer."""
    head, _, rest = path.partition("/")
    answer: Message
    if path == "models":
        answer = models_answer(state, height, env)
    elif head in LEARNING_PATHS:
        answer = _learning(head, rest, state, height, env)
    elif head == "slots":
        grid = _grid(state, rest)
        answer = SlotsAnswer(grid.microgrid, grid.slots)
    elif head == "slot-leaves":
        return _leaves(storage, rest)
    elif head == "history":
        grid = _grid(state, rest)
        answer = HistoryAnswer(grid.microgrid, grid.start_hour, grid.net_wh)
    elif head == "prices":
        answer = _prices(env, rest)
    elif head == "inference":
        answer = _inference(state, rest, env)
    elif head == "events":
        answer = _events(storage, rest)
    elif path == "validators":
        answer = validators_answer(state, height)
    elif head == "validators":
        answer = _set(state, height, rest)
    elif path == "proposals":
        answer = proposals_answer(state, height)
    elif path == "evidence":
        answer = OffencesAnswer(state.offences.total, state.offences.kept)
    else:
        raise NoAnswer(f"query: path {path[:80]!r} is unknown; see hub.ppdl.app.answers for the paths")
    return encode(answer)
