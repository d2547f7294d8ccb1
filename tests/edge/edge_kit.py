"""Processes and files that the tests of the data path share."""

from __future__ import annotations

import asyncio
import contextlib
import io
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from slot_reports import ReportOpener

from edge_agent.agent import Agent
from edge_agent.cli import main
from edge_agent.config import AgentConfig
from edge_agent.slots import Baseline, ClosedSlot
from hub.ingest.events import IngestEvents
from hub.ingest.registry import Registry
from hub.ingest.service import IngestService
from hub.ingest.status import IngestSettings
from hub.ingest.store import IngestStore
from openmg.clock import VirtualClock, slot_of
from openmg.config import load_toml
from openmg.identity import DeviceKey
from openmg.signing import address_of

T0 = 1_781_485_200
OPERATOR_KEY = bytes(31) + b"\x07"
CHAIN_ID = 7


def agent_toml(
    folder: Path,
    meter_port: int,
    url: str,
    name: str = "home-1",
    speed: float = 1.0,
    w0: float = 0.0,
    role: str = "home",
    poll: float = 0.1,
) -> Path:
    """The configuration of an agent under `folder/name`."""
    home = folder / name
    home.mkdir(parents=True, exist_ok=True)
    path = home / "agent.toml"
    path.write_text(
        f"""[device]
name = "{name}"
key_file = "keys/device.key"
state_dir = "state"

[clock]
t0 = {T0}
w0 = {w0 or time.time()}
speed = {speed}

[meter]
host = "127.0.0.1"
port = {meter_port}
poll_seconds = {poll}

[mqtt]
url = "{url}"
resend_seconds = 0.5

[hub]
operator = "0x{address_of(OPERATOR_KEY).hex()}"
chain_id = {CHAIN_ID}

[home]
microgrid = 1
timezone = "Asia/Seoul"
role = "{role}"

[slot_proof]
demo = true
""",
        encoding="utf-8",
    )
    return path


def run_agent_command(
    command: str, config: Path, *arguments: str, before: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Runs `openmg-agent COMMAND [before] --config CONFIG [arguments]` to its end, in this process.

    Everything but an interpreter's start, which costs more than the command; for that `run_agent_program`.
    """
    line = [command, *before, "--config", str(config), *arguments]
    said, errors = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
        try:
            code = main(line)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
    texts = [stream.buffer.getvalue().decode() for stream in (said, errors)]  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(line, code, *texts)


def run_agent_program(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `openmg-agent [arguments]` to its end, as a program of its own."""
    line = [sys.executable, "-m", "edge_agent.cli", *arguments]
    return subprocess.run(line, capture_output=True, text=True, cwd=root, timeout=30)


class Processes:
    """Starts Python modules and other programs, and ends those that still run when the test does, however it ends."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        process: subprocess.Popen[str] = subprocess.Popen(command, cwd=self.root, text=True, **options)
        self._started.append(process)
        return process

    def python(self, module: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return self.start(sys.executable, "-m", module, *arguments, **options)

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


@pytest.fixture
def processes(repo_root: Path) -> Iterator[Processes]:
    made = Processes(repo_root)
    yield made
    made.end()


class Simulator:
    """A simulator process and its ports by name."""

    def __init__(self, process: subprocess.Popen[str], ports: dict[str, int]) -> None:
        self.process, self.ports = process, ports

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)


def write_simulator(folder: Path, homes: dict[str, tuple[str, int]], speed: float, w0: float, feeder: int) -> Path:
    """The configuration of homes given as name: (kind, port), and of a feeder when its port is not 0."""
    lines = [f"[clock]\nt0 = {T0}\nw0 = {w0}\nspeed = {speed}\n[sim]\nhistory_days = 1\n"]
    for i, (name, (kind, port)) in enumerate(homes.items()):
        peak = {"prosumer": 3000, "producer": 9000, "consumer": 0}[kind]
        lines.append(f'[[home]]\nname = "{name}"\nkind = "{kind}"\nmicrogrid = 1\n')
        lines.append(f"seed = {i + 21}\nport = {port}\npv_peak_w = {peak}\n")
    if feeder:
        lines.append(f'[[feeder]]\nname = "feeder-1"\nmicrogrid = 1\nport = {feeder}\n')
    path = folder / "sim.toml"
    path.write_text("".join(lines), encoding="utf-8")
    return path


def start_simulator(
    processes: Processes,
    folder: Path,
    homes: dict[str, tuple[str, int]],
    speed: float = 1.0,
    w0: float = 0.0,
    feeder: int = 0,
) -> Simulator:
    """Starts `openmg-sim` and returns when it serves."""
    path = write_simulator(folder, homes, speed, w0 or time.time(), feeder)
    process = processes.python("firmware_sim.cli", "--config", str(path), stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline().startswith("serving")
    ports = {name: port for name, (_kind, port) in homes.items()}
    return Simulator(process, {**ports, "feeder-1": feeder})


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Returns when the condition holds; fails the test when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"did not happen within {seconds:g} s")
        time.sleep(0.02)


async def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """The same in a loop that goes on meanwhile."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {seconds:g} s"
        await asyncio.sleep(0.02)


class Broker:
    """A broker process that can be killed and started again on the same port."""

    def __init__(self, kind: str, port: int, folder: Path, processes: Processes) -> None:
        self.port, self.url = port, f"mqtt://127.0.0.1:{port}"
        if kind == "mosquitto":
            config = folder / "mosquitto.conf"
            config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n", encoding="ascii")
            self._command = [mosquitto() or "mosquitto", "-c", str(config)]
        else:
            self._command = [sys.executable, "-m", "hub.ingest.broker", "--port", str(port)]
        self._processes = processes
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = self._processes.start(*self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self._accepts)

    def _accepts(self) -> bool:
        assert self._process is not None and self._process.poll() is None, "the broker ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def mosquitto() -> str | None:
    """Where mosquitto is; distributions put it into a folder that is not on an ordinary user's PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/local/sbin:/usr/sbin:/sbin")


def brokers() -> list[object]:
    """Where mosquitto is installed both, amqtt among the slow tests; else amqtt alone, which comes with the project."""
    if mosquitto() is None:
        return ["amqtt"]
    return ["mosquitto", pytest.param("amqtt", marks=pytest.mark.slow)]


@pytest.fixture(params=brokers())
def broker(request: pytest.FixtureRequest, free_port: Callable[[], int], tmp_path: Path, processes: Processes) -> Broker:
    if request.param == "mosquitto" and mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    made = Broker(request.param, free_port(), tmp_path, processes)
    made.start()
    return made


@contextlib.asynccontextmanager
async def agent_beyond_a_slot(folder: Path, url: str, name: str) -> AsyncIterator[Agent]:
    """A running agent without a meter, which stands on the closed slot of T0 with 7 Wh of import and 2 Wh of export."""
    made = Agent(load_toml(agent_toml(folder, 9, url, name), AgentConfig))
    made.store.move_baseline(Baseline(slot_of(T0) + 1, 0, 0), ClosedSlot(slot_of(T0), 7, 2, 0))
    stop = asyncio.Event()
    running = asyncio.create_task(made.run(stop))
    yield made
    stop.set()
    await running


class Hubs:
    """Ingest services, stopped with their databases when the test ends, however it does."""

    def __init__(self) -> None:
        self._made: list[IngestService] = []

    def make(
        self,
        settings: IngestSettings,
        registry: Registry,
        path: Path,
        clock: VirtualClock,
        events: IngestEvents,
        keys: Iterable[DeviceKey],
    ) -> IngestService:
        """A hub whose replica knows the meters with these keys."""
        opener = ReportOpener(keys, CHAIN_ID)
        service = IngestService(settings, registry, IngestStore(path), clock, events, opener)
        self._made.append(service)
        return service

    async def end(self) -> None:
        for service in self._made:
            await service.stop()
            service.store.close()


@pytest.fixture
async def hubs() -> AsyncIterator[Hubs]:
    made = Hubs()
    yield made
    await made.end()
