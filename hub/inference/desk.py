"""The hub's forecasts: of each kind the newest, from its own model or from one that the chain agreed on.

Rules: every forecast says which model made it, on what state of the PPDL chain (`ppdl_height`), as of which step, and how
many steps of the latest week were made up. It is the hub's own word: only an answer that was asked for on chain is signed by
a quorum. The chain's model stands in for `demand`, as far ahead as it sees; of prices there is no other than the chain's, which
before its first learnt round is the base forecast, and said to be. Nothing else has a stand-in.
A forecast is made once for what is known and kept until something new is, or until the chain's model is another; one at a time
is made, whoever asks.
Bounds: one kept forecast a model. Not here: HTTP (`api`), training (`trainer_job`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hub.inference.agreed_price import price_forecast
from hub.inference.history import HistoryStore
from hub.inference.models import DEMAND, FORECAST_HOURS, PRICE, KeptModel, ModelKey, inputs_of, price_past_of
from hub.ppdl.app.answers import HistoryAnswer
from hub.ppdl.app.round_answers import ModelAnswer, ModelsAnswer
from hub.ppdl.application import QueryResult
from openmg.forecast.features import Almanac
from openmg.forecast.fixedpoint import forecast_wh
from openmg.forecast.gaps import fill
from openmg.forecast.model import initial_master, master_from_bytes
from openmg.forecast.spec import HOURS_PER_WEEK
from openmg.forecast.spec import PRICE as PRICE_SPEC
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import model_hash
from openmg.messages import base
from openmg.units import SLOT_SECONDS

SECONDS_PER_HOUR = 3_600
MAX_STALE_HOURS = 12
"""The chain closes an hour two hours later; a history that ends longer ago forecasts what has passed."""
BY_HUB, BY_CHAIN_MODEL, BY_BASE = "hub model", "agreed chain model", "base forecast"


class NoForecast(Exception):
    """Nothing can be forecast now: what is wrong, and what to do."""

    def __init__(self, error: str, what_to_do: str) -> None:
        super().__init__(error)
        self.error = error
        self.what_to_do = what_to_do


class UnknownMicrogrid(NoForecast):
    """The hub does not serve this microgrid."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a forecast; `start_s` is unix seconds, the values are Wh or wei per Wh and p10 <= p50 <= p90."""

    start_s: int
    p10: int
    p50: int
    p90: int
    mean: int


@dataclass(frozen=True)
class Outlook:
    """A forecast and what it rests on. `as_of_s`: the unix second up to which the inputs are known."""

    key: ModelKey
    made_by: str
    model_id: str
    model_hash: bytes
    ppdl_height: int
    as_of_s: int
    gaps_filled: int
    steps: tuple[Step, ...]


class ForecastDesk:
    """Makes and keeps forecasts. Calls block and may come from any thread."""

    def __init__(
        self,
        history: HistoryStore,
        query: Callable[[str], QueryResult],
        microgrids: Sequence[int],
        models: Mapping[ModelKey, KeptModel],
        missing: Mapping[ModelKey, str],
        almanac_of: Callable[[int], Almanac],
        now_s: Callable[[], float],
    ) -> None:
        self._history = history
        self._query = query
        self.microgrids = tuple(microgrids)
        self._models = models
        self._missing = missing
        self._almanac_of = almanac_of
        self._now_s = now_s
        self._lock = threading.Lock()
        self._kept: dict[ModelKey, Outlook] = {}
        self.height = 0
        """The PPDL height up to which the history holds what was agreed."""

    def forget(self) -> None:
        """Something is new: the next forecasts are made again."""
        with self._lock:
            self._kept.clear()

    def recorded_at(self, height: int) -> None:
        """The history holds what the chain agreed on up to this height."""
        self.height = height

    def outlook(self, key: ModelKey) -> Outlook:
        """The newest forecast. Raises NoForecast."""
        if key.microgrid not in self.microgrids:
            served = ", ".join(map(str, self.microgrids)) or "none"
            raise UnknownMicrogrid(f"microgrid {key.microgrid} is not served here", f"ask for one of: {served}")
        with self._lock:
            known = self._kept.get(key)
            if known is None or self._is_superseded(known):
                known = self._kept[key] = self._make(key)
        self._require_fresh(known)
        return replace(known, ppdl_height=self.height) if known.made_by == BY_HUB else known

    def _is_superseded(self, known: Outlook) -> bool:
        """Whether the chain has learnt since a forecast was made with its model."""
        return known.made_by != BY_HUB and all(item.model_hash != known.model_hash for item in self.agreed().models)

    def agreed(self) -> ModelsAnswer:
        """The chain's models as they are now, the vouched one first; none at height 0 before the chain has a state."""
        listed = self._query("models")
        return base.decode(ModelsAnswer, listed.value) if listed.ok else ModelsAnswer(0, ())

    def _require_fresh(self, outlook: Outlook) -> None:
        hours = (int(self._now_s()) - outlook.as_of_s) // SECONDS_PER_HOUR
        if hours > MAX_STALE_HOURS:
            what = f"the newest agreed sum of microgrid {outlook.key.microgrid} is {hours} hours old"
            raise NoForecast(what, f"try again when it is at most {MAX_STALE_HOURS} hours old")

    def _make(self, key: ModelKey) -> Outlook:
        kept = self._models.get(key)
        if key.kind == PRICE:
            return self._by_price_model(key)
        if kept is not None:
            return self._by_hub(key, kept)
        if key.kind == DEMAND:
            return self._by_chain_model(key)
        raise self._not_trained(key, "try again later, or ask the operator to import the past")

    def _not_trained(self, key: ModelKey, what_to_do: str) -> NoForecast:
        return NoForecast(self._missing.get(key, f"{key}: the model is not trained yet"), what_to_do)

    def _by_hub(self, key: ModelKey, kept: KeptModel) -> Outlook:
        model, spec = kept.model, kept.spec
        try:
            inputs = inputs_of(self._history, key, FORECAST_HOURS)
            filled = fill(spec, inputs.array)
            almanac = self._almanac_of(inputs.start_step // spec.steps_per_hour)
            forecast = model.forecast(filled.values, inputs.start_step, almanac)
        except ValueError as error:
            raise NoForecast(f"{key}: {error}", "try again when the sums are complete") from error
        assert forecast.quantiles is not None
        floor = -np.inf if key.kind == DEMAND else 0.0  # exports are not below nought
        rows = [np.rint(np.maximum(row, floor)).astype(np.int64) for row in (*forecast.quantiles[0], forecast.mean[0])]
        step_s = SECONDS_PER_HOUR // spec.steps_per_hour
        steps = tuple(
            Step((inputs.end_step + number) * step_s, *(int(value) for value in values))
            for number, values in enumerate(zip(*rows, strict=True))
        )
        as_of_s = inputs.end_step * step_s
        return Outlook(key, BY_HUB, spec.model_id, kept.model_hash, self.height, as_of_s, filled.recent, steps)

    def _by_chain_model(self, key: ModelKey) -> Outlook:
        """What every replica would answer: the agreed model in fixed point over the recorded history."""
        past, agreed = self._query(f"history/{key.microgrid}"), self.agreed().models
        if not past.ok or not agreed:
            raise NoForecast(f"the PPDL chain has no history of microgrid {key.microgrid}", "try again when it has")
        history = base.decode(HistoryAnswer, past.value)
        model = base.decode(ModelAnswer, self._query(f"model/{agreed[0].name.hex()}").value)
        plan = LearningPlan.decode(model.plan)
        spec, end_hour = plan.spec, history.start_hour + len(history.net_wh)
        if spec.horizon_hours < key.horizon_hours:
            raise self._not_trained(
                key, f"ask for {spec.horizon_hours} hours, which the agreed chain model forecasts meanwhile"
            )
        master = master_from_bytes(spec, model.parameters)
        try:
            found = forecast_wh(spec, master, history.net_wh, end_hour, plan.holiday_days, plan.utc_offset_hours)
        except ValueError as error:
            raise NoForecast(f"{key}: {error}", "try again when the chain's history is longer") from error
        rows = zip(*found.quantiles_wh, found.mean_wh, strict=True)
        steps = tuple(Step((end_hour + number) * SECONDS_PER_HOUR, *values) for number, values in enumerate(rows))
        steps = steps[: key.horizon_hours]
        gaps = self._made_up(key.microgrid, end_hour)
        as_of_s = end_hour * SECONDS_PER_HOUR
        return Outlook(key, BY_CHAIN_MODEL, spec.model_id, model.model_hash, past.height, as_of_s, gaps, steps)

    def _by_price_model(self, key: ModelKey) -> Outlook:
        """The chain's model of prices over the past that this hub knows: the genesis' record, then what it read itself."""
        listed = next((item for item in self.agreed().models if item.quantity == PRICE_SPEC.quantity), None)
        if listed is None:
            raise NoForecast(f"{key}: this PPDL chain agrees on no model of prices", "ask a hub of a chain that learns prices")
        known = self._query(f"model/{listed.name.hex()}")
        model, past = base.decode(ModelAnswer, known.value), price_past_of(self._history, key.microgrid)
        plan = LearningPlan.decode(model.plan)
        try:
            rows, gaps = price_forecast(plan, model.parameters, past)
        except ValueError as error:
            raise NoForecast(f"{key}: {error}", "try again when more prices and sums are known") from error
        columns = zip(*(row.tolist() for row in rows), strict=True)
        steps = tuple(Step((past.end_slot + number) * SLOT_SECONDS, *values) for number, values in enumerate(columns))
        untrained = model_hash(plan.spec, initial_master(plan.spec, plan.seed))
        made_by, as_of_s = BY_BASE if model.model_hash == untrained else BY_CHAIN_MODEL, past.end_slot * SLOT_SECONDS
        return Outlook(key, made_by, plan.spec.model_id, model.model_hash, known.height, as_of_s, gaps, steps)

    def _made_up(self, microgrid: int, end_hour: int) -> int:
        """Hours of the chain's latest week that it filled by its rule, as far as this hub can tell: unknown to its history."""
        net = self._history.net(microgrid, FORECAST_HOURS)
        week = range(end_hour - HOURS_PER_WEEK, end_hour)
        return sum(not (0 <= h - net.start_hour < len(net.values)) or net.values[h - net.start_hour] is None for h in week)
