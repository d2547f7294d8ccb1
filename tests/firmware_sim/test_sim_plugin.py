"""The pytest plugin: its fixtures on real sockets, in somebody else's test run, without weight for who does not use it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from modbus_oracle import RawModbus

from firmware_sim.pytest_plugin import ServedMeter, ServedMicrogrid

LIGHT = """
import sys
import pytest
before = set(sys.modules)
import firmware_sim.pytest_plugin
print(*sorted(set(sys.modules) - before))
"""


def test_the_example_in_the_documentation_runs_in_somebody_elses_project(tmp_path: Path, repo_root: Path) -> None:
    shutil.copy(repo_root / "docs" / "examples" / "test_my_reader.py", tmp_path)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "firmware_sim.pytest_plugin", str(tmp_path)],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={"PYTHONPATH": str(repo_root), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    assert result.returncode == 0 and "4 passed" in result.stdout, result.stdout + result.stderr


def test_the_plugin_is_registered_and_loads_nothing_heavy(repo_root: Path) -> None:
    project = tomllib.loads((repo_root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"openmg": "firmware_sim.pytest_plugin"}
    result = subprocess.run([sys.executable, "-c", LIGHT], cwd=repo_root, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["firmware_sim", "firmware_sim.pytest_plugin"], result.stdout


def test_time_stands_still_until_it_is_moved(openmg_meter: Callable[..., ServedMeter]) -> None:
    meter = openmg_meter()
    reader = RawModbus(meter.port)
    first = reader.floats(0x48, 2)
    assert reader.floats(0x48, 2) == first
    meter.advance(8 * 3600)
    later = reader.floats(0x48, 2)
    assert sum(later) > sum(first)
    assert later[0] == pytest.approx(meter.values()["energy_import_kwh"], rel=1e-6)
    with pytest.raises(ValueError, match="cannot go back"):
        meter.advance(-1)
    reader.close()


def test_a_microgrids_feeder_is_the_sum_of_its_homes(openmg_microgrid: Callable[..., ServedMicrogrid]) -> None:
    grid = openmg_microgrid(homes=5)
    assert [home.names for home in grid.homes] == [(f"meter-{i}",) for i in range(1, 6)]
    for _ in range(3):
        total = 0.0
        for meter in grid.homes:
            reader = RawModbus(meter.port)
            total += reader.floats(0x34, 1)[0]
            reader.close()
        feeder = RawModbus(grid.feeder.port)
        assert feeder.floats(0x34, 1)[0] == total
        feeder.close()
        grid.advance(3600)


def test_a_wrong_request_to_the_factory_is_said(openmg_meter: Callable[..., ServedMeter]) -> None:
    with pytest.raises(ValueError, match="1 to 247"):
        openmg_meter(units=248)
    with pytest.raises(ValueError, match="sdm999"):
        openmg_meter("sdm999")
