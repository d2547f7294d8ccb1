"""`openmg-agent doctor` against the usual faults, each caused for real: what it says, and that it says nothing without."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
from bus_kit import Chain, on_pty
from edge_kit import CHAIN_ID, OPERATOR_KEY, T0, Processes, agent_toml, until

from edge_agent import doctor, doctor_host, doctor_meter
from edge_agent.agent import load_device_key, make_reader
from edge_agent.config import AgentConfig
from edge_agent.doctor_finding import CheckFailed
from edge_agent.meter import MeterPoller
from edge_agent.modbus.link import ModbusLink
from edge_agent.modbus.reader import Reading
from edge_agent.modbus.target import BusTarget
from edge_agent.state_folder import lock_state
from edge_agent.status import write_status
from edge_agent.store import RawReading, Store
from firmware_sim.meter import Meter
from firmware_sim.server import MeterServer
from openmg.clock import VirtualClock
from openmg.config import load_toml
from openmg.messages import base, topics
from openmg.messages.telemetry import Roster, RosterMember
from openmg.mqtt import MqttAddress, MqttLink
from openmg.profiles.profile import Profile, load_profile

SPEED = 3_600.0
"""An hour a second: counters of a home rise by a kWh while the test looks."""


class Miswired(Meter):
    """A meter whose current transformers are not as they should be."""

    fault = ""

    def values(self, sim_time: float) -> Mapping[str, float]:
        shown = dict(super().values(sim_time))
        if self.fault == "turned round":  # the power has the other sign, the counters' terminals are right
            for name in ("power_total_w", "power_l1_w", "power_l2_w", "power_l3_w"):
                shown[name] = -shown[name]
        if self.fault == "wrong phase":
            shown["power_l2_w"] = -0.5 * shown["power_l2_w"]
        if self.fault == "generating phase":
            shown["power_l2_w"] -= 2_000
            shown["power_total_w"] -= 2_000
        return shown


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[..., object]]:
    """Starts a meter of a profile, perhaps miswired, and gives the configuration of its agent."""
    servers: list[MeterServer] = []

    async def start(profile: Profile | str, configured: str = "sdm630", fault: str = "", speed: float = 1.0) -> AgentConfig:
        profile = load_profile(profile) if isinstance(profile, str) else profile
        meter = Miswired(lambda _step: 1_800, T0 - 900, seed=3, phases=profile.device.phases)
        meter.fault = fault
        server = MeterServer(meter, profile, VirtualClock(T0, time.time(), speed), "127.0.0.1", 0)
        await server.start()
        servers.append(server)
        path = agent_toml(tmp_path, server.port, "mqtt://127.0.0.1:1", speed=speed)
        text = path.read_text(encoding="utf-8").replace("[mqtt]", f'profile = "{configured}"\ntimeout_seconds = 2.0\n\n[mqtt]')
        path.write_text(text, encoding="utf-8")
        return load_toml(path, AgentConfig)

    yield start
    for server in servers:
        await server.stop()


def config_in(folder: Path) -> AgentConfig:
    return load_toml(agent_toml(folder, 1, "mqtt://127.0.0.1:1"), AgentConfig)


async def test_a_right_meter_is_told_so_and_so_is_its_wiring(serve) -> None:
    for name in ("sdm630", "em340", "sdm120"):
        config = await serve(name, configured=name)
        assert "answers, frequency_hz " in await doctor_meter.meter(config)
        assert "counters and power agree" in await doctor_meter.wiring(config)


@pytest.mark.parametrize(("name", "order"), [("sdm630", "CDAB"), ("em340", "ABCD")])
async def test_swapped_words_are_told_with_the_order_that_fits(serve, name: str, order: str) -> None:
    profile = load_profile(name)
    points = tuple(dataclasses.replace(point, order=order) if point.width > 1 else point for point in profile.points)
    config = await serve(dataclasses.replace(profile, points=points), configured=name)
    with pytest.raises(CheckFailed, match=f"with order {order} all are plausible.*profile_dirs with order = '{order}'"):
        await doctor_meter.meter(config)


@pytest.mark.parametrize(
    ("meter", "configured"), [("em340", "sdm630"), ("sdm630", "sdm120"), ("b23", "em24"), ("sdm630", "iem3155")]
)
async def test_a_wrong_profile_is_told_with_the_right_one(serve, meter: str, configured: str) -> None:
    config = await serve(meter, configured=configured)
    with pytest.raises(CheckFailed, match=f"identifies itself as {meter}.*set profile = '{meter}'"):
        await doctor_meter.meter(config)


async def test_transformers_that_are_turned_round_are_told_from_the_agents_own_readings(serve, tmp_path: Path) -> None:
    config = await serve("sdm630", fault="turned round", speed=SPEED)
    await _metered(config)
    with pytest.raises(CheckFailed, match="the import counter rose by .* Wh while power flowed out of the home"):
        await doctor_meter.wiring(config)


async def test_a_home_that_imports_is_metered_without_contradiction(serve) -> None:
    config = await serve("sdm630", speed=SPEED)
    await _metered(config)
    assert await doctor_meter.wiring(config) == "phases add up, counters and power agree"


async def _metered(config: AgentConfig) -> None:
    """What an agent stores within a second, with its own poller and store."""
    reader, store = make_reader(config), Store(config.store_path)
    reader.link.open()

    async def on_slot(_slot: object) -> None:
        return None

    poller = MeterPoller(reader, store, config.clock.clock(), 0.05, on_slot, lambda _reading: None)
    polling = asyncio.create_task(poller.run())
    await until(lambda: poller.polls > 15)
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)
    poller.flush()
    await reader.link.close()
    store.close()


async def test_phases_that_do_not_add_up_and_phases_that_generate_are_told_apart(serve) -> None:
    config = await serve("sdm630", fault="wrong phase")
    with pytest.raises(
        CheckFailed, match=r"do not add up to the total \(1800 W\): a current transformer is on the wrong phase"
    ):
        await doctor_meter.wiring(config)
    config = await serve("sdm630", fault="generating phase")
    assert "L2 exports: if nothing generates there, its current transformer is turned round" in await doctor_meter.wiring(
        config
    )


@pytest.mark.parametrize(("before", "after"), [(541, 2541), (2541, 541), (541, 541), (500, 600)])
def test_a_load_that_is_switched_while_the_phases_are_read_is_no_fault(before: int, after: int) -> None:
    first, last = Reading({"power_total_w": before}), Reading({"power_total_w": after})
    slow = Reading({"power_l1_w": 214, "power_l2_w": 189, "power_l3_w": 138})
    assert doctor_meter.phases(first, slow, last) == "phases add up, counters and power agree"
    higher = Reading({"power_total_w": 641})
    with pytest.raises(CheckFailed, match=r"do not add up to the total \(641 W\)"):
        doctor_meter.phases(higher, slow, higher)


def test_a_contradiction_needs_more_than_a_meters_resolution() -> None:
    def row(power_w: int, imported: int, exported: int) -> RawReading:
        return RawReading(0, 0, power_w, imported, exported)

    assert doctor_meter.contradicts([row(-500, 1000, 0), row(-500, 1020, 0)]) is None
    assert "import counter rose by 21 Wh" in (doctor_meter.contradicts([row(-500, 1000, 0), row(-500, 1021, 0)]) or "")
    assert "export counter rose by 30 Wh" in (doctor_meter.contradicts([row(500, 0, 0), row(500, 0, 30)]) or "")
    assert doctor_meter.contradicts([row(-500, 1000, 0), row(500, 1100, 0), row(-500, 1200, 90)]) is None


async def test_a_port_that_only_the_running_agent_may_use_is_judged_by_its_readings(tmp_path: Path) -> None:
    with on_pty(Chain()) as port:
        path = agent_toml(tmp_path, 1, "mqtt://127.0.0.1:1")
        text = path.read_text(encoding="utf-8").replace(
            'host = "127.0.0.1"\nport = 1\n', f'transport = "rtu"\nserial = "{port}"\n'
        )
        path.write_text(text, encoding="utf-8")
        config = load_toml(path, AgentConfig)
        owner = ModbusLink(BusTarget(transport="rtu", serial=port))
        owner.open()
        await owner.read(1, 4, 0, 1)
        with pytest.raises(CheckFailed, match="is in use by another program; stop that program"):
            await doctor_meter.meter(config)
        config.device.state_dir.mkdir()
        reading = dataclasses.asdict(RawReading(time.time_ns() // 1_000_000, 0, 1_234, 0, 0))
        with lock_state(config.device.state_dir):
            write_status(config.device.state_dir, {"last_reading": reading})
            assert await doctor_meter.meter(config) == f"the running agent (pid {os.getpid()}) reads it, 1234 W 0 s ago"
            write_status(config.device.state_dir, {"last_reading": reading | {"wall_ms": 0}})
            with pytest.raises(CheckFailed, match="is in use by another program"):
                await doctor_meter.meter(config)
        await owner.close()


CHECK = """
import asyncio, resource, sys
from pathlib import Path
from edge_agent import doctor_host, doctor_meter
from edge_agent.config import AgentConfig
from edge_agent.doctor_finding import CheckFailed
from openmg.config import load_toml
config = load_toml(Path(sys.argv[1]), AgentConfig)
if len(sys.argv) > 3:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
module, name = sys.argv[2].split(".")
try:
    print(asyncio.run(getattr({"host": doctor_host, "meter": doctor_meter}[module], name)(config)))
except CheckFailed as error:
    print(f"FAIL {error}")
"""


def checked(repo_root: Path, config: Path, check: str, *more: str) -> str:
    """What a check says to an ordinary user: root's power to ignore permissions is taken away."""
    line = [sys.executable, "-c", CHECK, str(config), check, *more]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is not installed, and root may open everything")
        line = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *line]
    return subprocess.run(line, capture_output=True, text=True, cwd=repo_root, timeout=30, check=True).stdout.strip()


async def test_a_serial_port_without_permission_is_told_with_its_group(tmp_path: Path, repo_root: Path) -> None:
    with on_pty(Chain()) as port:
        os.chmod(port, 0)
        path = agent_toml(tmp_path, 1, "mqtt://127.0.0.1:1")
        text = path.read_text(encoding="utf-8").replace(
            'host = "127.0.0.1"\nport = 1\n', f'transport = "rtu"\nserial = "{port}"\n'
        )
        path.write_text(text, encoding="utf-8")
        said = await asyncio.to_thread(checked, repo_root, path, "meter.meter")
        words = f"add the user to the group {Path(port).group()} and log in again"
        assert said == f"FAIL bus {port} may not be opened by this user; {words}"


def test_a_state_folder_of_somebody_else_or_open_to_others_is_told(tmp_path: Path, repo_root: Path) -> None:
    path = agent_toml(tmp_path, 1, "mqtt://127.0.0.1:1")
    folder = load_toml(path, AgentConfig).device.state_dir
    assert "is made at the first start" in checked(repo_root, path, "host.folder")
    Store(folder / "store.sqlite").close()
    assert checked(repo_root, path, "host.folder") == f"{folder} is this user's alone"
    folder.chmod(0o755)
    assert f"is open to others; run `chmod 700 {folder}`" in checked(repo_root, path, "host.folder")
    folder.chmod(0o500)
    assert "may not be written by this user" in checked(repo_root, path, "host.folder")
    folder.chmod(0o700)
    (folder / "store.sqlite").chmod(0o400)
    assert "store.sqlite belongs to" in checked(repo_root, path, "host.folder")


def test_a_disk_that_takes_nothing_is_told(tmp_path: Path, repo_root: Path) -> None:
    path = agent_toml(tmp_path, 1, "mqtt://127.0.0.1:1")
    folder = load_toml(path, AgentConfig).device.state_dir
    folder.mkdir(mode=0o700)
    assert checked(repo_root, path, "host.disk").endswith("MB free")
    said = checked(repo_root, path, "host.disk", "8192")
    assert said == f"FAIL the disk of {folder} takes no 64 KiB (File too large); make room" and list(folder.iterdir()) == []


async def test_the_kernel_is_asked_whether_the_real_clock_is_kept_right(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    assert "clock of a simulation" in await doctor_host.clock(config)
    real = dataclasses.replace(config, clock=dataclasses.replace(config.clock, t0=0, w0=0.0))
    if doctor_host.is_synchronised():
        assert (await doctor_host.clock(real)).endswith("synchronised")
    else:
        with pytest.raises(CheckFailed, match="timedatectl set-ntp true"):
            await doctor_host.clock(real)
    stopped = dataclasses.replace(config, clock=dataclasses.replace(config.clock, t0=0, w0=time.time()))
    with pytest.raises(CheckFailed, match="stands before 2020"):
        await doctor_host.clock(stopped)


def test_the_kernels_word_is_that_of_timedatectl() -> None:
    program = shutil.which("timedatectl")
    shown = subprocess.run([program or "false", "show", "-p", "NTPSynchronized"], capture_output=True, text=True, timeout=10)
    if shown.returncode != 0:
        pytest.skip("timedatectl gives no answer here")
    assert shown.stdout.strip() == f"NTPSynchronized={'yes' if doctor_host.is_synchronised() else 'no'}"


def member(address: bytes) -> RosterMember:
    return RosterMember(f"home-{address[0]}", address, bytes(32), 0, bytes(32))


@pytest.mark.slow
async def test_a_group_that_is_too_small_is_told_as_the_hub_said_last(
    tmp_path: Path, processes: Processes, free_port: Callable[[], int]
) -> None:
    port, connected = free_port(), asyncio.Event()
    processes.start(sys.executable, "-m", "hub.cli", "broker", "--port", str(port))
    hub = MqttLink(MqttAddress.parse(f"mqtt://127.0.0.1:{port}"), "a-hub", lambda _topic, _payload: None, connected.set)
    hub.start()
    await asyncio.wait_for(connected.wait(), 20)
    config = load_toml(agent_toml(tmp_path, 1, f"mqtt://127.0.0.1:{port}"), AgentConfig)
    own = load_device_key(config).address

    async def said(others: int, with_this_home: bool, signer: bytes, place: int = 0) -> str:
        addresses = [bytes([i]) * 20 for i in range(1, others + 1)] + [own] * with_this_home
        roster = Roster(1, 9, tuple(member(address) for address in sorted(addresses)))
        assert hub.publish(topics.roster(1, place), base.sign(roster, CHAIN_ID, signer), retain=True)
        await asyncio.sleep(0.2)
        try:
            return await doctor._group(config)
        except CheckFailed as error:
            return f"FAIL {error}"

    with pytest.raises(CheckFailed, match="the hub has named no group for microgrid 1: it needs 5 homes"):
        await doctor._group(config)
    assert "has 4 homes, fewer than 5: nothing is published" in await said(3, True, OPERATOR_KEY)
    assert "FAIL no group of microgrid 1 holds this home" in await said(5, False, OPERATOR_KEY)
    assert "FAIL the roster is signed by 0x" in await said(4, True, bytes(31) + b"\x09")
    assert await said(4, True, OPERATOR_KEY) == "one of 5 homes from slot 9 on"
    assert "FAIL no group of microgrid 1 holds this home" in await said(6, False, OPERATOR_KEY)
    assert await said(5, True, OPERATOR_KEY, place=1) == "one of 6 homes from slot 9 on"  # in the second of two groups
    await hub.stop()


async def test_what_rests_on_something_broken_is_not_guessed_at(tmp_path: Path, free_port: Callable[[], int]) -> None:
    config = load_toml(agent_toml(tmp_path, free_port(), f"mqtt://127.0.0.1:{free_port()}"), AgentConfig)
    found = {finding.check: finding for finding in await doctor.examine(config)}
    assert [name for name, finding in found.items() if not finding.ok] == ["meter", "broker"]
    assert not {"wiring", "group", "relays"} & set(found)
    assert json.dumps([finding.text for finding in found.values()])
