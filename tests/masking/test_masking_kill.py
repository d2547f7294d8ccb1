"""kill -9 of a process that answers: whatever left it before, no slot is ever answered with a second set afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from edge_kit import Processes
from home_kit import PEERS, SLOT, HomeMeter, Neighbours, signed

from openmg.masking import Masker
from openmg.masking.member import Promise

SLOTS = 60
"""Questions in the pipe, so that the process dies with some of them answered, one in its hands, and some unread."""


def asked(processes: Processes, home: HomeMeter, repo_root: Path, questions: list[bytes], kill_after: int | None) -> list[str]:
    """What the process answered; it is killed once so many answers came, or ends with its input."""
    program, config = repo_root / "tests" / "masking" / "answering_home.py", home.config.device.state_dir.parent / "agent.toml"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": {**os.environ, "PYTHONPATH": str(repo_root)}}
    process = processes.start(sys.executable, str(program), str(config), **pipes)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("".join(question.hex() + "\n" for question in questions))
    process.stdin.flush()
    answers = []
    if kill_after is not None:
        answers = [process.stdout.readline() for _ in range(kill_after)]
        process.kill()
    process.stdin.close()
    answers += process.stdout.readlines()  # what had left it before it died
    process.wait()
    return [answer.strip() for answer in answers if answer.endswith("\n")]


@pytest.mark.parametrize("kill_after", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_home_answers_no_second_set(tmp_path: Path, processes: Processes, repo_root: Path, kill_after: int) -> None:
    home = HomeMeter(tmp_path)
    group = Neighbours(home)
    masker, slots = Masker(home.key, group.roster), range(SLOT, SLOT + SLOTS)
    for slot in slots:
        commitment = masker.mask(slot, (slot, 1, 2, 3)).self_commitment
        home.reporter.promises.report(Promise(slot, group.id, commitment), signed(group.roster))
    whole = [signed(group.notice(slot=slot)) for slot in slots]
    others = [signed(group.notice(PEERS[:1], slot=slot, sign=7)) for slot in slots]
    home.reporter.close()

    before = asked(processes, home, repo_root, whole, kill_after)
    assert kill_after <= len(before) < SLOTS and "-" not in before
    after = asked(processes, home, repo_root, others, None)
    assert len(after) == SLOTS
    assert set(after[: len(before)]) == {"-"}  # whatever left is held to
    assert sum(answer != "-" for answer in after[len(before) :]) >= SLOTS - len(before) - 1  # one may have been promised only
    again = asked(processes, home, repo_root, whole, None)
    assert again[: len(before)] == before
    assert all((first == "-") != (second == "-") for first, second in zip(after, again, strict=True))
