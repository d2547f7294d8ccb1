"""One run of `openmg ppdl train`: homes, rounds, rivals, scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_agent.learning.personal import personalise
from firmware_sim.dataset import DatasetError
from openmg.forecast.loss import heads
from openmg.forecast.metrics import Forecast
from openmg.forecast.model import to_float
from openmg.forecast.trainer import Trainer, get_trainer
from workbench.attacks.catalogue import named
from workbench.attacks.poisoned import Backdoor
from workbench.ppdl_train import rivals
from workbench.ppdl_train.federation import Federation
from workbench.ppdl_train.homes import Fleet, Home, choose_hostile, make_fleet
from workbench.ppdl_train.households import Household, load_households
from workbench.ppdl_train.options import TrainOptions
from workbench.ppdl_train.private_rounds import NO_PRIVACY
from workbench.ppdl_train.results import ModelScore, TrainResult, score_model

if TYPE_CHECKING:
    from openmg.learning.plan import LearningPlan

F32 = NDArray[np.float32]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Example:
    """A day of one home: what was used and what was forecast a day ahead, in Wh, for the picture."""

    home: str
    truth_wh: NDArray[np.float64]
    forecast: Forecast


@dataclass(frozen=True)
class Run:
    """The scores and an example."""

    result: TrainResult
    example: Example


def train(options: TrainOptions, progress: Progress) -> Run:
    """Reads the data, trains all models, scores them. Raises DatasetError and OptionError."""
    began = time.monotonic()
    progress(f"reading {options.data.name}")
    data = load_households(options.data, options.resolution_minutes)
    split_hour = data.hour_of(options.split_date)
    plan = options.plan(split_hour, data.start_hour, data.end_hour, _holidays(options))
    attack = named(options.attack.replace("-", "_"))
    trainer = get_trainer(plan.spec, options.trainer)
    hostile = choose_hostile(len(data.homes), options.byzantine, options.seed)
    fleet = make_fleet(data.homes, plan, trainer, hostile, attack, progress)
    if not fleet.honest:
        raise DatasetError(f"{options.data} has no usable home; {len(data.excluded) + len(fleet.excluded)} are left out")
    federation = Federation(fleet, plan, attack, options.clients_per_round, options.seed, options.drop_out)
    master = federation.run(options.rounds, progress)
    weights = to_float(master)
    federated = score_model(fleet.honest, [home.forecast_wh(trainer, weights) for home in fleet.honest])
    models, personal = {"federated": federated}, 0
    if options.rivals:
        others, personal = _rivals(fleet, data.homes, plan, trainer, master, options.seed, progress)
        models |= others
    ledger, first = federation.ledger, fleet.honest[0]
    result = TrainResult(
        models,
        len(fleet.homes),
        len(fleet.hostile_devices),
        (*data.excluded, *fleet.excluded),
        personal,
        _backdoor_success(attack, fleet, trainer, weights),
        ledger.bytes_sent,
        dict(ledger.rejected),
        ledger.capped,
        time.monotonic() - began,
        plan.spec.parameters,
        plan.spec.model_id,
        NO_PRIVACY if federation.private is None else federation.private.report(),
    )
    return Run(result, Example(first.name, first.truth_wh, first.forecast_wh(trainer, weights)))


def _rivals(
    fleet: Fleet,
    households: tuple[Household, ...],
    plan: LearningPlan,
    trainer: Trainer,
    master: NDArray[np.int32],
    seed: int,
    progress: Progress,
) -> tuple[dict[str, ModelScore], int]:
    """The other models' scores by name, and how many homes kept a personal layer."""
    homes, steps = fleet.honest, count()
    by_name = {household.name: household for household in households}
    kept = 0

    def personal(home: Home) -> F32:
        nonlocal kept
        progress(f"personal layer {next(steps) + 1} of {len(homes)}")
        model = personalise(trainer, master, home.spans, seed)
        kept += model.kept
        return model.weights

    def alone(home: Home) -> F32:
        progress(f"{home.name} alone")
        return rivals.local_only(home, trainer, plan, seed)

    pooled = rivals.centralised(fleet, plan, seed, progress)
    forecasts: dict[str, Iterator[Forecast]] = {
        "personalised": (home.forecast_wh(trainer, personal(home)) for home in homes),
        "centralised": (home.forecast_wh(trainer, pooled) for home in homes),
        "local_only": (home.forecast_wh(trainer, alone(home)) for home in homes),
        "seasonal_naive": (rivals.seasonal_naive(home, by_name[home.name], plan) for home in homes),
        "mean_7day": (rivals.mean_of_7_days(home, by_name[home.name], plan) for home in homes),
    }
    scores = {name: score_model(homes, list(items)) for name, items in forecasts.items()}
    return scores, kept


def _backdoor_success(attack: object, fleet: Fleet, trainer: Trainer, weights: F32) -> float | None:
    """Share of honest test windows in which the trigger pushes the forecast up; None for other attacks."""
    if not isinstance(attack, Backdoor):
        return None
    rates = [
        attack.success_rate(lambda inputs: heads(trainer.predict(weights, inputs))[0], home.spans.held_out.inputs)
        for home in fleet.honest
    ]
    return float(np.mean(rates))


def _holidays(options: TrainOptions) -> tuple[int, ...]:
    """Days of the country's public holidays; none without a country."""
    if not options.country:
        return ()
    from openmg.forecast.calendar import public_holidays

    years = options.split_date.year
    return public_holidays(options.country, years - 10, years + 10)
