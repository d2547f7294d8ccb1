"""The fuzz of the core finds planted bugs, replays what it found, and runs as a command."""

from __future__ import annotations

import importlib.util
import json
import logging
import random
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from hub.ppdl.consensus import certs, normal
from hub.ppdl.consensus.certs import Domain
from hub.ppdl.consensus.effects import Complaint, Effect, Event, Persist
from hub.ppdl.consensus.messages import Commit, Prepare
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.sim.mutants import faults
from hub.ppdl.sim.mutants.plant import replaced
from workbench.ppdl_fuzz.core import CoreRun
from workbench.ppdl_fuzz.run import fuzz, next_tape, what_broke
from workbench.ppdl_fuzz.tape import Finding, Tape
from workbench.ppdl_fuzz.targets import TARGETS, UnknownTarget, targets_named
from workbench.ppdl_fuzz_cli import register

TAPES = 60
"""Drawn tapes within which each planted bug must be found; most need fewer than ten."""


def app() -> typer.Typer:
    program = typer.Typer()
    program.command("nothing")(lambda: None)
    register(program)
    return program


def first_finding(replica_class: type[Replica] = Replica) -> str:
    """What the first of some drawn tapes found that breaks a rule, or nothing."""
    for seed in range(TAPES):
        tape = Tape(random.Random(seed).randbytes(3000))
        try:
            CoreRun(tape, replica_class).run()
        except Finding as found:
            return str(found)
    return ""


def test_the_core_as_it_is_gives_no_finding() -> None:
    assert first_finding() == ""


def _anybody(domain: Domain, validators: ValidatorSet, vote: Prepare | Commit) -> bytes:
    """A planted bug: whoever is named first cast the vote, whatever its signature."""
    return validators.addresses[0]


def test_votes_that_nobody_signed_are_found() -> None:
    with replaced((normal, "vote_signer", _anybody))():
        assert "no member signed" in first_finding() or "did not cast" in first_finding()


class _Hoards(Replica):
    """A planted bug: every event is remembered."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.hoard: list[Event] = []

    def step(self, event: Event) -> list[Effect]:
        self.hoard.append(event)
        return super().step(event)


def test_memory_without_a_bound_is_found() -> None:
    assert "hoard has no named bound" in first_finding(_Hoards)


class _Blames(Replica):
    """A planted bug: somebody else is reported."""

    def _report(self, complaint: Complaint, sender: bytes, detail: str) -> None:
        super()._report(complaint, bytes(20), detail)


def test_a_report_of_the_wrong_one_is_found() -> None:
    assert "names one who sent nothing" in first_finding(_Blames)


class _SpeaksFirst(Replica):
    """A planted bug: what must be durable first is made durable last."""

    def step(self, event: Event) -> list[Effect]:
        return sorted(super().step(event), key=lambda effect: isinstance(effect, Persist))


def test_a_vote_sent_before_it_is_durable_is_found() -> None:
    assert "before it was durable" in first_finding(_SpeaksFirst)


def test_a_double_vote_after_a_restart_is_found() -> None:
    assert "double vote" in first_finding(faults.ForgetsItsVotes)


def test_a_certificate_of_one_signer_is_found() -> None:
    with replaced((certs, "_ascending_quorum", lambda validators, signers: list(signers)))():
        assert "seals of a quorum" in first_finding() or "no member signed" in first_finding()


class _Raises(Replica):
    """A planted bug: a view number far away is too much."""

    def step(self, event: Event) -> list[Effect]:
        message = getattr(event, "message", None)
        if getattr(message, "view", 0) > 2**31:
            raise OverflowError("view")
        return super().step(event)


def test_an_exception_is_a_finding_and_its_tape_is_kept(tmp_path: Path) -> None:
    def target(tape: Tape) -> set[str]:
        return CoreRun(tape, _Raises).run()

    report = fuzz({"core": target}, 1.5, 1, tmp_path)
    assert report.findings
    first = report.findings[0]
    assert first.what == "OverflowError in step: view" and first.replay.startswith("openmg ppdl fuzz --target core --replay ")
    broke, _ = what_broke(target, Path(first.file).read_bytes())
    assert broke == first.what
    assert what_broke(TARGETS["core"], Path(first.file).read_bytes())[0] == ""


def test_the_same_seed_draws_the_same_tapes() -> None:
    drawn = [[next_tape(draw, [b"kept"]) for _ in range(20)] for draw in (random.Random("x 1"), random.Random("x 1"))]
    assert drawn[0] == drawn[1] and len(set(drawn[0])) > 10


def test_the_command_runs_replays_and_refuses(tmp_path: Path) -> None:
    run = CliRunner().invoke(app(), ["fuzz", "--seconds", "1", "--seed", "3", "--folder", str(tmp_path), "--json"])
    assert run.exit_code == 0, run.output
    row = json.loads(run.stdout)
    assert row["findings"] == [] and row["targets"][0]["tapes"] > 0
    assert not logging.root.manager.disable

    (tmp_path / "one.tape").write_bytes(bytes(range(200)))
    again = CliRunner().invoke(app(), ["fuzz", "--target", "core", "--replay", str(tmp_path / "one.tape"), "--json"])
    assert again.exit_code == 0 and json.loads(again.stdout)["broke"] == ""
    for wrong, says in (
        (["--target", "nothing"], "no target is named 'nothing'"),
        (["--replay", str(tmp_path / "one.tape")], "name it with --target"),
        (["--target", "core", "--replay", str(tmp_path / "none")], "cannot be read"),
    ):
        refused = CliRunner().invoke(app(), ["fuzz", *wrong])
        assert refused.exit_code == 2 and says in refused.output


def test_targets_by_name() -> None:
    assert targets_named([]) == TARGETS
    assert list(targets_named(["core"])) == ["core"]
    with pytest.raises(UnknownTarget, match="choose from core"):
        targets_named(["cores"])


def test_without_atheris_a_guided_run_is_skipped_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.ppdl_fuzz.coverage.available", lambda: False)
    run = CliRunner().invoke(app(), ["fuzz", "--coverage", "--seconds", "1"])
    assert run.exit_code == 0 and "atheris is not installed" in run.output


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed: no wheel for this machine")
def test_coverage_guides_a_run(tmp_path: Path) -> None:
    asked = ["fuzz", "--coverage", "--target", "message", "--seconds", "5", "--folder", str(tmp_path), "--json"]
    run = CliRunner().invoke(app(), asked)
    assert run.exit_code == 0, run.output
    assert "cov:" in json.loads(run.stdout)["targets"][0]["said"]


@pytest.mark.slow
def test_a_minute_of_every_target_gives_no_finding(tmp_path: Path) -> None:
    report = fuzz(TARGETS, 60.0, 20261129, tmp_path)
    assert report.findings == ()
