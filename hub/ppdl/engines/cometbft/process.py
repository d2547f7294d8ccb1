"""CometBFT as a child process: one at a time in a home, its last words kept, ended for certain.

A lock on the home is inherited by the child, so that after a crash of this program the next one waits until a child left
behind has noticed that its application is gone. What it prints is read all the time and only the end is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from pathlib import Path

STOP_S = 10.0
LOCK_S = 20.0
LOCK_POLL_S = 0.05
TAIL_BYTES = 8192
SAID_CHARS = 300


class ProcessError(RuntimeError):
    """CometBFT cannot be started; the message is one sentence for the operator."""


class CometProcess:
    """One run of the program in a home."""

    def __init__(self, binary: Path, home: Path) -> None:
        self._binary, self._home = binary, home
        self._lock: int | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._tail = b""

    async def start(self) -> None:
        """Take the home and start. Raises ProcessError."""
        self._lock = await self._take_home()
        try:
            self._process = await asyncio.create_subprocess_exec(
                str(self._binary), "start", "--home", str(self._home),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                pass_fds=(self._lock,), start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            self._release()
            raise ProcessError(f"CometBFT {self._binary} cannot be run ({error.strerror}): build it again") from error
        self._reading = asyncio.create_task(self._read(self._process))

    async def _take_home(self) -> int:
        lock = os.open(self._home / "LOCK", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            async with asyncio.timeout(LOCK_S):
                while True:
                    with contextlib.suppress(BlockingIOError):
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        return lock
                    await asyncio.sleep(LOCK_POLL_S)
        except TimeoutError:
            os.close(lock)
            raise ProcessError(f"another process runs the CometBFT node in {self._home}: stop it first") from None
        except BaseException:
            os.close(lock)
            raise

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while data := await process.stdout.read(TAIL_BYTES):
            self._tail = (self._tail + data)[-TAIL_BYTES:]

    async def wait(self) -> str:
        """Wait for its end; return what it said last."""
        assert self._process is not None and self._reading is not None
        await self._process.wait()
        await asyncio.shield(self._reading)
        return self.last_words()

    def last_words(self) -> str:
        """The last line it printed that says something."""
        lines = [line for line in self._tail.decode(errors="replace").splitlines() if line.strip()]
        told = [line for line in lines if "err=" in line or "ERROR" in line or "panic" in line] or lines
        return told[-1][-SAID_CHARS:] if told else "it said nothing"

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    def kill(self) -> None:
        """End it at once; what it signed and decided is on its disk."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def stop(self) -> None:
        """Ask it to end, then make it end."""
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(STOP_S):
                    await process.wait()
            except TimeoutError:
                self.kill()
                await process.wait()
        if self._reading is not None:
            await self._reading
        self._release()
