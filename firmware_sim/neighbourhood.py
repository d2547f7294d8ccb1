"""All simulated meters of a configuration: homes with their load and sun, feeders as the sum of their homes.

Rules: everything follows from the configuration and the simulated time. A pure producer has no household, so
it takes no column of measured data. Not here: ports and sockets (`server`), files of history (`history`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

from firmware_sim.car import car_w
from firmware_sim.config import SimConfig
from firmware_sim.dataset import load_dataset
from firmware_sim.homes import STEP_SECONDS, Home, household_load_w
from firmware_sim.installation import HomeMeter, Installation
from firmware_sim.meter import Meter, NetPower
from firmware_sim.noise import mix
from firmware_sim.sun import Sky, local_day, pv_w

LoadPower = Callable[[int], int]
"""Household power (W) at a simulated second."""


class Neighbourhood:
    """The meters of homes and feeders by name, ready to be asked for any time from `config.since` on.

    Raises DatasetError when measured data is configured and cannot be used.
    """

    def __init__(self, config: SimConfig) -> None:
        self.config = config
        self.sky = Sky(
            seed=mix(config.sim.seed, 1000) >> 1,
            clear_day=local_day(config.start, config.sim.utc_offset_seconds),
            utc_offset=config.sim.utc_offset_seconds,
        )
        phases = config.sim.phases
        homes = tuple(item.home() for item in config.home)
        self.homes = {home.name: home for home in homes}
        self.installations = dict(zip(self.homes, map(self._installation, homes, self._loads(homes)), strict=True))
        self.net_power = {name: installation.net_w for name, installation in self.installations.items()}
        self._meters: dict[str, Meter] = {
            name: HomeMeter(self.installations[name], config.since, home.seed, phases) for name, home in self.homes.items()
        }
        for feeder in config.feeder:
            members = tuple(self.net_power[home.name] for home in homes if home.microgrid == feeder.microgrid)
            seed = mix(config.sim.seed, feeder.microgrid)
            self._meters[feeder.name] = Meter(_sum_of(members), config.since, seed, phases)

    def meter(self, name: str) -> Meter:
        """The meter of a home or feeder, with counters that have only been asked forward."""
        return self._meters[name]

    def _installation(self, home: Home, load: LoadPower) -> Installation:
        sky, offset = self.sky, self.config.sim.utc_offset_seconds

        def demand_w(step: int) -> int:
            return load(step * STEP_SECONDS) + (car_w(home, step * STEP_SECONDS, offset) if home.kind == "ev" else 0)

        made_w = (lambda step: pv_w(home, sky, step * STEP_SECONDS)) if home.pv_peak_w else None
        return Installation(demand_w, made_w, home.battery_wh, self.config.since // STEP_SECONDS)

    def _loads(self, homes: tuple[Home, ...]) -> list[LoadPower]:
        offset = self.config.sim.utc_offset_seconds
        if self.config.sim.data is None:
            return [_synthetic(home, offset) for home in homes]
        dataset = load_dataset(self.config.sim.data)
        start = date(1970, 1, 1) + timedelta(days=local_day(self.config.start, offset))
        shift = dataset.week_shift(start, self.config.sim.history_days)
        loads: list[LoadPower] = []
        rank = 0
        for home in homes:
            if home.kind == "producer":
                loads.append(_synthetic(home, offset))
            else:
                column = dataset.column(rank)
                loads.append(lambda t, c=column: c.load_w(t + offset - shift))  # type: ignore[misc]
                rank += 1
        return loads


def _synthetic(home: Home, offset: int) -> LoadPower:
    return lambda sim_time: household_load_w(home, sim_time, offset)


def _sum_of(members: tuple[NetPower, ...]) -> NetPower:
    return lambda step: sum(net(step) for net in members)
