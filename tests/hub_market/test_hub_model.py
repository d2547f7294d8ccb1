"""The hub's model of a sum: better than yesterday, honest quantiles, one name for one model, and what it refuses."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from hub.inference import hub_model
from hub.inference.hub_model import HistoryTooShort, hub_spec, train_hub_model, widened
from openmg.forecast.calendar import KOREA_UTC_OFFSET_HOURS, korean_holidays
from openmg.forecast.features import Almanac

pytestmark = pytest.mark.slow

ALMANAC = Almanac((), 9)
START_HOUR = 490_000
WEEKS = 30


@pytest.fixture(scope="module")
def history() -> np.ndarray:
    """Hourly Wh of a feeder: a daily course, quiet weekends, and weather that lasts for days."""
    random = np.random.default_rng(4)
    hour = np.arange(WEEKS * 168)
    local = (START_HOUR + hour + 9) % 24
    weekend = ((START_HOUR + hour + 9) // 24 + 3) % 7 >= 5
    weather = np.repeat(np.cumsum(random.normal(scale=0.05, size=WEEKS * 7)), 24)
    course = 1 + 0.4 * np.sin((local - 9) / 12 * np.pi) - 0.2 * weekend + weather - weather.mean()
    return 40_000 * np.clip(course, 0.2, None) * random.lognormal(sigma=0.05, size=len(hour))


@pytest.fixture(scope="module")
def model(history: np.ndarray) -> hub_model.HubModel:
    return train_hub_model(hub_spec("demand", len(history)), history[: 26 * 168], START_HOUR, ALMANAC, steps=800)


def test_it_beats_yesterday_and_its_quantiles_hold(history: np.ndarray, model: hub_model.HubModel) -> None:
    split = 26 * 168
    truth, forecast = model.backtest(history, START_HOUR, ALMANAC, split)
    naive = np.abs(history[split:] - history[split - 24 : -24]).mean()
    assert np.abs(forecast.mean - truth).mean() < 0.95 * naive
    assert forecast.quantiles is not None
    inside = (truth >= forecast.quantiles[:, 0]) & (truth <= forecast.quantiles[:, 2])
    assert 0.65 < inside.mean() < 0.93
    assert (np.diff(forecast.quantiles, axis=1) >= 0).all()


def test_the_forecast_is_the_backtest_of_its_hour_and_knows_no_future(history: np.ndarray, model: hub_model.HubModel) -> None:
    origin = 27 * 168
    ahead = model.forecast(history[:origin], START_HOUR, ALMANAC)
    _, all_of_them = model.backtest(history, START_HOUR, ALMANAC, origin)
    assert ahead.mean[0] == pytest.approx(all_of_them.mean[0], rel=1e-5)
    assert ahead.mean.shape == (1, 24) and ahead.quantiles is not None and ahead.quantiles.shape == (1, 3, 24)


def test_one_model_has_one_name(history: np.ndarray, model: hub_model.HubModel) -> None:
    changed = model.master.copy()
    changed[7] += 1
    other = hub_model.HubModel(model.spec, changed, model.mean_wh, model.deviation_wh, model.width)
    assert len(model.model_hash) == 32 and other.model_hash != model.model_hash


def test_widening_moves_the_outer_quantiles_only() -> None:
    quantiles = np.array([[[-1.0], [0.5], [3.0]]], dtype=np.float32)
    assert widened(quantiles, 2.0)[0, :, 0].tolist() == [-2.5, 0.5, 5.5]


def test_short_or_ragged_histories_are_told(history: np.ndarray, model: hub_model.HubModel) -> None:
    spec = hub_spec("demand", 100)
    with pytest.raises(HistoryTooShort, match="7 weeks of sums are known, 8 are needed"):
        train_hub_model(spec, history[: 7 * 168], START_HOUR, ALMANAC)
    with pytest.raises(HistoryTooShort, match="no step of the training span"):
        train_hub_model(spec, np.full(9 * 168, np.nan), START_HOUR, ALMANAC)
    ragged = np.where(np.arange(9 * 168) % 12 == 0, np.nan, history[: 9 * 168])
    with pytest.raises(HistoryTooShort, match="too many gaps"):
        train_hub_model(spec, ragged, START_HOUR, ALMANAC)
    gap = history[: 20 * 168].copy()
    gap[-5] = np.nan
    with pytest.raises(ValueError, match="the latest week has steps without a sum"):
        model.forecast(gap, START_HOUR, ALMANAC)


@pytest.mark.slow
def test_jeju_demand(shared_data: Path) -> None:
    """Goal: 3.2 % of mean absolute percentage error on 2017-01 to 2018-06."""
    with (shared_data / "jeju_power_2010_2019_hourly_MW.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    energy_wh = np.array([[float(row[f"{hour}h"]) for hour in range(1, 25)] for row in rows]).ravel() * 1e6
    start = (date(2010, 1, 1) - date(1970, 1, 1)).days * 24 - KOREA_UTC_OFFSET_HOURS
    split = (date(2017, 1, 1) - date(2010, 1, 1)).days * 24
    almanac = Almanac(frozenset(korean_holidays(2010, 2018)), KOREA_UTC_OFFSET_HOURS)
    found = train_hub_model(hub_spec("demand", split), energy_wh[:split], start, almanac)
    truth, forecast = found.backtest(energy_wh, start, almanac, split)
    assert np.mean(np.abs(forecast.mean - truth) / truth) <= 0.032
