"""kill -9 between finalize_block and commit: the same block is finalised again, and executed once."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from engine_app import CounterApp

SUPPORT = Path(__file__).with_name("engine_nets.py")
ROOT = Path(__file__).resolve().parents[2]
CRASH_AT = 4
TIMEOUT_S = 60.0


async def life(config: dict[str, str], height: int | None) -> int:
    """Run the network in a process of its own, to `height` or to its death; return its exit code."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SUPPORT), json.dumps(config), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(Path.home())},
    )  # fmt: skip
    assert process.stdout is not None and process.stdin is not None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while line := await process.stdout.readline():
                if height is not None and json.loads(line)["height"] >= height:
                    break
            process.stdin.close()
            return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_killed_between_finalize_and_commit(engine_name: str, tmp_path: Path, free_port: Callable[[], int]) -> None:
    n = 4 if engine_name == "pbft" else 1
    ports = [free_port() for _ in range(n)]
    config = {
        "engine": engine_name, "folder": str(tmp_path), "n": str(n), "ports": json.dumps(ports), "life": "first",
        "genesis_ms": str(time.time_ns() // 1_000_000 - 1000), "crash_at": str(CRASH_AT),
    }  # fmt: skip
    assert await life(config, None) == -9
    before = CounterApp(tmp_path / "app0.json")
    assert before.height == CRASH_AT - 1
    assert before.trace()[-1] == f"finalize {CRASH_AT}"
    assert await life(config | {"life": "second", "crash_at": "0"}, CRASH_AT + 2) == 0
    after = CounterApp(tmp_path / "app0.json")
    trace = after.trace()
    assert trace.count(f"finalize {CRASH_AT}") == 2 and trace.count(f"commit {CRASH_AT}") == 1
    commits = [line for line in trace if line.startswith("commit")]
    assert commits == [f"commit {h}" for h in range(1, after.height + 1)]
    assert after.blocks[: CRASH_AT - 1] == before.blocks
    assert after.height >= CRASH_AT + 2
    assert set(after.counts.values()) == {1}
