"""Real meters and brokers for the tests of the data path."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from edge_kit import T0, broker, hubs, processes
from gurux_kit import gurux_classpath, start_gurux
from hdlc_kit import serve_hdlc
from wire_kit import lay

from firmware_sim.meter import Meter
from firmware_sim.server import MeterServer
from openmg.clock import VirtualClock
from openmg.profiles.profile import load_profile

__all__ = ["broker", "gurux_classpath", "hubs", "lay", "processes", "serve_hdlc", "start_gurux"]


@pytest.fixture
def make_meter() -> Callable[..., MeterServer]:
    """Builds a server (not started) of a meter with the given net power per step."""

    def make(
        power: Callable[[int], int] = lambda _step: 1_200,
        clock: VirtualClock | None = None,
        rtu: bool = False,
        port: int = 0,
        longest: int = 80,
    ) -> MeterServer:
        profile = load_profile("sdm630")
        profile = replace(profile, sim=replace(profile.sim, exception_over=longest))
        clock = clock or VirtualClock(T0, time.time(), 1.0)
        return MeterServer(Meter(power, T0 - 900, seed=3), profile, clock, "127.0.0.1", port, rtu=rtu)

    return make
