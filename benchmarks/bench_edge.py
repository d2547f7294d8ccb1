"""What an agent costs on a meter: processor, memory, disk writes and the time to its first reading, beside collectd.

One meter (a simulator of its own), one poll a second, the store with synchronous=FULL, a broker, a hub that acknowledges.
`home` polls and stores; `feeder` also signs and publishes every reading and reports each slot, here a minute long.
`N meters` are as many homes of a gateway, whose agents run in one process (`openmg-agent run --config-dir`): one bus, a session
at the broker for each, groups of ten whose rosters they have. They run at the speed of the field, between two slots' ends: what
such an end costs, every 15 minutes, is that of the feeder's report and of a proof. The first reading is the last home's.
The peer is collectd with its Modbus, MQTT and CSV plugins, which reads the same registers of the same meter, publishes
every value, has no acknowledgement and does not sync its files. Proofs and learning are not part of it. The agent's environment
is that of its unit in deploy/systemd. Medians over runs; figures are of the processes' own counters in /proc; writes
`benchmarks/results/edge.json`.

    python benchmarks/bench_edge.py [--seconds 60] [--runs 3] [--meters 1 100]          (`make bench-edge`)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hub.ingest.events import IngestEvents
from hub.ingest.partition import partition
from hub.ingest.registry import Device, Registry
from hub.ingest.service import IngestService
from hub.ingest.status import IngestSettings
from hub.ingest.store import IngestStore
from openmg.clock import VirtualClock
from openmg.identity import DeviceKey, load_or_create_key
from openmg.masking import DEFAULT_GROUP, MIN_GROUP, make_roster
from openmg.messages import base, topics
from openmg.messages.telemetry import RosterMember, SlotReport
from openmg.mqtt import MqttAddress, MqttLink
from openmg.profiles.profile import load_profile
from openmg.signing import address_of

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("results") / "edge.json"
UNIT = ROOT / "deploy" / "systemd" / "openmg-agent.service"
PROFILE = load_profile("sdm630")
T0 = 1_781_485_200
SPEED = 15.0
"""A slot of 15 minutes lasts one: reports and acknowledgements come 15 times as often as in the field."""
WARM_UP_S = 15.0
"""More than one commit of readings, and than the rosters take."""
START_WITHIN_S = 60.0
STOP_WITHIN_S = 15.0
OPERATOR_KEY = bytes(31) + b"\x07"
CHAIN_ID = 7
NAME = "feeder-1"
SECONDS_PER_DAY = 86_400
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """Of one run: percent of a core, resident MB at the end, GB written a day, seconds until the first reading."""

    cpu_percent: float
    rss_mb: float
    written_gb_per_day: float
    first_reading_s: float
    acknowledged: int = 0


class Counters:
    """A process's processor seconds, bytes sent to the disk and resident memory."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        fields = (self._folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        self.cpu_s = (int(fields[11]) + int(fields[12])) / CLOCK_TICKS
        self.written = int((self._folder / "io").read_text(encoding="ascii").split("\nwrite_bytes:")[1].split()[0])
        self.rss_mb = int((self._folder / "status").read_text(encoding="ascii").split("VmRSS:")[1].split()[0]) / 1024


def unit_environment() -> dict[str, str]:
    """What systemd sets for an installed agent."""
    lines = (line.partition("Environment=") for line in UNIT.read_text(encoding="utf-8").splitlines())
    return dict(setting.split("=", 1) for before, found, setting in lines if found and not before)


def free_port() -> int:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return int(holder.getsockname()[1])


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not happen within {START_WITHIN_S:g} s; run the bench on a quiet machine")
        time.sleep(0.01)


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def broker_command(folder: Path, port: int) -> list[str]:
    """Mosquitto where it is installed, else the embedded broker."""
    program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if program is None:
        return [sys.executable, "-m", "hub.ingest.broker", "--port", str(port)]
    path = folder / "mosquitto.conf"
    path.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n", encoding="ascii")
    return [program, "-c", str(path)]


def simulator_command(folder: Path, port: int, w0: float) -> list[str]:
    path = folder / "sim.toml"
    path.write_text(
        f"[clock]\nt0 = {T0}\nw0 = {w0}\nspeed = {SPEED}\n[sim]\nhistory_days = 0\n"
        f'[[home]]\nname = "home-1"\nkind = "prosumer"\nmicrogrid = 1\nseed = 1\nport = {port}\npv_peak_w = 3000\n',
        encoding="utf-8",
    )
    return [sys.executable, "-m", "firmware_sim.cli", "--config", str(path)]


def agent_command(folder: Path, role: str, meter_port: int, broker_port: int, w0: float) -> list[str]:
    path = folder / "agent.toml"
    path.write_text(
        f'[device]\nname = "{NAME}"\nkey_file = "device.key"\nstate_dir = "state"\n'
        f"[clock]\nt0 = {T0}\nw0 = {w0}\nspeed = {SPEED}\n"
        f'[meter]\nhost = "127.0.0.1"\nport = {meter_port}\n'
        f'[mqtt]\nurl = "mqtt://127.0.0.1:{broker_port}"\n'
        f'[hub]\noperator = "0x{address_of(OPERATOR_KEY).hex()}"\nchain_id = {CHAIN_ID}\n'
        f'[home]\nmicrogrid = 1\nrole = "{role}"\n[slot_proof]\ndemo = true\n',
        encoding="utf-8",
    )
    return [sys.executable, "-m", "edge_agent.cli", "run", "--config", str(path)]


def street_command(meters: int, port: int) -> list[str]:
    module = [sys.executable, "-m", "firmware_sim.cli"]
    return [*module, "--meters", str(meters), "--port", str(port), "--start", str(T0)]


def gateway_command(folder: Path, meters: int, meter_port: int, broker_port: int, w0: float) -> list[str]:
    """One process of as many agents, each with a folder, a key and a session of its own."""
    files = folder / "meters.d"
    files.mkdir()
    for number in range(1, meters + 1):
        (files / f"home-{number}.toml").write_text(
            f'[device]\nname = "home-{number}"\nkey_file = "../{number}/device.key"\nstate_dir = "../{number}/state"\n'
            f"[clock]\nt0 = {T0}\nw0 = {w0}\n"
            f'[meter]\nhost = "127.0.0.1"\nport = {meter_port}\nunit = {number}\n'
            f'[mqtt]\nurl = "mqtt://127.0.0.1:{broker_port}"\n'
            f'[hub]\noperator = "0x{address_of(OPERATOR_KEY).hex()}"\nchain_id = {CHAIN_ID}\n'
            f"[home]\nmicrogrid = 1\n[slot_proof]\ndemo = true\n",
            encoding="utf-8",
        )
    return [sys.executable, "-m", "edge_agent.cli", "run", "--config-dir", str(files)]


async def tell_rosters(folder: Path, meters: int, broker_port: int) -> None:
    """Retained rosters of all homes, and of others where those are too few for a group; their keys are made here."""
    members = {}
    for number in range(1, max(meters, MIN_GROUP) + 1):
        (folder / str(number)).mkdir()
        key = DeviceKey(load_or_create_key(folder / str(number) / "device.key"))
        members[key.address] = RosterMember(f"home-{number}", key.address, key.mask_public, 0, bytes(32))
    connected = asyncio.Event()
    link = MqttLink(MqttAddress.parse(f"mqtt://127.0.0.1:{broker_port}"), "hub-1", _ignore, connected.set)
    link.start()
    await asyncio.wait_for(connected.wait(), START_WITHIN_S)
    for place, group in enumerate(partition(members, DEFAULT_GROUP)):
        roster = make_roster(1, 0, [members[address] for address in group])
        link.publish(topics.roster(1, place), base.sign(roster, CHAIN_ID, OPERATOR_KEY), retain=True)
    await link.stop()


def _ignore(_topic: str, _payload: bytes) -> None:
    """The roster's connection subscribes to nothing."""


def collectd_command(folder: Path, meter_port: int, broker_port: int) -> list[str]:
    """The same points of the same meter; each value to the broker and to a file."""
    data = "".join(
        f'<Data "{point.name}">\nRegisterBase {point.address}\nRegisterType Float\nRegisterCmd ReadInput\n'
        f'Type gauge\nInstance "{point.name}"\n</Data>\n'
        for point in PROFILE.group("fast")
    )
    collected = "".join(f'Collect "{point.name}"\n' for point in PROFILE.group("fast"))
    types = folder / "types.db"
    types.write_text("gauge value:GAUGE:U:U\n", encoding="ascii")
    path = folder / "collectd.conf"
    path.write_text(
        f'Hostname "meter"\nFQDNLookup false\nInterval 1\nBaseDir "{folder}"\nPIDFile "{folder}/pid"\nTypesDB "{types}"\n'
        "LoadPlugin modbus\nLoadPlugin mqtt\nLoadPlugin csv\n"
        f'<Plugin csv>\nDataDir "{folder}/csv"\n</Plugin>\n'
        f'<Plugin mqtt>\n<Publish "edge">\nHost "127.0.0.1"\nPort {broker_port}\nPrefix "peer"\nQoS 1\n</Publish>\n</Plugin>\n'
        f'<Plugin modbus>\n{data}<Host "meter">\nAddress "127.0.0.1"\nPort "{meter_port}"\nInterval 1\n'
        f'<Slave 1>\nInstance "meter"\n{collected}</Slave>\n</Host>\n</Plugin>\n',
        encoding="ascii",
    )
    return [shutil.which("collectd", path=f"{os.environ['PATH']}:/usr/sbin") or "collectd", "-f", "-C", str(path)]


def have_readings(folder: Path, meters: int) -> bool:
    return all(has_reading(folder / str(number)) for number in range(1, meters + 1))


def has_reading(folder: Path) -> bool:
    store = folder / "state" / "store.sqlite"
    if store.exists():
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
            try:
                return bool(db.execute("SELECT 1 FROM baseline").fetchone())
            except sqlite3.OperationalError:  # not made yet
                return False
    return any(path.stat().st_size for path in (folder / "csv").rglob("*gauge*"))


def measure(command: list[str], folder: Path, seconds: float, meters: int = 0) -> Cost:
    """Runs a program, and what it costs from WARM_UP_S after its start."""
    began = time.monotonic()
    with (folder / "output").open("wb") as output:
        environment = os.environ | unit_environment()
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, env=environment)
    try:
        wait_for(
            lambda: have_readings(folder, meters) if meters else has_reading(folder),
            f"the first reading of {Path(command[0]).name}",
        )
        first_s = time.monotonic() - began
        time.sleep(WARM_UP_S)
        before, at = Counters(process.pid), time.monotonic()
        time.sleep(seconds)
        after, took_s = Counters(process.pid), time.monotonic() - at
    finally:
        process.terminate()
        process.wait(STOP_WITHIN_S)
        if process.returncode:
            print((folder / "output").read_text(encoding="utf-8")[-400:], file=sys.stderr)
    written = (after.written - before.written) / took_s * SECONDS_PER_DAY / 1e9
    return Cost(100 * (after.cpu_s - before.cpu_s) / took_s, after.rss_mb, written, first_s)


def hub(folder: Path, broker_port: int, w0: float) -> IngestService:
    """A hub that knows the feeder and acknowledges its reports; a home's would be verified by its replica."""
    address = DeviceKey(load_or_create_key(folder / "device.key")).address
    settings = IngestSettings(MqttAddress.parse(f"mqtt://127.0.0.1:{broker_port}"), "hub-1", CHAIN_ID, OPERATOR_KEY)
    registry = Registry([Device(NAME, address, 1, "feeder")])
    store, clock = IngestStore(folder / "ingest.sqlite"), VirtualClock(T0, w0, SPEED)
    return IngestService(settings, registry, store, clock, IngestEvents(), _no_home)


def _no_home(_payload: bytes, _report: SlotReport) -> NoReturn:
    raise ValueError("no home is registered here")


async def one_run(kind: str, seconds: float, meters: int = 0) -> Cost:
    with tempfile.TemporaryDirectory() as name:
        folder, w0 = Path(name), time.time()
        meter_port, broker_port = free_port(), free_port()
        quiet: dict[str, Any] = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        helpers = [
            subprocess.Popen(
                street_command(meters, meter_port) if meters else simulator_command(folder, meter_port, w0), **quiet
            ),
            subprocess.Popen(broker_command(folder, broker_port), **quiet),
        ]
        try:
            wait_for(lambda: accepts(meter_port) and accepts(broker_port), "the start of meter and broker")
            if meters:
                await tell_rosters(folder, meters, broker_port)
                command = gateway_command(folder, meters, meter_port, broker_port, w0)
                return await asyncio.to_thread(measure, command, folder, seconds, meters)
            service = hub(folder, broker_port, w0)
            await service.start()
            if kind == "collectd":
                command = collectd_command(folder, meter_port, broker_port)
            else:
                command = agent_command(folder, kind, meter_port, broker_port, w0)
            cost = await asyncio.to_thread(measure, command, folder, seconds, meters)
            acknowledged = _acknowledged(folder)
            await service.stop()
            service.store.close()
        finally:
            for helper in helpers:
                helper.terminate()
                helper.wait(STOP_WITHIN_S)
        return Cost(**{**asdict(cost), "acknowledged": acknowledged})


def _acknowledged(folder: Path) -> int:
    store = folder / "state" / "store.sqlite"
    if not store.exists():
        return 0
    with closing(sqlite3.connect(store)) as db:
        return int(db.execute("SELECT value FROM counters WHERE name = 'acked'").fetchone()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--meters", type=int, nargs="*", default=[1, 100], metavar="N", help="gateways of so many (1 100)")
    parser.add_argument("--only-meters", action="store_true", help="leave out home, feeder and collectd")
    arguments = parser.parse_args()
    kinds = [] if arguments.only_meters else ["home", "feeder"]
    if kinds and shutil.which("collectd", path=f"{os.environ['PATH']}:/usr/sbin"):
        kinds.append("collectd")
    elif kinds:
        print("collectd is not installed: there is no peer in this run", file=sys.stderr)
    gateways = {f"{number} meters" if number > 1 else "1 meter": number for number in arguments.meters}
    kinds += gateways
    runs: dict[str, list[Cost]] = {kind: [] for kind in kinds}
    for number in range(arguments.runs):
        for kind in kinds:  # in turns, so that a busy moment of the machine meets them all
            print(f"run {number + 1} of {arguments.runs}: {kind}", file=sys.stderr, flush=True)
            runs[kind].append(asyncio.run(one_run(kind, arguments.seconds, gateways.get(kind, 0))))
    table = {kind: {key: _median(costs, key) for key in asdict(costs[0])} for kind, costs in runs.items()}
    print(f"{'':10}{'% of a core':>12}{'RSS MB':>8}{'GB/day':>8}{'first s':>9}{'acked':>7}")
    for kind, row in table.items():
        print(
            f"{kind:10}{row['cpu_percent']:12.2f}{row['rss_mb']:8.1f}{row['written_gb_per_day']:8.2f}"
            f"{row['first_reading_s']:9.2f}{row['acknowledged']:7.0f}"
        )
    result = {
        "seconds": arguments.seconds,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "median": table,
        "runs": {kind: [asdict(cost) for cost in costs] for kind, costs in runs.items()},
    }
    if "collectd" in table and "home" in table:
        result["cpu_ratio_to_collectd"] = round(table["home"]["cpu_percent"] / table["collectd"]["cpu_percent"], 2)
        print(f"home / collectd: {result['cpu_ratio_to_collectd']} of its processor time")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _median(costs: list[Cost], key: str) -> float:
    return round(statistics.median(getattr(cost, key) for cost in costs), 3)


if __name__ == "__main__":
    main()
