"""Batteries and cars: energy is conserved, limits hold, sessions lie in the evening; and the sun against pvlib."""

from __future__ import annotations

import math
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim.assembly import street_config
from firmware_sim.car import CHARGER_W, car_w, session
from firmware_sim.config import ClockConfig, HomeConfig, SimSection
from firmware_sim.homes import KINDS, STEP_SECONDS, Home, street
from firmware_sim.installation import HomeMeter
from firmware_sim.neighbourhood import Neighbourhood
from firmware_sim.storage import Battery, BatteryCourse
from firmware_sim.sun import Sky, sine_of_elevation

T0 = 1_781_485_200  # 2026-06-15 10:00 in Seoul
MIDNIGHT = T0 - 10 * 3600
# Elevation of the sun (degrees) over 37.57 N 126.98 E by pvlib 0.16.1 (NREL SPA), at hours of 15 June, 15 December and
# 18 September 2026.
PVLIB_DEG = {
    1781449200: -28.675, 1781470800: 7.952, 1781478000: 30.827, 1781485200: 54.475, 1781492400: 74.123,
    1781503200: 55.448, 1781514000: 20.142, 1797289200: 2.688, 1797296400: 20.044, 1797303600: 28.837,
    1797314400: 19.336, 1797321600: 1.676, 1789682400: 7.849, 1789700400: 53.811, 1789722000: 6.298,
}  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(-9_000, 9_000), min_size=1, max_size=200),
    st.integers(1_000, 20_000),
    st.integers(500, 8_000),
)
def test_what_goes_into_a_battery_is_stored_or_lost_to_the_watt_second(net: list[int], capacity_wh: int, limit_w: int) -> None:
    battery = Battery(capacity_wh, limit_w)
    course = BatteryCourse(battery, lambda step: net[step], 0)
    for step, net_w in enumerate(net):
        power, before = course.charge_w(step), course.stored_ws(step)
        after = battery.stored_after_ws(before, power)
        assert battery.reserve_ws <= after <= battery.capacity_ws
        assert abs(power) <= limit_w
        if power > 0:
            assert power <= -net_w and after - before == power * STEP_SECONDS * 95 // 100
        else:
            assert -power <= max(net_w, 0) and before - after == math.ceil(-power * STEP_SECONDS * 100 / 95)
        if step + 1 < len(net):
            assert course.stored_ws(step + 1) == after
    fresh = BatteryCourse(battery, lambda step: net[step], 0)
    assert fresh.charge_w(len(net) - 1) == course.charge_w(len(net) - 1), "the order of questions does not matter"
    with pytest.raises(ValueError, match="begins at step 0"):
        course.charge_w(-1)


def test_a_home_battery_is_filled_by_the_sun_and_emptied_in_the_evening() -> None:
    config = street_config(3, ClockConfig(MIDNIGHT, 0.0), SimSection(history_days=0))
    meter = Neighbourhood(config).meter("meter-3")
    assert isinstance(meter, HomeMeter)
    percent = [meter.all_values(MIDNIGHT + hour * 3600)["battery_soc_percent"] or 0.0 for hour in range(24)]
    assert percent[6] == pytest.approx(10, abs=1) and max(percent[12:18]) > 60 and percent[23] < max(percent) - 10
    course = meter.installation.battery
    assert course is not None
    steps = range(MIDNIGHT // STEP_SECONDS, MIDNIGHT // STEP_SECONDS + 480)
    made = meter.installation.made_w
    assert made is not None and sum(made(s) for s in steps) > 0
    assert any(course.charge_w(s) > 0 for s in steps) and any(course.charge_w(s) < 0 for s in steps)


def test_a_car_is_charged_in_the_evening_with_the_energy_its_trips_used() -> None:
    home = Home("h", "ev", 1, 77, 0)
    days = range(20_619, 20_719)
    sessions = [s for day in days if (s := session(home, day)) is not None]
    assert 60 < len(sessions) < 95
    for charge in sessions:
        assert 17 * 20 <= charge.first_step < 21 * 20 and max(charge.watts) == CHARGER_W
        assert 15 * 165 - 1 <= charge.energy_wh <= 70 * 165
    first, last = days[0] * 86_400 - 9 * 3600, (days[-1] + 2) * 86_400 - 9 * 3600
    drawn = sum(car_w(home, t) for t in range(first, last - 86_400, STEP_SECONDS)) * STEP_SECONDS / 3600
    beyond = session(home, days[0] - 1)
    left_over = sum(beyond.watts[480 - beyond.first_step :]) * STEP_SECONDS / 3600 if beyond else 0.0
    cut = session(home, days[-1])
    late = sum(cut.watts[480 - cut.first_step :]) * STEP_SECONDS / 3600 if cut else 0.0
    assert drawn == pytest.approx(sum(s.energy_wh for s in sessions) + left_over - late, abs=0.1)
    assert car_w(Home("h", "consumer", 1, 77, 0), MIDNIGHT + 20 * 3600) == 0


def test_a_street_has_homes_of_all_kinds_and_its_meters_balance() -> None:
    homes = street(24, seed=2)
    assert {home.kind for home in homes} == set(KINDS)
    assert all((home.battery_wh > 0) == (home.kind == "battery") for home in homes)
    config = street_config(24, ClockConfig(T0, 0.0), SimSection(history_days=0))
    model = Neighbourhood(config)
    for name, installation in model.installations.items():
        counters = model.meter(name).counters(config.start + 40 * STEP_SECONDS)
        first = config.start // STEP_SECONDS
        net_ws = sum(installation.net_w(first + i) for i in range(40)) * STEP_SECONDS
        assert counters.import_ws - counters.export_ws == net_ws, name


@pytest.mark.parametrize(("kind", "battery_wh"), [("prosumer", 5_000), ("battery", 0), ("ev", 1)])
def test_a_battery_belongs_to_its_kind_of_home(kind: str, battery_wh: int) -> None:
    with pytest.raises(ValueError, match="battery_wh"):
        HomeConfig("h", kind, 1, 1, 0, 0, battery_wh)
    assert HomeConfig("h", kind, 1, 1, 0).home().battery_wh == (10_000 if kind == "battery" else 0)


def test_the_sun_stands_where_an_independent_library_says() -> None:
    sine = partial(sine_of_elevation, Sky(1, 0))
    for moment, elevation_deg in PVLIB_DEG.items():
        expected = max(0.0, math.sin(math.radians(elevation_deg)))
        assert sine(moment) == pytest.approx(expected, abs=0.03), moment
