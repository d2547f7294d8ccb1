"""The simulator as a process, read by an independent client over real sockets (and by mbpoll where it is installed)."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from edge_kit import Processes
from modbus_oracle import RawModbus

from firmware_sim.config import SimConfig
from firmware_sim.neighbourhood import Neighbourhood
from firmware_sim.server import MAX_CONNECTIONS, MeterServer
from openmg.config import load_toml
from openmg.profiles.profile import load_profile

Write = Callable[..., tuple[Path, dict[str, int]]]


def start(processes: Processes, path: Path) -> subprocess.Popen[str]:
    process = processes.python("firmware_sim.cli", "--config", str(path), stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline().startswith("serving 4 meters")
    return process


@pytest.fixture
def simulator(sim_file: Write, processes: Processes) -> Iterator[tuple[Path, dict[str, int]]]:
    path, ports = sim_file(3, speed=225.0)
    process = start(processes, path)
    yield path, ports
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_an_independent_reader_sees_the_model(simulator: tuple[Path, dict[str, int]]) -> None:
    path, ports = simulator
    config = load_toml(path, SimConfig)
    clock, model = config.clock.clock(), Neighbourhood(config)
    for name, port in ports.items():
        reader = RawModbus(port)
        volts = reader.floats(0, 3)
        before = clock.now()
        (power,) = reader.floats(0x34, 1)
        frequency, imported, exported = reader.floats(0x46, 3)
        after = clock.now()
        low, high = model.meter(name).counters(before), model.meter(name).counters(after)
        assert low.import_ws / 3.6e6 - 1e-4 <= imported <= high.import_ws / 3.6e6 + 1e-4
        assert low.export_ws / 3.6e6 - 1e-4 <= exported <= high.export_ws / 3.6e6 + 1e-4
        assert int(power) in {model.meter(name).power_w(before), model.meter(name).power_w(after)}
        assert all(200 < v < 240 for v in volts) and 59.9 < frequency < 60.1
        reader.close()


def test_the_feeder_is_the_sum_of_its_homes(sim_file: Write) -> None:
    config = load_toml(sim_file(3)[0], SimConfig)
    model = Neighbourhood(config)
    at = config.start + 5_000
    net = [c.import_ws - c.export_ws for c in (model.meter(f"home-{i}").counters(at) for i in (1, 2, 3))]
    feeder = model.meter("feeder-1").counters(at)
    assert feeder.import_ws - feeder.export_ws == sum(net)


def test_limits_and_quirks_of_the_real_meter(simulator: tuple[Path, dict[str, int]]) -> None:
    reader = RawModbus(simulator[1]["home-1"])
    assert len(reader.registers(0, 80)) == 80 and reader.exception == 0
    assert reader.registers(0, 82) == [] and reader.exception == 2
    assert reader.registers(0, 126) == [] and reader.exception == 3
    assert reader.registers(0, 0) == [] and reader.exception == 3
    assert reader.registers(1, 2) == [] and reader.exception == 2  # half of one float and half of the next
    assert reader.registers(0, 3) == [] and reader.exception == 2
    assert reader.registers(383, 2) == [] and reader.exception == 2
    assert reader.registers(0, 2, function=3) == [] and reader.exception == 1
    assert reader.registers(0, 1) == [0x0070]
    assert reader.registers(44, 4) == [0, 0, 0, 0]  # unused
    assert reader.request(bytes([4, 0])) == bytes([0x84, 3])
    assert reader.registers(0, 2) and reader.exception == 0  # still alive
    reader.close()


def test_an_unknown_unit_is_silent_and_garbage_closes_only_its_connection(
    simulator: tuple[Path, dict[str, int]],
) -> None:
    port = simulator[1]["home-1"]
    silent = RawModbus(port, unit=9, timeout=0.3)
    with pytest.raises(TimeoutError):
        silent.registers(0, 2)
    silent.close()
    garbage = socket.create_connection(("127.0.0.1", port), timeout=2)
    garbage.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert garbage.recv(100) == b""
    garbage.close()
    alive = RawModbus(port)
    assert alive.floats(0x46, 1)[0] == pytest.approx(60, abs=0.1)
    alive.close()


def test_requests_in_flight_keep_their_transaction_ids(simulator: tuple[Path, dict[str, int]]) -> None:
    reader = RawModbus(simulator[1]["home-1"])
    for number, count in ((100, 2), (101, 4), (102, 6)):
        reader.socket.sendall(struct.pack(">HHHBBHH", number, 0, 6, 1, 4, 0, count))
    for number, count in ((100, 2), (101, 4), (102, 6)):
        transaction, _, length, _ = struct.unpack(">HHHB", reader._exactly(7))
        assert transaction == number
        assert reader._exactly(length - 1)[1] == 2 * count
    reader.close()


def test_connections_are_bounded(simulator: tuple[Path, dict[str, int]]) -> None:
    port = simulator[1]["home-2"]
    held = [RawModbus(port) for _ in range(MAX_CONNECTIONS)]
    assert all(reader.floats(0, 1) for reader in held)
    refused = socket.create_connection(("127.0.0.1", port), timeout=2)
    assert refused.recv(10) == b""
    for connection in (*(reader.socket for reader in held), refused):
        connection.close()


@pytest.mark.skipif(shutil.which("mbpoll") is None, reason="mbpoll is not installed")
def test_mbpoll_reads_the_same_voltage(simulator: tuple[Path, dict[str, int]]) -> None:
    port = simulator[1]["home-1"]
    command = [
        "mbpoll",
        "-m",
        "tcp",
        "-p",
        str(port),
        "-t",
        "3:float",
        "-B",
        "-0",
        "-r",
        "0",
        "-c",
        "1",
        "-1",
        "127.0.0.1",
    ]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    value = float(output.split("[0]:")[1].split()[0])
    assert 200 < value < 240


def test_a_port_in_use_is_one_sentence(sim_file: Write, repo_root: Path) -> None:
    path, ports = sim_file(3)
    with socket.create_server(("127.0.0.1", ports["home-2"])):
        result = subprocess.run(
            [sys.executable, "-m", "firmware_sim.cli", "--config", str(path)],
            capture_output=True, text=True, cwd=repo_root, timeout=30,
        )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.strip().count("\n") == 0 and str(ports["home-2"]) in result.stderr


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seed = 4", "sed = 4", ("sim.sed", "did you mean 'seed'")),
        ('kind = "consumer"', 'kind = "castle"', ("home.kind", "castle", "consumer")),
        ("speed = 1.0", "speed = 0", ("clock.speed", "above 0")),
        ("history_days = 2", 'history_days = "two"', ("sim.history_days", "whole number")),
        ("microgrid = 1", "", ("microgrid", "is missing")),
        ("[sim]", '[sim]\nprofile = "sdm999"', ("sim.profile", "sdm999", "sdm630")),
    ],
)
def test_a_wrong_config_names_file_line_and_key(
    sim_file: Write, repo_root: Path, old: str, new: str, words: tuple[str, ...]
) -> None:
    path, _ = sim_file(3)
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-m", "firmware_sim.cli", "--config", str(path)],
        capture_output=True, text=True, cwd=repo_root, timeout=30,
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr.startswith(f"{path}:") and result.stderr.strip().count("\n") == 0
    assert all(word in result.stderr for word in words), result.stderr


async def test_a_clock_set_back_does_not_turn_the_meter_back(sim_file: Write) -> None:
    config = load_toml(sim_file(3)[0], SimConfig)

    class Jumping:
        at = float(config.start + 1000)

        def now(self) -> float:
            return self.at

    clock = Jumping()
    meter = Neighbourhood(config).meter("home-2")
    server = MeterServer(meter, load_profile("sdm630"), clock, "127.0.0.1", 0)  # type: ignore[arg-type]
    await server.start()
    reader = await asyncio.to_thread(RawModbus, server.port)
    first = await asyncio.to_thread(reader.floats, 0x48, 1)
    clock.at -= 500
    assert await asyncio.to_thread(reader.floats, 0x48, 1) == first
    reader.close()
    await server.stop()


def test_time_passes_by_the_virtual_clock(simulator: tuple[Path, dict[str, int]]) -> None:
    reader = RawModbus(simulator[1]["home-2"])
    first, began = reader.floats(0x48, 1)[0], time.monotonic()
    time.sleep(1.0)
    gained_kwh, hours = reader.floats(0x48, 1)[0] - first, (time.monotonic() - began) * 225 / 3600
    assert 0.04 * hours < gained_kwh < 4 * hours  # a consumer draws 40 W to 4 kW
    reader.close()
