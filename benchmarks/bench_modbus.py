"""Modbus polls per second: agents' readers against simulated meters, and one simulator against many readers.

`serial` asks one meter after the other over one connection, `parallel` all meters at once, both through the agent's
own reader, each poll a whole `fast` group. `street` is the simulator alone: `--street` meters in one process, 247 unit
ids a port, asked by a plain socket client of this file, 24 registers a poll; `pymodbus` is that library's own server
under the same client, with as many devices whose registers never change. The simulator is a process of its own;
loopback TCP. Medians over runs, the two servers by turns; writes `benchmarks/results/modbus.json`.

    python benchmarks/bench_modbus.py [--meters 12] [--street 500] [--seconds 3] [--runs 3]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edge_agent.modbus.link import ModbusLink
from edge_agent.modbus.plan import plan_blocks
from edge_agent.modbus.reader import MeterReader
from edge_agent.modbus.target import BusTarget
from openmg.profiles.profile import load_profile

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("results") / "modbus.json"
PROFILE = load_profile("sdm630")
FAST = plan_blocks(PROFILE.group("fast"), PROFILE.link.max_registers)[0]
CONNECTIONS = 16
"""Readers of the street; each has one request on the way at a time."""
UNITS_PER_PORT = 247
Place = tuple[int, int]
"""(port, highest unit id)"""

PYMODBUS_SERVER = """
import asyncio, logging, sys
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
logging.getLogger("pymodbus").setLevel(logging.CRITICAL + 1)
async def main():
    for port, units in [tuple(map(int, a.split(":"))) for a in sys.argv[1:]]:
        data = SimData(0, count=400, values=17, datatype=DataType.REGISTERS)
        devices = [SimDevice(unit, simdata=[data]) for unit in range(1, units + 1)]
        await ModbusTcpServer(devices, address=("127.0.0.1", port)).serve_forever(background=True)
    print("serving", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def free_ports(count: int) -> list[int]:
    holders = [socket.socket() for _ in range(count)]
    for holder in holders:
        holder.bind(("127.0.0.1", 0))
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return ports


@contextlib.contextmanager
def serving(*command: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process and the line it says when it serves."""
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        if not line:
            raise SystemExit("the server did not start; its message stands above")
        yield process, line
    finally:
        process.terminate()
        process.wait(10)


def write_simulator(folder: Path, ports: list[int]) -> Path:
    homes = "".join(
        f'[[home]]\nname = "home-{i}"\nkind = "consumer"\nmicrogrid = 1\nseed = {i}\nport = {port}\n'
        for i, port in enumerate(ports, 1)
    )
    path = folder / "sim.toml"
    path.write_text(f"[clock]\nt0 = 1781485200\nw0 = {time.time()}\n[sim]\nhistory_days = 0\n{homes}", encoding="utf-8")
    return path


async def poll(reader: MeterReader, until: float, milliseconds: list[float]) -> None:
    while (began := time.perf_counter()) < until:
        await reader.read_group("fast")
        milliseconds.append((time.perf_counter() - began) * 1000)


async def measure(ports: list[int], seconds: float) -> tuple[float, float]:
    """(polls per second, median milliseconds of a poll) with one task a port."""
    readers = [MeterReader(ModbusLink(BusTarget("127.0.0.1", port)).unit(1), PROFILE) for port in ports]
    for reader in readers:
        reader.link.open()
        await reader.read_group("fast")
    times: list[float] = []
    began = time.perf_counter()
    await asyncio.gather(*(poll(reader, began + seconds, times) for reader in readers))
    rate = len(times) / (time.perf_counter() - began)
    for reader in readers:
        await reader.link.close()
    return rate, statistics.median(times)


class PlainReader(asyncio.Protocol):
    """Asks every unit of one port in turn, one request on the way at a time, and counts whole answers."""

    def __init__(self, units: range) -> None:
        self._units, self._turn = units, 0
        self._transport: asyncio.Transport | None = None
        self.polls = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        if len(data) != 9 + 2 * FAST.count or data[7] != 4:
            raise SystemExit(f"a wrong answer: {data.hex()}")
        self.polls += 1
        self._ask()

    def _ask(self) -> None:
        assert self._transport is not None
        self._turn += 1
        unit = self._units[self._turn % len(self._units)]
        self._transport.write(struct.pack(">HHHBBHH", self._turn & 0xFFFF, 0, 6, unit, 4, FAST.address, FAST.count))


async def measure_street(places: list[Place], seconds: float) -> float:
    """Polls per second of the plain client, its connections spread over the ports as the units are."""
    loop, readers = asyncio.get_running_loop(), []
    total = sum(units for _port, units in places)
    for port, units in places:
        share = max(1, round(CONNECTIONS * units / total))
        for place in range(share):
            chunk = range(1 + place, units + 1, share)
            _transport, reader = await loop.create_connection(lambda c=chunk: PlainReader(c), "127.0.0.1", port)
            readers.append(reader)
    await asyncio.sleep(0.5)
    before, began = sum(reader.polls for reader in readers), time.perf_counter()
    await asyncio.sleep(seconds)
    rate = (sum(reader.polls for reader in readers) - before) / (time.perf_counter() - began)
    for reader in readers:
        if reader._transport is not None:
            reader._transport.abort()
    return rate


def status(pid: int) -> tuple[float, float]:
    """(resident MB, CPU seconds) of a process."""
    memory = int(Path(f"/proc/{pid}/status").read_text(encoding="ascii").split("VmRSS:")[1].split()[0]) / 1024
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return memory, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def places_of(meters: int, ports: list[int]) -> list[Place]:
    return [(port, min(UNITS_PER_PORT, meters - i * UNITS_PER_PORT)) for i, port in enumerate(ports)]


def compare_streets(meters: int, seconds: float, runs: int) -> dict[str, object]:
    """Our simulator and pymodbus's server by turns."""
    count = -(-meters // UNITS_PER_PORT)
    theirs = places_of(meters, free_ports(count))
    arguments = [f"{port}:{units}" for port, units in theirs]
    with (
        serving("-m", "firmware_sim.cli", "--meters", str(meters), "--port", "0", "--json") as (ours, line),
        serving("-c", PYMODBUS_SERVER, *arguments) as (peer, _),
    ):
        places = [(where["port"], where["units"][1]) for where in json.loads(line)["lines"]]
        rates: dict[str, list[float]] = {"street": [], "pymodbus": []}
        cpu_us: dict[str, list[float]] = {"street": [], "pymodbus": []}
        for _ in range(runs):
            for name, where, pid in (("street", places, ours.pid), ("pymodbus", theirs, peer.pid)):
                before = status(pid)[1]
                rates[name].append(asyncio.run(measure_street(where, seconds)))
                cpu_us[name].append((status(pid)[1] - before) / (rates[name][-1] * (seconds + 0.5)) * 1e6)
        memory = {"street": status(ours.pid)[0], "pymodbus": status(peer.pid)[0]}
    table: dict[str, object] = {
        name: {
            "meters": meters,
            "polls_per_second_median": round(statistics.median(rates[name]), 1),
            "polls_per_second_runs": [round(rate, 1) for rate in rates[name]],
            "server_cpu_us_per_poll": round(statistics.median(cpu_us[name]), 1),
            "rss_mb": round(memory[name], 1),
        }
        for name in rates
    }
    table["ratio_to_pymodbus"] = round(statistics.median(rates["street"]) / statistics.median(rates["pymodbus"]), 2)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--meters", type=int, default=12)
    parser.add_argument("--street", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    ports = free_ports(arguments.meters)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving("-m", "firmware_sim.cli", "--config", str(write_simulator(Path(folder), ports))) as (simulator, _),
    ):
        serial = [asyncio.run(measure(ports[:1], arguments.seconds)) for _ in range(arguments.runs)]
        parallel = [asyncio.run(measure(ports, arguments.seconds)) for _ in range(arguments.runs)]
        memory_mb = status(simulator.pid)[0]
    table: dict[str, object] = {
        name: {
            "polls_per_second_median": round(statistics.median(rate for rate, _ in runs), 1),
            "polls_per_second_runs": [round(rate, 1) for rate, _ in runs],
            "poll_ms_median": round(statistics.median(ms for _, ms in runs), 3),
        }
        for name, runs in (("serial", serial), ("parallel", parallel))
    }
    table |= compare_streets(arguments.street, arguments.seconds, arguments.runs)
    for name, row in table.items():
        print(f"{name:18} {row if not isinstance(row, dict) else row['polls_per_second_median']}")
    result = {
        "meters": arguments.meters,
        "seconds": arguments.seconds,
        "registers_per_poll": FAST.count,
        "simulator_rss_mb": round(memory_mb, 1),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "load_average": round(os.getloadavg()[0], 1),
        **table,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
