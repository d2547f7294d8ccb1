"""The integer twin of the forecaster: equal to the float one within rounding, exact against plain Python integers."""

from __future__ import annotations

import json
import math
from typing import Any

import forecast_oracle
import forecast_vectors
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmg.forecast import features, fixedpoint, loss, trainer_numpy
from openmg.forecast.features import Almanac, Series
from openmg.forecast.fixedpoint import IntegerForecast
from openmg.forecast.model import initial_master, to_float
from openmg.forecast.spec import MASTER_SCALE_BITS, MAX_FEATURES, MAX_HIDDEN, NET_ENERGY, ForecastSpec

START_HOUR = 494_000
VECTORS = json.loads(forecast_vectors.FILE.read_text(encoding="utf-8"))["cases"]
SMALL = [ForecastSpec(hidden=(5, 3), level=False)] + [
    ForecastSpec(resolution_minutes=minutes, horizon_hours=horizon, lag_hours=lag, hidden=(5, 3))
    for minutes, horizon, lag in [
        (60, 24, 48), (60, 48, 168), (60, 72, 1), (30, 24, 24), (30, 72, 48), (15, 24, 48), (15, 48, 6), (5, 24, 12),
        (5, 72, 48),
    ]
]  # fmt: skip
IDS = [f"{spec.resolution_minutes}min-{spec.horizon_hours}h{'' if spec.level else '-flat'}" for spec in SMALL]


def feeder(spec: ForecastSpec, seed: int, steps: int, scale_wh: int) -> list[int]:
    random = np.random.default_rng(seed)
    clock = np.arange(steps) / spec.steps_per_hour
    shape = np.sin(2 * np.pi * clock / 24) - 0.4 * np.cos(2 * np.pi * clock / 168)
    return [round(v) for v in scale_wh * (shape + random.normal(scale=0.3, size=steps))]


def some_master(spec: ForecastSpec, seed: int) -> np.ndarray:
    """Weights as training leaves them: hidden layers of the published start, a last layer that is not nought."""
    master = initial_master(spec, b"fixed point")
    change = np.random.default_rng(seed).integers(-(2**17), 2**17, spec.parameters)
    return (master + change // 2).astype(np.int32)


def parts(forecast: IntegerForecast) -> list[list[int]]:
    return [list(forecast.mean_wh), *(list(row) for row in forecast.quantiles_wh)]


@pytest.mark.parametrize("spec", [NET_ENERGY, *SMALL], ids=["net_energy", *IDS])
@pytest.mark.parametrize(("seed", "weeks", "extra", "scale_wh"), [(1, 5, 0, 900), (2, 1, 0.95, 40_000), (3, 3, 0.99, 300)])
def test_forecast_equals_the_float_forecast(spec: ForecastSpec, seed: int, weeks: int, extra: float, scale_wh: int) -> None:
    steps = weeks * spec.steps_per_week + int(extra * spec.steps_per_week)
    start = START_HOUR * spec.steps_per_hour + 7
    history, master = feeder(spec, seed, steps, scale_wh), some_master(spec, seed)
    holiday = {((start + steps) // spec.steps_per_hour + 9) // 24}
    answer = fixedpoint.forecast_wh(spec, master, history, start + steps, holiday)

    statistics = features.series(history[-fixedpoint.STATISTICS_WEEKS * spec.steps_per_week :])
    standard = features.Standard.of(statistics, floor=1.0)
    past = Series(standard.apply(features.series(history)), start, Almanac(holiday))
    inputs, base = features.inputs_and_base(spec, past, np.array([steps]))
    mean, quantiles = loss.heads(trainer_numpy.forward(spec, to_float(master), inputs.astype(np.float32))[2])
    expected = np.vstack([base[0] + mean[0], base[0] + loss.ordered(quantiles)[0]])
    difference = np.abs(np.array(parts(answer)) - standard.undo(expected)).max()
    assert difference < 1 + 1e-3 * standard.deviation_wh


def _spec_of(vector: dict[str, Any]) -> ForecastSpec:
    return ForecastSpec(
        resolution_minutes=vector["resolution_minutes"],
        horizon_hours=vector["horizon_hours"],
        lag_hours=vector["lag_hours"],
        hidden=(vector["hidden_1"], vector["hidden_2"]),
    )


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_golden_vectors(vector: dict[str, Any]) -> None:
    spec = _spec_of(vector)
    weights = forecast_vectors.weights(spec, vector["model_seed"], vector["model_shift"])
    where = vector["origin_step"], set(vector["holiday_days"]), vector["utc_offset_hours"]
    answer = fixedpoint.forecast_wh(spec, np.array(weights, np.int32), vector["history_wh"], *where)
    expected = [vector[name] for name in ("mean_wh", "p10_wh", "p50_wh", "p90_wh")]
    assert parts(answer) == expected
    assert forecast_oracle.forecast_wh(spec, weights, vector["history_wh"], *where) == expected


def test_the_vectors_reach_every_resolution_and_horizon_and_are_of_the_default_model_too() -> None:
    specs = [_spec_of(vector) for vector in VECTORS]
    assert {spec.resolution_minutes for spec in specs} == {60, 30, 15, 5}
    assert {spec.horizon_hours for spec in specs} == {24, 48, 72}
    assert NET_ENERGY in specs


@settings(max_examples=60, deadline=None)
@given(
    spec=st.sampled_from(SMALL),
    weeks=st.floats(1, 5.3),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([0, 1, 30, 5_000, 2**30, 2**40]),
    hour=st.floats(0, 600_000),
    offset=st.integers(-12, 14),
)
def test_equals_the_oracle_bit_for_bit(
    spec: ForecastSpec, weeks: float, seed: int, scale: int, hour: float, offset: int
) -> None:
    random = np.random.default_rng(seed)
    history = [int(value) for value in random.integers(-scale, scale + 1, int(weeks * spec.steps_per_week))]
    master = random.integers(-(2**31), 2**31, spec.parameters).astype(np.int32) >> int(random.integers(0, 14))
    origin = int(hour * spec.steps_per_hour)
    today = (origin // spec.steps_per_hour + offset) // 24
    holidays = {today + int(ahead) for ahead in random.integers(0, spec.target_days + 1, 2)}
    expected = forecast_oracle.forecast_wh(spec, [int(w) for w in master], history, origin, holidays, offset)
    assert parts(fixedpoint.forecast_wh(spec, master, history, origin, holidays, offset)) == expected


@settings(max_examples=40, deadline=None)
@given(spec=st.sampled_from(SMALL[:5]), seed=st.integers(0, 2**32 - 1), shift=st.integers(0, 12))
def test_quantiles_do_not_cross(spec: ForecastSpec, seed: int, shift: int) -> None:
    random = np.random.default_rng(seed)
    master = random.integers(-(2**31), 2**31, spec.parameters).astype(np.int32) >> shift
    history = [int(value) for value in random.integers(-5_000, 5_000, spec.steps_per_week)]
    low, middle, high = fixedpoint.forecast_wh(spec, master, history, START_HOUR, ()).quantiles_wh
    assert all(a <= b <= c for a, b, c in zip(low, middle, high, strict=True))


@pytest.mark.parametrize("spec", [NET_ENERGY, SMALL[-1]], ids=["net_energy", "5min-72h"])
@pytest.mark.parametrize("extreme", [False, True])
def test_the_network_does_not_wrap(spec: ForecastSpec, extreme: bool) -> None:
    random = np.random.default_rng(8)
    if extreme:
        master = random.choice(np.array([-(2**31), 2**31 - 1]), spec.parameters).astype(np.int32)
        inputs = random.choice(np.array([-fixedpoint.VALUE_LIMIT, fixedpoint.VALUE_LIMIT]), spec.features)
        column = master[: spec.sizes[0]].reshape(spec.shapes[0])[:, 0]
        inputs = np.where(column > 0, np.abs(inputs), -np.abs(inputs))  # the largest sum that one cell can reach
    else:
        master = random.integers(-(2**19), 2**19, spec.parameters).astype(np.int32)
        inputs = random.integers(-(2**18), 2**18, spec.features)
    expected = forecast_oracle.network(spec, [int(w) for w in master], [int(x) for x in inputs])
    assert fixedpoint.forward(spec, master, inputs.astype(np.int64)).tolist() == expected


def test_the_largest_sum_fits_63_bits() -> None:
    cells = max(MAX_FEATURES, MAX_HIDDEN)
    largest = cells * fixedpoint.VALUE_LIMIT * fixedpoint.WEIGHT_LIMIT
    assert largest + (fixedpoint.WEIGHT_LIMIT << fixedpoint.VALUE_BITS) + (1 << MASTER_SCALE_BITS - 1) < 2**63


def test_the_sine_table_is_the_sine() -> None:
    for minutes in range(0, 2 * 1440, 5):
        assert fixedpoint.sine(minutes) == round(2**16 * math.sin(2 * math.pi * minutes / 1440)), minutes


@pytest.mark.parametrize("spec", SMALL, ids=IDS)
@pytest.mark.parametrize("utc_offset_hours", [9, -5])
def test_calendar_row_equals_the_float_row(spec: ForecastSpec, utc_offset_hours: int) -> None:
    start = START_HOUR * spec.steps_per_hour
    for origin in range(0, 8 * spec.steps_per_day, 11):
        days = (start + origin + utc_offset_hours * spec.steps_per_hour) // spec.steps_per_day
        for holidays in ({days}, {days + 1}, {days + spec.target_days - 1}):
            row = fixedpoint.calendar_row(spec, start + origin, holidays, utc_offset_hours)
            expected = features.calendar_rows(spec, start, np.array([origin]), Almanac(holidays, utc_offset_hours))[0]
            assert row / 2**16 == pytest.approx(expected, abs=1e-5)


@settings(max_examples=100, deadline=None)
@given(st.integers(-(2**60), 2**60), st.integers(1, 2**40))
def test_division_rounds_half_up(numerator: int, denominator: int) -> None:
    result = int(fixedpoint.divide_round(np.array(numerator, dtype=np.int64), denominator))
    assert 2 * denominator * result - denominator <= 2 * numerator < 2 * denominator * result + denominator


@pytest.mark.parametrize("spec", [NET_ENERGY, *SMALL], ids=["net_energy", *IDS])
def test_a_flat_history_forecasts_itself_under_the_first_model(spec: ForecastSpec) -> None:
    history = [-750] * (spec.steps_per_week + 17)
    forecast = fixedpoint.forecast_wh(spec, initial_master(spec, b"x"), history, START_HOUR, ())
    assert parts(forecast) == [[-750] * spec.horizon_steps] * 4


def test_short_or_impossible_histories_are_refused() -> None:
    master = initial_master(NET_ENERGY, b"x")
    with pytest.raises(ValueError, match="167 steps of history; at least 168"):
        fixedpoint.forecast_wh(NET_ENERGY, master, [1] * 167, START_HOUR, ())
    extreme = [fixedpoint.MAX_ENERGY_WH, -fixedpoint.MAX_ENERGY_WH] * 84
    assert len(fixedpoint.forecast_wh(NET_ENERGY, master, extreme, START_HOUR, ()).mean_wh) == 24
    with pytest.raises(ValueError, match="exceeds"):
        fixedpoint.forecast_wh(NET_ENERGY, master, [fixedpoint.MAX_ENERGY_WH + 1] * 168, START_HOUR, ())


@pytest.mark.parametrize(
    "spec", [ForecastSpec(annual=True), ForecastSpec(channels=("temperature",)), ForecastSpec(persistent=True)]
)
def test_a_model_with_inputs_that_no_chain_records_is_refused(spec: ForecastSpec) -> None:
    with pytest.raises(ValueError, match="takes more than energies and the calendar; vouch for a plain model"):
        fixedpoint.forecast_wh(spec, initial_master(spec, b"x"), [1] * 168, START_HOUR, ())
