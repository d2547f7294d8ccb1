"""What a hub forecasts, with which forecasters of its own, what they are trained on, and where they are kept.

kind          what is forecast                                             steps
demand        net energy of the microgrid: import less export, in Wh       24, 48 or 72 hours
generation    energy that its homes export, in Wh                          24, 48 or 72 hours
price         price of its pool in wei per Wh                              96 slots
Of demand and generation a hub has models of its own; the model of prices is the chain's, and none of them.
Rules: a model is one ForecastSpec and one microgrid. It is kept as integers: the int32 master, and mean, deviations and width
rounded to thousandths and millionths; what is served is always the kept form, so that model hash and answer belong together.
Not here: training (`hub_model`, `trainer_job`), answers (`desk`), forecasts of prices (`agreed_price`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub.inference.database import Database
from hub.inference.history import MAX_HOURS, HistoryStore
from hub.inference.hub_model import HubModel, hub_spec
from hub.learning.price_past import PoolPast, pool_past
from openmg.forecast.features import series
from openmg.forecast.model import master_bytes, master_from_bytes
from openmg.forecast.spec import HORIZONS_HOURS, HOURS_PER_DAY, HOURS_PER_WEEK, PROFILE_WEEKS, ForecastSpec
from openmg.units import SLOTS_PER_HOUR

F64 = NDArray[np.float64]

DEMAND, GENERATION, PRICE = "demand", "generation", "price"
KINDS = (DEMAND, GENERATION, PRICE)
QUANTITIES = {DEMAND: "net_energy", GENERATION: "generation"}
MILLI, MICRO = 1_000, 1_000_000
FORECAST_HOURS = (PROFILE_WEEKS + 1) * HOURS_PER_WEEK
"""The same-weekday profile reads four weeks back, for a price's slots that may end some days before the net energy."""

_SCHEMA = """
CREATE TABLE models (
    kind TEXT NOT NULL, microgrid INTEGER NOT NULL, horizon_hours INTEGER NOT NULL, spec TEXT NOT NULL,
    master BLOB NOT NULL, scales TEXT NOT NULL, model_hash BLOB NOT NULL, trained_hour INTEGER NOT NULL,
    PRIMARY KEY (kind, microgrid, horizon_hours)) WITHOUT ROWID
"""
_VERSION = 1


@dataclass(frozen=True, slots=True)
class ModelKey:
    """One forecaster of one microgrid. ValueError for one that does not exist."""

    kind: str
    microgrid: int
    horizon_hours: int

    def __post_init__(self) -> None:
        horizons = (HOURS_PER_DAY,) if self.kind == PRICE else HORIZONS_HOURS
        if self.kind not in KINDS or self.horizon_hours not in horizons or self.microgrid < 1:
            raise ValueError(f"models: there is no model {self!r}")

    @property
    def steps_per_hour(self) -> int:
        return SLOTS_PER_HOUR if self.kind == PRICE else 1

    def __str__(self) -> str:
        return f"{self.kind} of microgrid {self.microgrid}, {self.horizon_hours} h"


def spec_of(key: ModelKey, known_hours: int) -> ForecastSpec:
    """The shape for a history of that length."""
    return hub_spec(QUANTITIES[key.kind], known_hours, key.horizon_hours)


def model_keys(microgrids: Sequence[int], horizons_hours: Sequence[int]) -> tuple[ModelKey, ...]:
    """All models of these microgrids, in the order in which they are trained."""
    kinds = [(kind, horizon) for kind in (DEMAND, GENERATION) for horizon in horizons_hours]
    return tuple(ModelKey(kind, microgrid, horizon) for kind, horizon in kinds for microgrid in microgrids)


@dataclass(frozen=True)
class ModelInputs:
    """What is known for a model: energies in Wh from `start_step` on (hours since 1970; None is a gap)."""

    values: tuple[int | None, ...]
    start_step: int

    @property
    def end_step(self) -> int:
        return self.start_step + len(self.values)

    @property
    def array(self) -> F64:
        return series(self.values)


def inputs_of(history: HistoryStore, key: ModelKey, latest_hours: int = MAX_HOURS) -> ModelInputs:
    """The public past that the model sees, or its latest hours: a forecast reads FORECAST_HOURS back, training everything."""
    past = (history.net if key.kind == DEMAND else history.exported)(key.microgrid, latest_hours)
    return ModelInputs(past.values, past.start_hour)


def price_past_of(history: HistoryStore, microgrid: int) -> PoolPast:
    """What a forecast of prices reads, up to the last hour of which the net energy is known."""
    prices = history.prices(microgrid, FORECAST_HOURS * SLOTS_PER_HOUR)
    net = history.net(microgrid, FORECAST_HOURS)
    return pool_past(prices.start_hour, prices.values, net.start_hour, net.values)


@dataclass(frozen=True)
class KeptModel:
    """A trained model as integers, and the hour (since 1970) in which it was trained."""

    key: ModelKey
    spec: ForecastSpec
    master: bytes
    mean_milli: int
    deviation_milli: int
    width_micro: int
    trained_hour: int

    @classmethod
    def of(cls, key: ModelKey, model: HubModel, trained_hour: int) -> KeptModel:
        """The kept form; deviations stay above nought because those of a model are at least 1."""
        scales = round(model.mean_wh * MILLI), round(model.deviation_wh * MILLI), round(model.width * MICRO)
        return cls(key, model.spec, master_bytes(model.master), *scales, trained_hour)

    @cached_property
    def model_hash(self) -> bytes:
        return self.model.model_hash

    @cached_property
    def model(self) -> HubModel:
        """The model to forecast with."""
        return HubModel(
            self.spec,
            master_from_bytes(self.spec, self.master),
            self.mean_milli / MILLI,
            self.deviation_milli / MILLI,
            self.width_micro / MICRO,
        )

    def scales_json(self) -> str:
        return json.dumps([self.mean_milli, self.deviation_milli, self.width_micro])


def spec_json(spec: ForecastSpec) -> str:
    return json.dumps(asdict(spec))


def spec_from_json(text: str) -> ForecastSpec:
    """Inverse of `spec_json`; ValueError for one that breaks the bounds."""
    fields: dict[str, Any] = json.loads(text)
    hidden, channels = fields.pop("hidden"), fields.pop("channels")
    return ForecastSpec(**fields, hidden=(int(hidden[0]), int(hidden[1])), channels=tuple(channels))


class ModelStore:
    """The newest model of each key; made when missing. Calls may come from any thread. Raises InferenceStoreError."""

    def __init__(self, path: Path) -> None:
        self._db = Database(path, _SCHEMA, _VERSION)

    def close(self) -> None:
        self._db.close()

    def keep(self, kept: KeptModel) -> None:
        """Put a model in the place of the key's last one."""
        key = kept.key
        row = (key.kind, key.microgrid, key.horizon_hours, spec_json(kept.spec), kept.master, kept.scales_json())
        with self._db.transaction() as db:
            sql = "INSERT OR REPLACE INTO models VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            db.execute(sql, (*row, kept.model_hash, kept.trained_hour))

    def all(self) -> dict[ModelKey, KeptModel]:
        """Every kept model that can still be read and whose weights have the hash under which they were kept."""
        sql = "SELECT kind, microgrid, horizon_hours, spec, master, scales, model_hash, trained_hour FROM models"
        found = (_kept(row) for row in self._db.rows(sql))
        return {kept.key: kept for kept in found if kept is not None}


def _kept(row: tuple[object, ...]) -> KeptModel | None:
    """A row's model; None for one of another version or with other weights: it is trained again."""
    kind, microgrid, horizon, spec, master, scales, name, trained = row
    assert isinstance(master, bytes)
    try:
        key = ModelKey(str(kind), int(str(microgrid)), int(str(horizon)))
        mean, deviation, width = json.loads(str(scales))
        kept = KeptModel(key, spec_from_json(str(spec)), master, mean, deviation, width, int(str(trained)))
        return kept if kept.model_hash == name else None
    except (ValueError, TypeError, KeyError):
        return None
