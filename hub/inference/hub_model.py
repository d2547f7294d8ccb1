"""The hub's own forecaster: one model of the sum of a group or of a feeder, trained where that sum is known.

The medians of households do not add up to the median of their sum, so a microgrid's demand has a model of its own, of
the same kind as the homes'. It sees sums only, which the chain publishes anyway.
Rules: weights are kept as the int32 master, so a model has the same kind of name (hash) as those of the chain. Training is
float, in the caller's thread; the same history and seed give the same model on one machine.
The quantiles are widened or narrowed by one factor, so that on the latest weeks, which a first model did not see, four
fifths of the values lie within P10..P90 (split conformal prediction, Romano et al. 2019).
Not here: where the history comes from, when it is trained (`hub.inference.trainer_job`), what is served.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openmg.forecast.features import Almanac, Series, Standard, Windows, build_windows, inputs_and_base
from openmg.forecast.loss import heads, ordered
from openmg.forecast.metrics import Forecast
from openmg.forecast.model import initial_master, to_float
from openmg.forecast.spec import MASTER_SCALE_BITS, ForecastSpec
from openmg.forecast.trainer import AdamState
from openmg.forecast.trainer_numpy import NumpyTrainer
from openmg.learning.quantise import model_hash

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]

HIDDEN = (96, 64)
STEPS = 6_000
BATCH_ROWS = 256
RATE = 2e-3
INPUT_NOISE = 0.15
"""In deviations; keeps some hundred days of one series from being learnt by heart."""
HELD_BACK_WEEKS = 26
MIN_TRAIN_WEEKS = 8
WIDTH_LIMITS = (0.5, 3.0)
SEED = b"openmg-hub-model-1"
REPORT_EVERY = 200
MIN_DEVIATION_WH = 1.0


class HistoryTooShort(ValueError):
    """The sum's history does not suffice; the message says what is missing."""


def hub_spec(quantity: str, hours: int, horizon_hours: int = 24) -> ForecastSpec:
    """The forecaster for a history of that length: the day of the year counts once two years are known."""
    return ForecastSpec(quantity, 60, horizon_hours, hidden=HIDDEN, annual=hours >= 2 * 8766)


@dataclass(frozen=True)
class HubModel:
    """A trained model: int32 master [P], the scale of its series in Wh, and the factor on its quantiles' distance."""

    spec: ForecastSpec
    master: I32
    mean_wh: float
    deviation_wh: float
    width: float

    @property
    def model_hash(self) -> bytes:
        return model_hash(self.spec, self.master)

    def forecast(self, energy_wh: F64, start_step: int, almanac: Almanac) -> Forecast:
        """The H steps after the series, each array with one row, in Wh. ValueError when the latest week has gaps."""
        series = self._series(energy_wh, start_step, almanac)
        inputs, base = inputs_and_base(self.spec, series, np.array([len(energy_wh)]))
        if np.isnan(inputs).any() or np.isnan(base).any():
            raise ValueError("hub model: the latest week has steps without a sum; fill them first")
        return self._answer(inputs.astype(np.float32), base)

    def backtest(self, energy_wh: F64, start_step: int, almanac: Almanac, first: int) -> tuple[F64, Forecast]:
        """Truth and forecasts, in Wh, of every window of the series whose origin is `first` or later."""
        series = self._series(energy_wh, start_step, almanac)
        windows = _windows(self.spec, series, first, len(energy_wh))
        truth = (windows.base + windows.residual).astype(np.float64)
        return self._standard.undo(truth), self._answer(windows.inputs, windows.base.astype(np.float64))

    @property
    def _standard(self) -> Standard:
        return Standard(self.mean_wh, self.deviation_wh)

    def _series(self, energy_wh: F64, start_step: int, almanac: Almanac) -> Series:
        return Series(self._standard.apply(energy_wh), start_step, almanac)

    def _answer(self, inputs: F32, base: F64) -> Forecast:
        mean, quantiles = heads(NumpyTrainer(self.spec).predict(to_float(self.master), inputs))
        spread = widened(ordered(quantiles), self.width)
        undo = self._standard.undo
        return Forecast(undo(base + mean), undo(base[:, None, :] + spread))


def widened(quantiles: F32, width: float) -> F32:
    """P10 and P90 moved away from P50 by a factor."""
    middle = quantiles[:, 1:2]
    return middle + np.float32(width) * (quantiles - middle)


def train_hub_model(
    spec: ForecastSpec,
    energy_wh: F64,
    start_step: int,
    almanac: Almanac,
    progress: Callable[[str], None] = lambda text: None,
    steps: int = STEPS,
) -> HubModel:
    """The model of a history (NaN where a sum is unknown) after `steps` steps.

    Raises HistoryTooShort.
    """
    week = spec.steps_per_week
    if len(energy_wh) < MIN_TRAIN_WEEKS * week:
        raise HistoryTooShort(
            f"hub model: {len(energy_wh) // week} weeks of sums are known, {MIN_TRAIN_WEEKS} are needed; wait or import more"
        )
    try:
        standard = Standard.of(energy_wh, MIN_DEVIATION_WH)
    except ValueError as error:
        raise HistoryTooShort(str(error)) from error
    series = Series(standard.apply(energy_wh), start_step, almanac)
    held_back = min(HELD_BACK_WEEKS, len(energy_wh) // week // 4) * week
    cut = len(energy_wh) - held_back
    first = spec.min_history_steps
    trial = _fit(spec, _windows(spec, series, first, cut), steps, lambda text: progress(f"trial {text}"))
    width = _width(spec, trial, _windows(spec, series, cut, len(energy_wh)))
    weights = _fit(spec, _windows(spec, series, first, len(energy_wh)), steps, progress)
    master = np.rint(weights.astype(np.float64) * 2.0**MASTER_SCALE_BITS).astype(np.int32)
    return HubModel(spec, master, standard.mean_wh, standard.deviation_wh, width)


def _windows(spec: ForecastSpec, series: Series, first: int, end: int) -> Windows:
    windows = build_windows(spec, series, np.arange(first, end - spec.horizon_steps + 1, dtype=np.int64))
    if len(windows) == 0:
        raise HistoryTooShort("hub model: the sums have too many gaps, no day with its week before is whole; import them")
    return windows


def _fit(spec: ForecastSpec, windows: Windows, steps: int, progress: Callable[[str], None]) -> F32:
    trainer, random = NumpyTrainer(spec), np.random.default_rng(list(SEED))
    state = AdamState.start(to_float(initial_master(spec, SEED)))
    for number in range(steps):
        if number % REPORT_EVERY == 0:
            progress(f"step {number} of {steps}")
        rows = random.integers(0, len(windows), BATCH_ROWS)
        inputs = windows.inputs[rows]
        inputs = inputs + np.float32(INPUT_NOISE) * random.standard_normal(inputs.shape, np.float32)
        # A cosine to a hundredth, so that the last steps settle (Loshchilov and Hutter 2017).
        rate = RATE * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * number / steps))))
        state, _ = trainer.step(state, inputs, windows.residual[rows], anchor=state.weights, learning_rate=rate, prox=0.0)
    return state.weights


def _width(spec: ForecastSpec, weights: F32, unseen: Windows) -> float:
    """The factor by which P10 and P90 must lie further from P50 (or nearer), so that 80 % of unseen values lie within."""
    quantiles = ordered(heads(NumpyTrainer(spec).predict(weights, unseen.inputs))[1])
    low, middle, high = quantiles[:, 0], quantiles[:, 1], quantiles[:, 2]
    off = unseen.residual - middle
    side = np.where(off > 0, high - middle, middle - low)
    ratio = np.abs(off) / np.maximum(side, np.float32(1e-6))
    return float(np.clip(np.quantile(ratio, 0.8), *WIDTH_LIMITS))
