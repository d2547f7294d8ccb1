"""Finds the Python that the checkout's environment is made with.

Rules: a candidate counts only if it runs (a version manager's shim may not), is CPython >= 3.11 and can make
an environment with pip in it (Debian leaves that to python3-venv). The Python that runs set-up comes first;
then the older ones, because tflite-runtime, the lighter training engine, has wheels up to 3.11. One that is newer
than all wheels of scripts/constraints.txt is taken only when there is no other, or when it is named.

Not here: making the environment (environment.py).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .commands import ask, clean_environment
from .model import SetupError

MIN_VERSION = (3, 11)
MAX_WITH_WHEELS = (3, 13)  # coincurve 21 has none for a newer one
NAMES = ("python3.11", "python3.12", "python3.13", "python3.14", "python3")
PROBE = """
import importlib.util, json, platform, sys
found = {name: importlib.util.find_spec(name) is not None for name in ("venv", "ensurepip")}
print(json.dumps({
    "version": list(sys.version_info[:3]),
    "base": getattr(sys, "_base_executable", sys.executable),
    "implementation": platform.python_implementation(),
    "makes_pip": all(found.values()),
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python outside of any virtual environment. `makes_pip`: whether its `venv` can put pip in."""

    executable: str
    version: tuple[int, int, int]
    makes_pip: bool

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))

    @property
    def has_wheels(self) -> bool:
        return has_wheels(self.version_text)


def has_wheels(version: str) -> bool:
    """Whether every package of the constraints has a wheel for this version of CPython."""
    major, minor = version.split(".")[:2]
    return (int(major), int(minor)) <= MAX_WITH_WHEELS


def probe(command: str, env: Mapping[str, str]) -> Interpreter | None:
    """Ask `command` what it is. None when it does not run or is not CPython >= 3.11."""
    answer = ask([command, "-E", "-s", "-c", PROBE], cwd=Path("/"), env=env)
    if answer is None:
        return None
    try:
        facts = json.loads(answer)
        version = tuple(int(part) for part in facts["version"])
        if facts["implementation"] != "CPython" or len(version) != 3 or version < MIN_VERSION:
            return None
        return Interpreter(str(facts["base"]), (version[0], version[1], version[2]), bool(facts["makes_pip"]))
    except (ValueError, KeyError, TypeError):
        return None


def on_path(name: str, path: str) -> Iterator[str]:
    """Every executable `name` on `path`, in order: the first may be a shim that does not run."""
    for folder in path.split(os.pathsep):
        command = Path(folder or ".") / name
        if command.is_file() and os.access(command, os.X_OK):
            yield str(command.absolute())


def candidates(path: str) -> Iterator[str]:
    yield sys.executable
    for name in NAMES:
        yield from on_path(name, path)


def find(asked_for: str | None) -> Interpreter:
    """The interpreter to use: `asked_for` if given, else the first suitable candidate.

    Raises SetupError that says what to install when there is none.
    """
    env = clean_environment()
    if asked_for is not None:
        return _find_named(asked_for, env)
    without_pip: list[Interpreter] = []
    too_new: list[Interpreter] = []
    seen: set[str] = set()
    for command in candidates(env.get("PATH", os.defpath)):
        real = os.path.realpath(command)
        if real in seen:
            continue
        seen.add(real)
        found = probe(command, env)
        if found is None:
            continue
        if not found.makes_pip:
            without_pip.append(found)
        elif found.has_wheels:
            return found
        else:
            too_new.append(found)
    usable_with_venv = [python for python in without_pip if python.has_wheels]
    if too_new and not usable_with_venv:
        return too_new[0]
    if without_pip:
        raise SetupError(_missing_venv((usable_with_venv or without_pip)[0]))
    raise SetupError(
        "No Python 3.11 or newer was found on PATH: install one "
        "(Debian, Ubuntu, Raspberry Pi OS: sudo apt install python3 python3-venv), then run this again."
    )


def _find_named(command: str, env: Mapping[str, str]) -> Interpreter:
    found = probe(command, env)
    if found is None:
        raise SetupError(f"{command} is no CPython 3.11 or newer that runs: name another with --python.")
    if not found.makes_pip:
        raise SetupError(_missing_venv(found))
    return found


def _missing_venv(found: Interpreter) -> str:
    major, minor, _ = found.version
    return (
        f"Python {found.version_text} at {found.executable} cannot make a virtual environment with pip: "
        f"install python3-venv (Debian, Ubuntu, Raspberry Pi OS: sudo apt install python3-venv, or "
        f"python{major}.{minor}-venv), then run this again."
    )
