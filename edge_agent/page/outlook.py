"""This home's own forecast, made on its meter from the agreed model: the next day, and yesterday as it was to be expected.

Theory of operation. The model is the newest one that the agent was told (`learning.agreed_file`); where the home has the plan's
training span, the last layer is fitted to it (`learning.personal`). Inputs are strictly as-of: what is said of yesterday uses
nothing that was metered from its midnight on, though model and last layer may have been agreed and fitted later. Missing
steps of the past get stand-ins (`openmg.forecast.gaps`), and how many is told. A forecast follows the home
(`openmg.forecast.drift`): what the same model would have said at the same time of the days before is made again, where the
store knows all that it reads and is about, and its errors move the present one.
Rules: a forecast is of the quantity that the model is about: net energy before the others. Nothing leaves the meter. A forecast
costs FOLLOWED_DAYS more rows at the most, however long the store is.
Not here: the process it runs in (`forecast_child`), when it is asked for (`forecasts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from edge_agent.learning.agreed_file import load_agreed
from edge_agent.learning.personal import personalise
from edge_agent.page.energy import local_day, midnight
from edge_agent.page.history import History
from edge_agent.page.reasons import Unknown
from edge_agent.store import SlotRow
from openmg.forecast import gaps
from openmg.forecast.drift import FOLLOWED_DAYS, corrected
from openmg.forecast.features import (
    MIN_DEVIATION_WH,
    Almanac,
    Series,
    Standard,
    Windows,
    build_windows,
    inputs_and_base,
    series,
)
from openmg.forecast.loss import heads, ordered
from openmg.forecast.model import to_float
from openmg.forecast.quantities import METERED, metered_wh
from openmg.forecast.spec import NET_ENERGY, ForecastSpec
from openmg.forecast.trainer import Trainer
from openmg.forecast.trainer_numpy import NumpyTrainer
from openmg.learning.plan import LearningPlan
from openmg.member.answers import open_notice
from openmg.member.spans import LearnerNotReady, spans_of
from openmg.messages.base import InvalidMessage
from openmg.messages.learning import ModelNotice

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]


@dataclass(frozen=True)
class Agreed:
    """An agreed model whose hashes hold."""

    notice: ModelNotice
    plan: LearningPlan
    master: I32


@dataclass(frozen=True)
class Past:
    """Wh of each step from `first` (steps since 1970, UTC) up to the present one; NaN where it is unknown."""

    first: int
    values: F64


def agreed_model(folder: Path) -> Agreed | None:
    """The model to forecast with: net energy first, then the most rounds; None when there is none that can be used."""
    found = []
    for notice in load_agreed(folder):
        try:
            plan, master = open_notice(notice)
        except InvalidMessage:
            continue
        if plan.spec.quantity in METERED and not plan.spec.channels:
            found.append(Agreed(notice, plan, master))
    return max(found, key=lambda it: (it.plan.spec.quantity == NET_ENERGY.quantity, it.notice.round), default=None)


def outlook(history: History, folder: Path, zone: ZoneInfo, now: float) -> dict[str, Any]:
    """What the page shows at simulated second `now`, as JSON values; `unknown` says why there is no forecast.

    `next` and `yesterday`: rows of [start (Unix s), mean, P10, P50, P90 (Wh)]; `actual`: rows of [start, Wh or null].
    """
    agreed = agreed_model(folder)
    if agreed is None:
        return without(Unknown("no_model"))
    past = _past(history, agreed.plan, now)
    try:
        home = HomeModel(agreed, past)
        following, stand_ins = home.forecast(len(past.values))
    except ValueError as error:
        return without(Unknown("no_week", {"detail": str(error)}))
    spec = agreed.plan.spec
    start = midnight(local_day(now, zone) - timedelta(1), zone)
    return {
        "unknown": None,
        "quantity": spec.quantity,
        "model_id": spec.model_id,
        "round": agreed.notice.round,
        "model_hash": agreed.notice.model_hash.hex(),
        "personal": home.personal,
        "stand_ins": stand_ins,
        "step_seconds": spec.resolution_minutes * 60,
        "next": following,
        **_yesterday(home, past, start // (spec.resolution_minutes * 60) - past.first),
    }


class HomeModel:
    """The agreed model in the units of one home, with its last layer where that does better. ValueError without any history."""

    def __init__(self, agreed: Agreed, past: Past) -> None:
        self._spec, self._past = agreed.plan.spec, past
        self._almanac = Almanac(frozenset(agreed.plan.holiday_days), agreed.plan.utc_offset_hours)
        self._trainer: Trainer = NumpyTrainer(self._spec)
        self._weights, self.personal = to_float(agreed.master), False
        self._standard: Standard | None = None
        try:
            spans = spans_of(agreed.plan, lambda _minutes: (past.first, _known(past.values)))
        except LearnerNotReady:  # the plan's span is not in this home's store: its own past is the scale
            return
        self._standard = spans.standard
        fitted = personalise(self._trainer, agreed.master, spans, int.from_bytes(agreed.notice.model_hash[:4], "big"))
        self._weights, self.personal = fitted.weights, fitted.kept

    def forecast(self, origin: int) -> tuple[list[list[int]], int]:
        """The steps from index `origin` of the past on, and the stand-ins of the week before. ValueError as `gaps.fill`."""
        filled = gaps.fill(self._spec, self._past.values[:origin])
        standard = self._standard or Standard.of(self._past.values[:origin], MIN_DEVIATION_WH / self._spec.steps_per_hour)
        known = Series(standard.apply(filled.values), self._past.first, self._almanac)
        inputs, base = inputs_and_base(self._spec, known, np.array([origin]))
        output = self._trainer.predict(self._weights, inputs.astype(np.float32))
        mean, quantiles = heads(self._followed(standard, origin, output))
        rows = np.vstack([base + mean, base + ordered(quantiles)[0]])
        energy_wh = np.rint(standard.undo(rows)).astype(np.int64)
        seconds = self._spec.resolution_minutes * 60
        starts = [(self._past.first + origin + ahead) * seconds for ahead in range(self._spec.horizon_steps)]
        return [[start, *map(int, column)] for start, column in zip(starts, energy_wh.T, strict=True)], filled.recent

    def _followed(self, standard: Standard, origin: int, output: F32) -> F32:
        """The output [1, 4H] of the forecast from `origin`, corrected by those before it."""
        spec, values = self._spec, standard.apply(self._past.values[:origin])
        before = earlier_windows(spec, Series(values, self._past.first, self._almanac))
        made = self._trainer.predict(self._weights, before.inputs)
        unknown = np.full((1, spec.horizon_steps), np.nan, dtype=np.float32)
        origins = self._past.first + np.append(before.origins, origin)
        return corrected(spec, origins, np.vstack([made, output]), np.vstack([before.residual, unknown]))[-1:]


def earlier_windows(spec: ForecastSpec, known: Series) -> Windows:
    """The latest FOLLOWED_DAYS windows that begin at the time of day at which the series ends, and end before it does.

    Offsets of one time of day come from forecasts of that time alone. A window in which something is unknown is left out.
    """
    latest = len(known.values) - spec.horizon_steps
    origins = latest - np.arange(FOLLOWED_DAYS - 1, -1, -1) * spec.steps_per_day
    return build_windows(spec, known, origins[origins >= spec.min_history_steps])


def _past(history: History, plan: LearningPlan, now: float) -> Past:
    """The series up to the step that `now` is in; what was not metered lately is unknown."""

    def energy_wh(quantity: str, row: SlotRow) -> int:
        return metered_wh(quantity, row.import_wh, row.export_wh)

    minutes = plan.spec.resolution_minutes
    first, values = history.energy_wh(minutes, partial(energy_wh, plan.spec.quantity))
    length = max(0, int(now // (minutes * 60)) - first) if values else 0
    known = list(values[:length]) + [None] * (length - len(values))
    return Past(first, series(known))


def _known(values: F64) -> Sequence[int | None]:
    return [None if np.isnan(value) else int(value) for value in values]


def _yesterday(home: HomeModel, past: Past, origin: int) -> dict[str, Any]:
    try:
        rows, _ = home.forecast(max(0, origin))
    except ValueError as error:
        return {"yesterday": [], "actual": [], "yesterday_unknown": _as_json(Unknown("no_week", {"detail": str(error)}))}
    known = _known(past.values[origin : origin + len(rows)])
    actual = [[row[0], value] for row, value in zip(rows, known, strict=False)]
    return {"yesterday": rows, "actual": actual, "yesterday_unknown": None}


def _as_json(unknown: Unknown) -> dict[str, Any]:
    return {"key": unknown.key, "names": unknown.names}


def without(unknown: Unknown) -> dict[str, Any]:
    """The answer when there is no forecast, and why."""
    return {"unknown": _as_json(unknown), "next": [], "yesterday": [], "actual": [], "yesterday_unknown": _as_json(unknown)}
