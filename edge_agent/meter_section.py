"""The sections of an agent's file that say where its meter is and who may read along.

Rules: `host` and `port` for the network, `serial` and the line's settings for a serial port, and never both. The
addresses of the wire are checked here, so that a running agent meets none that cannot be. `protocol = "dlms"` needs the extra
`dlms`, and says so when it is missing. Not here: reading (`edge_agent.modbus`, `edge_agent.dlms`), what is particular to DLMS
(`dlms_section`), the other sections (`config`).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from edge_agent.dlms_section import HDLC, DlmsSection
from edge_agent.modbus.target import PARITIES, BusTarget
from openmg.profiles.profile import TRANSPORTS, Device, Link, Profile, ProfileError, Simulation, load_profile

MIN_POLL_SECONDS = 0.05
MAX_UNIT = 247
"""One byte, less broadcast and what the standard reserves (Modbus over Serial Line V1.02 section 2.2)."""
PROTOCOLS = ("modbus", "dlms")
SERIAL = "serial"
DLMS_TRANSPORTS = ("tcp", SERIAL)
DEFAULT_PROFILE = "sdm630"
MODBUS_PORT, DLMS_PORT = 502, 4059
"""As registered."""
DLMS_PROFILE = Profile(
    name="dlms",
    device=Device("any", "DLMS/COSEM meter", 0, "IEC 62056-6-1 and 62056-6-2", "no meter was at hand, only another library"),
    link=Link(("tcp",), max_registers=1, drain_ms=0, function_code=3),
    points=(),
    probes=(),
    sim=Simulation(exception_over=1),
)
"""Stands where a Modbus meter has its profile: the meter itself says what its registers are worth."""
BAUD_RATES = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)


@dataclass(frozen=True)
class MeterSection:
    """Where the meter is and how it is read; `poll_seconds` is wall time, `serial` the device file of transport rtu (serial for
    DLMS).

    What is not written of the serial line is as the profile says. profile_dirs: folders with the owner's own profiles.
    """

    host: str = ""
    port: int = MODBUS_PORT
    unit: int = 1
    profile: str = DEFAULT_PROFILE
    transport: str = "tcp"
    poll_seconds: float = 1.0
    timeout_seconds: float = 1.0
    serial: str = ""
    baud: int | None = None
    parity: str | None = None
    stop_bits: int | None = None
    profile_dirs: tuple[Path, ...] = ()
    protocol: str = "modbus"
    dlms: DlmsSection | None = None

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol is {self.protocol!r}; use one of {', '.join(PROTOCOLS)}")
        self._check_dlms()
        transports = DLMS_TRANSPORTS if self.protocol == "dlms" else TRANSPORTS
        if self.transport not in transports:
            raise ValueError(f"transport is {self.transport!r}; {self.protocol} uses one of {', '.join(transports)}")
        self._check_place()
        if not 1 <= self.unit <= MAX_UNIT:
            raise ValueError(f"unit is {self.unit}; a Modbus unit is 1 to {MAX_UNIT}")
        if not MIN_POLL_SECONDS <= self.poll_seconds <= 900:
            raise ValueError(f"poll_seconds is {self.poll_seconds}; it must be {MIN_POLL_SECONDS} to 900")
        if not 0.05 <= self.timeout_seconds <= 60:
            raise ValueError(f"timeout_seconds is {self.timeout_seconds}; it must be 0.05 to 60")
        self._check_profile()

    def _check_place(self) -> None:
        on_a_line = SERIAL if self.protocol == "dlms" else "rtu"
        if self.transport == on_a_line:
            if not self.serial:
                raise ValueError(f'serial is missing; add `serial = "/dev/ttyUSB0"`, or another transport than {on_a_line}')
            if self.host:
                raise ValueError(f"host belongs to no serial line; remove it, or write another transport than {on_a_line}")
        else:
            if self.serial:
                raise ValueError(f'serial is for `transport = "{on_a_line}"`; write that, or remove serial')
            if not self.host:
                raise ValueError("host is missing; add `host = ...`")
        if not 1 <= self.port <= 65_535:
            raise ValueError(f"port is {self.port}; it must be 1 to 65535")
        if self.baud is not None and self.baud not in BAUD_RATES:
            raise ValueError(f"baud is {self.baud}; use one of {', '.join(map(str, BAUD_RATES))}")
        if self.parity is not None and self.parity not in PARITIES:
            raise ValueError(f"parity is {self.parity!r}; use one of {', '.join(PARITIES)}")
        if self.stop_bits not in (None, 1, 2):
            raise ValueError(f"stop_bits is {self.stop_bits}; it must be 1 or 2")

    def _check_dlms(self) -> None:
        if self.protocol != "dlms":
            if self.dlms is not None:
                raise ValueError('dlms belongs to `protocol = "dlms"`; write that, or remove [meter.dlms]')
            return
        if self.transport == SERIAL and self.dlms_section.framing != HDLC:
            raise ValueError("framing is 'wrapper', which no serial line carries; write `framing = \"hdlc\"` into [meter.dlms]")
        if self.profile != DEFAULT_PROFILE:
            raise ValueError("profile is for Modbus; remove it, since a DLMS meter says itself what its registers are worth")
        if not self.serial and self.transport == "tcp" and self.port == MODBUS_PORT:
            raise ValueError(f"port is {MODBUS_PORT}, which is for Modbus; write the meter's, usually {DLMS_PORT}")
        if importlib.util.find_spec("dlms_cosem") is None:
            raise ValueError("protocol 'dlms' needs a library that is not installed; run pip install 'openmg[agent,dlms]'")

    def _check_profile(self) -> None:
        try:
            profile = self.load_profile()
        except ProfileError as error:
            raise ValueError(f"profile: {error}") from error
        if self.protocol != "dlms" and self.transport not in profile.link.transports:
            raise ValueError(f"transport {self.transport!r} is not one of profile {self.profile}")

    def load_profile(self) -> Profile:
        """The meter's profile; ProfileError when its file changed for the worse."""
        if self.protocol == "dlms":
            return DLMS_PROFILE
        return load_profile(self.profile, self.profile_dirs)

    def target(self, profile: Profile) -> BusTarget:
        """The bus that the meter is on."""
        return BusTarget(
            host=self.host,
            port=self.port,
            transport="rtu" if self.serial else self.transport,
            timeout_s=self.timeout_seconds,
            drain_s=profile.link.drain_ms / 1000,
            serial=self.serial,
            baud=self.baud or profile.link.baud,
            parity=self.parity or profile.link.parity,
            stop_bits=self.stop_bits or profile.link.stop_bits,
        )

    @property
    def numbers_requests(self) -> bool:
        """Whether each request to the meter takes a number under a key, none of which may be used twice."""
        return self.protocol == "dlms" and self.dlms_section.is_protected

    @property
    def dlms_section(self) -> DlmsSection:
        """What is particular to DLMS, as written or by default."""
        return self.dlms or DlmsSection()

    @property
    def profile_name(self) -> str:
        """What the hub is told of the meter's kind."""
        return DLMS_PROFILE.name if self.protocol == "dlms" else self.profile

    @property
    def where(self) -> str:
        """The port and the unit, for people."""
        place = self.serial or f"{self.host}:{self.port}"
        return f"{place} server {self.dlms_section.address}" if self.protocol == "dlms" else f"{place} unit {self.unit}"


@dataclass(frozen=True)
class ProxySection:
    """Modbus TCP for other programs that read the same bus. `listen`: the address to bind; outside 127.0.0.1, anybody who
    reaches it reads the meter."""

    listen: str = "127.0.0.1"
    port: int = 5502

    def __post_init__(self) -> None:
        if not self.listen:
            raise ValueError('listen is empty; write "127.0.0.1", or the address of a network that may read the meter')
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"port is {self.port}; it must be 1 to 65535, or 0 for any free one")
