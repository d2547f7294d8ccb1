"""Runs the tools that set-up needs (pip, npm, cargo), with a clean environment and a log.

Rules: no shell; output goes to a log file and, line by line, to the progress; variables that redirect Python
or pip somewhere else are dropped; the index, proxy and certificate settings of the user are kept, because
only the user knows how this machine reaches a registry; loopback is always exempt from proxies.

A tool shares the set-up's lock (`keep_open`): when set-up is killed alone, the next one waits until the tool
that it left behind has ended too, instead of working in the same folders.

Not here: deciding whether a command is needed.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

LOG_FOLDER = "setup-logs"
ERROR_TAIL_LINES = 12
PROBE_TIMEOUT_S = 30.0
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
DROPPED_VARIABLES = frozenset(
    {
        "PYTHONHOME",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "PYTHONUSERBASE",
        "PYTHONWARNINGS",
        "PYTHONSAFEPATH",
        "PYTHONPLATLIBDIR",
        "PYTHONEXECUTABLE",
        "__PYVENV_LAUNCHER__",
        "VIRTUAL_ENV",
        "PIP_TARGET",
        "PIP_PREFIX",
        "PIP_ROOT",
        "PIP_NO_BINARY",
        "PIP_ONLY_BINARY",
        "PIP_CONSTRAINT",
        "PIP_REQUIREMENT",
        "PIP_REQUIRE_VIRTUALENV",
        "PIP_DRY_RUN",
        "PIP_EDITABLE",
        "PIP_PYTHON",
    }
)
SET_VARIABLES = {
    "PYTHONUTF8": "1",
    "PYTHONNOUSERSITE": "1",
    "PIP_USER": "0",
    "PIP_NO_INPUT": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
    "CARGO_TERM_COLOR": "never",
    "CARGO_TERM_PROGRESS_WHEN": "never",
    "NO_COLOR": "1",
}

_kept_open: set[int] = set()


def keep_open(descriptor: int) -> None:
    """Every tool that is run from now on inherits `descriptor`."""
    _kept_open.add(descriptor)


def drop(descriptor: int) -> None:
    """Undo `keep_open`."""
    _kept_open.discard(descriptor)


class CommandFailed(Exception):
    """A command ended with an error. `tail` holds its last lines, `log` where all of them are."""

    def __init__(self, command: Sequence[str], code: int, tail: list[str], log: Path | None) -> None:
        super().__init__(f"{Path(command[0]).name} ended with code {code}")
        self.tail = tail
        self.log = log


def clean_environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a tool: `base` (default: this process's) less what redirects it."""
    source = os.environ if base is None else base
    env = {key: value for key, value in source.items() if key not in DROPPED_VARIABLES}
    env.update(SET_VARIABLES)
    for key in ("NO_PROXY", "no_proxy"):
        named = [host for host in env.get(key, "").split(",") if host]
        if named != ["*"]:  # no proxy for anything: means that only while it stands alone
            env[key] = ",".join(named + [host for host in LOOPBACK_HOSTS if host not in named])
    return env


def proxy_in(env: Mapping[str, str]) -> str | None:
    """The name of the first variable that sends downloads through a proxy, if any."""
    for key in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"):
        if env.get(key):
            return key
    return None


def run_logged(
    command: Sequence[str],
    *,
    cwd: Path,
    log: Path | None,
    note: Callable[[str], None],
    env: Mapping[str, str],
) -> None:
    """Run `command`; its output goes to `log` and to `note`. Raises CommandFailed if its code is not 0."""
    tail: list[str] = []
    try:
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
        with (
            open(log or os.devnull, "a", encoding="utf-8") as sink,
            subprocess.Popen(
                list(command),
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                pass_fds=tuple(_kept_open),
            ) as child,
        ):
            sink.write("$ " + " ".join(command) + "\n")
            try:
                tail = _follow(child, sink, note)
            except BaseException:
                child.terminate()  # Ctrl-C: nothing goes on behind the user's back
                raise
    except OSError as error:
        raise CommandFailed(command, 127, [str(error)], log) from error
    if child.returncode != 0:
        raise CommandFailed(command, child.returncode, tail, log)


def _follow(child: subprocess.Popen[str], sink: TextIO, note: Callable[[str], None]) -> list[str]:
    """Hand on the child's lines until it closes its output. Returns the last few."""
    assert child.stdout is not None
    tail: list[str] = []
    for line in child.stdout:
        sink.write(line)
        if line.strip():
            tail = [*tail[-(ERROR_TAIL_LINES - 1) :], line.rstrip()]
            note(line.strip())
    return tail


def ask(command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> str | None:
    """The output of a short question such as `cargo --version`, or None when it cannot be asked or fails."""
    try:
        answer = subprocess.run(
            list(command),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
