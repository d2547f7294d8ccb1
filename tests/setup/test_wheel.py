"""The wheel holds what the programs need at run time besides code, and nothing of the tests."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from setup_support import ROOT

from openmg.forecast.spec import ForecastSpec
from openmg.forecast.trainer_tflite import asset_name

NEEDED = (
    "openmg/profiles/sdm630.toml",
    "openmg/profiles/profile.schema.json",
    "openmg/profiles/sunspec_models/meter.toml",
    *(f"openmg/forecast/assets/{asset_name(ForecastSpec(resolution_minutes=minutes))}" for minutes in (60, 30, 15)),
    "openmg/py.typed",
    "hub/console/static/index.html",
    "contracts/artifacts/PlasmaRoot.json",
)
COMMANDS = ("openmg = workbench.cli:main", "openmg-agent = edge_agent.__main__:main", "openmg-hub = hub.cli:main")
TOP_LEVEL = {"openmg", "edge_agent", "firmware_sim", "hub", "workbench", "contracts", "openmg-0.1.0.dist-info"}


def test_the_wheel_holds_what_the_programs_need(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="the build backend is not in this .venv (make setup installs it)")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        commands = archive.read("openmg-0.1.0.dist-info/entry_points.txt").decode()
    assert set(NEEDED) - set(names) == set()
    assert {name.split("/")[0] for name in names} == TOP_LEVEL
    assert not [name for name in names if name.startswith("contracts/") and not name.endswith(".json")]
    for command in COMMANDS:
        assert command in commands
