"""The sections of an agent's file that say where its meter is and who may read along.

Rules: `host` and `port` for the network, `serial` and the line's settings for a serial port, and never both. The
addresses of the wire are checked here, so that a running agent meets none that cannot be. Not here: reading
(`edge_agent.modbus`), the other sections (`config`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_agent.modbus.target import PARITIES, BusTarget
from openmg.profiles.profile import TRANSPORTS, Profile, ProfileError, load_profile

MIN_POLL_SECONDS = 0.05
MAX_UNIT = 247
"""One byte, less broadcast and what the standard reserves (Modbus over Serial Line V1.02 section 2.2)."""
BAUD_RATES = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)


@dataclass(frozen=True)
class MeterSection:
    """Where the meter is and how it is read; `poll_seconds` is wall time, `serial` the device file of transport rtu.

    What is not written of the serial line is as the profile says. profile_dirs: folders with the owner's own profiles.
    """

    host: str = ""
    port: int = 502
    unit: int = 1
    profile: str = "sdm630"
    transport: str = "tcp"
    poll_seconds: float = 1.0
    timeout_seconds: float = 1.0
    serial: str = ""
    baud: int | None = None
    parity: str | None = None
    stop_bits: int | None = None
    profile_dirs: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.transport not in TRANSPORTS:
            raise ValueError(f"transport is {self.transport!r}; use one of {', '.join(TRANSPORTS)}")
        self._check_place()
        if not 1 <= self.unit <= MAX_UNIT:
            raise ValueError(f"unit is {self.unit}; a Modbus unit is 1 to {MAX_UNIT}")
        if not MIN_POLL_SECONDS <= self.poll_seconds <= 900:
            raise ValueError(f"poll_seconds is {self.poll_seconds}; it must be {MIN_POLL_SECONDS} to 900")
        if not 0.05 <= self.timeout_seconds <= 60:
            raise ValueError(f"timeout_seconds is {self.timeout_seconds}; it must be 0.05 to 60")
        self._check_profile()

    def _check_place(self) -> None:
        if self.transport == "rtu":
            if not self.serial:
                raise ValueError('serial is missing; add `serial = "/dev/ttyUSB0"`, or another transport than rtu')
            if self.host:
                raise ValueError("host belongs to no serial line; remove it, or write another transport than rtu")
        else:
            if self.serial:
                raise ValueError('serial is for `transport = "rtu"`; write that, or remove serial')
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

    def _check_profile(self) -> None:
        try:
            profile = self.load_profile()
        except ProfileError as error:
            raise ValueError(f"profile: {error}") from error
        if self.transport not in profile.link.transports:
            raise ValueError(f"transport {self.transport!r} is not one of profile {self.profile}")

    def load_profile(self) -> Profile:
        """The meter's profile; ProfileError when its file changed for the worse."""
        return load_profile(self.profile, self.profile_dirs)

    def target(self, profile: Profile) -> BusTarget:
        """The bus that the meter is on."""
        return BusTarget(
            host=self.host,
            port=self.port,
            transport=self.transport,
            timeout_s=self.timeout_seconds,
            drain_s=profile.link.drain_ms / 1000,
            serial=self.serial,
            baud=self.baud or profile.link.baud,
            parity=self.parity or profile.link.parity,
            stop_bits=self.stop_bits or profile.link.stop_bits,
        )

    @property
    def where(self) -> str:
        """The port and the unit, for people."""
        return f"{self.serial or f'{self.host}:{self.port}'} unit {self.unit}"


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
