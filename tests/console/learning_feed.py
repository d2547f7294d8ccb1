"""The learning and forecast sections of the feed: a model in the clear, and one whose sums are opened with noise.

As in `console_feed` the numbers are a fixed arithmetic of the step counter, and the shapes are those of `hub.status`.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

HOMES = 12
JUDGES = (4, 9)
HOUR = 3600
IN_CLEAR = ("commit", "reveal", "aggregate", "committee")
HIDDEN = ("commit", "deal", "mask", "reveal", "sign", "unmask", "aggregate", "committee")
STEPS_PER_PHASE = 4


def hexed(label: str, length: int = 32) -> str:
    return "0x" + hashlib.sha256(label.encode()).hexdigest()[: 2 * length]


def name_of(home: int) -> str:
    return hexed(f"pseudonym{home}")


def learning(step: int, rounds: int) -> dict[str, Any]:
    """The section at a step, with `rounds` rounds closed."""
    losses = [{"round": r, "loss_micro": 74200 - int(38000 * (1 - 0.72**r))} for r in range(rounds + 1)]
    some = rounds // 3
    first = _model(step, rounds, losses, "net_energy", "none", IN_CLEAR)
    other = _model(
        step,
        some,
        [{"round": r, "loss_micro": 81_000 - 900 * r} for r in range(some + 1)],
        "export_energy",
        "secagg_dp",
        HIDDEN,
    )
    other.update(epsilon_micro=2_120_000 + 610_000 * some, epsilon_budget_micro=8_000_000, charged_rounds=some, rejected=[])
    return {**first, "others": [other]}


def _model(
    step: int, rounds: int, losses: list[dict[str, int]], quantity: str, privacy: str, phases: tuple[str, ...]
) -> dict[str, Any]:
    phase = phases[step // STEPS_PER_PHASE % len(phases)]
    return {
        "model_id": f"openmg.forecast.2.{quantity}.60min.24h.48h.139-64-32-96",
        "quantity": quantity,
        "model_hash": hexed(f"model{rounds}" if quantity == "net_energy" else f"{quantity}{rounds}"),
        "round": rounds,
        "phase": phase,
        "attempt": 0,
        "participants": 10,
        "registered": HOMES,
        "loss_first_micro": losses[0]["loss_micro"],
        "loss_last_micro": losses[-1]["loss_micro"],
        "losses": losses,
        "rejected": [{"device": name_of(2), "round": number, "reason": "few_neighbours"} for number in range(rounds)],
        "wrong_aggregates": [{"round": 2, "attempt": 0, "validator": hexed("hub2", 20)}],
        "privacy": privacy,
        "epsilon_micro": 0,
        "epsilon_budget_micro": 0,
        "delta_exponent": 5,
        "charged_rounds": 0,
        "open": _open(step, rounds, phase, phases),
        "last": {"round": rounds - 1, "devices": _devices("included", "waiting", {2})},
        "closed": [_closed(number, privacy) for number in range(max(0, rounds - 16), rounds)],
    }


def _devices(state: str, judge: str, rejected: set[int]) -> list[dict[str, str]]:
    """All homes by pseudonym; the judges are in a state of their own."""
    far = {"state": "rejected", "reason": "few_neighbours"}
    rows = [
        {"device": name_of(home), "state": judge if home in JUDGES else state, "reason": ""} | (far if home in rejected else {})
        for home in range(HOMES)
    ]
    return sorted(rows, key=lambda row: row["device"])


def _open(step: int, rounds: int, phase: str, phases: tuple[str, ...]) -> dict[str, Any]:
    within, place = step % STEPS_PER_PHASE, phases.index(phase)
    state = {"commit": "committed", "deal": "dealt", "mask": "masked", "reveal": "revealed"}.get(phase, "included")
    return {
        "height": 30 + step,
        "opened_height": 30 + step - within - STEPS_PER_PHASE * place,
        "phase_height": 30 + step - within,
        "phase_end_height": 30 + step - within + 6,
        "expected": 10,
        "committed": 10,
        "masked": 10,
        "revealed": 9 if phase == "reveal" else 10,
        "included": 10 if place >= phases.index("reveal") else 0,
        "max_attempts": 4,
        "leader": hexed("hub1", 20) if phase == "aggregate" else None,
        "agreed": within if phase == "aggregate" else 0,
        "disagreed": 0,
        "validators": 4,
        "committee": 2,
        "ballots": within // 2 if phase == "committee" else 0,
        "worse": 0,
        "next_epoch_round": 16 * (rounds // 16 + 1),
        "threshold": 7,
        "members": 10,
        "dealt": 10,
        "signed": min(7, 2 * within),
        "unmasked": min(10, 3 * within),
        "devices": _devices(state, "judge", {2} if phase == "committee" else set()),
    }


def _closed(number: int, privacy: str) -> dict[str, Any]:
    return {
        "round": number,
        "outcome": "refused" if number == 2 else "learnt",
        "closed_height": 40 + 14 * number,
        "participants": 10,
        "included": 10,
        "rejected": 1,
        "capped": number % 2,
        "attempts": 1 + (number == 2),
        "wrong_leaders": int(number == 2),
        "committee": 2,
        "ballots": 2,
        "worse": 2 if number == 2 else 0,
        "epsilon_micro": 2_120_000 + 610_000 * number if privacy == "secagg_dp" else 0,
    }


def forecast(now: int) -> dict[str, Any]:
    """Two days of hours up to the one that `now` is in, and the next day of the first microgrid; the other has no history."""
    hour = now // HOUR * HOUR

    def net(at: int) -> int:
        return int(1500 * math.sin((at // HOUR + 3) / 24 * 2 * math.pi) + 700)

    def quantiles(at: int) -> list[int]:
        return [at, net(at) - 420 - at // HOUR % 5 * 30, net(at) + 60, net(at) + 460]

    first = {
        "id": 1,
        "made_by": "agreed chain model",
        "model_id": "openmg.forecast.2.net_energy.60min.24h.48h.139-64-32-96",
        "model_hash": hexed("model7"),
        "as_of": hour,
        "actual": [[hour - h * HOUR, net(hour - h * HOUR) + 230 * (h % 3 - 1)] for h in range(36, 0, -1)],
        "day_ahead": [quantiles(hour - h * HOUR) for h in range(24, 0, -1)],
        "next": [quantiles(hour + h * HOUR) for h in range(24)],
    }
    return {
        "microgrids": [first, {"id": 2, "made_by": None, "missing": "no history", "actual": [], "day_ahead": [], "next": []}]
    }
