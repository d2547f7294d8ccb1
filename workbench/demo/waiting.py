"""Waiting for the demo's processes: with progress for the user, a limit, and an eye on children that end by themselves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from workbench.demo.options import DemoError
from workbench.progress import Progress
from workbench.supervisor import Supervisor

LOOK_SECONDS = 0.1
TICK_SECONDS = 0.5


class Waiting:
    """Every method raises ProcessFailed as soon as a child has ended that should not have."""

    def __init__(self, supervisor: Supervisor, progress: Progress) -> None:
        self._supervisor = supervisor
        self._progress = progress

    def until(self, what: str, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until `ready`; DemoError after `seconds`."""
        deadline = time.monotonic() + seconds
        while not ready():
            self._supervisor.check()
            if time.monotonic() > deadline:
                raise DemoError(f"{what} did not come within {seconds:.0f} s; see the logs in {self._supervisor.log_dir}")
            self._progress.live(f"waiting for {what}")
            time.sleep(LOOK_SECONDS)

    def at_most(self, seconds: float, what: str, ready: Callable[[], bool]) -> None:
        """Wait until `ready` or the time is over; what is missing then shows in the report."""
        deadline = time.monotonic() + seconds
        while not ready() and time.monotonic() < deadline:
            self._supervisor.check()
            self._progress.live(f"finishing: {what}")
            time.sleep(TICK_SECONDS)

    def result(self, what: str, future: Future[Any]) -> Any:
        """What a background call returns or raises."""
        while not future.done():
            self._supervisor.check()
            self._progress.live(f"waiting for {what}")
            time.sleep(LOOK_SECONDS)
        return future.result()


def in_background(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Runs the call in a thread that does not keep the demo from ending: making keys in Python takes half a minute."""
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(call(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name=call.__name__, daemon=True).start()
    return future
