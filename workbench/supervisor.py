"""Child processes of the demo: started with a log each, watched, measured, and always stopped.

Rules: a child is killed with its parent, since nobody is left then to see whether it ends by itself; stopping sends SIGTERM
to all, waits, then SIGKILL to a child and to what it started itself. Nothing is looked up or ended by name: only processes
started here are touched.
Not here: what the processes are for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from openmg.orphans import die_with_parent

STOP_SECONDS = 10.0
MAX_SAMPLES = 4096
"""Resource samples kept for a process: over an hour at one a second."""
LOG_TAIL_LINES = 12
MAX_LAST_WORDS = 300
"""Characters of a log's last line in an error message."""
LOG_TAIL_BYTES = 16_384


class ProcessFailed(Exception):
    """A child ended that should not have; one sentence names it, its log and the log's last line."""


@dataclass(frozen=True)
class Usage:
    """Median resident memory and mean CPU of a process over its samples."""

    rss_mb: float
    cpu_percent: float


@dataclass
class Child:
    """One running process and what was measured of it."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    short_lived: bool = False
    started: float = field(default_factory=time.monotonic)
    rss_bytes: deque[int] = field(default_factory=lambda: deque(maxlen=MAX_SAMPLES))
    cpu_seconds: float = 0.0
    seen: float = 0.0

    def sample(self) -> None:
        """Record memory and CPU time now; nothing when the process has ended."""
        try:
            handle = psutil.Process(self.process.pid)
            with handle.oneshot():
                self.rss_bytes.append(handle.memory_info().rss)
                times = handle.cpu_times()
            self.cpu_seconds, self.seen = times.user + times.system, time.monotonic()
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            return

    def usage(self) -> Usage:
        if not self.rss_bytes:
            return Usage(0.0, 0.0)
        elapsed = max(self.seen - self.started, 1e-3)
        return Usage(round(statistics.median(self.rss_bytes) / 2**20, 1), round(100 * self.cpu_seconds / elapsed, 1))

    def tail(self) -> str:
        """The last lines of the log."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - LOG_TAIL_BYTES))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def last_words(self) -> str:
        """The last line of the log that is not empty: our programs end with one sentence."""
        lines = [line.strip() for line in self.tail().splitlines() if line.strip()]
        return lines[-1][:MAX_LAST_WORDS] if lines else ""

    def end(self) -> str:
        """How the process ended and where to read more, as one sentence."""
        code = self.process.poll()
        how = f"with code {code}" if code is None or code >= 0 else f"by signal {-code} ({signal.strsignal(-code)})"
        words = self.last_words()
        return f"{self.name} ended {how}; see {self.log}" + (f", which ends: {words}" if words else "")


class Supervisor:
    """The children of one run, in order of start."""

    def __init__(self, log_dir: Path) -> None:
        self.log_dir = log_dir
        self.children: dict[str, Child] = {}
        log_dir.mkdir(parents=True, exist_ok=True)

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        env: Mapping[str, str] | None = None,
        *,
        short_lived: bool = False,
    ) -> Child:
        """Start a process whose output goes to `<name>.log`; ProcessFailed when its binary is missing.

        One that is `short_lived` ends by itself, and its starter looks at its exit code.
        """
        log, parent = self.log_dir / f"{name}.log", os.getpid()
        with log.open("ab") as output:
            try:
                process = subprocess.Popen(
                    [str(part) for part in command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **(env or {})},
                    start_new_session=True,  # a terminal's Ctrl-C is for the parent, which stops them in order
                    preexec_fn=lambda: die_with_parent(parent),
                )
            except OSError as error:
                raise ProcessFailed(f"{name}: cannot start {command[0]} ({error.strerror}); run make setup") from error
        self.children[name] = Child(name, process, log, short_lived)
        return self.children[name]

    def check(self) -> None:
        """ProcessFailed when a child has ended by itself."""
        for child in self.children.values():
            if not child.short_lived and child.process.poll() is not None:
                raise ProcessFailed(child.end())

    def sample(self) -> None:
        for child in self.children.values():
            child.sample()

    def stop(self, names: Sequence[str] | None = None) -> None:
        """Stop the named children (default: all), last started first; kills what does not end in time."""
        chosen = [child for name, child in self.children.items() if names is None or name in names]
        for child in reversed(chosen):
            if child.process.poll() is None:
                child.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for child in reversed(chosen):
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.process.pid, signal.SIGKILL)  # a session of its own: also what it started
                child.process.wait()
            del self.children[child.name]
