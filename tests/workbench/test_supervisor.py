"""Children of the demo: measured, told apart, and gone with their parent, however it ends."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from workbench.supervisor import ProcessFailed, Supervisor

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


def wait_until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_children_are_measured_and_stopped(tmp_path):
    supervisor = Supervisor(tmp_path)
    child = supervisor.start("sleeper", SLEEP)
    wait_until(lambda: "up" in child.tail())
    supervisor.check()
    supervisor.sample()
    assert child.usage().rss_mb > 1
    supervisor.stop()
    assert child.process.returncode == -signal.SIGTERM and not supervisor.children


def test_a_child_that_ends_by_itself_is_named_with_its_last_words(tmp_path):
    supervisor = Supervisor(tmp_path)
    child = supervisor.start("broken", [sys.executable, "-c", "raise SystemExit('no such meter')"])
    child.process.wait()
    with pytest.raises(ProcessFailed) as failed:
        supervisor.check()
    assert str(failed.value) == f"broken ended with code 1; see {tmp_path / 'broken.log'}, which ends: no such meter"


def test_a_child_that_was_killed_is_named_with_the_signal(tmp_path):
    supervisor = Supervisor(tmp_path)
    child = supervisor.start("victim", SLEEP)
    child.process.kill()
    child.process.wait()
    with pytest.raises(ProcessFailed, match=r"victim ended by signal 9 \(Killed\); see "):
        supervisor.check()


def test_a_tool_that_ends_by_itself_is_no_failure(tmp_path):
    supervisor = Supervisor(tmp_path)
    tool = supervisor.start("tool", [sys.executable, "-c", "raise SystemExit('no such file')"], short_lived=True)
    tool.process.wait()
    supervisor.check()
    assert tool.end().endswith("which ends: no such file")


def test_what_a_killed_child_started_goes_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.supervisor.STOP_SECONDS", 0.5)
    supervisor = Supervisor(tmp_path)
    nest = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True); time.sleep(60)"
    )
    child = supervisor.start("nest", [sys.executable, "-c", nest])
    wait_until(lambda: child.tail().strip().isdigit())
    grandchild = int(child.tail())
    supervisor.stop()
    wait_until(lambda: not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE)


def test_a_missing_program_is_one_sentence(tmp_path):
    with pytest.raises(ProcessFailed, match="cannot start .*no-such-program.* run make setup"):
        Supervisor(tmp_path).start("x", [tmp_path / "no-such-program"])


def test_one_that_ignores_the_signal_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.supervisor.STOP_SECONDS", 0.5)
    supervisor = Supervisor(tmp_path)
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    child = supervisor.start("stubborn", [sys.executable, "-c", stubborn])
    wait_until(lambda: "up" in child.tail())
    supervisor.stop()
    assert child.process.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_children_die_when_the_parent_is_killed(tmp_path):
    ignoring = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    sleep = [sys.executable, "-c", ignoring]
    script = (
        "import sys, time; from pathlib import Path; from workbench.supervisor import Supervisor\n"
        f"child = Supervisor(Path({str(tmp_path)!r})).start('sleeper', {sleep!r})\n"
        "print(child.process.pid, flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
