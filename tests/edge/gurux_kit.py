"""A meter of another maker's library for the tests of DLMS/COSEM: Gurux DLMS for Java, as a process of its own.

Needs Java's compiler and Maven, which brings the library; what asks for it is skipped where either is missing.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("GuruxMeter.java")
GURUX = "4.0.47"
POM = f"""<project><modelVersion>4.0.0</modelVersion>
<groupId>tests</groupId><artifactId>gurux-meter</artifactId><version>1</version><dependencies><dependency>
<groupId>org.gurux</groupId><artifactId>gurux.dlms</artifactId><version>{GURUX}</version>
</dependency></dependencies></project>"""
PASSWORD = "right-Pass8"
KEYS = ("00112233445566778899aabbccddeeff", "d0d1d2d3d4d5d6d7d8d9dadbdcdddedf")
REGISTERS = ("1.0.1.8.0.255 12345678 -1 30", "1.0.2.8.0.255 42 3 30", "1.0.1.7.0.255 15004 -1 27", "1.0.2.7.0.255 2 2 27")
"""1234567 Wh, 42000 Wh, 1500 W, 200 W."""
BUILD_SECONDS = 150


@pytest.fixture(scope="session")
def gurux_classpath(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("gurux")
    maven, compiler = shutil.which("mvn"), shutil.which("javac")
    if maven is None or compiler is None:
        pytest.skip("Maven and a Java compiler are needed for the Gurux meter")
    (folder / "pom.xml").write_text(POM)
    listing = folder / "classpath"
    goal = ["dependency:build-classpath", f"-Dmdep.outputFile={listing}"]
    got = subprocess.run([maven, "-q", "-B", *goal], cwd=folder, capture_output=True, text=True, timeout=BUILD_SECONDS)
    if got.returncode != 0:
        pytest.skip(f"Maven cannot bring gurux.dlms {GURUX}")
    path = f"{listing.read_text().strip()}:{folder}"
    shutil.copy(SOURCE, folder)  # where the locale is C, the compiler finds no file in a folder with other letters
    subprocess.run([compiler, "-cp", path, "-d", str(folder), SOURCE.name], cwd=folder, check=True, timeout=BUILD_SECONDS)
    return path


class Meter:
    """The running process; `set` puts a register in place before it returns."""

    def __init__(self, classpath: str, *arguments: str) -> None:
        command = ["java", "-cp", classpath, "GuruxMeter", *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None and self.process.stdin is not None
        self._out, self._in = self.process.stdout, self.process.stdin
        self.port = int(self._out.readline())
        for line in REGISTERS:
            self.set(line)

    def set(self, line: str) -> None:
        self._in.write(line + "\n")
        self._in.flush()
        assert self._out.readline().strip() == "set"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self._in.close()
        self._out.close()


@pytest.fixture
def start_gurux(gurux_classpath: str) -> Iterator[Callable[..., Meter]]:
    meters: list[Meter] = []

    def begin(*arguments: str) -> Meter:
        meters.append(Meter(gurux_classpath, *arguments))
        return meters[-1]

    yield begin
    for meter in meters:
        meter.stop()


def private(path: Path, text: str) -> Path:
    path.touch(0o600)
    path.write_text(text + "\n")
    return path


@dataclass(frozen=True)
class Framing:
    """How APDUs travel: the meter's arguments, and what [meter.dlms] says."""

    arguments: tuple[str, str]
    dlms: str
    serial: bool = False


FRAMINGS = {
    "wrapper": Framing(("WRAPPER", "1"), ""),
    "hdlc": Framing(("HDLC", "1"), 'framing = "hdlc"\n'),
    "hdlc serial": Framing(("HDLC", str(1 << 7 | 17)), 'framing = "hdlc"\nphysical = 17\n', serial=True),
    "hdlc in parts": Framing(
        ("HDLC", str(1 << 14 | 300)), 'framing = "hdlc"\nphysical = 300\ninformation_bytes = 32\nwindow = 3\n'
    ),
}
"""In parts: what is longer than 32 bytes is cut, so every association."""
SECRETS = {"NONE": (), "LOW": (PASSWORD,), "HIGH_GMAC": KEYS}
"""What the meter is given for each authentication."""


def client_of(mode: str, folder: Path) -> str:
    """The lines of [meter.dlms] that go with them."""
    return {"NONE": lambda _: "", "LOW": low, "HIGH_GMAC": gmac}[mode](folder)


def config_file(folder: Path, port: int, dlms: str, serial: str = "", timeout_s: float = 5, name: str = "home-1") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "agent.toml"
    place = f'serial = "{serial}"\ntransport = "serial"' if serial else f'host = "127.0.0.1"\nport = {port}'
    path.write_text(
        f"""[device]
name = "{name}"
key_file = "keys/device.key"
state_dir = "state"
[meter]
{place}
protocol = "dlms"
timeout_seconds = {timeout_s}
[meter.dlms]
{dlms}
[mqtt]
url = "mqtt://127.0.0.1:1"
[hub]
operator = "0x{"11" * 20}"
chain_id = 7
[home]
microgrid = 1
role = "feeder"
"""
    )
    return path


def gmac(folder: Path, keys: tuple[str, str] = KEYS) -> str:
    private(folder / "encryption.key", keys[0])
    private(folder / "authentication.key", keys[1])
    return """authentication = "hls_gmac"
encryption_key_file = "encryption.key"
authentication_key_file = "authentication.key"
system_title = "4f4d470000000001"
"""


def low(folder: Path, password: str = PASSWORD) -> str:
    private(folder / "password", password)
    return 'authentication = "low"\npassword_file = "password"\n'
