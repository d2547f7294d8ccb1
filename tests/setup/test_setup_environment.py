"""The checkout's own .venv: made, kept, made anew; and what is said when it cannot be."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from openmg_setup import environment, interpreter
from openmg_setup.model import Checkout, Options
from setup_support import Copy, write_tool

OPTIONS = Options(("environment",))


def why(copy: Copy, options: Options = OPTIONS) -> str | None:
    return environment.why_unusable(Checkout(copy.root), options)


def change_record(copy: Copy, **fields: object) -> None:
    record = json.loads(copy.record.read_text(encoding="utf-8"))
    copy.record.write_text(json.dumps({**record, **fields}), encoding="utf-8")


def python_without_ensurepip(folder: Path) -> Path:
    """A real Python whose standard library lacks ensurepip, as Debian's does without python3-venv."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    real = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    library = Path(os.__file__).parent
    (folder / "bin").mkdir(parents=True)
    (folder / "lib" / name).mkdir(parents=True)
    shutil.copy2(real, folder / "bin" / name)
    for entry in library.iterdir():
        if entry.name not in ("ensurepip", "site-packages"):
            (folder / "lib" / name / entry.name).symlink_to(entry)
    return folder / "bin" / name


def test_environment_works_in_a_path_with_spaces_and_korean_letters_under_lc_all_c(made: Copy) -> None:
    answer = subprocess.run(
        [made.python, "-c", "import pip, sys; print(sys.prefix)"],
        env=dict(made.env),
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert answer.stdout.strip() == str(made.root / ".venv")


def test_second_run_keeps_the_environment_and_says_so(made: Copy) -> None:
    before = made.python.lstat().st_mtime_ns
    result = made.bootstrap("--only", "environment")
    assert (result.code, result.err) == (0, "")
    assert "up to date" in result.out and "nothing was contacted" in result.out
    assert made.python.lstat().st_mtime_ns == before


def test_a_sound_environment_is_usable(made: Copy) -> None:
    assert why(made) is None


def test_one_without_a_record_is_not_trusted(made: Copy) -> None:
    made.record.unlink()
    assert why(made) == "the one here was never finished by this set-up"


def test_a_record_that_cannot_be_read_is_not_trusted(made: Copy) -> None:
    made.record.write_text('{"schema": 1, "root": ', encoding="utf-8")
    assert why(made) == "the one here was never finished by this set-up"


def test_an_interrupted_step_is_seen(made: Copy) -> None:
    change_record(made, busy="packages")
    assert why(made) == "the set-up before was interrupted in the step 'packages'"


def test_one_made_for_another_path_is_seen(made: Copy) -> None:
    change_record(made, root="/somewhere/else")
    assert why(made) == "it was made for another path"


def test_one_of_another_python_is_seen(made: Copy) -> None:
    change_record(made, version="3.11.0rc1")
    assert "made with Python 3.11.0rc1" in (why(made) or "")


def test_one_whose_python_is_gone_is_seen(made: Copy) -> None:
    link = made.python.resolve(strict=True), made.python
    kept = os.readlink(made.python)
    made.python.unlink()
    try:
        made.python.symlink_to("/no/such/python")
        assert why(made) == "its Python or its pip does not run any more"
    finally:
        made.python.unlink()
        made.python.symlink_to(kept)
    assert link[1].resolve() == link[0]


def test_one_whose_pip_is_gone_is_seen(made: Copy) -> None:
    (pip,) = (made.root / ".venv" / "lib").glob("python*/site-packages/pip")
    pip.rename(pip.with_name("pip-away"))
    try:
        assert why(made) == "its Python or its pip does not run any more"
    finally:
        pip.with_name("pip-away").rename(pip)


def test_asking_for_the_python_it_was_made_with_keeps_it(made: Copy) -> None:
    assert why(made, Options(("environment",), python=sys.executable)) is None


def stop_while_making(copy: Copy, number: signal.Signals) -> tuple[int, str]:
    """Start a set-up, send it and its children `number` once .venv is half-made. Returns exit code and output."""
    with subprocess.Popen(
        copy.command("--only", "environment"),
        env=dict(copy.env),
        stdout=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
        # Tests started in the background of a shell inherit an ignored SIGINT; a person's terminal does not ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as running:
        deadline = time.monotonic() + 30
        while not (copy.root / ".venv" / "bin").exists():
            assert time.monotonic() < deadline, "the environment was not begun"
            assert running.poll() is None
            time.sleep(0.01)
        os.killpg(running.pid, number)
        assert running.stdout is not None
        return running.wait(timeout=30), running.stdout.read()


@pytest.mark.slow
def test_a_killed_set_up_is_finished_by_the_next_run(bare: Copy) -> None:
    code, _ = stop_while_making(bare, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert why(bare) == "the set-up before was interrupted in the step 'environment'"
    result = bare.bootstrap("--only", "environment")
    assert result.code == 0, result.err
    assert ".venv is made anew: the set-up before was interrupted" in result.out
    assert why(bare) is None


def test_ctrl_c_ends_with_one_line_and_is_seen_by_the_next_run(bare: Copy) -> None:
    code, output = stop_while_making(bare, signal.SIGINT)
    assert code == 130
    assert output.splitlines()[-1] == "Set-up was interrupted; run it again to finish it."
    assert why(bare) is not None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_set_up_that_is_ended_alone_leaves_no_tool_at_work(made: Copy, tmp_path: Path, number: signal.Signals) -> None:
    """Asked to end, it ends its npm; killed, the next one waits until that npm has ended by itself."""
    write_tool(tmp_path, "node", "v20.0.0")
    began, go = tmp_path / "began", tmp_path / "go"
    (tmp_path / "npm").write_text(
        f"#!/bin/sh\necho $$ > '{began}.new' && mv '{began}.new' '{began}'\nuntil [ -e '{go}' ]; do sleep 0.05; done\n",
        encoding="utf-8",
    )
    (tmp_path / "npm").chmod(0o755)
    env = {**made.env, "PATH": f"{tmp_path}:/usr/bin:/bin"}
    with subprocess.Popen(made.command("--only", "environment,contracts"), env=env, stdout=subprocess.DEVNULL) as first:
        try:
            deadline = time.monotonic() + 30
            while not began.exists():
                assert time.monotonic() < deadline and first.poll() is None
                time.sleep(0.01)
            first.send_signal(number)
            assert first.wait(timeout=30) == (130 if number == signal.SIGTERM else -number)
            if number == signal.SIGTERM:
                assert not Path(f"/proc/{began.read_text().strip()}").exists()
                assert "up to date" in made.bootstrap("--only", "environment").out
                return
            with subprocess.Popen(
                made.command("--only", "environment"), env=env, stdout=subprocess.PIPE, encoding="utf-8"
            ) as second:
                assert second.stdout is not None
                assert second.stdout.readline() == "Another set-up runs in this checkout; waiting for it.\n"
                go.touch()
                assert "up to date" in second.stdout.read()
        finally:
            go.touch()


def test_a_python_newer_than_the_wheels_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"version": [3, 14, 0], "base": "/opt/python3.14", "implementation": "CPython", "makes_pip": True}
    newest = Path(write_tool(tmp_path / "new", "python3.14", json.dumps(facts))) / "python3.14"
    usable = sys._base_executable  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "executable", str(newest))
    monkeypatch.setenv("PATH", f"{tmp_path / 'new'}:{Path(usable).parent}")
    assert interpreter.find(None).has_wheels
    monkeypatch.setenv("PATH", str(tmp_path / "new"))
    assert interpreter.find(None).executable == "/opt/python3.14"
    assert interpreter.find(str(newest)).executable == "/opt/python3.14"


def test_python3_venv_missing_is_one_sentence(bare: Copy, tmp_path: Path) -> None:
    python = python_without_ensurepip(tmp_path / "debian")
    result = bare.bootstrap("--only", "environment", python=str(python), path=str(tmp_path / "debian" / "bin"))
    assert result.code == 1
    assert "install python3-venv" in result.err and str(python) in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert not (bare.root / ".venv").exists()


def test_a_named_python_that_cannot_be_used_is_one_sentence(bare: Copy) -> None:
    result = bare.bootstrap("--only", "environment", "--python", "/no/such/python")
    assert result.code == 1
    assert result.err.startswith("Set-up stopped. /no/such/python is no CPython 3.11 or newer")


def test_a_venv_that_is_no_folder_is_not_removed(bare: Copy) -> None:
    (bare.root / ".venv").write_text("mine", encoding="utf-8")
    result = bare.bootstrap("--only", "environment")
    assert result.code == 1
    assert "is not a folder: move it away" in result.err
    assert (bare.root / ".venv").read_text(encoding="utf-8") == "mine"


def test_two_at_once_wait_for_each_other(made: Copy) -> None:
    fcntl = pytest.importorskip("fcntl")
    with (made.root / ".setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(
            made.command("--only", "environment"), env=dict(made.env), stdout=subprocess.PIPE, encoding="utf-8"
        ) as second:
            assert second.stdout is not None
            assert second.stdout.readline() == "Another set-up runs in this checkout; waiting for it.\n"
            assert second.poll() is None
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert "up to date" in second.stdout.read()
            assert second.wait(timeout=30) == 0


def test_an_unknown_step_is_a_usage_error(made: Copy) -> None:
    result = made.bootstrap("--only", "environment,pakcages")
    assert result.code == 2
    assert "there is no step 'pakcages'" in result.err


@pytest.mark.parametrize("terminal", [True, False])
def test_escape_sequences_only_on_a_terminal(made: Copy, terminal: bool, tmp_path: Path) -> None:
    # With an empty PATH the native step is tried and left out, so that there is a step to show.
    env = {**made.env, "PATH": str(tmp_path), "TERM": "xterm"}
    command = made.command("--only", "environment,native", "--retry")
    if not terminal:
        output = subprocess.run(command, env=env, capture_output=True, check=True).stdout
        assert b"\x1b" not in output and b"\r" not in output
        return
    reader, writer = pty.openpty()
    with subprocess.Popen(command, env=env, stdout=writer, stderr=writer) as running:
        os.close(writer)
        output = b""
        while True:
            try:
                part = os.read(reader, 4096)
            except OSError:
                break
            if not part:
                break
            output += part
        assert running.wait(timeout=30) == 0
    os.close(reader)
    assert b"\x1b[2K" in output and b"Native prover: left out" in output
