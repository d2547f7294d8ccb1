"""The scores of a run: one row for each model, over honest homes and the test window.

nmae, mase, pinball and coverage_p10_p90 come from the quantile head (nmae and mase of its median); nrmse and
aggregate_mape from the mean head. Methods without quantiles have null there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openmg.forecast.metrics import Forecast, Score, aggregate_mape, mean_score, score
from workbench.ppdl_train.homes import Home
from workbench.ppdl_train.households import Excluded
from workbench.ppdl_train.private_rounds import NO_PRIVACY, PrivacyReport

DIGITS = 5


@dataclass(frozen=True)
class ModelScore:
    """A model's scores and, by home, its nmae."""

    score: Score
    aggregate_mape: float
    nmae_of_home: Mapping[str, float]

    def row(self) -> dict[str, Any]:
        """As in the JSON."""
        mean = self.score
        values = {
            "nmae": mean.nmae,
            "mase": mean.mase,
            "pinball": mean.pinball,
            "coverage_p10_p90": mean.coverage,
            "nrmse": mean.nrmse,
            "aggregate_mape": self.aggregate_mape,
        }
        return {name: None if value is None else round(value, DIGITS) for name, value in values.items()}


def score_model(homes: Sequence[Home], forecasts: Sequence[Forecast]) -> ModelScore:
    """The mean over homes of each home's score, and the error of their sum."""
    truths = [home.truth_wh for home in homes]
    scores = [
        score(truth, forecast, home.naive_error_wh) for home, truth, forecast in zip(homes, truths, forecasts, strict=True)
    ]
    mape = aggregate_mape(truths, [item.mean for item in forecasts], [home.spans.held_out.origins for home in homes])
    return ModelScore(mean_score(scores), mape, {home.name: item.nmae for home, item in zip(homes, scores, strict=True)})


@dataclass(frozen=True)
class TrainResult:
    """Everything a run found. `models` in the order federated, personalised, centralised, local_only, seasonal_naive,
    mean_7day."""

    models: Mapping[str, ModelScore]
    homes: int
    hostile: int
    excluded: tuple[Excluded, ...]
    personal_layers: int
    backdoor_success: float | None
    bytes_sent: int
    rejected: Mapping[str, int]
    capped: int
    seconds: float
    parameters: int
    model_id: str
    privacy: PrivacyReport = NO_PRIVACY

    def row(self) -> dict[str, Any]:
        """One JSON object."""
        return {
            **{name: model.row() for name, model in self.models.items()},
            "model_id": self.model_id,
            "parameters": self.parameters,
            "homes": self.homes,
            "hostile_homes": self.hostile,
            "excluded": [{"home": item.name, "reason": item.reason} for item in self.excluded],
            "personal_layers_kept": self.personal_layers,
            "backdoor_success": self.backdoor_success,
            "bytes_sent": self.bytes_sent,
            "rejected": dict(sorted(self.rejected.items())),
            "capped": self.capped,
            "privacy": self.privacy.row(),
            "seconds": round(self.seconds, 1),
        }
