"""A picture of a run: the error of each model, and three days of one home's forecast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workbench.ppdl_train.options import OptionError

if TYPE_CHECKING:
    from workbench.ppdl_train.run import Run

DAYS_SHOWN = 3
SUFFIXES = (".png", ".svg", ".pdf")


def draw(run: Run, path: Path) -> None:
    """Writes the picture; OptionError for another kind of file or without matplotlib."""
    if path.suffix.lower() not in SUFFIXES:
        raise OptionError(f"--plot {path} is not a picture; name it with {', '.join(SUFFIXES)}")
    try:
        import matplotlib.figure
    except ImportError as error:
        raise OptionError("--plot needs matplotlib; install it, or leave --plot out") from error
    figure = matplotlib.figure.Figure(figsize=(11, 4.2), layout="constrained")
    bars, days = figure.subplots(1, 2, width_ratios=(1, 2))
    models = run.result.models
    values = [model.score.nmae for model in models.values()]
    bars.barh(range(len(values)), values, color="#3b6ea5")
    bars.set_yticks(range(len(values)), [name.replace("_", " ") for name in models])
    bars.invert_yaxis()
    bars.set_xlabel("mean absolute error / mean load")
    for place, value in enumerate(values):
        bars.text(value, place, f" {value:.3f}", va="center")
    bars.set_xlim(0, max(values) * 1.18)
    example, horizon = run.example, run.example.truth_wh.shape[1]
    rows = np.arange(0, min(DAYS_SHOWN * horizon, len(example.truth_wh)), horizon)
    steps = np.arange(len(rows) * horizon)
    quantiles = example.forecast.quantiles
    if quantiles is not None:
        low, middle, high = (quantiles[rows, place].ravel() for place in range(3))
        days.fill_between(steps, low, high, color="#3b6ea5", alpha=0.25, label="P10 to P90")
        days.plot(steps, middle, color="#3b6ea5", label="P50, a day ahead")
    days.plot(steps, example.truth_wh[rows].ravel(), color="black", linewidth=1, label="used")
    days.set_xlabel("steps from the start of the test window")
    days.set_ylabel("Wh a step")
    days.set_title(example.home)
    days.legend()
    figure.savefig(path)
