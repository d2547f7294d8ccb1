"""Measured households and the file of the past."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import pytest
from edge_kit import Processes
from modbus_oracle import RawModbus

from firmware_sim.config import SimConfig
from firmware_sim.dataset import DatasetError, load_dataset
from firmware_sim.history import write_history
from firmware_sim.neighbourhood import Neighbourhood
from openmg.config import load_toml

Write = Callable[..., tuple[Path, dict[str, int]]]
LONDON = "lcl_2013_80_households_30min.csv.gz"


def write_csv(path: Path, days: int = 70, empty: tuple[int, ...] = ()) -> Path:
    """Two homes, hourly from 1 May 2025: home A uses its hour of the day / 10 kWh, home B is off."""
    lines = ["time,A,B"]
    for hour in range(days * 24):
        stamp = datetime(2025, 5, 1).timestamp() + hour * 3600
        value = "" if hour in empty else f"{(hour % 24) / 10}"
        lines.append(f"{datetime.fromtimestamp(stamp).isoformat(sep=' ')},{value},0")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_rows_become_mean_power_and_unoccupied_homes_are_left_out(tmp_path: Path) -> None:
    dataset = load_dataset(write_csv(tmp_path / "d.csv"))
    assert [column.name for column in dataset.columns] == ["A"]
    column = dataset.columns[0]
    assert column.load_w(column.first + 5 * 3600 + 1800) == 500
    with pytest.raises(DatasetError, match="1 usable homes, 2 are wanted"):
        dataset.column(1)


def test_the_calendar_shifts_by_whole_weeks_onto_the_same_weekday_and_season(tmp_path: Path) -> None:
    dataset = load_dataset(write_csv(tmp_path / "d.csv"))
    shift = dataset.week_shift(date(2026, 6, 15), history_days=35)
    assert shift % (7 * 86_400) == 0
    data_day = date.fromordinal(date(2026, 6, 15).toordinal() - shift // 86_400)
    assert data_day.weekday() == 0 and abs((data_day - date(2025, 6, 15)).days) <= 3
    with pytest.raises(DatasetError, match="longer than the 400 days"):
        dataset.week_shift(date(2026, 6, 15), history_days=400)


def test_past_the_end_the_data_wraps_by_whole_weeks(tmp_path: Path) -> None:
    column = load_dataset(write_csv(tmp_path / "d.csv")).columns[0]
    for beyond in (0, 86_400 * 7 * 3 + 3600 * 5):
        at = column.first + 70 * 86_400 + beyond
        assert column.load_w(at) == round((at - column.first) // 3600 % 24 * 100)
    assert column.load_w(column.first - 3600) == 2300


def test_an_empty_cell_takes_the_value_of_a_week_before_else_after(tmp_path: Path) -> None:
    column = load_dataset(write_csv(tmp_path / "d.csv", empty=(5, 24 * 20 + 7))).columns[0]
    assert column.load_w(column.first + 5 * 3600) == 500
    assert column.load_w(column.first + (24 * 20 + 7) * 3600) == 700


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "0 columns"),
        ("time,A\n2025-01-01,1\n", "has no rows"),
        ("time,A\n2025-01-01 00:00,1\n2025-01-01 01:00,x\n", ":3:"),
        ("time,A\n2025-01-01 00:00,1\n2025-01-01 01:00,1\n2025-01-01 03:00,1\n", ":4: is 7200 s after"),
        ("time,A\n2025-01-01 00:00,1\n2025-01-01 01:00\n", ":3: has 1 columns"),
        ("time,A\n2025-01-01 00:00,1\n2025-01-01 00:07,1\n", "420 s apart"),
        ("time,A\n2025-01-01 00:00,1\n2025-01-01 01:00,1\n", "shorter than a week"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match="bad.csv") as caught:
        load_dataset(path)
    assert words in str(caught.value)


def test_the_past_ends_where_the_meter_begins(sim_file: Write, tmp_path: Path) -> None:
    config = load_toml(sim_file(3, history_days=3)[0], SimConfig)
    live = Neighbourhood(config)
    for path in write_history(Neighbourhood(config), tmp_path / "past"):
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        assert len(rows) == 3 * 96
        assert rows[0]["time"] == "2026-06-12T10:00:00+09:00" and rows[-1]["time"] == "2026-06-15T09:45:00+09:00"
        counters = live.meter(path.stem).counters(config.start)
        assert sum(int(row["import_wh"]) for row in rows) == counters.import_wh == int(rows[-1]["import_total_wh"])
        assert sum(int(row["export_wh"]) for row in rows) == counters.export_wh == int(rows[-1]["export_total_wh"])


def test_a_simulator_on_measured_data_follows_it(sim_file: Write, tmp_path: Path) -> None:
    write_csv(tmp_path / "d.csv")
    text = sim_file(2, extra='data = "d.csv"')[0]
    text.write_text(text.read_text(encoding="utf-8").replace('"prosumer"', '"producer"'), encoding="utf-8")
    config = load_toml(text, SimConfig)
    model = Neighbourhood(config)
    assert model.meter("home-2").power_w(config.start) == 1000  # ten o'clock in the data is ten o'clock here
    assert model.meter("home-2").power_w(config.start + 9 * 3600) == 1900


@pytest.mark.slow
@pytest.mark.london
def test_london_homes_serve_a_whole_demonstration(sim_file: Write, shared_data: Path, tmp_path: Path) -> None:
    if not (shared_data / LONDON).exists():
        pytest.skip("the London households are not in the shared data")
    dataset = load_dataset(shared_data / LONDON)
    assert len(dataset.columns) >= 60
    assert "MAC000037" not in {column.name for column in dataset.columns}  # 99 % zeros
    rows = [len(column.energy_wh) for column in dataset.columns]
    assert set(rows) == {17_520} and min(min(column.energy_wh) for column in dataset.columns) == 0
    shift = dataset.week_shift(date(2026, 6, 15), 35)
    assert date.fromordinal(date(2026, 6, 15).toordinal() - shift // 86_400) == date(2013, 6, 17)
    config = load_toml(sim_file(3, extra=f'data = "{shared_data / LONDON}"', history_days=35)[0], SimConfig)
    totals = {}
    for path in write_history(Neighbourhood(config), tmp_path / "past", ("home-2",)):
        totals[path.stem] = int(list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))[-1]["import_total_wh"])
    column, first = dataset.columns[1], config.since + config.sim.utc_offset_seconds - shift
    rows_used = range((first - column.first) // 1800, (first - column.first) // 1800 + 35 * 48)
    assert totals["home-2"] == pytest.approx(sum(column.energy_wh[i] for i in rows_used), abs=1)


def test_one_process_writes_the_past_and_then_serves_what_follows(
    sim_file: Write, tmp_path: Path, processes: Processes
) -> None:
    path, ports = sim_file(3, speed=1.0)
    arguments = ("--config", str(path), "--history", str(tmp_path / "p"), "--serve")
    process = processes.python("firmware_sim.cli", *arguments, stdout=subprocess.PIPE)
    assert process.stdout is not None
    said = [process.stdout.readline().strip() for _ in range(5)]
    assert [Path(line).stem for line in said[:4]] == ["home-1", "home-2", "home-3", "feeder-1"]
    assert said[4].startswith("serving 4 meters")
    rows = list(csv.DictReader((tmp_path / "p" / "home-2.csv").read_text(encoding="utf-8").splitlines()))
    reader = RawModbus(ports["home-2"])
    assert reader.floats(0x48, 1)[0] * 1000 == pytest.approx(int(rows[-1]["import_total_wh"]), abs=5)
    reader.close()
    process.terminate()
    assert process.wait(10) == 0
