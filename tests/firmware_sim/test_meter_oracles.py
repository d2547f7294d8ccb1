"""Independent clients read every profile: mbpoll over TCP and a serial line, pysunspec2, pymodbus; and our decoder reads
pymodbus's own server."""

from __future__ import annotations

import asyncio
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from modbus_oracle import RawModbus
from pymodbus.client import ModbusTcpClient
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP
from sunspec_drive import read_all

from firmware_sim.assembly import shared_ports, street_config
from firmware_sim.background import Background, ManualClock
from firmware_sim.config import ClockConfig, SimSection
from firmware_sim.image import ImageCoder
from firmware_sim.meter import Meter
from firmware_sim.neighbourhood import Neighbourhood
from firmware_sim.pytest_plugin import DEFAULT_START, ServedMeter
from firmware_sim.serial_line import SerialLine
from openmg.profiles.profile import bundled, load_profile
from openmg.profiles.profile_file import SunSpecOptions

Make = Callable[..., ServedMeter]
MAPPED = tuple(name for name in bundled() if load_profile(name).sunspec is None)
# For each profile one point, as mbpoll is told to read it: point, type (3: input, 4: holding registers), high word
# first or not, and what the number is multiplied by to get our unit.
POLLED = {
    "b23": ("power_total_w", "4:int", True, 0.01),
    "b24": ("voltage_l1_v", "4:int", True, 0.1),
    "em24": ("voltage_l2_v", "3:int", False, 0.1),
    "em340": ("energy_import_kwh", "3:int", False, 0.1),
    "iem3155": ("power_total_w", "4:float", True, 1000.0),
    "sdm120": ("energy_import_kwh", "3:float", True, 1.0),
    "sdm230": ("power_total_w", "3:float", True, 1.0),
    "sdm630": ("voltage_l3_v", "3:float", True, 1.0),
}
needs_mbpoll = pytest.mark.skipif(shutil.which("mbpoll") is None, reason="mbpoll is not installed")
needs_socat = pytest.mark.skipif(shutil.which("socat") is None, reason="socat is not installed")


def mbpoll(profile: str, *where: str) -> float:
    """The point's value in our unit, as mbpoll (libmodbus) reads and prints it."""
    name, kind, high_first, scale = POLLED[profile]
    address = load_profile(profile).point(name).address
    order = ("-B",) if high_first else ()
    command = ("mbpoll", *where[:-1], "-t", kind, *order, "-0", "-r", str(address), "-c", "1", "-1", "-o", "2", where[-1])
    output = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    return float(output.split(f"[{address}]:")[1].split()[0]) * scale


def expected(meter_values: dict[str, float | None], profile: str) -> float:
    value = meter_values[POLLED[profile][0]]
    assert value is not None
    return value


def close_to(value: float, profile: str) -> object:
    resolution = load_profile(profile).point(POLLED[profile][0]).resolution
    return pytest.approx(value, rel=1e-4, abs=0.51 * resolution)  # mbpoll prints six digits of a float


def test_every_profile_has_a_point_that_mbpoll_reads() -> None:
    assert set(POLLED) == set(MAPPED)


@needs_mbpoll
@pytest.mark.parametrize("profile", MAPPED)
def test_mbpoll_reads_a_point_over_tcp(openmg_meter: Make, profile: str) -> None:
    meter = openmg_meter(profile, units=2)
    got = mbpoll(profile, "-m", "tcp", "-p", str(meter.port), "-a", "2", meter.host)
    assert got == close_to(expected(meter.values(2), profile), profile)


@pytest.fixture
def null_modem(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Two pseudo terminals that socat joins."""
    ends = (tmp_path / "meter", tmp_path / "reader")
    process = subprocess.Popen(["socat", *(f"pty,rawer,link={end}" for end in ends)])
    deadline = time.monotonic() + 10
    while not all(end.exists() for end in ends):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    yield ends
    process.terminate()
    process.wait(10)


def serial_street(profile: str, path: Path | None, baud: int, meters: int = 3) -> tuple[SerialLine, Neighbourhood]:
    sim = SimSection(profile=profile, history_days=1)
    neighbourhood = Neighbourhood(street_config(meters, ClockConfig(DEFAULT_START, 0.0), sim))
    devices = shared_ports(neighbourhood, 0, clock=ManualClock(DEFAULT_START))[0].devices
    return SerialLine(devices, path, baud), Neighbourhood(neighbourhood.config)


@needs_mbpoll
@needs_socat
@pytest.mark.parametrize("profile", MAPPED)
def test_mbpoll_reads_a_point_over_a_serial_line(null_modem: tuple[Path, Path], profile: str) -> None:
    line, twin = serial_street(profile, null_modem[0], 19_200)
    background = Background([line])
    try:
        got = mbpoll(profile, "-m", "rtu", "-b", "19200", "-P", "none", "-a", "3", str(null_modem[1]))
    finally:
        background.close()
    assert got == close_to(expected(twin.meter("meter-3").values(DEFAULT_START), profile), profile)


@needs_mbpoll
def test_a_serial_line_of_its_own_takes_the_time_of_its_bits_and_leaves_no_link_behind(tmp_path: Path) -> None:
    path = tmp_path / "line"
    line, _twin = serial_street("sdm630", path, 1200, meters=1)
    background = Background([line])
    try:
        began = time.monotonic()
        mbpoll("sdm630", "-m", "rtu", "-b", "1200", "-P", "none", "-a", "1", str(path))
        took = time.monotonic() - began
    finally:
        background.close()
    assert took >= (8 + 9) * 11 / 1200  # request and answer of two registers
    assert not path.is_symlink()


@pytest.mark.parametrize("profile", MAPPED)
def test_pymodbus_reads_every_point_of_a_simulated_meter(openmg_meter: Make, profile: str) -> None:
    meter, described = openmg_meter(profile), load_profile(profile)
    values = meter.values()
    client = ModbusTcpClient(meter.host, port=meter.port, timeout=5)
    assert client.connect()
    read = client.read_input_registers if described.link.function_code == 4 else client.read_holding_registers
    for point in described.points:
        answer = read(point.address, count=point.width, device_id=1) if point.width > 1 else None
        if answer is None or answer.isError():
            assert point.width == 1
            answer = read(point.address, count=1, device_id=1)
        value, true = point.decode(answer.registers), values[point.name]
        assert value is not None and true is not None
        assert value == pytest.approx(true, rel=1e-6, abs=0.51 * point.resolution), point.name
    client.close()


async def test_our_decoder_reads_pymodbuss_own_server() -> None:
    """The same registers behind another implementation's framing, encoded by that implementation."""
    profile = load_profile("iem3155")
    values = Meter(lambda _step: -2345, 0, seed=3).values(7200.0)
    served = [("power_total_w", DataType.FLOAT32, 0.001), ("energy_export_kwh", DataType.INT64, 1000.0),
              ("frequency_hz", DataType.FLOAT32, 1.0), ("reactive_import_kvarh", DataType.INT64, 1000.0)]  # fmt: skip
    data = []
    for name, kind, scale in sorted(served, key=lambda item: profile.point(item[0]).address):
        number = (values[name] or 0.0) * scale
        data.append(
            SimData(profile.point(name).address, values=round(number) if kind == DataType.INT64 else number, datatype=kind)
        )
    server = ModbusTcpServer([SimDevice(1, simdata=data)], address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    assert server.transport is not None
    reader = await asyncio.to_thread(RawModbus, server.transport.sockets[0].getsockname()[1])
    for name, _kind, _scale in served:
        point = profile.point(name)
        registers = await asyncio.to_thread(reader.registers, point.address, point.width, 3)
        assert point.decode(registers) == pytest.approx(values[name], rel=1e-6, abs=0.51 * point.resolution), name
    reader.close()
    await server.shutdown()


def test_pysunspec2_scans_every_kind_of_home(openmg_meter: Make) -> None:
    meter = openmg_meter("sunspec", units=5)  # prosumer, consumer, battery, prosumer, electric car
    wanted = {1: {1, 103, 160, 203}, 2: {1, 203}, 3: {1, 103, 160, 203, 124, 802}, 4: {1, 103, 160, 203}, 5: {1, 203}}
    for unit, models in wanted.items():
        device, values = (
            SunSpecModbusClientDeviceTCP(slave_id=unit, ipaddr=meter.host, ipport=meter.port, timeout=10),
            meter.values(unit),
        )
        device.scan()
        assert {model for model in device.models if isinstance(model, int)} == models
        assert device.common[0].SN.cvalue == f"{unit:06d}"
        ac = device.models[203][0]
        assert ac.W.cvalue == pytest.approx(values["power_total_w"], rel=1e-3)
        assert ac.TotWhImp.cvalue == pytest.approx((values["energy_import_kwh"] or 0) * 1000, abs=0.51)
        assert ac.PhVphB.cvalue == pytest.approx(values["voltage_l2_v"], rel=1e-3)
        assert ac.Hz.cvalue == pytest.approx(values["frequency_hz"], abs=0.01)
        if 103 in models:
            assert device.models[103][0].W.cvalue == pytest.approx(values["generation_power_w"], rel=1e-3)
            assert device.models[103][0].WH.cvalue == pytest.approx((values["generation_energy_kwh"] or 0) * 1000, abs=0.51)
            inputs = device.models[160][0].module
            assert [m.DCW.cvalue for m in inputs] == [pytest.approx(values[f"mppt{n}_power_w"], rel=2e-2) for n in (1, 2)]
        if 802 in models:
            assert device.models[802][0].SoC.cvalue == pytest.approx(values["battery_soc_percent"], abs=0.01)
            assert device.models[124][0].ChaState.cvalue == pytest.approx(values["battery_soc_percent"], abs=0.01)
        device.close()


@pytest.mark.parametrize("models", [(1, 101, 201), (1, 102, 202), (1, 111), (1, 112), (1, 113, 204)])
def test_pysunspec2_scans_the_other_models(tmp_path: Path, openmg_meter: Make, models: tuple[int, ...]) -> None:
    text = (Path(load_profile.__code__.co_filename).parent / "sunspec.toml").read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(
        text.replace("models = [1, 103, 160, 203, 124, 802]", f"models = {list(models)}"), encoding="utf-8"
    )
    meter = openmg_meter("mine", profile_dirs=(tmp_path,))
    device, values = SunSpecModbusClientDeviceTCP(slave_id=1, ipaddr=meter.host, ipport=meter.port, timeout=10), meter.values()
    device.scan()
    assert {model for model in device.models if isinstance(model, int)} == set(models)
    assert device.models[models[1]][0].W.cvalue == pytest.approx(values["generation_power_w"], rel=1e-3)
    if len(models) == 3:
        assert device.models[models[2]][0].TotWhExp.cvalue == pytest.approx((values["energy_export_kwh"] or 0) * 1000, abs=0.51)
    device.close()


def test_our_discovery_reads_the_served_device_like_pysunspec2(openmg_meter: Make) -> None:
    meter = openmg_meter("sunspec", units=3)
    reader = RawModbus(meter.port, unit=3)

    def read(address: int, count: int) -> tuple[int, ...] | None:
        return tuple(reader.registers(address, count, function=3)) or None

    options = load_profile("sunspec").sunspec
    assert isinstance(options, SunSpecOptions)
    got, true = read_all(read, options), meter.values(3)
    for name in ("power_total_w", "energy_import_kwh", "battery_soc_percent", "generation_energy_kwh", "mppt2_power_w"):
        assert got[name] == pytest.approx(true[name], rel=1e-3, abs=0.01), name
    reader.close()


def test_the_coder_of_images_agrees_with_each_points_own_encoding() -> None:
    for name in MAPPED:
        profile = load_profile(name)
        values = Meter(lambda _step: 3210, 0, seed=2, phases=profile.device.phases).values(5000.0)
        for span in ImageCoder(profile).image(values):
            for point in profile.points:
                if span.start <= point.address < span.end:
                    raw = span.part(span.start, span.end - span.start)[2 * (point.address - span.start) :][: 2 * point.width]
                    assert raw == span.part(point.address, point.width), "the same whether read alone or with all"
                    assert struct.unpack(f">{point.width}H", raw) == point.encode(values[point.name]), point
