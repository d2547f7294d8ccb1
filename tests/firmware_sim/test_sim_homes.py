"""Synthetic homes and sun: shapes, determinism and balance."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from firmware_sim.homes import STEP_SECONDS, Home, fleet, household_load_w, step_of
from firmware_sim.sun import Sky, local_day, pv_w, sine_of_elevation

T0 = 1_781_485_200  # 2026-06-15 10:00 in Seoul, a Monday
MIDNIGHT = T0 - 10 * 3600
DAY_STEPS = range(MIDNIGHT, MIDNIGHT + 86_400, STEP_SECONDS)


def day_wh(power: object) -> float:
    return sum(power(t) for t in DAY_STEPS) * STEP_SECONDS / 3600  # type: ignore[operator]


def test_twelve_homes_are_nine_prosumers_one_producer_two_consumers_in_two_microgrids() -> None:
    homes = fleet(12, seed=1)
    kinds = [home.kind for home in homes]
    assert (kinds.count("prosumer"), kinds.count("producer"), kinds.count("consumer")) == (9, 1, 2)
    assert [home.microgrid for home in homes] == [1] * 6 + [2] * 6
    for microgrid in (1, 2):
        assert "consumer" in {home.kind for home in homes if home.microgrid == microgrid}
    assert [home.name for home in homes] == [f"home-{i}" for i in range(1, 13)]
    assert all((home.pv_peak_w == 0) == (home.kind == "consumer") for home in homes)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9, 10, 24, 100])
def test_any_number_of_homes_has_distinct_seeds(count: int) -> None:
    homes = fleet(count, seed=7)
    assert len(homes) == count == len({home.seed for home in homes})
    assert {home.microgrid for home in homes} == ({1} if count < 10 else {1, 2})


def test_a_household_uses_what_korean_flats_use_and_peaks_in_the_evening() -> None:
    for home in fleet(24, seed=3):
        if home.kind == "producer":
            continue
        assert 4_000 < day_wh(lambda t, h=home: household_load_w(h, t)) < 20_000
        night = sum(household_load_w(home, MIDNIGHT + 3 * 3600 + k * STEP_SECONDS) for k in range(20))
        evening = max(
            sum(household_load_w(home, MIDNIGHT + hour * 3600 + k * STEP_SECONDS) for k in range(20)) for hour in range(18, 23)
        )
        assert evening > 2 * night


def test_neighbours_differ_and_each_day_differs() -> None:
    first, second = fleet(2, seed=1)
    today = [household_load_w(first, t) for t in DAY_STEPS]
    assert today != [household_load_w(second, t) for t in DAY_STEPS]
    assert today != [household_load_w(first, t + 86_400) for t in DAY_STEPS]


def test_panels_give_nothing_at_night_and_most_around_half_past_twelve() -> None:
    home, sky = Home("h", "producer", 1, 5, 10_000), Sky(1, local_day(T0))
    assert pv_w(home, sky, MIDNIGHT) == pv_w(home, sky, MIDNIGHT + 22 * 3600) == 0
    noon = max(DAY_STEPS, key=lambda t: pv_w(home, sky, t))
    assert abs(noon - (MIDNIGHT + 12 * 3600 + 33 * 60)) < 3600
    assert 7_000 < pv_w(home, sky, noon) < 9_000
    # 37.57 N on 15 June: the noon sun stands at 90 - 37.57 + 23.3 degrees (sine 0.969).
    assert sine_of_elevation(sky, MIDNIGHT + 12.55 * 3600) == pytest.approx(0.969, abs=0.004)


def test_the_declared_day_is_clear_and_other_days_have_clouds() -> None:
    home, sky = Home("h", "producer", 1, 5, 10_000), Sky(1, local_day(T0))
    clear = sum(pv_w(home, sky, t) for t in DAY_STEPS)
    others = [sum(pv_w(home, sky, t - day * 86_400) for t in DAY_STEPS) for day in range(1, 36)]
    assert all(energy <= clear * 1.02 for energy in others)
    assert min(others) < 0.5 * clear and sorted(others)[17] > 0.5 * clear


def test_power_is_constant_within_a_step() -> None:
    home, sky = fleet(1, seed=1)[0], Sky(1, 0)
    start = step_of(T0) * STEP_SECONDS
    assert len({household_load_w(home, start + s) for s in (0, 1, 90.5, 179.99)}) == 1
    assert len({pv_w(home, sky, start + s) for s in (0, 1, 90.5, 179.99)}) == 1


def test_two_processes_agree_whatever_their_hash_seed(repo_root: Path) -> None:
    program = (
        "from firmware_sim.homes import *; from firmware_sim.sun import *; s=Sky(3, 20000)\n"
        f"print([(household_load_w(h, {T0}+k*180), pv_w(h, s, {T0}+k*180)) for h in fleet(3, 9) for k in range(50)])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(repo_root)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_a_home_of_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind 'castle' is unknown"):
        Home("h", "castle", 1, 1, 0)
