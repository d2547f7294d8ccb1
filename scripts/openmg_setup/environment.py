"""Step `environment`: the checkout's own .venv with pip in it. Contacts nothing.

Rules: .venv is used as it is only when this set-up finished making it, for this path, and its Python still
runs; otherwise it is removed and made anew, and the reason is told. The system's Python is never changed.

Not here: what is installed into it (packages.py).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from . import interpreter
from .commands import CommandFailed, ask, clean_environment, run_logged
from .console import Step
from .model import Checkout, Options, SetupError
from .state import Record, load, save

CHECK = "import json, pip, sys; print(json.dumps([sys.prefix, sys.version.split()[0]]))"


def why_unusable(checkout: Checkout, options: Options) -> str | None:
    """Why .venv has to be made anew, or None when it can be used as it is."""
    if not checkout.venv.is_dir():
        return "there is none yet"
    record = load(checkout.venv)
    if record is None:
        return "the one here was never finished by this set-up"
    if record.busy is not None:
        return f"the set-up before was interrupted in the step '{record.busy}'"
    if record.root != str(checkout.root):
        return "it was made for another path"
    answer = ask([str(checkout.python), "-E", "-s", "-c", CHECK], cwd=Path("/"), env=clean_environment())
    try:
        prefix, version = json.loads(answer or "")
    except ValueError:
        return "its Python or its pip does not run any more"
    if Path(prefix).resolve() != checkout.venv or version != record.version:
        return f"it was made with Python {record.version}, and that has changed"
    if options.python is not None:
        wanted = interpreter.find(options.python)
        if wanted.executable != record.base or wanted.version_text != record.version:
            return f"it was made with {record.base}, and {wanted.executable} was asked for"
    return None


def make(checkout: Checkout, options: Options, step: Step) -> Record:
    """Make .venv anew and return its record. Raises SetupError."""
    base = interpreter.find(options.python)
    remove(checkout)
    record = Record(str(checkout.root), base.executable, base.version_text, busy="environment")
    env = clean_environment()
    command = [base.executable, "-E", "-s", "-m", "venv", str(checkout.venv)]
    try:
        # The record exists before anything else does: an interrupted run is recognised whenever it stopped.
        checkout.venv.mkdir()
        save(checkout.venv, record)
        run_logged(command, cwd=checkout.root, log=None, note=step.note, env=env)
    except CommandFailed as error:
        raise SetupError(
            f"Python {base.version_text} at {base.executable} could not make {checkout.venv} "
            f"({error.tail[-1] if error.tail else error}): install python3-venv, then run this again."
        ) from error
    except OSError as error:
        raise SetupError(f"{checkout.venv} cannot be made ({error.strerror}): check the rights.") from error
    finished = Record(record.root, record.base, record.version)
    save(checkout.venv, finished)
    step.outcome = f"made with Python {base.version_text}"
    return finished


def remove(checkout: Checkout) -> None:
    """Remove .venv if it is a folder of this checkout. Raises SetupError when it is something else."""
    if checkout.venv.is_symlink() or (checkout.venv.exists() and not checkout.venv.is_dir()):
        raise SetupError(f"{checkout.venv} is not a folder: move it away, then run this again.")
    try:
        if checkout.venv.exists():
            shutil.rmtree(checkout.venv)
    except OSError as error:
        raise SetupError(
            f"{checkout.venv} has to be made anew but cannot be removed ({error.strerror}: "
            f"{error.filename}): remove it yourself, then run this again."
        ) from error
