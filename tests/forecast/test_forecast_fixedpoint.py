"""The integer twin of the forecaster: equal to the float one within rounding, exact against plain Python integers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import forecast_oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmg.forecast import features, fixedpoint, trainer_numpy
from openmg.forecast.model import initial_master, to_float
from openmg.forecast.spec import FEATURES, HORIZON_HOURS, PARAMETERS

START_HOUR = 494_000
VECTORS = json.loads((Path(__file__).parent / "vectors" / "forecast.json").read_text(encoding="utf-8"))["cases"]


def feeder(seed: int, hours: int, scale_wh: int) -> list[int]:
    random = np.random.default_rng(seed)
    clock = np.arange(hours)
    shape = np.sin(2 * np.pi * clock / 24) - 0.4 * np.cos(2 * np.pi * clock / 168)
    return [round(v) for v in scale_wh * (shape + random.normal(scale=0.3, size=hours))]


@pytest.mark.parametrize(
    ("seed", "hours", "scale_wh"), [(1, 840, 900), (2, 700, 40_000), (3, 200, 5_000_000), (4, 168, 300)]
)
def test_forecast_equals_the_float_forecast(seed: int, hours: int, scale_wh: int) -> None:
    history = feeder(seed, hours, scale_wh)
    master = initial_master(b"fixed point")
    origin_hour = START_HOUR + hours
    holiday = {(origin_hour + 9) // 24}
    answer = fixedpoint.forecast_wh(master, history, origin_hour, holiday)

    standard = features.Standard.of(features.series(history[-fixedpoint.STATISTICS_HOURS :]))
    values = standard.apply(features.series(history))
    inputs, base = features.inputs_and_base(values, START_HOUR, np.array([hours]), holiday)
    output = trainer_numpy.forward(to_float(master), inputs.astype(np.float32))[2]
    expected = (base + output)[0] * standard.deviation_wh + standard.mean_wh
    assert np.abs(np.array(answer) - expected).max() < 1 + 1e-3 * standard.deviation_wh


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_golden_vectors(vector: dict[str, object]) -> None:
    master, history = _master_of(vector), [int(value) for value in vector["history_wh"]]  # type: ignore[attr-defined]
    where = int(vector["origin_hour"]), set(vector["holiday_days"]), int(vector["utc_offset_hours"])  # type: ignore[call-overload]
    assert list(fixedpoint.forecast_wh(master, history, *where)) == vector["forecast_wh"]
    assert forecast_oracle.forecast_wh([int(w) for w in master], history, *where) == vector["forecast_wh"]


def _master_of(vector: dict[str, object]) -> np.ndarray:
    """The published first model of a seed, its weights shifted left; int32 wraps like a hostile model may."""
    seed, shift = str(vector["model_seed"]).encode(), int(vector["model_shift"])  # type: ignore[call-overload]
    return (initial_master(seed).astype(np.int64) << shift).astype(np.int32)


@settings(max_examples=25, deadline=None)
@given(
    hours=st.integers(168, 900),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([0, 1, 30, 5_000, 2**30, 2**40]),
    origin=st.integers(0, 600_000),
    offset=st.integers(-12, 14),
)
def test_equals_the_oracle_bit_for_bit(hours: int, seed: int, scale: int, origin: int, offset: int) -> None:
    random = np.random.default_rng(seed)
    history = [int(value) for value in random.integers(-scale, scale + 1, hours)]
    master = random.integers(-(2**31), 2**31, PARAMETERS).astype(np.int32) >> int(random.integers(0, 14))
    holidays = {(origin + offset) // 24}
    expected = forecast_oracle.forecast_wh([int(w) for w in master], history, origin, holidays, offset)
    assert list(fixedpoint.forecast_wh(master, history, origin, holidays, offset)) == expected


@pytest.mark.parametrize("extreme", [False, True])
def test_the_network_does_not_wrap(extreme: bool) -> None:
    random = np.random.default_rng(8)
    if extreme:
        master = random.choice(np.array([-(2**31), 2**31 - 1]), PARAMETERS).astype(np.int32)
        inputs = random.choice(np.array([-fixedpoint.VALUE_LIMIT, fixedpoint.VALUE_LIMIT]), FEATURES)
    else:
        master = random.integers(-(2**19), 2**19, PARAMETERS).astype(np.int32)
        inputs = random.integers(-(2**18), 2**18, FEATURES)
    expected = forecast_oracle.network([int(w) for w in master], [int(x) for x in inputs])
    assert fixedpoint.forward(master, inputs.astype(np.int64)).tolist() == expected


def test_the_sine_table_is_the_sine() -> None:
    assert list(fixedpoint.SIN_24) == [round(2**16 * math.sin(2 * math.pi * k / 24)) for k in range(24)]


def test_calendar_row_equals_the_float_row() -> None:
    for origin in range(0, 24 * 8, 5):
        hour = START_HOUR + origin
        holidays = {(hour + 9 + 23) // 24}
        row = fixedpoint.calendar_row(hour, holidays, 9)
        expected = features.calendar_rows(START_HOUR, np.array([origin]), holidays, 9)[0]
        assert row / 2**16 == pytest.approx(expected, abs=1e-5)


@settings(max_examples=100, deadline=None)
@given(st.integers(-(2**60), 2**60), st.integers(1, 2**40))
def test_division_rounds_half_up(numerator: int, denominator: int) -> None:
    result = int(fixedpoint.divide_round(np.array(numerator, dtype=np.int64), denominator))
    assert 2 * denominator * result - denominator <= 2 * numerator < 2 * denominator * result + denominator


def test_a_flat_history_forecasts_itself_under_a_zero_model() -> None:
    assert (
        fixedpoint.forecast_wh(np.zeros(PARAMETERS, np.int32), [-750] * 300, START_HOUR, ()) == (-750,) * HORIZON_HOURS
    )


def test_short_or_impossible_histories_are_refused() -> None:
    master = initial_master(b"x")
    with pytest.raises(ValueError, match="167 hours of history; at least 168"):
        fixedpoint.forecast_wh(master, [1] * 167, START_HOUR, ())
    extreme = [fixedpoint.MAX_ENERGY_WH, -fixedpoint.MAX_ENERGY_WH] * 84
    assert len(fixedpoint.forecast_wh(master, extreme, START_HOUR, ())) == HORIZON_HOURS
    with pytest.raises(ValueError, match="exceeds"):
        fixedpoint.forecast_wh(master, [fixedpoint.MAX_ENERGY_WH + 1] * 168, START_HOUR, ())
