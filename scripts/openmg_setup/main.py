"""The order of the steps, the command line, and what is told at the end.

Rules: one set-up per checkout at a time (a lock file); a step whose key is recorded is not run; what was left
out is told again at the end; exit code 0 when the checkout is usable, 1 when it is not, 130 on Ctrl-C.

Not here: the steps (one module each).
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from . import commands, contracts, environment, keys, native, packages, state
from .console import Console, Step
from .model import Checkout, Options, SetupError, StepSkipped
from .state import Record

STEPS = ("environment", "packages", "contracts", "native", "keys")
CHANGE_ENVIRONMENT = ("packages", "native")  # killed within one of these, .venv cannot be trusted
LOCK_NAME = ".setup.lock"
MIN_FREE_MB = 1500  # what a full set-up takes, build folder of the native prover included
ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Task:
    """One step after the environment: its title, its key, whether its files are there, and how to do it.

    `optional` steps are remembered when they were skipped, and not tried again until their key changes.
    """

    name: str
    title: str
    key: Callable[[Record], str]
    is_in_place: Callable[[], bool]
    run: Callable[[Record, Step], None]
    optional: bool


def tasks(checkout: Checkout, options: Options) -> tuple[Task, ...]:
    everything = (
        Task(
            "packages",
            "Python packages",
            lambda record: packages.key(checkout, options, record),
            lambda: True,
            lambda record, step: packages.install(checkout, options, record, step),
            False,
        ),
        Task(
            "contracts",
            "Contract tools and EVM node",
            lambda record: contracts.key(checkout),
            lambda: contracts.is_in_place(checkout),
            lambda _, step: contracts.install(checkout, step),
            False,
        ),
        Task(
            "native",
            "Native prover",
            lambda record: native.key(checkout, record),
            lambda: True,
            lambda _, step: native.build(checkout, step),
            True,
        ),
        Task(
            "keys",
            "Development keys",
            lambda record: keys.key(checkout),
            keys.is_in_place,
            lambda _, step: keys.ensure(checkout, step),
            False,
        ),
    )
    return tuple(task for task in everything if task.name in options.steps)


@contextmanager
def only_one(checkout: Checkout, console: Console) -> Iterator[None]:
    """Hold the checkout's set-up lock; wait, and say so, while another run holds it."""
    try:
        descriptor = os.open(checkout.root / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise SetupError(
            f"{checkout.root / LOCK_NAME} cannot be written ({error.strerror}): "
            "give the checkout to the user who sets it up (sudo chown -R), then run this again."
        ) from error
    commands.keep_open(descriptor)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.line("Another set-up runs in this checkout; waiting for it.")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        commands.drop(descriptor)
        os.close(descriptor)


def set_up(checkout: Checkout, options: Options, console: Console) -> None:
    """Bring the checkout up to date. Raises SetupError."""
    began = time.monotonic()
    selected = tasks(checkout, options)
    reason = environment.why_unusable(checkout, options)
    record = state.load(checkout.venv) if reason is None else None
    due = [task for task in selected if record is None or not _is_done(task, record, options)]
    left_out = [_left_out(task, record) for task in selected if record and task not in due and task.name in record.failed]
    if record is not None and not due:
        _tell_up_to_date(console, record, left_out, time.monotonic() - began)
        return
    _check_space(checkout)
    total = len(due) + (record is None)
    if record is None:
        if checkout.venv.exists():
            console.line(f"{checkout.venv.name} is made anew: {reason}.")
        with console.step(1, total, "Environment (.venv)") as step:
            record = environment.make(checkout, options, step)
    for number, task in enumerate(due, start=total - len(due) + 1):
        record, skipped = _do(task, checkout, record, console, number, total)
        left_out += skipped
    record = replace(record, size_mb=_size_mb(checkout))
    state.save(checkout.venv, record)
    seconds = time.monotonic() - began
    console.line(f"Set-up done in {seconds:.0f} s, {record.size_mb} MB on disk.")
    _tell_left_out(console, left_out)


def _is_done(task: Task, record: Record, options: Options) -> bool:
    key = task.key(record)
    if task.optional and record.failed.get(task.name) == key and not options.retry:
        return True
    return record.done.get(task.name) == key and task.is_in_place()


def _do(
    task: Task, checkout: Checkout, record: Record, console: Console, number: int, total: int
) -> tuple[Record, list[str]]:
    """Run one task. Returns the new record and what was left out."""
    key = task.key(record)
    state.save(checkout.venv, replace(record, busy=task.name if task.name in CHANGE_ENVIRONMENT else None))
    left_out: list[str] = []
    try:
        with console.step(number, total, task.title) as step:
            try:
                task.run(record, step)
                record = record.with_done(task.name, key)
            except StepSkipped as skipped:
                step.outcome = "left out"
                left_out.append(str(skipped))
                record = record.with_failed(task.name, key, str(skipped)) if task.optional else record.without(task.name)
    except SetupError:
        # Failed, not interrupted: pip and npm have tidied up, the environment can be used for the next try.
        state.save(checkout.venv, record.without(task.name))
        raise
    state.save(checkout.venv, record)
    return record, left_out


def _left_out(task: Task, record: Record) -> str:
    return f"{record.reasons.get(task.name, task.title)} (`make setup RETRY=1` tries again)"


def _check_space(checkout: Checkout) -> None:
    free_mb = shutil.disk_usage(checkout.root).free // 1_000_000
    if free_mb < MIN_FREE_MB:
        raise SetupError(
            f"Only {free_mb} MB are free at {checkout.root}, {MIN_FREE_MB} MB may be needed: make room first."
        )


def _size_mb(checkout: Checkout) -> int:
    made = [checkout.venv, checkout.contracts / "node_modules", checkout.native / "target"]
    return state.size_on_disk_mb([*made, keys.cache_folder()])


def _tell_up_to_date(console: Console, record: Record, left_out: list[str], seconds: float) -> None:
    size = f"{record.size_mb} MB on disk"
    console.line(f"Set-up is up to date ({seconds:.1f} s, {size}); nothing was contacted.")
    _tell_left_out(console, left_out)


def _tell_left_out(console: Console, left_out: list[str]) -> None:
    for sentence in left_out:
        console.line(f"Left out: {sentence}")


def read_arguments(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="bootstrap.py",
        description="Set up this checkout: its .venv, packages, contract tools, prover and keys.",
    )
    parser.add_argument("--only", metavar="STEP,...", help=f"do these steps only, of {', '.join(STEPS)}")
    parser.add_argument("--extras", default="dev", metavar="NAME,...", help="extras to install (default: dev)")
    parser.add_argument("--python", metavar="COMMAND", help="make .venv with this Python (3.11 or newer)")
    parser.add_argument("--retry", action="store_true", help="try again what was left out before")
    given = parser.parse_args(arguments)
    steps = tuple(name for name in (given.only or ",".join(STEPS)).split(",") if name)
    wrong = [name for name in steps if name not in STEPS]
    if wrong:
        parser.error(f"there is no step '{wrong[0]}': choose among {', '.join(STEPS)}")
    extras = tuple(sorted({name for name in given.extras.split(",") if name}))
    return Options(steps, extras, given.python, given.retry)


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """Entry point. Returns the exit code."""
    options = read_arguments(arguments)
    signal.signal(signal.SIGTERM, _stop)  # as Ctrl-C: the tool that runs is ended too
    checkout = Checkout(ROOT)
    console = Console()
    try:
        with only_one(checkout, console):
            set_up(checkout, options, console)
    except SetupError as error:
        console.line()
        print(f"Set-up stopped. {error}", file=sys.stderr)
        return 1
    except OSError as error:
        console.line()
        print(f"Set-up stopped. {error.filename or ROOT}: {error.strerror}; mend that, then run this again.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        console.line("Set-up was interrupted; run it again to finish it.")
        return 130
    return 0
