"""An operator with an authority, an enrolment server and a mosquitto over mutual TLS, and devices that enrol there."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from edge_kit import CHAIN_ID, OPERATOR_KEY, Processes, agent_toml, mosquitto, wait_for

from edge_agent.enrol import Attempt, Expected, attempt, load_or_make_tls_key, save
from hub.devices.authority import create_authority, write_server_pair
from hub.devices.broker_files import BrokerPlace, write_broker_files, write_standing
from hub.devices.desk import EnrolmentDesk
from hub.devices.folder import DevicesFolder
from hub.devices.server import EnrolmentServer
from hub.devices.settings import DevicesSettings, write_settings
from hub.devices.store import DeviceStore
from openmg.enrolment.code import EnrolmentCode
from openmg.identity import DeviceKey
from openmg.keys.passphrase import Passphrases
from openmg.mqtt import MqttAddress, MqttLink
from openmg.mqtt_tls import TlsFiles
from openmg.signing import address_of

HOST = "127.0.0.1"
RUNS_AS = "root" if os.geteuid() == 0 else ""
"""As root mosquitto would become another user, who cannot read a test's folder."""
DEMO = Expected(demo=True)


class SettableClock:
    """Unix seconds that a test moves."""

    def __init__(self) -> None:
        self.offset_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset_s


class Operator:
    """A devices folder with a development authority and its desk, on a clock that can be moved."""

    def __init__(self, root: Path, development: bool = True) -> None:
        self.folder, self.clock = DevicesFolder(root / "devices"), SettableClock()
        operator = "0x" + address_of(OPERATOR_KEY).hex()
        settings = DevicesSettings(operator, CHAIN_ID, "hub-1", (HOST, "localhost"))
        authority = create_authority(self.folder, Passphrases(), development, int(self.clock()))
        pair = authority.issue_server(settings.hosts, int(self.clock()))
        write_server_pair(pair, self.folder.server_key, self.folder.server_certificate)
        write_settings(self.folder, settings)
        self.store = DeviceStore(self.folder.database)
        self.desk = EnrolmentDesk(authority, self.store, settings, self.clock)

    def invite(self, name: str) -> EnrolmentCode:
        return self.desk.invite(name, 1, "home", 1)

    def approve(self, name: str) -> None:
        applicant = self.store.applicant(name)
        assert applicant is not None
        self.desk.approve(name, self.desk.fingerprint(applicant), new_address=False)


class Meter:
    """A device's keys and files."""

    def __init__(self, root: Path, name: str, seed: int) -> None:
        self.name, self.key, self.folder = name, DeviceKey(bytes([seed]) * 32), root / name
        self.folder.mkdir(exist_ok=True)
        self.files = TlsFiles(self.folder / "ca.crt", self.folder / "tls.crt", self.folder / "tls.key")

    def attempt(self, place: str, code: EnrolmentCode, expected: Expected = DEMO) -> Attempt:
        return attempt(place, code, self.name, self.key, load_or_make_tls_key(self.files.key), expected)

    async def enrol(self, place: str, operator: Operator) -> None:
        """The whole of it, with approval."""
        code = operator.invite(self.name)
        first = await asyncio.to_thread(self.attempt, place, code)
        assert first.certificate is None
        operator.approve(self.name)
        save(await asyncio.to_thread(self.attempt, place, code), self.files)


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    made = Operator(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
async def server(operator: Operator) -> AsyncIterator[EnrolmentServer]:
    made = EnrolmentServer(operator.desk, operator.folder, HOST, 0)
    await made.start()
    yield made
    await made.stop()


def place_of(server: EnrolmentServer) -> str:
    return f"{HOST}:{server.port}"


class TlsBroker:
    """A mosquitto that runs with the files that `broker-config` writes."""

    def __init__(self, operator: Operator, port: int, folder: Path, processes: Processes) -> None:
        self.operator, self.port, self.folder, self._processes = operator, port, folder, processes
        place = BrokerPlace(folder, port, HOST, RUNS_AS)
        write_broker_files(operator.folder, operator.desk, place, int(operator.clock()))
        self.address = MqttAddress(HOST, port, tls=True)
        self.url = str(self.address)
        self.hub_files = TlsFiles(folder / "ca.crt", folder / "hub.crt", folder / "hub.key")
        self.start()

    def start(self) -> None:
        command = [mosquitto() or "mosquitto", "-c", str(self.folder / "mosquitto.conf")]
        with (self.folder / "log").open("ab") as log:
            self._process = self._processes.start(*command, stdout=log, stderr=log)
        wait_for(self._accepts)

    def _accepts(self) -> bool:
        assert self._process.poll() is None, (self.folder / "log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0

    def reload(self) -> None:
        """New access list and CRL, and the signal that makes the broker read them."""
        write_standing(self.operator.folder, self.operator.desk)
        before = (self.folder / "log").read_text(encoding="utf-8").count("Reloading config")
        self._process.send_signal(signal.SIGHUP)
        wait_for(lambda: (self.folder / "log").read_text(encoding="utf-8").count("Reloading config") > before)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)


@pytest.fixture
def tls_broker(operator: Operator, free_port: Callable[[], int], tmp_path: Path, processes: Processes) -> Iterator[TlsBroker]:
    if mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    broker_folder = tmp_path / "broker"
    made = TlsBroker(operator, free_port(), broker_folder, processes)
    yield made
    made.close()


class Client:
    """A connection that keeps what it hears."""

    def __init__(self, broker: TlsBroker, files: TlsFiles, name: str) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.link = MqttLink(broker.address, name, lambda t, p: self.heard.append((t, p)), lambda: None, tls=files)

    async def __aenter__(self) -> Client:
        self.link.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.link.stop()


def tls_agent_toml(folder: Path, meter_port: int, broker: TlsBroker, meter: Meter, renew_at: str = "") -> Path:
    """The configuration of an agent whose TLS files are the meter's."""
    path = agent_toml(folder, meter_port, broker.url, meter.name)
    keys = path.parent / "keys"
    keys.mkdir(exist_ok=True, mode=0o700)
    if not (keys / "device.key").exists():
        (keys / "device.key").write_bytes(meter.key.root)
        (keys / "device.key").chmod(0o600)
    lines = f'ca_file = "{meter.files.ca}"\ncertificate_file = "{meter.files.certificate}"\nkey_file = "{meter.files.key}"\n'
    lines += f'renew_at = "{renew_at}"\n' if renew_at else ""
    path.write_text(path.read_text(encoding="utf-8").replace("resend_seconds", lines + "resend_seconds"), encoding="utf-8")
    return path
