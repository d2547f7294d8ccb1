"""Puts simulated devices together: which unit of which port is which meter, with which registers and faults.

Two forms: `own_ports` gives every meter of a configuration its port, `shared_ports` gives 1 to 247 units to a port and
goes on with the next. Not here: opening them (`server`, `serial_line`), the command line (`cli`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from firmware_sim.config import MAX_HOMES, MAX_UNIT, ClockConfig, HomeConfig, SimConfig, SimSection
from firmware_sim.device import Clock, Coder, Shows, SimDevice
from firmware_sim.faults import FaultScript
from firmware_sim.homes import street
from firmware_sim.image import ImageCoder
from firmware_sim.installation import HomeMeter
from firmware_sim.meter import Meter
from firmware_sim.neighbourhood import Neighbourhood
from firmware_sim.pdu import rules_of
from firmware_sim.server import MeterPort
from firmware_sim.sunspec_image import NamePlate, SunSpecCoder
from openmg.profiles.profile import Profile
from openmg.profiles.sunspec import INVERTER_IDS, SLOW_IDS

PANEL_IDS = (*INVERTER_IDS, 160)
BATTERY_IDS = tuple(model_id for model_id in SLOW_IDS if model_id not in PANEL_IDS)


@dataclass(frozen=True)
class Faults:
    """Kinds of scripted faults and the seed they follow from."""

    kinds: tuple[str, ...] = ()
    seed: int = 1

    def script(self, unit: int) -> FaultScript | None:
        """The script of one unit; None when nothing goes wrong."""
        return FaultScript(self.seed, unit, self.kinds) if self.kinds else None


class _WholeHome:
    """Shows what the meter, the panels and the battery of a home say."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    @property
    def earliest(self) -> int:
        return self._meter.earliest

    def values(self, sim_time: float) -> dict[str, float | None]:
        return shown_values(self._meter, sim_time)


def shown_values(meter: Meter, sim_time: float) -> dict[str, float | None]:
    """Everything a home's devices can show at that time; a feeder has its meter only."""
    return meter.all_values(sim_time) if isinstance(meter, HomeMeter) else meter.values(sim_time)


def device_of(profile: Profile, meter: Meter, unit: int, clock: Clock, script: FaultScript | None = None) -> SimDevice:
    """The device of that profile at a home's or feeder's meter; a SunSpec one has the models that the home has."""
    shows: Shows = meter
    coder: Coder
    if profile.sunspec is None:
        coder = ImageCoder(profile)
    else:
        shows, plate = _WholeHome(meter), NamePlate(profile.name, f"{unit:06d}", unit)
        coder = SunSpecCoder(sunspec_models_of(profile, meter), profile.sunspec, plate)
    return SimDevice(shows, coder, rules_of(profile), clock, script)


def sunspec_models_of(profile: Profile, meter: Meter) -> tuple[int, ...]:
    """The profile's models without those of panels or a battery that the home does not have."""
    installation = meter.installation if isinstance(meter, HomeMeter) else None
    absent: tuple[int, ...] = ()
    if installation is None or installation.made_w is None:
        absent += PANEL_IDS
    if installation is None or installation.battery is None:
        absent += BATTERY_IDS
    return tuple(model_id for model_id in profile.sim.models if model_id not in absent)


def own_ports(neighbourhood: Neighbourhood, faults: Faults | None = None, clock: Clock | None = None) -> list[MeterPort]:
    """A port for each meter of the configuration, all with the configured unit id."""
    config, faults = neighbourhood.config, faults or Faults()
    profile, unit, clock = config.sim.loaded_profile(), config.sim.unit, clock or config.clock.clock()
    return [
        MeterPort(
            {unit: device_of(profile, neighbourhood.meter(item.name), unit, clock, faults.script(place))},
            config.sim.host,
            item.port,
        )
        for place, item in enumerate(config.meters, 1)
    ]


def shared_ports(
    neighbourhood: Neighbourhood,
    first_port: int,
    faults: Faults | None = None,
    rtu: bool = False,
    clock: Clock | None = None,
) -> list[MeterPort]:
    """Units 1 to 247 on the first port, the next 247 meters on the next port; port 0 takes any free ones."""
    config, faults = neighbourhood.config, faults or Faults()
    profile, clock = config.sim.loaded_profile(), clock or config.clock.clock()
    ports = []
    for number, start in enumerate(range(0, len(config.home), MAX_UNIT)):
        devices = {}
        for unit, home in enumerate(config.home[start : start + MAX_UNIT], 1):
            script = faults.script(start + unit)
            devices[unit] = device_of(profile, neighbourhood.meter(home.name), unit, clock, script)
        ports.append(MeterPort(devices, config.sim.host, first_port + number if first_port else 0, rtu))
    return ports


def street_config(meters: int, clock: ClockConfig, sim: SimSection) -> SimConfig:
    """A configuration of that many homes of all kinds; ValueError when there are too many or none."""
    if meters > MAX_HOMES:
        raise ValueError(f"meters is {meters}; one process serves at most {MAX_HOMES}")
    homes = tuple(
        HomeConfig(home.name, home.kind, home.microgrid, home.seed, 0, home.pv_peak_w, home.battery_wh)
        for home in street(meters, sim.seed)
    )
    return SimConfig(clock=clock, home=homes, sim=sim)


def warm_up(neighbourhood: Neighbourhood, told: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Runs the counters up to the start before anybody asks, since weeks of past take seconds to add up."""
    config = neighbourhood.config
    for done, item in enumerate(config.meters, 1):
        neighbourhood.meter(item.name).values(config.start)
        told(done, len(config.meters))
