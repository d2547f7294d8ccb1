"""The agents of one process: one for a home's only meter, many in a house whose meters are all read by one machine.

Theory of operation. Each configuration file has a seat. A seat makes its agent, runs it, and begins again, ever more seldom,
when that fails; the file is read anew each time, so that mending it is enough. Agents know nothing of each other: each has its
own identity, state folder, store, outbox and session at its broker; what they share is in `shared`. A file that names what
another one has (meter, device at a broker, key, state folder, proxy) waits until it no longer does.

Rules: no agent's failure ends or delays another. One file alone is an agent as ever: what makes it impossible is raised, and
ends the command; so do several files that are all wrong. The watchdog is fed while every agent that runs moves; one that
cannot be started is said, not waited for.
Not here: what an agent is (`agent`, `compose`), the command (`commands.running`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edge_agent.agent import Agent
from edge_agent.claims import Claims
from edge_agent.compose import make_agent
from edge_agent.config import AgentConfig
from edge_agent.log_names import DEVICE
from edge_agent.notify import Notifier, Pulse, Watch
from edge_agent.shared import Shared
from edge_agent.store import StoreError
from openmg.config import ConfigError, load_toml
from openmg.identity import KeyFileError
from openmg.tasks import end_task

log = logging.getLogger(__name__)
MAX_THREADS = 4
"""Database, proofs and file work of all agents; each thread costs memory."""
MAX_AGENTS = 500
FIRST_RETRY_S, LAST_RETRY_S = 5.0, 300.0
"""Between the attempts to start an agent."""
READY_WITHIN_S = 60.0
"""So long systemd waits for the first attempts of all before it is told that the process is ready."""


class Seat:
    """One file's place in the process, with its agent while that runs."""

    def __init__(self, path: Path, shared: Shared, claims: Claims) -> None:
        self.path = path
        self.agent: Agent | None = None
        self.problem = ""
        """Why there is no agent just now; "" when there is one, or none was tried."""
        self.tried = asyncio.Event()
        """Set after the first attempt, however it ended."""
        self._shared, self._claims = shared, claims

    async def run_once(self, stop: asyncio.Event) -> None:
        """Makes the agent and runs it until `stop` is set; raises what makes that impossible."""
        config = load_toml(self.path, AgentConfig)
        self._claims.take(self.path, config)
        DEVICE.set(config.device.name)
        async with self._shared.one_start:
            if stop.is_set():
                return
            agent = await asyncio.to_thread(make_agent, config, self._shared)
        self.agent, self.problem = agent, ""
        self.tried.set()
        try:
            await agent.run(stop)
        finally:
            self.agent = None

    async def run(self, stop: asyncio.Event) -> None:
        """Runs the agent until `stop` is set, and again whenever it fails."""
        DEVICE.set(self.path.stem)
        loop, pause = asyncio.get_running_loop(), FIRST_RETRY_S
        while not stop.is_set():
            began = loop.time()
            try:
                await self.run_once(stop)
            except (ConfigError, KeyFileError, StoreError) as error:
                self._failed(str(error))
            except Exception as error:
                log.exception("the agent of %s failed", self.path)
                self._failed(f"{type(error).__name__}: {error}")
            self.tried.set()
            pause = FIRST_RETRY_S if loop.time() - began > LAST_RETRY_S else pause
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)
            pause = min(2 * pause, LAST_RETRY_S)

    def _failed(self, problem: str) -> None:
        """Says it, unless it was the last thing said."""
        if problem != self.problem:
            self.problem = problem
            log.error("%s (the others go on; trying again)", problem)


class Gateway:
    """The seats of one process; `run` returns after `stop` was set and every agent is closed."""

    def __init__(self, paths: Sequence[Path]) -> None:
        if not 1 <= len(paths) <= MAX_AGENTS:
            raise ConfigError(f"{len(paths)} configuration files: one process runs 1 to {MAX_AGENTS} agents")
        self._shared, claims = Shared(len(paths)), Claims()
        self.seats = tuple(Seat(path, self._shared, claims) for path in paths)

    @property
    def agents(self) -> tuple[Agent, ...]:
        """Those that run."""
        return tuple(seat.agent for seat in self.seats if seat.agent is not None)

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until `stop` is set. Raises ConfigError, KeyFileError or StoreError when no agent can ever be."""
        loop, closing = asyncio.get_running_loop(), asyncio.Event()
        loop.set_default_executor(ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="agent"))
        if len(self.seats) == 1:
            running = [loop.create_task(self.seats[0].run_once(closing))]
        else:
            _require_any(self.seats)
            running = [loop.create_task(seat.run(closing), name=str(seat.path)) for seat in self.seats]
        watching, stopped = loop.create_task(self._watch(), name="watch"), loop.create_task(stop.wait())
        try:
            await asyncio.wait((stopped, *running), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_task(watching)
            await end_task(stopped)
            closing.set()
            try:
                await asyncio.gather(*running)
            finally:
                await asyncio.to_thread(self._shared.close)

    async def stop_metering(self) -> None:
        """Ends the polling of all; reports, services and connections go on."""
        await asyncio.gather(*(agent.stop_metering() for agent in self.agents))

    async def _watch(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_WITHIN_S):
                await asyncio.gather(*(seat.tried.wait() for seat in self.seats))
        await Watch(self.pulses, Notifier(), lambda: asyncio.to_thread(self._touch)).run()

    def pulses(self) -> tuple[Pulse, ...]:
        """What has to move for systemd's watchdog to be fed."""
        if len(self.seats) == 1:
            return tuple(pulse for agent in self.agents for pulse in agent.pulses())
        return tuple(pulse for agent in self.agents for pulse in agent.pulses(f"{agent.config.device.name} "))

    def _touch(self) -> None:
        for agent in self.agents:
            with contextlib.suppress(StoreError):  # a sign of life too, and the store says it
                agent.store.touch()


def _require_any(seats: Sequence[Seat]) -> None:
    """ConfigError, the first file's, when not one of them can be used."""
    first: ConfigError | None = None
    for seat in seats:
        try:
            load_toml(seat.path, AgentConfig)
        except ConfigError as error:
            first = first or error
        else:
            return
    if first is not None:
        raise first
