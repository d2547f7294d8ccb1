"""Step `packages`: the project (editable) and what it needs, from wheels only, in versions tested together.

Rules: no source distribution is ever built for a third party, so neither a compiler nor Python headers are
needed; versions are bound by scripts/constraints.txt; the project is built by the backend installed here.

Not here: which packages (pyproject.toml); the Rust extension (native.py).
"""

from __future__ import annotations

import platform
import tomllib
from typing import Any

from . import interpreter
from .commands import LOG_FOLDER, CommandFailed, clean_environment, proxy_in, run_logged
from .console import Step
from .model import Checkout, Options, SetupError
from .state import Record, hash_files, key_of

# Third parties that publish no wheel and may be built from source. None of those needed today.
BUILT_FROM_SOURCE: tuple[str, ...] = ()
LOG_NAME = "packages.log"


def describe_project(checkout: Checkout) -> dict[str, Any]:
    """The parts of pyproject.toml that decide what gets installed (a linter's settings do not)."""
    try:
        with checkout.pyproject.open("rb") as file:
            whole = tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SetupError(f"{checkout.pyproject} cannot be read ({error}): restore it.") from error
    return {
        "build-system": whole.get("build-system"),
        "project": whole.get("project"),
        "hatch": whole.get("tool", {}).get("hatch"),
    }


def key(checkout: Checkout, options: Options, record: Record) -> str:
    return key_of(
        [
            describe_project(checkout),
            hash_files([checkout.constraints], checkout.root),
            sorted(options.extras),
            record.version,
            platform.machine(),
            BUILT_FROM_SOURCE,
        ]
    )


def install(checkout: Checkout, options: Options, record: Record, step: Step) -> None:
    """Install backend, dependencies and project. Raises SetupError."""
    project = describe_project(checkout)
    backend = project["build-system"]["requires"]
    known = set(project["project"].get("optional-dependencies", {}))
    unknown = sorted(set(options.extras) - known)
    if unknown:
        choice = ", ".join(sorted(known))
        raise SetupError(f"pyproject.toml has no extra '{unknown[0]}': choose among {choice}.")
    wanted = "." + (f"[{','.join(options.extras)}]" if options.extras else "")
    log = checkout.venv / LOG_FOLDER / LOG_NAME
    pip = [str(checkout.python), "-m", "pip", "install", "--progress-bar", "off"]
    pip += ["--constraint", str(checkout.constraints), "--only-binary", ":all:"]
    for name in BUILT_FROM_SOURCE:
        pip += ["--no-binary", name]
    env = clean_environment()
    try:
        run_logged([*pip, *backend], cwd=checkout.root, log=log, note=step.note, env=env)
        project_command = [*pip, "--no-build-isolation", "--editable", wanted]
        run_logged(project_command, cwd=checkout.root, log=log, note=step.note, env=env)
    except CommandFailed as error:
        raise SetupError(
            f"The Python packages could not be installed ({_cause(error)}): {_advice(error, env, record)}, "
            f"then run this again; all that pip said is in {log}."
        ) from error
    step.outcome = f"installed openmg[{','.join(options.extras)}]" if options.extras else "installed openmg"


def _cause(error: CommandFailed) -> str:
    """pip's own reason: the last line that it marks as an error."""
    for line in reversed(error.tail):
        said = line.strip()
        if said.lower().startswith("error: "):
            return said[len("error: ") :]
    return str(error)


def _advice(error: CommandFailed, env: dict[str, str], record: Record) -> str:
    if not interpreter.has_wheels(record.version):
        newest = ".".join(map(str, interpreter.MAX_WITH_WHEELS))
        return f"some have no wheel for Python {record.version}, install Python {newest}"
    if any("metadata-generation-failed" in line or "Failed building" in line for line in error.tail):
        return "look into the log for what the project's own build refused"
    proxy = proxy_in(env)
    return f"check the network and the proxy in {proxy}" if proxy else "check the network"
