"""Counters and electrical values of a simulated meter."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim.homes import STEP_SECONDS
from firmware_sim.meter import Meter

SINCE = 1_000 * STEP_SECONDS


def waves(step: int) -> int:
    return round(2_000 * math.sin(step / 3)) + 100


def test_counters_are_the_exact_integral_of_power() -> None:
    meter = Meter(waves, SINCE, seed=1)
    end = SINCE + 500 * STEP_SECONDS
    counters = meter.counters(end)
    steps = [waves(1_000 + i) * STEP_SECONDS for i in range(500)]
    assert counters.import_ws == sum(e for e in steps if e > 0)
    assert counters.export_ws == -sum(e for e in steps if e < 0)


@given(st.lists(st.floats(0, 700), min_size=1, max_size=40))
def test_counters_only_grow_and_do_not_depend_on_when_they_are_asked(pauses: list[float]) -> None:
    asked, fresh = Meter(waves, SINCE, seed=1), Meter(waves, SINCE, seed=1)
    time, before = float(SINCE), asked.counters(SINCE)
    for pause in pauses:
        time += pause
        after = asked.counters(time)
        assert after.import_ws >= before.import_ws and after.export_ws >= before.export_ws
        before = after
    assert fresh.counters(time) == before


def test_rounded_slots_add_up_to_the_rounded_counters() -> None:
    meter = Meter(waves, SINCE, seed=1)
    counters = [meter.counters(SINCE + i * 900) for i in range(200)]
    slots = [b.import_wh - a.import_wh for a, b in zip(counters, counters[1:], strict=False)]
    assert sum(slots) == counters[-1].import_wh - counters[0].import_wh
    assert abs(counters[-1].import_wh * 3600 - counters[-1].import_ws) <= 1800


def test_phases_add_up_and_obey_the_power_triangle() -> None:
    meter = Meter(waves, SINCE, seed=2)
    for i in range(0, 60, 7):
        v = meter.values(SINCE + i * STEP_SECONDS)
        assert sum(v[f"power_l{p}_w"] for p in (1, 2, 3)) == pytest.approx(v["power_total_w"])
        assert sum(v[f"reactive_l{p}_var"] for p in (1, 2, 3)) == pytest.approx(v["reactive_total_var"])
        assert sum(v[f"energy_import_l{p}_kwh"] for p in (1, 2, 3)) == pytest.approx(v["energy_import_kwh"])
        for p in (1, 2, 3):
            assert 200 < v[f"voltage_l{p}_v"] < 240
            assert v[f"voltage_l{p}_v"] * v[f"current_l{p}_a"] == pytest.approx(v[f"apparent_l{p}_va"])
            assert v[f"apparent_l{p}_va"] ** 2 == pytest.approx(v[f"power_l{p}_w"] ** 2 + v[f"reactive_l{p}_var"] ** 2)
            assert v[f"power_factor_l{p}"] * v[f"apparent_l{p}_va"] == pytest.approx(v[f"power_l{p}_w"])
        assert v["frequency_hz"] == pytest.approx(60, abs=0.05)


def test_time_does_not_run_backwards() -> None:
    meter = Meter(waves, SINCE, seed=1)
    meter.counters(SINCE + 1000)
    with pytest.raises(ValueError, match="backwards"):
        meter.counters(SINCE)
