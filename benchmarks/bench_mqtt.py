"""MQTT readings per second through a real broker, each stored by the hub and acknowledged to its meter.

A meter process signs nothing twice: all reports are made before the clock starts. Then it publishes them (QoS
1) and waits until the hub's application acknowledgement covers the last one; the hub checks each signature,
commits to SQLite (FULL) and acknowledges. Medians over runs; writes `benchmarks/results/mqtt.json`.

    python benchmarks/bench_mqtt.py [--readings 4000] [--devices 10] [--runs 3]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hub.ingest.events import IngestEvents
from hub.ingest.registry import Device, Registry
from hub.ingest.service import IngestService
from hub.ingest.status import IngestSettings
from hub.ingest.store import IngestStore
from openmg.clock import VirtualClock
from openmg.identity import DeviceKey
from openmg.messages import base, topics
from openmg.messages.feeder import FEEDER, FeederReport
from openmg.messages.telemetry import Ack, Health, SlotReport
from openmg.mqtt import MqttAddress, MqttLink

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("results") / "mqtt.json"
CHAIN_ID = 7
OPERATOR_KEY = bytes(31) + b"\x09"
MAX_UNACKNOWLEDGED = 1000
"""The meters' window: what they send before they wait for acknowledgements."""


class Meters:
    """All meters of the run behind one MQTT connection."""

    def __init__(self, address: MqttAddress, keys: dict[str, DeviceKey], readings: int) -> None:
        per_device = readings // len(keys)
        self.messages = [
            (name, seq, self._report(name, key, seq)) for seq in range(1, per_device + 1) for name, key in keys.items()
        ]
        self.acked = dict.fromkeys(keys, 0)
        self.changed = asyncio.Event()
        self.link = MqttLink(address, "meters", self._on_message, lambda: None)
        self.link.subscribe(topics.ack("+"))

    @staticmethod
    def _report(name: str, key: DeviceKey, seq: int) -> bytes:
        message = FeederReport(name, seq, 1_979_000 + seq, seq, 0, Health(1, 1, 0, seq))
        return base.sign(message, CHAIN_ID, key.signing_key)

    def _on_message(self, _topic: str, payload: bytes) -> None:
        ack = base.open_signed(Ack, payload, CHAIN_ID).message
        self.acked[ack.device] = max(self.acked[ack.device], ack.high_water)
        self.changed.set()

    async def run(self) -> float:
        """Readings per second from the first publication to the last acknowledgement."""
        began, sent = time.perf_counter(), 0
        while sum(self.acked.values()) < len(self.messages):
            self.changed.clear()
            while sent < len(self.messages) and sent - sum(self.acked.values()) < MAX_UNACKNOWLEDGED:
                name, _seq, payload = self.messages[sent]
                if not self.link.publish(topics.from_meter(name, FEEDER), payload):
                    break
                sent += 1
            await asyncio.wait_for(self.changed.wait(), 30)
        return len(self.messages) / (time.perf_counter() - began)


def no_homes(address: bytes, report: SlotReport) -> NoReturn:
    """What opens a home's report: there are feeders only."""
    raise ValueError(f"0x{address.hex()} is no feeder; slot {report.slot} is not measured here")


async def measure(address: MqttAddress, folder: Path, readings: int, devices: int) -> float:
    keys = {f"meter-{i}": DeviceKey(i.to_bytes(32, "big")) for i in range(1, devices + 1)}
    registry = Registry(Device(name, key.address, 1, "feeder") for name, key in keys.items())
    store = IngestStore(folder / f"ingest-{time.time_ns()}.sqlite")
    settings = IngestSettings(address, "hub", CHAIN_ID, OPERATOR_KEY)
    hub = IngestService(settings, registry, store, VirtualClock.real(), IngestEvents(), no_homes)
    meters = Meters(address, keys, readings)
    await hub.start()
    meters.link.start()
    while not (hub.connected and meters.link.connected):
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)
    rate = await meters.run()
    stats = hub.stats()
    if (stats.stored, stats.lost, stats.conflicts) != (len(meters.messages), 0, 0):
        raise SystemExit(f"the hub holds {stats}, not every reading once")
    await meters.link.stop()
    await hub.stop()
    store.close()
    return rate


def mosquitto() -> str | None:
    """Where mosquitto is; distributions put it into a folder that is not on an ordinary user's PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/local/sbin:/usr/sbin:/sbin")


def start_broker(kind: str, port: int, folder: Path) -> subprocess.Popen[bytes]:
    if kind == "mosquitto":
        config = folder / "mosquitto.conf"
        config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 100000\n", encoding="ascii")
        command = [mosquitto() or kind, "-c", str(config)]
    else:
        command = [sys.executable, "-m", "hub.ingest.broker", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.05)
    process.kill()
    raise SystemExit(f"broker {kind} did not open port {port}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--readings", type=int, default=4000)
    parser.add_argument("--devices", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    result: dict[str, object] = {
        "readings": arguments.readings,
        "devices": arguments.devices,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    print(f"{'broker':12}{'readings/s, stored and acknowledged':>38}")
    for kind in ("amqtt", "mosquitto"):
        if kind == "mosquitto" and mosquitto() is None:
            print(f"{kind:12}{'not installed':>38}")
            continue
        with tempfile.TemporaryDirectory() as name, socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            probe.close()
            broker = start_broker(kind, port, Path(name))
            address = MqttAddress("127.0.0.1", port)
            try:
                rates = [
                    asyncio.run(measure(address, Path(name), arguments.readings, arguments.devices))
                    for _ in range(arguments.runs)
                ]
            finally:
                broker.terminate()
                broker.wait(10)
        median = round(statistics.median(rates), 1)
        result[kind] = {"readings_per_second_median": median, "runs": [round(rate, 1) for rate in rates]}
        print(f"{kind:12}{median:>38}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
