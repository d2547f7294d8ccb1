"""Fixtures for whoever tests software against meters: `openmg_meter` and `openmg_microgrid`.

    def test_my_reader(openmg_meter):
        meter = openmg_meter(profile="sdm630")
        assert my_reader(meter.host, meter.port, unit=1).power_w == meter.values()["power_total_w"]

Rules: real sockets on free ports of 127.0.0.1, served from a thread, closed after the test. The simulated time stands
still unless `speed` is given; `advance` moves it. Nothing but pytest is imported until a fixture is used.
Not here: how meters are simulated (`assembly`, `background`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from firmware_sim.background import Background, ManualClock
    from firmware_sim.device import SimDevice
    from firmware_sim.faults import ManualFaults
    from firmware_sim.neighbourhood import Neighbourhood
    from firmware_sim.server import MeterPort

DEFAULT_START = 1_781_485_200
"""10 o'clock on Monday 15 June 2026 in Seoul: the sun shines on every plant."""


@dataclass(frozen=True)
class ServedMeter:
    """One simulated meter (or several units of one port) that answers on `host`:`port`."""

    host: str
    port: int
    unit: int
    units: tuple[int, ...]
    names: tuple[str, ...]
    profile: str
    _devices: dict[int, SimDevice]
    _neighbourhood: Neighbourhood
    _clock: ManualClock

    def values(self, unit: int | None = None) -> dict[str, float | None]:
        """What the meter shows at this moment, by point name (`openmg.profiles.quantities`), before it is rounded
        into registers."""
        from firmware_sim.assembly import shown_values
        from firmware_sim.neighbourhood import Neighbourhood

        name = self.names[self.units.index(self.unit if unit is None else unit)]
        twin = Neighbourhood(self._neighbourhood.config)  # the running meter belongs to its own thread
        return shown_values(twin.meter(name), self._clock.now())

    def faults(self, unit: int | None = None) -> ManualFaults:
        """What is wrong with the meter right now; set `silent`, or `delay_s` and `delay_answers`."""
        return self._devices[self.unit if unit is None else unit].faults

    def requests(self, unit: int | None = None) -> int:
        """Requests that the meter has got."""
        return self._devices[self.unit if unit is None else unit].requests

    def advance(self, seconds: float) -> None:
        """Moves the simulated time of all units of the fixture's call forward."""
        self._clock.advance(seconds)


@dataclass(frozen=True)
class ServedMicrogrid:
    """Several homes and the feeder they hang on, each a meter with its own port; `advance` moves them all."""

    homes: tuple[ServedMeter, ...]
    feeder: ServedMeter
    _clock: ManualClock

    def advance(self, seconds: float) -> None:
        """Moves the simulated time forward."""
        self._clock.advance(seconds)


@pytest.fixture
def openmg_meter() -> Iterator[Callable[..., ServedMeter]]:
    """Factory of simulated meters: profile, units on one port, faults, seed, speed, start, framing, profile folders.

    `openmg_meter("em340", units=3, faults=("late", "nan"), seed=5)` serves three homes as units 1 to 3.
    """
    running: list[Background] = []

    def make(
        profile: str = "sdm630",
        units: int = 1,
        faults: Sequence[str] = (),
        seed: int = 1,
        speed: float = 0.0,
        start: int = DEFAULT_START,
        rtu: bool = False,
        profile_dirs: Sequence[Path] = (),
    ) -> ServedMeter:
        from firmware_sim.assembly import Faults, shared_ports, street_config
        from firmware_sim.background import Background, ManualClock
        from firmware_sim.config import MAX_UNIT, ClockConfig, SimSection
        from firmware_sim.neighbourhood import Neighbourhood

        if not 1 <= units <= MAX_UNIT:
            raise ValueError(f"units is {units}; one port carries 1 to {MAX_UNIT}")
        sim = SimSection(seed=seed, profile=profile, history_days=1, profile_dirs=tuple(profile_dirs))
        neighbourhood = Neighbourhood(street_config(units, ClockConfig(start, 0.0), sim))
        clock = ManualClock(start, speed)
        port = shared_ports(neighbourhood, 0, Faults(tuple(faults), seed), rtu, clock)[0]
        running.append(Background([port]))
        names = tuple(home.name for home in neighbourhood.config.home)
        return _served(port, names, profile, neighbourhood, clock)

    yield make
    for background in running:
        background.close()


@pytest.fixture
def openmg_microgrid() -> Iterator[Callable[..., ServedMicrogrid]]:
    """Factory of a microgrid: homes of all kinds and their feeder, each on its own port as unit 1."""
    running: list[Background] = []

    def make(
        homes: int = 4,
        profile: str = "sdm630",
        faults: Sequence[str] = (),
        seed: int = 1,
        speed: float = 0.0,
        start: int = DEFAULT_START,
    ) -> ServedMicrogrid:
        from dataclasses import replace

        from firmware_sim.assembly import Faults, own_ports, street_config
        from firmware_sim.background import Background, ManualClock
        from firmware_sim.config import ClockConfig, FeederConfig, SimSection
        from firmware_sim.neighbourhood import Neighbourhood

        sim = SimSection(seed=seed, profile=profile, history_days=1)
        config = replace(street_config(homes, ClockConfig(start, 0.0), sim), feeder=(FeederConfig("feeder-1", 1, 0),))
        neighbourhood, clock = Neighbourhood(config), ManualClock(start, speed)
        ports = own_ports(neighbourhood, Faults(tuple(faults), seed), clock)
        running.append(Background(ports))
        served = [
            _served(port, (item.name,), profile, neighbourhood, clock) for port, item in zip(ports, config.meters, strict=True)
        ]
        return ServedMicrogrid(tuple(served[:-1]), served[-1], clock)

    yield make
    for background in running:
        background.close()


def _served(
    port: MeterPort, names: tuple[str, ...], profile: str, neighbourhood: Neighbourhood, clock: ManualClock
) -> ServedMeter:
    units = tuple(port.devices)
    return ServedMeter(port.host, port.port, units[0], units, names, profile, port.devices, neighbourhood, clock)
