"""A validator's process as the soak sees it: started, listened to, killed, its files harmed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hub.ppdl.marker import marker_path
from workbench.ppdl_soak.disk import forget_undo, lose_unsynced
from workbench.ppdl_soak.node import NodeConfig, ledger_path, store_path

ROOT = Path(__file__).resolve().parents[2]
STOP_S = 30.0
_LINE_BYTES = 1 << 20

WIPES = ("everything", "store", "store and marker", "ledger", "write-ahead log", "pages")
"""What may be lost for good at once."""

Heard = Callable[[int, dict[str, Any]], None]


def lose_pages(database: Path) -> None:
    """Every third page of an SQLite file is never written, as by a checkpoint that was cut off on a disk that lies."""
    content = bytearray(database.read_bytes())
    page = int.from_bytes(content[16:18], "big")  # of the header (SQLite's file format, section 1.3)
    for first in range(page, len(content), 3 * page):
        content[first : first + page] = bytes(len(content[first : first + page]))
    database.write_bytes(content)


class Validator:
    """One validator over all its lives. `height`, `voting`, `failure` are what it last said; `heard` gets every line."""

    def __init__(self, config: NodeConfig, heard: Heard) -> None:
        self.config, self.directory = config, Path(config.directory)
        self.height, self.voting, self.failure = 0, False, ""
        self.abstained = False  # whether it said in this life that it does not vote
        self.snapshots = self.equivocations = self.set_aside = 0
        self._heard = heard
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin the next life."""
        self.config = replace(self.config, life=self.config.life + 1)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.height, self.voting, self._marker = 0, False, self._marker_bytes()
        self.abstained = False
        log = self.log_path.open("ab")
        self._log_before = log.tell()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "workbench.ppdl_soak.node", self.config.encode(), cwd=ROOT, limit=_LINE_BYTES,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
            )  # fmt: skip
        finally:
            log.close()
        self._reading = asyncio.create_task(self._read(self._process))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        installed, equivocated = 0, 0
        while line := await process.stdout.readline():
            try:
                said = json.loads(line)
            except ValueError:
                continue  # cut off by the kill: it was not said
            if "at" in said:
                self.height, self.voting, self.failure = said["at"], said["voting"], said["failure"] or ""
                self.set_aside = said["set_aside"]
                self.abstained = self.abstained or not self.voting
                self.snapshots += said["snapshots"] - installed
                self.equivocations += said["equivocations"] - equivocated
                installed, equivocated = said["snapshots"], said["equivocations"]
            self._heard(self.config.me, said)

    @property
    def log_path(self) -> Path:
        """What it wrote to its standard error in all its lives."""
        return self.directory.parent / f"validator{self.config.me}.log"

    def logged(self) -> str:
        """What it wrote there in this life."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_before)
            return log.read().decode(errors="replace")

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.returncode is None

    async def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._ended()

    async def end(self) -> int:
        """Let it stop by itself; kill it when it does not."""
        if self._process is None or self._process.stdin is None:
            return 0
        self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        except TimeoutError:
            await self.kill()
        return await self._ended()

    async def _ended(self) -> int:
        assert self._process is not None and self._reading is not None
        code = await self._process.wait()
        await self._reading
        return code

    # what becomes of the files of a killed process

    def keep_writes(self) -> None:
        """Only the process died."""
        forget_undo(self.directory)

    def lose_writes(self, chance: random.Random) -> int:
        """The machine lost its power: what was not synced may be gone. Returns how many writes are."""
        lost = lose_unsynced(self.directory, chance)
        marker = marker_path(store_path(self.directory))
        if self._marker is not None and chance.random() < 0.5:
            marker.write_bytes(self._marker)  # never synced since the start
            lost += 1
        return lost

    def _marker_bytes(self) -> bytes | None:
        marker = marker_path(store_path(self.directory))
        return marker.read_bytes() if marker.exists() else None

    def wipe(self, kind: str) -> None:
        """Files are lost for good. The validator must notice by itself, and be silent until caught up."""
        forget_undo(self.directory)
        store, ledger = store_path(self.directory), ledger_path(self.directory)
        if kind == "everything":
            shutil.rmtree(self.directory)
        elif kind == "ledger":
            self._remove(ledger.name + "*")
        elif kind == "write-ahead log":
            self._remove(store.name + "-*")
        elif kind == "pages":
            self._remove(store.name + "-*")
            lose_pages(store)
        else:
            self._remove(store.name, store.name + "-*", *([store.name + ".mark"] if "marker" in kind else []))

    def _remove(self, *patterns: str) -> None:
        for pattern in patterns:
            for path in self.directory.glob(pattern):
                path.unlink()
