"""What the operator sees: gathers the state of every role of this hub into the console's sections.

Rules: every figure is read from the running part that owns it; a role that does not run leaves its section out. The
gathering is cheap and runs once a second. Not here: how it is shown (`hub.console`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hub.ppdl.app.answers import EvaluationsAnswer, RejectionsAnswer
from hub.ppdl.app.participation import ParticipationAnswer, Seat
from hub.ppdl.app.round_answers import (
    ListedModel,
    ModelsAnswer,
    ReputationAnswer,
    RoundAnswer,
    RoundsAnswer,
    ShownRound,
    WrongAnswer,
)
from hub.ppdl.application import QueryResult
from openmg.messages import base

MICRO = 1_000_000
LOSSES_SHOWN = 64
REJECTIONS_SHOWN = 64
CLOSED_SHOWN = 16
"""Closed rounds listed one by one: an epoch of them."""

Query = Callable[[str], QueryResult]


def learning_section(query: Query) -> dict[str, Any] | None:
    """The console's `learning` section: the chain's first model, and `others`; None before the chain has a state."""
    result = query("models")
    if not result.ok:
        return None
    first, *others = base.decode(ModelsAnswer, result.value).models
    refusals = base.decode(RejectionsAnswer, query("rejections").value)  # of every model, and of slot sums
    refused: list[dict[str, Any]] = [{"device": _hex(item.device), "reason": item.reason} for item in refusals.latest]
    return {**_model(query, first, refused), "others": [_model(query, other, []) for other in others]}


def _model(query: Query, listed: ListedModel, refused: list[dict[str, Any]]) -> dict[str, Any]:
    name = listed.name.hex()
    now = base.decode(RoundAnswer, query(f"round/{name}").value)
    evaluated = base.decode(EvaluationsAnswer, query(f"evaluations/{name}").value).rounds
    # The open round counts once all homes have evaluated it: the mean of the first few would jump about.
    losses = [item for item in evaluated if item.round < now.round or item.homes >= now.registered]
    closed = [item for item in base.decode(RoundsAnswer, query(f"rounds/{name}").value).rounds if item.closed_height]
    reputation = base.decode(ReputationAnswer, query(f"reputation/{name}").value)
    wrong = base.decode(WrongAnswer, query(f"wrong-aggregates/{name}").value).wrong
    agreed = [
        {"device": _hex(item.device), "round": record.number, "reason": item.reason}
        for record in closed
        for item in record.rejected
    ]
    taking_part = base.decode(ParticipationAnswer, query(f"participation/{name}").value)
    return {
        "model_id": listed.model_id,
        "quantity": listed.quantity,
        "model_hash": _hex(listed.model_hash),
        "round": now.round,
        "phase": now.phase,
        "attempt": now.attempt,
        "completed": now.completed,
        "refused": now.refused,
        "voided": now.voided,
        "participants": len(now.participants),
        "last_participants": closed[-1].included if closed else 0,
        "last_outcome": closed[-1].outcome if closed else None,
        "registered": now.registered,
        "min_participants": now.min_participants,
        "loss_first_micro": losses[0].loss_micro if losses else None,
        "loss_last_micro": losses[-1].loss_micro if losses else None,
        "losses": [
            {"round": item.round, "loss_micro": item.loss_micro, "homes": item.homes} for item in losses[-LOSSES_SHOWN:]
        ],
        "rejected": [*agreed, *refused][-REJECTIONS_SHOWN:],
        "left_out": sum(item.left_out for item in reputation.devices),
        "wrong_aggregates": [
            {"round": item.round, "attempt": item.attempt, "validator": _hex(item.validator)}
            for item in wrong[-REJECTIONS_SHOWN:]
        ],
        "privacy": now.privacy.mode,
        "epsilon_micro": now.privacy.epsilon_micro,
        "epsilon_budget_micro": now.privacy.epsilon_budget_micro,
        "delta_exponent": now.privacy.delta_exponent,
        "charged_rounds": now.privacy.charged_rounds,
        "open": _open(now, taking_part),
        "last": {"round": taking_part.last_round, "devices": _devices(taking_part.last_seats)} if closed else None,
        "closed": [_closed(record) for record in closed[-CLOSED_SHOWN:]],
    }


def _open(now: RoundAnswer, taking_part: ParticipationAnswer) -> dict[str, Any]:
    """How far the open round is; heights are blocks of the PPDL chain."""
    private = now.privacy
    return {
        "height": now.height,
        "opened_height": now.opened_height,
        "phase_height": now.phase_height,
        "phase_end_height": now.phase_end_height,
        "expected": now.expected,
        "committed": len(now.participants),
        "masked": taking_part.masked,
        "revealed": taking_part.revealed,
        "included": now.included,
        "max_attempts": taking_part.max_attempts,
        "leader": _hex(taking_part.leader) if taking_part.leader else None,
        "agreed": taking_part.agreed,
        "disagreed": taking_part.disagreed,
        "validators": taking_part.validators,
        "committee": now.committee,
        "ballots": now.ballots,
        "worse": taking_part.worse,
        "next_epoch_round": taking_part.next_epoch_round,
        "threshold": private.threshold,
        "members": private.members,
        "dealt": private.dealt,
        "signed": private.signed,
        "unmasked": private.unmasked,
        "devices": _devices(taking_part.seats),
    }


def _closed(record: ShownRound) -> dict[str, Any]:
    return {
        "round": record.number,
        "outcome": record.outcome,
        "closed_height": record.closed_height,
        "participants": record.participants,
        "included": record.included,
        "rejected": len(record.rejected),
        "capped": record.capped,
        "attempts": record.attempts,
        "wrong_leaders": len(record.wrong_leaders),
        "committee": record.committee,
        "ballots": record.ballots,
        "worse": record.worse,
        "epsilon_micro": record.epsilon_micro,
    }


def _devices(seats: tuple[Seat, ...]) -> list[dict[str, str]]:
    return [{"device": _hex(seat.device), "state": seat.state, "reason": seat.reason} for seat in seats]


def _hex(value: bytes) -> str:
    return "0x" + value.hex()


def comparable_losses(query: Query, homes: int) -> tuple[float | None, float | None]:
    """(first, last) mean loss of the first model over all homes: of round 0, and of the newest round that all evaluated."""
    name = base.decode(ModelsAnswer, query("models").value).models[0].name
    rounds = base.decode(EvaluationsAnswer, query(f"evaluations/{name.hex()}").value).rounds
    whole = [item for item in rounds if item.homes >= homes]
    first = next((item.loss_micro / MICRO for item in whole if item.round == 0), None)
    last = whole[-1].loss_micro / MICRO if whole and whole[-1].round > 0 else None
    return first, last
