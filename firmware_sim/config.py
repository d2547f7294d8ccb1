"""Configuration of the simulator: the clock, the homes and the feeders, each behind its own port.

Read by `openmg.config.load_toml`; its errors name file, line and key. Not here: defaults of the
demonstration.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from firmware_sim.homes import DAY_SECONDS, DEFAULT_BATTERY_WH, KOREA_UTC_OFFSET, STEP_SECONDS, Home
from openmg.clock import VirtualClock, slot_of, slot_start
from openmg.profiles.profile import Profile, ProfileError, load_profile

MAX_HOMES = 2000
"""One process has served 500 ports in 31 MB; with 247 units a port this many need nine."""
MAX_UNIT = 247
"""Modbus over Serial Line V1.02 section 2.2: unit ids are 1 to 247."""
MAX_HISTORY_DAYS = 400


@dataclass(frozen=True)
class ClockConfig:
    """The virtual clock: `sim = t0 + (wall - w0) * speed`."""

    t0: int
    w0: float
    speed: float = 1.0

    def __post_init__(self) -> None:
        if not self.speed > 0:
            raise ValueError(f"speed is {self.speed}; it must be above 0")

    def clock(self) -> VirtualClock:
        return VirtualClock(self.t0, self.w0, self.speed)


@dataclass(frozen=True)
class SimSection:
    """What the simulated homes share."""

    seed: int = 1
    host: str = "127.0.0.1"
    profile: str = "sdm630"
    unit: int = 1
    utc_offset_seconds: int = KOREA_UTC_OFFSET
    history_days: int = 35
    data: Path | None = None
    profile_dirs: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.unit <= MAX_UNIT:
            raise ValueError(f"unit is {self.unit}; a Modbus unit is 1 to {MAX_UNIT}")
        if not 0 <= self.history_days <= MAX_HISTORY_DAYS:
            raise ValueError(f"history_days is {self.history_days}; it must be 0 to {MAX_HISTORY_DAYS}")
        if self.utc_offset_seconds % STEP_SECONDS or abs(self.utc_offset_seconds) >= DAY_SECONDS:
            raise ValueError(f"utc_offset_seconds must be a multiple of {STEP_SECONDS} below a day")
        try:
            self.loaded_profile()
        except ProfileError as error:
            raise ValueError(f"profile: {error}") from error

    def loaded_profile(self) -> Profile:
        """The profile, the owner's folders first."""
        return load_profile(self.profile, self.profile_dirs)

    @property
    def phases(self) -> int:
        """Phases of the simulated meters; a profile for all (SunSpec) is served with three."""
        return 1 if self.loaded_profile().device.phases == 1 else 3


@dataclass(frozen=True)
class HomeConfig:
    """One simulated home and the port of its meter."""

    name: str
    kind: str
    microgrid: int
    seed: int
    port: int
    pv_peak_w: int = 0
    battery_wh: int | None = None

    def __post_init__(self) -> None:
        _check_port(self.port)
        self.home()

    def home(self) -> Home:
        battery_wh = self.battery_wh
        if battery_wh is None:
            battery_wh = DEFAULT_BATTERY_WH if self.kind == "battery" else 0
        return Home(self.name, self.kind, self.microgrid, self.seed, self.pv_peak_w, battery_wh)


@dataclass(frozen=True)
class FeederConfig:
    """The feeder meter of a microgrid, which sees the sum of its homes."""

    name: str
    microgrid: int
    port: int

    def __post_init__(self) -> None:
        _check_port(self.port)


@dataclass(frozen=True)
class SimConfig:
    """The whole file of `openmg-sim --config FILE`."""

    clock: ClockConfig
    home: tuple[HomeConfig, ...]
    sim: SimSection = SimSection()
    feeder: tuple[FeederConfig, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= len(self.home) <= MAX_HOMES:
            raise ValueError(f"home must be given 1 to {MAX_HOMES} times as [[home]]")
        names = [item.name for item in self.meters]
        if len(set(names)) != len(names):
            raise ValueError("home has a name twice among homes and feeders; names must differ")
        ports = [item.port for item in self.meters if item.port]
        if len(set(ports)) != len(ports):
            raise ValueError("home has a port twice among homes and feeders; ports must differ")

    @property
    def meters(self) -> tuple[HomeConfig | FeederConfig, ...]:
        """Homes, then feeders: everything that has a name and a port."""
        return (*self.home, *self.feeder)

    @property
    def start(self) -> int:
        """Simulated second at which the demonstration begins: the start of the slot that contains t0."""
        return slot_start(slot_of(self.clock.t0))

    @property
    def since(self) -> int:
        """Simulated second at which the meters' counters are zero and their history begins."""
        return self.start - self.sim.history_days * DAY_SECONDS


def _check_port(port: int) -> None:
    if not 0 <= port <= 65_535:
        raise ValueError(f"port is {port}; it must be 1 to 65535, or 0 for any free one")
