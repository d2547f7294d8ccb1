"""`openmg ppdl train`: the command as a person types it, its JSON, its picture, and what it says of wrong options."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from train_data import SPLIT, write_households
from typer.testing import CliRunner

from workbench.cli import app
from workbench.ppdl_train import rivals

MODELS = ("federated", "personalised", "centralised", "local_only", "seasonal_naive", "mean_7day")
SCORES = {"nmae", "mase", "pinball", "coverage_p10_p90", "nrmse", "aggregate_mape"}


def openmg(repo_root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "workbench.cli", "ppdl", "train", *arguments]
    return subprocess.run(command, cwd=repo_root, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_households(tmp_path_factory.mktemp("data") / "homes.csv", homes=6, holes=1, empty=1)


def options(data: Path, output: Path, rounds: int, steps: int) -> tuple[str, ...]:
    asked = ("--data", str(data), "--split-date", SPLIT, "--clients-per-round", "4", "--json", str(output))
    return (*asked, "--rounds", str(rounds), "--local-steps", str(steps))


def test_every_model_is_scored_and_left_out_homes_are_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, whose rivals learn little: what is said of a model does not depend on how good it is."""
    monkeypatch.setattr(rivals, "POOLED_STEPS", 40)
    monkeypatch.setattr(rivals, "LOCAL_STEPS", 10)
    plot, output = tmp_path / "run.png", tmp_path / "run.json"
    done = CliRunner().invoke(app, ["ppdl", "train", *options(data, output, 2, 10), "--plot", str(plot)])
    assert done.exit_code == 0, done.stderr
    row = json.loads(output.read_text(encoding="utf-8"))
    for name in MODELS:
        assert set(row[name]) == SCORES and row[name]["nmae"] > 0
        assert name in done.stdout
    assert row["seasonal_naive"]["pinball"] is None and row["seasonal_naive"]["coverage_p10_p90"] is None
    assert row["homes"] == 6 and row["hostile_homes"] == 0
    assert {item["home"]: item["reason"].split(",")[0] for item in row["excluded"]} == {
        "h6": "50% of its rows are known",
        "h7": "0 kWh a year",
    }
    # Four homes send an update of 2 bytes a weight and take a model of 4, in each of two rounds.
    assert row["bytes_sent"] == 2 * 4 * (2 + 4) * row["parameters"]
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_model_of_pooled_data_is_better_than_last_weeks_values(repo_root: Path, data: Path, tmp_path: Path) -> None:
    output = tmp_path / "run.json"
    done = openmg(repo_root, *options(data, output, 6, 40))
    assert done.returncode == 0, done.stderr
    row = json.loads(output.read_text(encoding="utf-8"))
    assert all(row[name]["nmae"] > 0 for name in MODELS)
    assert row["centralised"]["nmae"] < row["seasonal_naive"]["nmae"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_model(repo_root: Path, data: Path) -> None:
    asked = ("--data", str(data), "--split-date", SPLIT, "--rounds", "2", "--local-steps", "10", "--no-rivals", "--json", "-")
    rows = [json.loads(openmg(repo_root, *asked, *more).stdout) for more in ((), (), ("--seed", "2"))]
    assert rows[0]["federated"] == rows[1]["federated"] != rows[2]["federated"]
    assert "centralised" not in rows[0]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--split-date", "2030-01-01"), "split date 2030-01-01 is not within the data, 2021-03-01 to 2021-06-09"),
        (("--split-date", SPLIT, "--rule", "majority"), "--rule majority is unknown; use one of"),
        (("--split-date", SPLIT, "--attack", "bribery"), "attack 'bribery' is unknown"),
        (("--split-date", SPLIT, "--byzantine", "0.5"), "no rule stands half of the homes lying"),
        (("--split-date", SPLIT, "--resolution", "20min"), "rows of 30 minutes do not make steps of 20"),
        (("--split-date", SPLIT, "--horizon", "a day"), "'a day' is not a length of time"),
        (("--split-date", SPLIT, "--horizon", "36h"), "a horizon has"),
        (("--split-date", "2021-03-03"), "train_hours"),
    ],
)
def test_wrong_options_are_one_sentence_and_exit_code_2(data: Path, arguments: tuple[str, ...], problem: str) -> None:
    done = CliRunner().invoke(app, ["ppdl", "train", "--data", str(data), *arguments])
    assert done.exit_code == 2, done.stdout
    said = [line for line in done.stderr.splitlines() if not line.lstrip()[:1].isdigit()]
    assert len(said) == 1 and problem in said[0], done.stderr


def test_a_missing_file_is_told(repo_root: Path, tmp_path: Path) -> None:
    done = openmg(repo_root, "--data", str(tmp_path / "none.csv"), "--split-date", SPLIT)
    assert done.returncode == 2 and "none.csv cannot be read" in done.stderr
