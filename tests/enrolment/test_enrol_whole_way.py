"""The whole way of two meters behind one gateway: from the operator's code to reports that a hub acknowledged, over mutual TLS.

Every program is the real one: mosquitto with the access list that `broker-config` writes, `openmg-agent enroll`, `init`,
`check` and `run` as processes, the simulator's bus, the hub's ingest.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from edge_kit import CHAIN_ID, OPERATOR_KEY, T0, Hubs, Processes, until
from enrol_kit import Operator, TlsBroker, place_of

from hub.devices.server import EnrolmentServer
from hub.ingest.events import IngestEvents
from hub.ingest.registry import FEEDER, Device, Registry
from hub.ingest.status import IngestSettings
from openmg.clock import VirtualClock
from openmg.identity import DeviceKey

SPEED = 300.0
"""A slot lasts three seconds."""
NAMES = ("feeder-1", "feeder-2")
REPORTS = 2


class Gateway:
    """The machine of a house: its folders, and the agent's commands on it."""

    def __init__(self, root: Path, folder: Path, processes: Processes) -> None:
        self.root, self.folder, self.processes = root, folder, processes
        self.files = folder / "meters.d"
        self.files.mkdir(parents=True)

    def state(self, name: str) -> Path:
        return self.folder / name

    async def agent(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "edge_agent", *arguments]
        return await asyncio.to_thread(subprocess.run, line, capture_output=True, text=True, cwd=self.root, timeout=60)

    async def enrol(self, name: str, unit: int, port: int, operator: Operator, server: EnrolmentServer) -> DeviceKey:
        """Code, comparison, approval, certificate, configuration."""
        code = self.folder / f"{name}.code"
        code.touch(mode=0o600)
        code.write_text(operator.desk.invite(name, unit, FEEDER, 1).text())
        where = ("--hub", place_of(server), "--code-file", str(code), "--name", name, "--dir", str(self.state(name)), "--demo")
        log = self.folder / f"{name}.log"
        with log.open("w") as output:
            enrolling = self.processes.python("edge_agent", "enroll", *where, stdout=output, stderr=output)
        await until(lambda: "waiting for approval" in log.read_text(), 60)
        applicant = operator.store.applicant(name)
        assert applicant is not None and operator.desk.fingerprint(applicant) in log.read_text()
        operator.approve(name)
        assert await asyncio.to_thread(enrolling.wait, 60) == 0, log.read_text()
        path = self.files / f"{name}.toml"
        place = ("--host", "127.0.0.1", "--port", str(port), "--unit", str(unit))
        made = await self.agent(
            "init", "--output", str(path), *place, "--demo-key", "--enrolment", str(self.state(name) / "enrolment.toml")
        )
        assert made.returncode == 0, made.stderr
        return DeviceKey((self.state(name) / "device.key").read_bytes())


@pytest.mark.slow
async def test_two_enrolled_meters_of_one_gateway_report_and_are_acknowledged(
    tls_broker: TlsBroker,
    operator: Operator,
    server: EnrolmentServer,
    hubs: Hubs,
    tmp_path: Path,
    repo_root: Path,
    processes: Processes,
    free_port: Callable[[], int],
) -> None:
    port, w0 = free_port(), time.time()
    processes.python("firmware_sim.cli", "--meters", "2", "--port", str(port), "--speed", str(SPEED), stdout=subprocess.DEVNULL)
    house = Gateway(repo_root, tmp_path / "house", processes)
    keys = {name: await house.enrol(name, unit, port, operator, server) for unit, name in enumerate(NAMES, 1)}
    for path in house.files.glob("*.toml"):
        clock = f"[clock]\nt0 = {T0}\nw0 = {w0}\nspeed = {SPEED}\n"
        path.write_text(clock + path.read_text(encoding="utf-8"), encoding="utf-8")
    checked = await house.agent("check", "--config-dir", str(house.files), "--json")
    assert [json.loads(line)["device"] for line in checked.stdout.splitlines()] == list(NAMES), checked.stderr
    await asyncio.to_thread(tls_broker.reload)  # the access list of the two

    registry = Registry([Device(name, key.address, unit, FEEDER) for unit, (name, key) in enumerate(keys.items(), 1)])
    settings = IngestSettings(tls_broker.address, "hub-1", CHAIN_ID, OPERATOR_KEY, tls=tls_broker.hub_files)
    hub = hubs.make(settings, registry, tmp_path / "hub.sqlite", VirtualClock(T0, w0, SPEED), IngestEvents(), keys.values())
    await hub.start()
    log = tmp_path / "agent.log"
    with log.open("w") as output:
        agent = processes.python("edge_agent", "run", "--config-dir", str(house.files), stderr=output)

    async def acknowledged() -> list[int]:
        said = await house.agent("status", "--config-dir", str(house.files), "--json")
        stores = [json.loads(line)["store"] for line in said.stdout.splitlines()]
        return [0 if store is None else store["acked"] for store in stores]

    deadline = time.monotonic() + 120
    while min(await acknowledged(), default=0) < REPORTS:
        assert time.monotonic() < deadline, log.read_text()
    assert hub.stats().lost == hub.stats().malformed == 0
    stored = {name: rows for name, rows in hub.store._db.execute("SELECT device, count(*) FROM reports GROUP BY device")}
    assert set(stored) == set(NAMES) and min(stored.values()) >= REPORTS
    agent.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(agent.wait, 30) == 0
    broker_log = (tls_broker.folder / "log").read_text(encoding="utf-8")
    for name in NAMES:  # each has a session of its own, under its certificate's name
        assert f"as {name} (" in broker_log
