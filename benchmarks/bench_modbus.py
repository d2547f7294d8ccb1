"""Modbus polls per second: agents' readers against simulated meters, each poll a whole `fast` group of the
profile.

The simulator is a process of its own (one port a meter), the readers share this one; loopback TCP. `serial`
asks one meter after the other over one connection, `parallel` all meters at once. Medians over runs; writes
`benchmarks/results/modbus.json`.

    python benchmarks/bench_modbus.py [--meters 12] [--seconds 3] [--runs 3]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edge_agent.modbus.link import LinkTarget, ModbusLink
from edge_agent.modbus.plan import plan_blocks
from edge_agent.modbus.reader import MeterReader
from openmg.profiles.profile import load_profile

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("results") / "modbus.json"
PROFILE = load_profile("eastron_sdm630")


def free_ports(count: int) -> list[int]:
    holders = [socket.socket() for _ in range(count)]
    for holder in holders:
        holder.bind(("127.0.0.1", 0))
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return ports


def start_simulator(folder: Path, ports: list[int]) -> subprocess.Popen[str]:
    homes = "".join(
        f'[[home]]\nname = "home-{i}"\nkind = "consumer"\nmicrogrid = 1\nseed = {i}\nport = {port}\n'
        for i, port in enumerate(ports, 1)
    )
    path = folder / "sim.toml"
    path.write_text(f"[clock]\nt0 = 1781485200\nw0 = {time.time()}\n[sim]\nhistory_days = 0\n{homes}", encoding="utf-8")
    command = [sys.executable, "-m", "firmware_sim.cli", "--config", str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if not process.stdout.readline().startswith("serving"):
        process.kill()
        raise SystemExit("the simulator did not start; its message stands above")
    return process


async def poll(reader: MeterReader, until: float, milliseconds: list[float]) -> None:
    while (began := time.perf_counter()) < until:
        await reader.read_group("fast")
        milliseconds.append((time.perf_counter() - began) * 1000)


async def measure(ports: list[int], seconds: float) -> tuple[float, float]:
    """(polls per second, median milliseconds of a poll) with one task a port."""
    readers = [MeterReader(ModbusLink(LinkTarget("127.0.0.1", port, 1)), PROFILE) for port in ports]
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


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--meters", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    ports = free_ports(arguments.meters)
    with tempfile.TemporaryDirectory() as folder:
        simulator = start_simulator(Path(folder), ports)
        try:
            serial = [asyncio.run(measure(ports[:1], arguments.seconds)) for _ in range(arguments.runs)]
            parallel = [asyncio.run(measure(ports, arguments.seconds)) for _ in range(arguments.runs)]
            memory_mb = resident_mb(simulator.pid)
        finally:
            simulator.terminate()
            simulator.wait(10)
    table = {
        name: {
            "polls_per_second_median": round(statistics.median(rate for rate, _ in runs), 1),
            "polls_per_second_runs": [round(rate, 1) for rate, _ in runs],
            "poll_ms_median": round(statistics.median(ms for _, ms in runs), 3),
        }
        for name, runs in (("serial", serial), ("parallel", parallel))
    }
    print(f"{'':10}{'polls/s':>10}{'ms/poll':>10}")
    for name, row in table.items():
        print(f"{name:10}{row['polls_per_second_median']:>10}{row['poll_ms_median']:>10}")
    result = {
        "meters": arguments.meters,
        "seconds": arguments.seconds,
        "registers_per_poll": sum(block.count for block in plan_blocks(PROFILE.group("fast"), PROFILE.link.max_registers)),
        "simulator_rss_mb": round(memory_mb, 1),
        "python": platform.python_version(),
        "machine": platform.machine(),
        **table,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
