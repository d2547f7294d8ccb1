"""Ending asyncio tasks for certain.

`asyncio.wait_for` of Python 3.11 returns a result that arrives in the same moment as a cancellation and
forgets the cancellation (python/cpython issue 86296), so that a task which loops over such a call lives on.
Cancelling once and waiting then hangs for ever; here the task is cancelled until it is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

RECANCEL_SECONDS = 0.05


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels the tasks and returns when all are done; what they raised is dropped."""
    pending = {task for task in tasks if task is not asyncio.current_task()}
    while pending:
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=RECANCEL_SECONDS)
        for task in done:
            if not task.cancelled():
                task.exception()  # marks it as seen


async def end_task(task: asyncio.Task[Any] | None) -> None:
    """`end_tasks` of one task, which may be absent."""
    if task is not None:
        await end_tasks((task,))
