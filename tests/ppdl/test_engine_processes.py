"""Four engines in four processes over TCP with SQLite: kill -9, restart, catch up."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from pbft_support import free_ports, genesis_of

from hub.ppdl.sim.world import validator_keys
from hub.ppdl.store import PpdlStore, initialise_store

N = 4
TIMING = {"block_interval_s": 0.05, "heartbeat_s": 0.3, "view_timeout_s": 0.8}
SUPPORT = Path(__file__).with_name("pbft_support.py")
ROOT = Path(__file__).resolve().parents[2]


class Process:
    """One engine; `height` and `view_changes` are what it last printed."""

    def __init__(self, config: dict[str, object]) -> None:
        self.config, self.height, self.view_changes = config, 0, 0

    async def start(self, life: int) -> None:
        config = json.dumps(self.config | {"life": life})
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, str(SUPPORT), config, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            said = json.loads(line)
            self.height, self.view_changes = said["height"], said["view_changes"]

    async def kill(self) -> None:
        self._process.kill()
        await self._process.wait()
        await self._reading

    async def end(self) -> int:
        """Close its input: it stops by itself."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with asyncio.timeout(15):
            code = await self._process.wait()
        await self._reading
        return code


async def reach(processes: list[Process], height: int, timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while min(p.height for p in processes) < height:
            await asyncio.sleep(0.05)


async def test_kill_9_restart_and_catch_up(tmp_path: Path) -> None:
    keys, genesis_ms = validator_keys(N), time.time_ns() // 1_000_000
    genesis = genesis_of(keys, genesis_ms)
    ports = free_ports(N)
    processes = []
    for i in range(N):
        initialise_store(tmp_path / f"chain{i}.sqlite", genesis)
        place = {"directory": str(tmp_path), "me": i, "n": N, "ports": ports}
        processes.append(Process(place | {"genesis_ms": genesis_ms, "timing": TIMING}))
    await asyncio.gather(*(p.start(0) for p in processes))
    try:
        await reach(processes, 10)
        await processes[2].kill()  # also a proposer of every fourth height: views must change
        others = [p for p in processes if p is not processes[2]]
        await reach(others, processes[0].height + 12)
        assert max(p.view_changes for p in others) >= 1
        await processes[2].start(1)
        await reach(processes, max(p.height for p in others) + 5)
        await reach(processes, 30)
    finally:
        codes = await asyncio.gather(*(p.end() for p in processes))
    assert codes == [0, 0, 0, 0]
    chains = []
    for i in range(N):
        store = PpdlStore(tmp_path / f"chain{i}.sqlite", genesis)
        chains.append([h.header_bytes for h in store.headers_after(0, 500)])
        store.close()
    shortest = min(map(len, chains))
    assert shortest >= 30
    assert all(chain[:shortest] == chains[0][:shortest] for chain in chains)
    ledgers = [json.loads((tmp_path / f"app{i}.json").read_text())["log"] for i in range(N)]
    common = min(map(len, ledgers))
    assert common >= 20 and all(ledger[:common] == ledgers[0][:common] for ledger in ledgers)
