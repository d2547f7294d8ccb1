"""Step `native`: the Rust prover (native/), built with maturin and cargo where that is possible.

Rules: never required. Without cargo, with one older than native/Cargo.toml asks for (as Debian's is), without
a linker, or when the build fails, one line says so and the `portable` prover is used; an installed build of
older sources is then removed, so that what runs is never something else than what lies here.

Not here: the extension itself; choosing a backend at run time (openmg.zk.backend).
"""

from __future__ import annotations

import re
import shutil
import tomllib

from .commands import LOG_FOLDER, CommandFailed, ask, clean_environment, run_logged
from .console import Step
from .model import Checkout, StepSkipped
from .state import Record, hash_files, key_of

MODULE = "openmg_native"
DISTRIBUTION = "openmg-native"
LOG_NAME = "native.log"
INSTEAD = "the portable prover is used"


def key(checkout: Checkout, record: Record) -> str:
    """Over the sources, the Python, and the toolchain (another one may succeed where one failed)."""
    folder = checkout.native
    files = [folder / name for name in ("Cargo.toml", "pyproject.toml", "build.rs", "rust-toolchain.toml")]
    files += [file for file in (folder / "src").rglob("*") if file.is_file()]
    version = ask(["cargo", "--version"], cwd=checkout.root, env=clean_environment())
    return key_of([hash_files(files, folder), record.version, version])


def version_of(text: str) -> tuple[int, ...]:
    """The leading version in `text`: (1, 85, 0) of 'cargo 1.85.0 (abc 2025-01-01)', () when there is none."""
    found = re.search(r"(\d+(?:\.\d+)*)", text)
    return tuple(map(int, found[1].split("."))) if found else ()


def why_impossible(checkout: Checkout, env: dict[str, str]) -> str | None:
    """Why the prover cannot be built here, as a clause, or None when it can."""
    try:
        package = tomllib.loads((checkout.native / "Cargo.toml").read_text(encoding="utf-8"))["package"]
    except (OSError, ValueError, KeyError):
        return "native/Cargo.toml is missing or unreadable"
    needed = str(package.get("rust-version", "0"))
    if shutil.which("cargo", path=env.get("PATH")) is None:
        return f"there is no cargo on this machine (Rust {needed} or newer would do)"
    answer = ask(["cargo", "--version"], cwd=checkout.native, env=env)
    if answer is None:
        return "cargo is there but does not run"
    if version_of(answer) < version_of(needed):
        return f"cargo {'.'.join(map(str, version_of(answer)))} is too old (Rust {needed} or newer is needed)"
    if shutil.which("cc", path=env.get("PATH")) is None:
        return "there is no C linker 'cc' (Debian: sudo apt install gcc)"
    return None


def build(checkout: Checkout, step: Step) -> None:
    """Build and install the extension. Raises StepSkipped whenever it is not there afterwards."""
    env = clean_environment()
    # A user's own target folder may be shared between projects and lie outside of the checkout.
    env.pop("CARGO_TARGET_DIR", None)
    reason = why_impossible(checkout, env)
    log = checkout.venv / LOG_FOLDER / LOG_NAME
    python = str(checkout.python)
    if reason is None:
        reason = _try_build(checkout, step, log_reason=f"the build failed (see {log})", env=env)
    if reason is not None:
        if ask([python, "-c", f"import {MODULE}"], cwd=checkout.root, env=env) is not None:
            ask([python, "-m", "pip", "uninstall", "--yes", DISTRIBUTION], cwd=checkout.root, env=env)
        raise StepSkipped(f"The native prover was not built: {reason}; {INSTEAD}.")
    step.outcome = "built and installed"


def _try_build(checkout: Checkout, step: Step, *, log_reason: str, env: dict[str, str]) -> str | None:
    log = checkout.venv / LOG_FOLDER / LOG_NAME
    python = str(checkout.python)
    command = [python, "-m", "pip", "install", "--verbose", "--progress-bar", "off"]
    command += ["--no-deps", "--force-reinstall"]
    command += ["--no-build-isolation"] if _has_maturin(checkout, env) else ["--only-binary", ":all:"]
    # maturin is called by name by its own build backend.
    env = {**env, "PATH": f"{checkout.venv / 'bin'}:{env.get('PATH', '')}", "VIRTUAL_ENV": str(checkout.venv)}
    try:
        run_logged([*command, "./native"], cwd=checkout.root, log=log, note=step.note, env=env)
    except CommandFailed:
        return log_reason
    if ask([python, "-c", f"import {MODULE}"], cwd=checkout.root, env=env) is None:
        return "it was built but cannot be imported"
    return None


def _has_maturin(checkout: Checkout, env: dict[str, str]) -> bool:
    return ask([str(checkout.python), "-c", "import maturin"], cwd=checkout.root, env=env) is not None
