"""What the operator sees: gathers the state of every role of this hub into the console's sections.

Rules: every figure is read from the running part that owns it; a role that does not run leaves its section out. The
gathering is cheap and runs once a second. Not here: how it is shown (`hub.console`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hub.ppdl.app.answers import EvaluationsAnswer, RejectionsAnswer
from hub.ppdl.app.round_answers import ListedModel, ModelsAnswer, ReputationAnswer, RoundAnswer, RoundsAnswer, WrongAnswer
from hub.ppdl.application import QueryResult
from openmg.messages import base

MICRO = 1_000_000
LOSSES_SHOWN = 64
REJECTIONS_SHOWN = 64

Query = Callable[[str], QueryResult]


def learning_section(query: Query) -> dict[str, Any] | None:
    """The console's `learning` section: the chain's first model, and `others`; None before the chain has a state."""
    result = query("models")
    if not result.ok:
        return None
    first, *others = base.decode(ModelsAnswer, result.value).models
    refusals = base.decode(RejectionsAnswer, query("rejections").value)  # of every model, and of slot sums
    refused = [_named(item.device, item.reason) for item in refusals.latest]
    return {**_model(query, first, refused), "others": [_model(query, other, []) for other in others]}


def _model(query: Query, listed: ListedModel, refused: list[dict[str, str]]) -> dict[str, Any]:
    name = listed.name.hex()
    now = base.decode(RoundAnswer, query(f"round/{name}").value)
    evaluated = base.decode(EvaluationsAnswer, query(f"evaluations/{name}").value).rounds
    # The open round counts once all homes have evaluated it: the mean of the first few would jump about.
    losses = [item for item in evaluated if item.round < now.round or item.homes >= now.registered]
    closed = [item for item in base.decode(RoundsAnswer, query(f"rounds/{name}").value).rounds if item.closed_height]
    reputation = base.decode(ReputationAnswer, query(f"reputation/{name}").value)
    wrong = base.decode(WrongAnswer, query(f"wrong-aggregates/{name}").value).wrong
    agreed = [_named(item.device, f"round {record.number}: {item.reason}") for record in closed for item in record.rejected]
    return {
        "model_id": listed.model_id,
        "quantity": listed.quantity,
        "model_hash": "0x" + listed.model_hash.hex(),
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
            {"round": item.round, "attempt": item.attempt, "validator": "0x" + item.validator.hex()}
            for item in wrong[-REJECTIONS_SHOWN:]
        ],
        "privacy": now.privacy.mode,
        "epsilon_micro": now.privacy.epsilon_micro,
        "epsilon_budget_micro": now.privacy.epsilon_budget_micro,
    }


def _named(device: bytes, reason: str) -> dict[str, str]:
    return {"device": "0x" + device.hex(), "reason": reason}


def comparable_losses(query: Query, homes: int) -> tuple[float | None, float | None]:
    """(first, last) mean loss of the first model over all homes: of round 0, and of the newest round that all evaluated."""
    name = base.decode(ModelsAnswer, query("models").value).models[0].name
    rounds = base.decode(EvaluationsAnswer, query(f"evaluations/{name.hex()}").value).rounds
    whole = [item for item in rounds if item.homes >= homes]
    first = next((item.loss_micro / MICRO for item in whole if item.round == 0), None)
    last = whole[-1].loss_micro / MICRO if whole and whole[-1].round > 0 else None
    return first, last
