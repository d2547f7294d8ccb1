"""A meter on a bus is named, and the file that is written for it is one that `check` passes and `read` reads with."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bus_kit import Chain, on_tcp
from edge_kit import OPERATOR_KEY, T0, Processes
from serial.tools.list_ports_common import ListPortInfo
from serial_kit import line_to

from edge_agent.cli import main
from edge_agent.config import AgentConfig
from edge_agent.modbus.detect import FoundMeter, scan, serial_settings
from edge_agent.modbus.errors import BadAnswer, LinkDown
from edge_agent.modbus.link import ModbusLink
from edge_agent.modbus.ports import in_order
from edge_agent.modbus.sunspec_reader import SunSpecReader
from edge_agent.modbus.target import BusTarget
from firmware_sim.meter import Meter
from firmware_sim.pdu import respond, rules_of
from firmware_sim.server import MeterServer
from firmware_sim.sunspec_image import NamePlate, SunSpecCoder
from openmg.clock import VirtualClock
from openmg.config import load_toml
from openmg.profiles.profile import bundled, load_profile
from openmg.signing import address_of

PROFILES = tuple(load_profile(name) for name in bundled())
MAPPED = tuple(profile.name for profile in PROFILES if profile.sunspec is None)
WHO = ("--name", "home-7", "--microgrid", "2", "--mqtt", "mqtt://127.0.0.1:1883", "--chain-id", "7")
OPERATOR = ("--operator", f"0x{address_of(OPERATOR_KEY).hex()}")


def simulated(name: str, unit: int = 1, rtu: bool = False) -> MeterServer:
    profile = load_profile(name)
    meter = Meter(lambda _step: 1_200, T0 - 900, seed=3, phases=profile.device.phases)
    return MeterServer(meter, profile, VirtualClock(T0, time.time(), 1.0), "127.0.0.1", 0, unit=unit, rtu=rtu)


async def found_on(port: int, units: range, transport: str = "tcp") -> tuple[FoundMeter, ...]:
    target = BusTarget("127.0.0.1", port, transport, timeout_s=0.4, drain_s=0.05)
    return await scan((target,), units, PROFILES, lambda _text: None)


@pytest.mark.parametrize("name", MAPPED)
async def test_each_simulated_meter_is_named(name: str) -> None:
    server = simulated(name, unit=3)
    await server.start()
    (meter,) = await found_on(server.port, range(2, 4))
    assert (meter.unit, meter.profile) == (3, name) and load_profile(name).device.model in meter.text
    await server.stop()


@pytest.mark.parametrize("transport", ["tcp", "rtu_over_tcp"])
async def test_a_sunspec_device_is_named_by_its_common_block_and_read_by_its_models(transport: str) -> None:
    profile = load_profile("sunspec")
    assert profile.sunspec is not None
    shown = Meter(lambda _step: 1_200, 0, seed=3).values(36_000.0)
    image = SunSpecCoder((1, 203), profile.sunspec, NamePlate("Model 7", "123", 3)).image(shown)
    async with on_tcp(Chain(units=range(3, 4), respond=lambda pdu: respond(rules_of(profile), image, pdu)), transport) as port:
        (meter,) = await found_on(port, range(2, 4), transport)
        assert (meter.unit, meter.profile, meter.text.endswith(" Model 7")) == (3, "sunspec", True)
        link = ModbusLink(meter.target)
        link.open()
        reader = SunSpecReader(link.unit(3), profile)
        assert await reader.detect() == ("frequency_hz", pytest.approx(60, abs=0.05))
        before = link.counts_of(3).requests
        fast = await reader.read_group("fast")
        assert link.counts_of(3).requests == before + 1  # the model whole, in one request
        assert fast.number("power_total_w") == pytest.approx(1_200, abs=1)
        assert fast.number("energy_import_kwh") == pytest.approx(shown["energy_import_kwh"], rel=1e-3)
        await link.close()


async def test_a_meter_that_is_no_sunspec_device_is_told_so() -> None:
    server = simulated("em340")
    await server.start()
    link = ModbusLink(BusTarget("127.0.0.1", server.port))
    link.open()
    with pytest.raises(BadAnswer, match="no SunSpec marker at 40000, 0, 50000"):
        await SunSpecReader(link.unit(1), load_profile("sunspec")).read_group("fast")
    await link.close()
    await server.stop()


async def test_what_answers_without_being_a_known_meter_is_told_and_not_guessed() -> None:
    async with on_tcp(Chain(units=range(4, 6))) as port:
        meters = await found_on(port, range(4, 7))
    assert [(meter.unit, meter.profiles) for meter in meters] == [(4, ()), (5, ())]
    assert "is no meter of any profile" in meters[0].text


async def test_nobody_is_nobody_and_an_absent_port_is_an_error(free_port: Callable[[], int]) -> None:
    async with on_tcp(Chain(units=range(0))) as port:
        assert await found_on(port, range(1, 2)) == ()
    with pytest.raises(LinkDown, match="cannot be reached"):
        await found_on(free_port(), range(1, 4))


def test_a_serial_line_is_tried_at_each_setting_and_tcp_at_one() -> None:
    line = serial_settings(BusTarget(transport="rtu", serial="/dev/ttyUSB0"), (9600, 19200), ("N", "E"))
    assert [(item.baud, item.parity) for item in line] == [(9600, "N"), (9600, "E"), (19200, "N"), (19200, "E")]
    assert len(serial_settings(BusTarget("192.0.2.1"), (9600, 19200), ("N", "E"))) == 1


def test_usb_adapters_are_tried_first_and_a_console_never() -> None:
    devices = ("/dev/ttyS1", "/dev/ttyAMA0", "/dev/ttyUSB10", "/dev/ttyUSB2", "/dev/ttyACM0", "/dev/ttyS0")
    tried = in_order(devices, frozenset({"ttyS0", "tty0"}))
    assert tried == ("/dev/ttyACM0", "/dev/ttyUSB2", "/dev/ttyUSB10", "/dev/ttyAMA0", "/dev/ttyS1")
    assert in_order((), frozenset()) == ()


async def test_without_a_place_the_meter_is_found_on_any_serial_port(
    tmp_path: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What lists the machine's ports is told of two: an adapter that was pulled out, and one with a meter behind it."""
    server = simulated("em340", unit=2, rtu=True)
    await server.start()
    path = await asyncio.to_thread(line_to, processes, server.port, tmp_path)
    gone = tmp_path / "gone"
    ports = [ListPortInfo(str(gone)), ListPortInfo(str(path))]
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: ports)
    config = tmp_path / "agent.toml"
    line = ["detect", "--units", "1-2", "--timeout", "0.5", "--write", str(config), *WHO, *OPERATOR, "--demo-key"]
    assert await asyncio.to_thread(main, line) == 0
    said = capsys.readouterr()
    assert f"{path} at 9600 N unit 2: em340" in said.out and f"{gone} does not exist; plug the adapter in" in said.err
    assert load_toml(config, AgentConfig).meter.serial == str(path)
    ports[:] = ports[:1]
    assert await asyncio.to_thread(main, ["detect"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    ports.clear()
    assert await asyncio.to_thread(main, ["detect"]) == 1
    assert capsys.readouterr().err.startswith("this machine has no serial port; ")
    assert await asyncio.to_thread(main, ["detect", "--transport", "tcp"]) == 2
    assert capsys.readouterr().err == "where is the meter? tcp needs --host (with --port)\n"
    await server.stop()


async def test_detect_on_a_serial_line_writes_a_file_that_check_and_read_take(
    tmp_path: Path, repo_root: Path, processes: Processes
) -> None:
    server = simulated("em340", unit=2, rtu=True)
    await server.start()
    path = await asyncio.to_thread(line_to, processes, server.port, tmp_path)
    config = tmp_path / "agent.toml"

    async def agent(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "edge_agent.cli", *arguments]
        return await asyncio.to_thread(subprocess.run, line, capture_output=True, text=True, cwd=repo_root, timeout=60)

    place = ("--serial", str(path), "--units", "1-2", "--timeout", "0.5")
    made = await agent("detect", *place, "--write", str(config), *WHO, *OPERATOR, "--demo-key", "--json")
    assert (made.returncode, made.stderr) == (0, "")
    assert json.loads(made.stdout) == {"file": str(config), "device": "home-7", "meter": f"{path} unit 2", "profile": "em340"}
    checked = await agent("check", "--config", str(config), "--json")
    assert checked.returncode == 0 and json.loads(checked.stdout)["meter"] == f"{path} unit 2"
    shown = await agent("read", "--config", str(config), "--json", "--count", "2")
    readings = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [row["values"]["power_total_w"] for row in readings] == [1200, 1200] and readings[0]["units"]["frequency_hz"] == "Hz"
    again = await agent("detect", *place, "--write", str(config), *WHO, *OPERATOR)
    assert again.returncode == 2 and "exists; name another file, or add --force" in again.stderr
    await server.stop()


@pytest.mark.parametrize(
    ("place", "told"),
    [
        (("--host", "192.0.2.7", "--port", "1502", "--unit", "3"), ("tcp", "192.0.2.7:1502 unit 3")),
        (("--host", "192.0.2.7", "--transport", "rtu_over_tcp"), ("rtu_over_tcp", "192.0.2.7:502 unit 1")),
        (("--serial", "/dev/ttyUSB0", "--baud", "19200", "--parity", "E"), ("rtu", "/dev/ttyUSB0 unit 1")),
    ],
)
def test_init_writes_a_file_that_check_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: tuple[str, ...], told: tuple[str, str]
) -> None:
    path = tmp_path / "agent.toml"
    assert main(["init", "--output", str(path), *place, *WHO, *OPERATOR, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["meter"] == told[1]
    assert main(["check", "--config", str(path)]) == 0
    meter = load_toml(path, AgentConfig).meter
    target = meter.target(meter.load_profile())
    assert (target.transport, meter.where) == told and target.baud == (19200 if "19200" in place else 9600)


def test_key_and_store_go_beside_the_file_or_where_a_package_keeps_them(tmp_path: Path) -> None:
    beside, elsewhere = tmp_path / "beside.toml", tmp_path / "etc.toml"
    assert main(["init", "--output", str(beside), "--host", "192.0.2.7", *WHO, *OPERATOR]) == 0
    kept = ("--state-dir", str(tmp_path / "var"))
    assert main(["init", "--output", str(elsewhere), "--host", "192.0.2.7", *WHO, *OPERATOR, *kept]) == 0
    for path, state, key in (
        (beside, tmp_path / "state", tmp_path / "keys" / "device.key"),
        (elsewhere, tmp_path / "var", tmp_path / "var" / "keys" / "device.key"),
    ):
        device = load_toml(path, AgentConfig).device
        assert (device.state_dir, device.key_file) == (state, key)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (("--name", "Home 7"), "device.name: name is 'Home 7'"),
        (("--operator", "0x12"), "hub.operator"),
        (("--microgrid", "two"), "microgrid is 'two'; write a whole number"),
        (("--profile", "sdm999"), "profile 'sdm999' is unknown"),
        (("--serial", "/dev/ttyUSB0"), "give --host (with --port) or --serial, and not both"),
        (("--name", 'home"\n[x]'), "device.name"),
    ],
)
def test_init_writes_nothing_that_check_would_refuse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: tuple[str, str], words: str
) -> None:
    path = tmp_path / "agent.toml"
    assert main(["init", "--output", str(path), "--host", "192.0.2.7", *WHO, *OPERATOR, *changed]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_init_asks_for_nothing_where_there_is_no_terminal(tmp_path: Path, repo_root: Path) -> None:
    line = [sys.executable, "-m", "edge_agent.cli", "init", "--output", str(tmp_path / "a.toml"), "--host", "192.0.2.7", *WHO]
    result = subprocess.run(line, capture_output=True, text=True, cwd=repo_root, stdin=subprocess.DEVNULL, timeout=30)
    assert result.returncode == 2 and result.stderr == "--operator is missing: the operator's address, 0x and 40 hex digits\n"
