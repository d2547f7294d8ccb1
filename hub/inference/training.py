"""One training as a message: what a child process is told, and what it says.

Rules: JSON both ways, one document each; it holds public sums only. Not here: the child (`train_child`), when to train
(`trainer_job`).
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

from hub.inference.hub_model import HubModel, train_hub_model
from hub.inference.models import KeptModel, ModelInputs, ModelKey, spec_from_json, spec_json
from openmg.forecast.features import Almanac
from openmg.forecast.spec import ForecastSpec


class TrainingFailed(Exception):
    """No model came out; the text says why."""


@dataclass(frozen=True)
class TrainingTask:
    """Everything that one training needs; `hour` is when it is (hours since 1970)."""

    key: ModelKey
    spec: ForecastSpec
    inputs: ModelInputs
    almanac: Almanac
    steps: int
    hour: int

    def to_json(self) -> str:
        return json.dumps(
            {
                "key": [self.key.kind, self.key.microgrid, self.key.horizon_hours],
                "spec": spec_json(self.spec),
                "values": self.inputs.values,
                "start_step": self.inputs.start_step,
                "holiday_days": sorted(self.almanac.holiday_days),
                "utc_offset_hours": self.almanac.utc_offset_hours,
                "steps": self.steps,
                "hour": self.hour,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> TrainingTask:
        """Inverse of `to_json`."""
        document = json.loads(text)
        inputs = ModelInputs(tuple(document["values"]), document["start_step"])
        almanac = Almanac(frozenset(document["holiday_days"]), document["utc_offset_hours"])
        spec = spec_from_json(document["spec"])
        return cls(ModelKey(*document["key"]), spec, inputs, almanac, document["steps"], document["hour"])

    def train(self) -> HubModel:
        """The model, in this thread; HistoryTooShort says what is missing."""
        return train_hub_model(self.spec, self.inputs.array, self.inputs.start_step, self.almanac, steps=self.steps)


def kept_to_json(kept: KeptModel) -> str:
    """A trained model as the child's answer."""
    return json.dumps({"master": base64.b64encode(kept.master).decode("ascii"), "scales": kept.scales_json()})


def kept_from_json(task: TrainingTask, text: str) -> KeptModel:
    """The model that a child made of a task; TrainingFailed when it says something else."""
    try:
        document = json.loads(text)
        mean, deviation, width = json.loads(document["scales"])
        master = base64.b64decode(document["master"], validate=True)
        kept = KeptModel(task.key, task.spec, master, int(mean), int(deviation), int(width), task.hour)
        kept.model  # noqa: B018 - ValueError for weights of another length
    except (ValueError, TypeError, KeyError) as error:
        raise TrainingFailed(f"training of {task.key}: the answer cannot be read ({error})") from error
    return kept
