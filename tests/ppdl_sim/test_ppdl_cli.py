"""`openmg ppdl`: figures as JSON, exit codes, and the command that replays a failing seed."""

from __future__ import annotations

import json

import pytest
from click.testing import Result
from typer.testing import CliRunner

from hub.ppdl.consensus.quorum import ValidatorSet
from workbench.cli import app


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["ppdl", *arguments])


def test_simulate_reports_its_figures() -> None:
    done = run("simulate", "--seeds", "12", "--heights", "4", "--faults", "drop,crash", "--json")
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout)
    assert row["seeds"] == 12 and row["violations"] == 0 and row["failures"] == []
    assert row["decided_heights"] >= 48 and row["seeds_per_second"] > 0
    assert "12 of 12 seeds" in done.stderr


def test_processes_share_the_seeds_and_find_the_same() -> None:
    rows = []
    for jobs in ("1", "2"):
        done = run("simulate", "--seeds", "60", "--first-seed", "7", "--heights", "3", "--jobs", jobs, "--json")
        rows.append({k: v for k, v in json.loads(done.stdout).items() if k not in ("jobs", "seeds_per_second")})
    assert rows[0] == rows[1] and rows[0]["first_seed"] == 7


def test_a_failing_seed_comes_with_the_command_that_replays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ValidatorSet, "quorum", property(lambda self: 2 * self.max_faulty))
    done = run("simulate", "--seeds", "5", "--heights", "3", "--jobs", "1", "--json")
    assert done.exit_code == 1
    failure = json.loads(done.stdout)["failures"][0]
    words = failure["replay"].split()
    assert words[:3] == ["openmg", "ppdl", "simulate"] and "--trace" in words
    again = run(*words[2:], "--json")
    assert again.exit_code == 1
    assert json.loads(again.stdout)["violations"] == failure["violations"]
    told = run(*words[2:])
    assert failure["violations"][0] in told.stdout and "decides h1" in told.stdout
    plain = run("simulate", "--seeds", "5", "--heights", "3", "--jobs", "1")
    assert plain.exit_code == 1 and failure["replay"] in plain.stdout


def test_one_seed_is_replayed_exactly() -> None:
    traces = [json.loads(run("simulate", "--seed", "9", "--trace", "--json").stdout)["trace"] for _ in range(2)]
    assert traces[0] == traces[1]
    assert json.loads(run("simulate", "--seed", "9", "--json").stdout)["seeds"] == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--faults", "rain"), "fault class 'rain' does not exist"),
        (("--validators", "0"), "validators is 0; choose 1 to 31"),
        (("--seeds", "0"), "seeds and heights must be at least 1"),
        (("--jobs", "-1"), "jobs is -1"),
        (("--trace",), "--trace tells one run: name it with --seed"),
    ],
)
def test_a_wrong_option_is_one_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    done = run("simulate", *arguments)
    assert done.exit_code == 2 and sentence in done.stderr and "Traceback" not in done.stderr


def test_enumerate_counts_its_scripts() -> None:
    done = run("enumerate", "--rounds", "1", "--json")
    row = json.loads(done.stdout)
    assert done.exit_code == 0 and row["scripts"] == 144 and row["violations"] == 0
    assert run("enumerate", "--rounds", "0").exit_code == 2


def test_scenarios_tell_their_stories() -> None:
    done = run("scenarios", "--only", "row_7")
    assert done.exit_code == 0 and done.stdout.count("holds  row_7") == 2
    assert json.loads(run("scenarios", "--only", "row_15", "--json").stdout) == {"row_15_a_silent_first_proposer": []}
    assert run("scenarios", "--only", "nothing").exit_code == 2


@pytest.mark.parametrize("command", ["simulate", "enumerate", "scenarios"])
def test_help_has_an_example(command: str) -> None:
    done = run(command, "--help")
    assert done.exit_code == 0 and f"Example: openmg ppdl {command}" in done.stdout
