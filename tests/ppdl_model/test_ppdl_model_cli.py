"""The commands `openmg ppdl check` and `openmg ppdl mutants`."""

from __future__ import annotations

import json

import typer
from typer.testing import CliRunner

from hub.ppdl.consensus import quorum
from hub.ppdl.sim.mutants import faults
from hub.ppdl.sim.mutants.plant import replaced
from workbench import ppdl_model_cli

app = typer.Typer()
ppdl_model_cli.register(app)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout


def test_check_prints_what_it_explored() -> None:
    code, out = run("check", "--views", "0", "--completions", "5", "--json")
    row = json.loads(out)
    assert code == 0 and row["exhaustive"] and row["violations"] == []
    assert row["states"] > 20 and row["transitions"] > row["states"] and row["seconds"] >= 0
    assert row["bounds"]["validators"] == 4 and row["bounds"]["views"] == 0
    code, out = run("check", "--views", "0", "--completions", "5")
    assert code == 0 and out.startswith("all ")


def test_check_prints_a_trace_and_fails() -> None:
    with replaced((quorum, "quorum", faults.quorum_of_2f))():
        code, out = run("check", "--views", "0", "--byzantine", "1", "--completions", "0")
    assert code == 1 and "agreement" in out and "    1. validator" in out


def test_check_refuses_impossible_bounds_in_one_sentence() -> None:
    result = CliRunner().invoke(app, ["check", "--validators", "9"])
    assert result.exit_code == 2 and "4 to 7 validators" in result.output


def test_check_tells_a_search_that_was_cut_short() -> None:
    code, out = run("check", "--views", "1", "--byzantine", "1", "--max-states", "50", "--completions", "0")
    assert code == 3 and out.startswith("NOT all")


def test_mutants_prints_who_killed_whom() -> None:
    code, out = run("mutants", "--only", "certificate", "--json")
    row = json.loads(out)
    assert code == 0 and row["survivors"] == [] and row["mutants"] >= 5
    assert all(trial["killed"] and trial["killer"] and trial["verdict"] for trial in row["trials"])
    code, out = run("mutants", "--only", "one sender")
    assert code == 0 and "one_liar_drags_nobody" in out and "1 of 1 mutants killed" in out


def test_mutants_refuses_an_unknown_name() -> None:
    result = CliRunner().invoke(app, ["mutants", "--only", "no such bug"])
    assert result.exit_code == 2 and "no mutant" in result.output
