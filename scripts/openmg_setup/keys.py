"""Step `keys`: the development keys of the circuits, made once per machine and circuit.

Rules: the keys come from a published seed and are refused outside of demo mode; they lie in the user's cache
($OPENMG_CACHE, else ~/.cache/openmg), keyed by circuit, and are not made again while they are there.

Not here: how keys are made (openmg.zk.keys).
"""

from __future__ import annotations

import os
from pathlib import Path

from .commands import LOG_FOLDER, CommandFailed, clean_environment, run_logged
from .console import Step
from .model import Checkout, SetupError, StepSkipped
from .state import hash_files, key_of

LOG_NAME = "keys.log"
MODULE = Path("openmg") / "zk" / "keys.py"


def cache_folder() -> Path:
    """Where openmg.zk.keys keeps its keys (the same rule as there). Raises SetupError for a user without a home."""
    named = os.environ.get("OPENMG_CACHE")
    try:
        return Path(named) if named else Path.home() / ".cache" / "openmg"
    except RuntimeError as error:
        raise SetupError("This user has no home folder for the development keys: set OPENMG_CACHE to a folder.") from error


def key(checkout: Checkout) -> str:
    return key_of([hash_files(checkout.zk.rglob("*.py"), checkout.root), str(cache_folder())])


def is_in_place() -> bool:
    return any((cache_folder() / "zk").glob("*.pk"))


def ensure(checkout: Checkout, step: Step) -> None:
    """Make the keys that are missing. Raises SetupError."""
    if not (checkout.root / MODULE).is_file():
        raise StepSkipped("The circuits' key tool (openmg/zk/keys.py) is not in this checkout.")
    log = checkout.venv / LOG_FOLDER / LOG_NAME
    command = [str(checkout.python), "-m", "openmg.zk.keys", "ensure"]
    try:
        run_logged(command, cwd=checkout.root, log=log, note=step.note, env=clean_environment())
    except CommandFailed as error:
        last = error.tail[-1] if error.tail else str(error)
        raise SetupError(
            f"The development keys could not be made in {cache_folder()} ({last}): make that folder writable "
            f"or set OPENMG_CACHE to another, then run this again; all that was said is in {log}."
        ) from error
    step.outcome = f"in {cache_folder()}"
