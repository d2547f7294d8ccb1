"""The whole data path as real processes: meters, agents, broker, ingest; with kill -9 of an agent and of the broker."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from edge_kit import (
    CHAIN_ID,
    OPERATOR_KEY,
    T0,
    Broker,
    Hubs,
    Processes,
    Simulator,
    agent_toml,
    start_simulator,
    until,
    write_simulator,
)

from edge_agent import store_tool
from edge_agent.config import AgentConfig
from edge_agent.importer import import_file
from edge_agent.store import Store
from firmware_sim.config import SimConfig
from firmware_sim.history import write_history
from firmware_sim.neighbourhood import Neighbourhood
from hub.ingest.events import IngestEvents
from hub.ingest.groups import Gap, GroupSum
from hub.ingest.joining import OpenedSlot
from hub.ingest.registry import Device, Registry
from hub.ingest.status import IngestSettings
from openmg.clock import VirtualClock, slot_of
from openmg.config import load_toml
from openmg.identity import DeviceKey, load_or_create_key
from openmg.messages.feeder import FeederReport
from openmg.mqtt import MqttAddress

SLOT_WALL_S = 1.2
SPEED = 900 / SLOT_WALL_S
FIRST = slot_of(T0)
KINDS = {"home-1": "prosumer", "home-2": "consumer", "home-3": "producer", "home-4": "prosumer", "home-5": "consumer"}


class Sums(IngestEvents):
    """Sums by slot, the feeder's reports and the gaps."""

    def __init__(self) -> None:
        self.groups: dict[int, GroupSum] = {}
        self.feeder: dict[int, FeederReport] = {}
        self.gaps: list[Gap] = []

    async def on_slot(self, slot: OpenedSlot) -> None:
        assert slot.slot not in self.groups
        (self.groups[slot.slot],) = slot.groups

    def on_feeder(self, device: Device, report: FeederReport) -> None:
        self.feeder[report.slot] = report

    def on_gap(self, gap: Gap) -> None:
        self.gaps.append(gap)


class Agents:
    """Agent processes by name."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        self.folder, self._processes = folder, processes
        self.configs: dict[str, Path] = {}
        self._running: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            arguments = ("run", "--config", str(self.configs[name]))
            self._running[name] = self._processes.python("edge_agent.cli", *arguments, stderr=log)

    def kill(self, name: str) -> None:
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def signal_all(self, number: signal.Signals) -> None:
        for process in self._running.values():
            os.kill(process.pid, number)

    def stop(self) -> None:
        self.signal_all(signal.SIGTERM)
        for process in self._running.values():
            assert process.wait(15) == 0
        self._running.clear()

    def rows(self, name: str, sql: str) -> list[tuple[int, ...]]:
        db = sqlite3.connect(load_toml(self.configs[name], AgentConfig).store_path)
        try:
            return db.execute(sql).fetchall()
        finally:
            db.close()

    def whole_slots(self) -> set[int]:
        """Slots that every home has reported."""
        sql = "SELECT slot FROM slots WHERE seq IS NOT NULL"
        return set.intersection(*({row[0] for row in self.rows(name, sql)} for name in KINDS))

    def totals(self) -> dict[str, int]:
        """Counters of all agents' stores, added up."""
        added: dict[str, int] = {}
        for name in self.configs:
            for key, value in store_tool.info(load_toml(self.configs[name], AgentConfig).store_path).items():
                if key in ("polled", "stored", "acked", "lost"):
                    added[key] = added.get(key, 0) + value
        return added


@pytest.fixture
def agents(tmp_path: Path, processes: Processes) -> Agents:
    return Agents(tmp_path, processes)


def prepare(
    folder: Path, processes: Processes, agents: Agents, broker: Broker, port: Callable[[], int]
) -> tuple[Simulator, float]:
    """Simulator, imported past and configurations of five homes and their feeder; the wall time of their start."""
    homes = {name: (kind, port()) for name, kind in KINDS.items()}
    feeder, w0 = port(), time.time() + 3.0
    write_simulator(folder, homes, SPEED, w0, feeder)
    past = write_history(Neighbourhood(load_toml(folder / "sim.toml", SimConfig)), folder / "past")
    for path, meter_port in zip(past, (*(p for _kind, p in homes.values()), feeder), strict=True):
        role = "feeder" if path.stem == "feeder-1" else "home"
        config = agent_toml(folder, meter_port, broker.url, path.stem, SPEED, w0, role)
        agents.configs[path.stem] = config
        store = Store(load_toml(config, AgentConfig).store_path)
        assert import_file(store, path, ZoneInfo("Asia/Seoul")).new == 96
        store.close()
    return start_simulator(processes, folder, homes, SPEED, w0, feeder), w0


def device_keys(agents: Agents) -> dict[str, DeviceKey]:
    """The agents' keys by name, made when missing."""
    keys = {}
    for name, path in agents.configs.items():
        key_file = load_toml(path, AgentConfig).device.key_file
        key_file.parent.mkdir(exist_ok=True)
        keys[name] = DeviceKey(load_or_create_key(key_file))
    return keys


def registry(keys: dict[str, DeviceKey]) -> Registry:
    return Registry(Device(name, k.address, 1, "feeder" if name == "feeder-1" else "home") for name, k in keys.items())


async def test_nothing_is_lost_or_doubled_when_broker_and_agent_are_killed(
    broker: Broker, agents: Agents, hubs: Hubs, tmp_path: Path, processes: Processes, free_port: Callable[[], int]
) -> None:
    simulator, w0 = await asyncio.to_thread(prepare, tmp_path, processes, agents, broker, free_port)
    clock, heard = VirtualClock(T0, w0, SPEED), Sums()
    settings = IngestSettings(MqttAddress.parse(broker.url), "hub-1", CHAIN_ID, OPERATOR_KEY, first_slot=FIRST)
    keys = device_keys(agents)
    hub = hubs.make(settings, registry(keys), tmp_path / "ingest.sqlite", clock, heard, keys.values())
    await hub.start()
    for name in agents.configs:
        agents.start(name)

    await until(lambda: heard.groups, 30)
    broker.kill()
    await asyncio.sleep(1.2 * SLOT_WALL_S)  # a boundary passes without a broker
    for name in ("home-2", "feeder-1"):
        agents.kill(name)
        agents.start(name)
    await asyncio.to_thread(broker.start)
    before = len(heard.groups)
    await until(lambda: len(heard.groups) >= before + 3, 30)
    for name in ("home-2", "feeder-1"):  # before it runs, the signal would end a process that was just started again
        log = tmp_path / f"{name}.log"
        await until(lambda log=log: log.read_text(encoding="utf-8").count("connected to broker") == 2, 30)
    agents.signal_all(signal.SIGUSR1)  # metering ends, the rest goes on

    deadline = time.monotonic() + 15
    while True:
        totals, whole = await asyncio.to_thread(agents.totals), await asyncio.to_thread(agents.whole_slots)
        stats = hub.stats()  # of this moment: slots go on
        told = totals["polled"] > 4 * 15  # each agent tells its polls when its metering has ended
        if told and totals["acked"] == totals["stored"] == stats.stored and heard.groups.keys() == whole:
            break
        assert time.monotonic() < deadline, (totals, sorted(heard.groups), sorted(whole), hub.stats())
        await asyncio.sleep(0.1)
    await asyncio.to_thread(agents.stop)
    await hub.stop()
    simulator.stop()

    # Every report of every store is at the hub, once.
    assert totals["lost"] == stats.lost == stats.conflicts == stats.malformed == 0
    assert totals["stored"] == totals["acked"] == stats.stored
    assert totals["stored"] >= 4 * 5
    check_energy(agents, heard)


def check_energy(agents: Agents, heard: Sums) -> None:
    """Sums at the hub equal the homes' slots, which add up to their counters."""
    energy: dict[int, list[int]] = {}
    for name in agents.configs:
        rows = agents.rows(name, "SELECT slot, import_wh, export_wh FROM slots ORDER BY slot")
        base = agents.rows(name, "SELECT import_total_wh, export_total_wh FROM baseline")[0]
        assert [row[0] for row in rows[:96]] == list(range(FIRST - 96, FIRST))  # the past, without a hole
        assert (sum(row[1] for row in rows), sum(row[2] for row in rows)) == base  # counters began at zero
        for slot, import_wh, export_wh in rows:
            if name != "feeder-1":
                sums = energy.setdefault(slot, [0, 0])
                sums[0], sums[1] = sums[0] + import_wh, sums[1] + export_wh
    for slot, group in heard.groups.items():
        assert [group.import_wh, group.export_wh] == energy[slot]
    assert set(heard.feeder) == {row[0] for row in agents.rows("feeder-1", "SELECT slot FROM slots WHERE seq NOT NULL")}
    assert sum(group.export_wh for group in heard.groups.values()) > 1000


@pytest.mark.parametrize("broker", ["amqtt"], indirect=True)
async def test_an_agent_without_hub_and_meter_waits_and_then_catches_up(
    broker: Broker, agents: Agents, hubs: Hubs, tmp_path: Path, processes: Processes, free_port: Callable[[], int]
) -> None:
    w0 = time.time()
    port = free_port()
    agents.configs["feeder-1"] = agent_toml(tmp_path, port, broker.url, "feeder-1", SPEED, w0, "feeder")
    keys = device_keys(agents)
    agents.start("feeder-1")
    log = tmp_path / "feeder-1.log"
    await until(lambda: "cannot be reached" in log.read_text(encoding="utf-8"), 30)  # no meter, no hub: the agent lives
    simulator = await asyncio.to_thread(
        start_simulator, processes, tmp_path, {"home-1": ("consumer", free_port())}, SPEED, w0, port
    )
    await asyncio.sleep(2 * SLOT_WALL_S + 0.5)  # slots close, nobody acknowledges
    heard = Sums()
    clock = VirtualClock(T0, w0, SPEED)
    settings = IngestSettings(MqttAddress.parse(broker.url), "hub-1", CHAIN_ID, OPERATOR_KEY)
    hub = hubs.make(settings, registry(keys), tmp_path / "ingest.sqlite", clock, heard, keys.values())
    await hub.start()
    deadline = time.monotonic() + 10
    while True:
        totals = await asyncio.to_thread(agents.totals)
        if totals["acked"] >= 2:
            break
        assert time.monotonic() < deadline, totals
        await asyncio.sleep(0.1)
    await asyncio.to_thread(agents.stop)
    totals = await asyncio.to_thread(agents.totals)
    assert totals["acked"] == totals["stored"] == hub.stats().stored and hub.stats().lost == 0
    await hub.stop()
    simulator.stop()
    said = log.read_text(encoding="utf-8")
    assert said.count("cannot be reached") == 1 and said.count("is reached again") == 1 and "Traceback" not in said
