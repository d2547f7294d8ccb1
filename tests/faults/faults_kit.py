"""The world of the fault matrix: real agents, broker and hub as processes, simulated meters, and the oracle over all of them.

A test makes a `World`, does its damage, and calls `judge`. Everything runs on one virtual clock that makes a slot of 900 s last
`slot_s` seconds of wall time. Five homes are the smallest group, so nothing is opened while one of them is missing.
Not here: the meters (`faults_meters`), what is judged (`faults_oracle`).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edge_kit import CHAIN_ID, OPERATOR_KEY, T0, Broker, Processes, agent_toml, wait_for
from faults_meters import Energy, Street, Switched
from faults_oracle import (
    Held,
    Recovery,
    held,
    hub_reports,
    hub_sums,
    require_energy,
    require_first_reading,
    require_kept,
    require_once,
    require_sums,
    rows,
)

from edge_agent.config import AgentConfig
from openmg.clock import VirtualClock, slot_of
from openmg.config import load_toml
from openmg.identity import DeviceKey, load_or_create_key
from openmg.mqtt_tls import TlsFiles
from workbench.ppdl_soak.disk import lose_unsynced

FIRST = slot_of(T0)
HOMES = tuple(f"home-{i}" for i in range(1, 6))
FEEDER = ("feeder-1",)
"""One meter that is read in clear: the whole path with the least work."""
PATIENCE_S = 240.0
"""Bound of each wait: a busy machine takes a minute for what is done in a second."""
END_S = 90.0
"""Bound of an orderly end: five seconds for the outbox, and proofs that are being made."""
HERE = Path(__file__).resolve().parent


class Keeper(Broker):
    """A mosquitto that keeps its queues in a database, written every second, until that is deleted."""

    def __init__(self, port: int, folder: Path, processes: Processes) -> None:
        super().__init__("mosquitto", port, folder, processes)
        self.database = folder / "mosquitto.db"
        lines = ["persistence true", f"persistence_location {folder}/", "autosave_interval 1"]
        lines += ["user root"] if os.geteuid() == 0 else []  # else it would become another user, who cannot write there
        config = folder / "mosquitto.conf"
        config.write_text(config.read_text(encoding="ascii").replace("persistence false\n", "\n".join(lines) + "\n"))

    def lose(self) -> None:
        """kill -9, and its database deleted."""
        wait_for(self.database.exists)
        self.kill()
        self.database.unlink()


class AgentProcess:
    """`python -m edge_agent run` on one configuration; started and killed at will."""

    def __init__(self, config: Path, processes: Processes) -> None:
        self.config_file, self._processes = config, processes
        self.config = load_toml(config, AgentConfig)
        self.name, self.store = self.config.device.name, self.config.store_path
        self.log = config.parent / "log"
        key_file = self.config.device.key_file
        key_file.parent.mkdir(exist_ok=True, mode=0o700)
        self.key = DeviceKey(load_or_create_key(key_file))
        self.process: subprocess.Popen[str] | None = None

    def start(self, *, lossy: bool = False, environment: Mapping[str, str] | None = None) -> None:
        program = [str(HERE / "faults_lossy.py")] if lossy else ["-m", "edge_agent"]
        path = {"PYTHONPATH": str(self._processes.root)}
        with self.log.open("ab") as log:
            self.process = self._processes.start(
                sys.executable, *program, "run", "--config", str(self.config_file), stderr=log,
                env={**os.environ, **path, **(environment or {})},
            )  # fmt: skip

    @property
    def pid(self) -> int:
        assert self.process is not None and self.process.poll() is None, f"{self.name} ended:\n{self.said()[-2000:]}"
        return self.process.pid

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        assert self.process is not None and self.process.wait(10) == -signal.SIGKILL

    def lose_power(self, seed: int) -> None:
        """kill -9 of an agent started `lossy`, and what its disk had not been told to sync is lost, in part or whole."""
        self.kill()
        lose_unsynced(self.config_file.parent, random.Random(seed))

    def limit_files(self, limit: int | None) -> None:
        """No file of the running agent grows beyond so many bytes; None lifts that."""
        most = resource.RLIM_INFINITY if limit is None else limit
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def rows(self, sql: str) -> list[tuple]:
        return rows(self.store, sql)

    def count(self, what: str) -> int:
        """Rows of `what` ("slots", "outbox WHERE ..."); 0 while the store is being made."""
        try:
            return int(self.rows(f"SELECT count(*) FROM {what}")[0][0])
        except sqlite3.OperationalError:
            return 0

    def running_slot(self) -> int:
        """The slot that is being metered."""
        return int(self.rows("SELECT slot FROM baseline")[0][0])

    def counters(self) -> Energy | None:
        """The counters from which the running slot is measured."""
        try:
            found = self.rows("SELECT import_total_wh, export_total_wh FROM baseline")
        except sqlite3.OperationalError:
            return None
        return Energy(*found[0]) if found else None


class HubProcess:
    """A hub's ingest and its database."""

    def __init__(self, folder: Path, processes: Processes, table: dict[str, Any]) -> None:
        self._folder, self._processes = folder / "hub", processes
        self._folder.mkdir()
        self.database, self.log = self._folder / "ingest.sqlite", self._folder / "log"
        self._table = {**table, "database": str(self.database)}
        self.process: subprocess.Popen[str] | None = None

    def start(self, *, lossy: bool = False) -> None:
        config = self._folder / "hub.json"
        config.write_text(json.dumps({**self._table, "lossy": lossy}), encoding="utf-8")
        path = os.pathsep.join((str(self._processes.root), str(HERE.parent)))
        with self.log.open("ab") as log:
            self.process = self._processes.start(
                sys.executable, str(HERE / "faults_hub.py"), str(config), stdout=subprocess.PIPE, stderr=log,
                env={**os.environ, "PYTHONPATH": path},
            )  # fmt: skip
        assert self.process.stdout is not None and self.process.stdout.readline() == "ready\n", self.log.read_text()

    def kill(self) -> None:
        assert self.process is not None and self.process.poll() is None
        self.process.kill()
        self.process.wait(10)

    def lose_power(self, seed: int) -> None:
        self.kill()
        lose_unsynced(self._folder, random.Random(seed))

    def end(self) -> dict[str, Any]:
        """Its statistics after an orderly end."""
        assert self.process is not None and self.process.stdout is not None
        self.process.send_signal(signal.SIGTERM)
        said = json.loads(self.process.stdout.readline())
        assert self.process.wait(10) == 0
        return dict(said)

    def count(self, what: str) -> int:
        return int(rows(self.database, f"SELECT count(*) FROM {what}")[0][0])


class World:
    """Everything of one run; `start` returns once all agents read their meters and the energy runs."""

    def __init__(
        self,
        folder: Path,
        processes: Processes,
        broker: Broker,
        *,
        names: tuple[str, ...] = HOMES,
        slot_s: float | None = None,
        past_s: int = 0,
        poll_s: float = 0.4,
        rtu: bool = False,
        units: tuple[str, ...] = (),
        scripts: Mapping[str, Switched] | None = None,
        edit: Callable[[str, str], str] = lambda _name, text: text,
        hub_tls: TlsFiles | None = None,
    ) -> None:
        """slot_s: wall seconds of a slot; by default more for a group, which proves five. past_s: simulated seconds before T0
        at which the agents' clock begins. units: meters on one line; more may be there than agents. edit: changes an agent's
        configuration."""
        self.folder, self.broker, self.slot_s = folder, broker, slot_s or (1.0 if len(names) == 1 else 3.0)
        self.speed = 900 / self.slot_s
        w0 = time.time()
        self.street = Street(names, VirtualClock(T0, w0, self.speed), rtu=rtu, units=units, scripts=scripts)
        self.clock = VirtualClock(T0 - past_s, w0 - past_s / self.speed, self.speed)
        self.agents: dict[str, AgentProcess] = {}
        for name in names:
            role = "home" if name.startswith("home") else "feeder"
            path = agent_toml(folder, self.street.ports[name], broker.url, name, self.speed, self.clock.w0, role, poll_s)
            text = path.read_text(encoding="utf-8").replace(f"t0 = {T0}", f"t0 = {self.clock.t0}")
            text = text.replace("resend_seconds = 0.5", "resend_seconds = 2.0")
            text = text.replace("[meter]", f"[meter]\nunit = {self.street.units[name]}")
            text = text.replace("[meter]", '[meter]\ntransport = "rtu_over_tcp"') if rtu else text
            path.write_text(edit(name, text), encoding="utf-8")
            self.agents[name] = AgentProcess(path, processes)
        self.hub = HubProcess(
            folder, processes,
            {
                "url": broker.url, "t0": self.clock.t0, "w0": self.clock.w0, "speed": self.speed, "chain_id": CHAIN_ID,
                "operator_key": OPERATOR_KEY.hex(), "first_slot": FIRST,
                "devices": [(n, a.config.home.role, str(a.config.device.key_file)) for n, a in self.agents.items()],
                "tls": None if hub_tls is None else [str(f) for f in (hub_tls.ca, hub_tls.certificate, hub_tls.key)],
            },
        )  # fmt: skip
        self.began: dict[str, Energy] = {}
        self._before: list[tuple[str, Held]] = []
        self._recoveries: list[Recovery] = []

    def start(self, lossy: tuple[str, ...] = (), environment: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """lossy: names of agents, or "hub", whose unsynced writes are noted down. environment: of agents, by name."""
        self.hub.start(lossy="hub" in lossy)
        self.start_agents(lossy, environment)

    def start_agents(self, lossy: tuple[str, ...] = (), environment: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """The same where somebody else is the hub."""
        self.began = self.street.hold()
        for name, agent in self.agents.items():
            agent.start(lossy=name in lossy, environment=(environment or {}).get(name))
        for name, agent in self.agents.items():
            wait_for(lambda agent=agent, name=name: agent.counters() == self.began[name], PATIENCE_S)
        self.street.clock.release()

    def remember(self, *names: str) -> None:
        """Notes what these agents (all of them without names) have committed: it must be there at the end.

        The first readings after earlier recoveries are waited for: an agent commits readings every ten seconds.
        """
        for recovery in self._recoveries:
            agent, since = self.agents[recovery.device], f"readings WHERE wall_ms >= {recovery.from_ms}"
            wait_for(lambda agent=agent, since=since: agent.count(since), PATIENCE_S)
        for name in names or self.agents:
            self._before.append((name, held(self.agents[name].store)))

    def retire(self, *names: str) -> None:
        """Ends these agents in order, and judges them no more."""
        for name in names:
            os.kill(self.agents[name].pid, signal.SIGTERM)
        for name in names:
            agent = self.agents.pop(name)
            assert agent.process is not None and agent.process.wait(END_S) == 0

    def pass_slots(self, count: int) -> None:
        """Waits until so many boundaries have passed."""
        until = self.clock.slot() + count
        wait_for(lambda: self.clock.slot() >= until, (count + 1) * self.slot_s + 5)

    @property
    def homes(self) -> dict[str, AgentProcess]:
        """The agents of homes; they are a group when they are enough."""
        homes = {name: agent for name, agent in self.agents.items() if agent.config.home.role == "home"}
        return homes if len(homes) >= len(HOMES) else {}

    def delivered(self, more: int) -> None:
        """Waits until the hub has so much more than now: opened groups, or reports where there is no group."""
        what = "groups" if self.homes else "reports"
        wanted = self.hub.count(what) + more
        wait_for(lambda: self.hub.count(what) >= wanted, PATIENCE_S + more * self.slot_s)

    @contextlib.contextmanager
    def recovering(self, *names: str) -> Iterator[None]:
        """A recovery is made in the block: the registers stand still around it until each agent has read them twice."""
        registers = self.street.hold()
        for name in names:
            self._let_read(name)
        from_ms = time.time_ns() // 1_000_000
        yield
        registers |= self.street.hold()
        for name in names:
            self._let_read(name, must=True)
        to_ms = time.time_ns() // 1_000_000
        self._recoveries += [Recovery(name, from_ms, to_ms, registers[name]) for name in names]
        self.street.clock.release()

    def _let_read(self, name: str, must: bool = False) -> None:
        """Waits for two polls of the agent, so that none is left that began earlier; only where it reads at all."""
        agent, device = self.agents[name], self.street.devices[name]
        reads = agent.process is not None and agent.process.poll() is None and not device.faults.silent
        if reads or must:
            wanted = device.requests + self.street.three_polls
            wait_for(lambda: device.requests >= wanted, PATIENCE_S)

    def settle(self, patience_s: float = PATIENCE_S) -> None:
        """Lets everything that was metered reach the hub, and ends all processes in order. patience_s: for the outboxes."""
        self.ended = self.street.hold()
        for name, agent in self.agents.items():
            wait_for(lambda agent=agent, name=name: agent.counters() == self.ended[name], PATIENCE_S)
        for agent in self.agents.values():
            os.kill(agent.pid, signal.SIGUSR1)  # metering ends, the rest goes on
        for agent in self.agents.values():
            live = f"slots WHERE seq IS NULL AND slot >= {FIRST}"
            wait_for(lambda agent=agent, live=live: not agent.count(live) and not agent.count("outbox"), patience_s)
        if self.homes:
            reported = [held(agent.store).reported for agent in self.homes.values()]
            whole = set.intersection(*map(set, reported))
            wait_for(lambda: self.hub.count("groups") >= len(whole), PATIENCE_S)
        for agent in self.agents.values():
            os.kill(agent.pid, signal.SIGTERM)
        for agent in self.agents.values():
            assert agent.process is not None and agent.process.wait(END_S) == 0, agent.said()[-2000:]
        self.stats = self.hub.end()

    def judge(self, *, least_slots: int = 3, patience_s: float = PATIENCE_S) -> None:
        """Settles, and requires all that the oracle says."""
        self.settle(patience_s)
        found = {name: held(agent.store) for name, agent in self.agents.items()}
        at_hub = {name: hub_reports(self.hub.database, name) for name in self.agents}
        for name, before in self._before:
            require_kept(before, found[name], at_hub[name])
        energies = {}
        for name, agent in self.agents.items():
            require_once(found[name], at_hub[name])
            metered = self.ended[name] - self.began[name]
            energies[name] = require_energy(found[name], at_hub[name], agent.key, metered)
            assert len(at_hub[name]) >= least_slots and metered != Energy(0, 0)
            assert "Traceback" not in agent.said()
        for recovery in self._recoveries:
            require_first_reading(found[recovery.device], recovery)
        if self.homes:
            require_sums({name: energies[name] for name in self.homes}, hub_sums(self.hub.database))
        assert self.stats["lost"] == self.stats["conflicts"] == self.stats["failed"] == 0
        assert "Traceback" not in self.hub.log.read_text(encoding="utf-8")

    def close(self) -> None:
        self.street.close()
