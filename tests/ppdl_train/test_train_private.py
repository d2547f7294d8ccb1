"""`openmg ppdl train` in private rounds from file to JSON: the model learns, the report counts, the budget ends it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from train_data import SPLIT, write_households
from typer.testing import CliRunner

from workbench.cli import app

HOMES = 7


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_households(tmp_path_factory.mktemp("data") / "homes.csv", homes=HOMES)


def train(file: Path, *options: str) -> dict[str, Any]:
    out = file.with_name("result.json")
    command = ["ppdl", "train", "--data", str(file), "--split-date", SPLIT, "--rounds", "3", "--clients-per-round", str(HOMES)]
    done = CliRunner().invoke(app, [*command, "--local-steps", "10", "--no-rivals", "--json", str(out), *options])
    assert done.exit_code == 0, done.output
    result: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return result


def test_masked_rounds_give_the_same_model_as_open_ones(file: Path) -> None:
    masked, clear = train(file, "--privacy", "secagg"), train(file, "--rule", "mean")
    assert masked["federated"] == clear["federated"]
    assert masked["bytes_sent"] > clear["bytes_sent"]
    assert clear["privacy"]["mode"] == "none"
    assert masked["privacy"] == {
        "mode": "secagg",
        "epsilon": None,
        "epsilon_library": None,
        "delta": None,
        "rounds_opened": 3,
        "rounds_void": 0,
        "rounds_refused": 0,
        "dropped_out": 0,
    }


def test_noisy_rounds_end_with_the_budget(file: Path) -> None:
    privacy = train(file, "--privacy", "secagg-dp", "--noise-multiplier", "2", "--epsilon-budget", "4")["privacy"]
    assert (privacy["rounds_opened"], privacy["rounds_refused"]) == (2, 1)
    assert 2 < privacy["epsilon_library"] < privacy["epsilon"] < 4
    assert privacy["delta"] == 1e-5


def test_rule_that_looks_at_single_updates_is_refused(file: Path) -> None:
    command = ["ppdl", "train", "--data", str(file), "--split-date", SPLIT, "--privacy", "secagg", "--rule", "krum"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert "use --rule mean" in " ".join(done.output.split())
