"""The simulated meters of the fault matrix, and a client of its own that reads their registers.

Rules: the meters are served over sockets from a thread of this process. Their clock is the world's, and can be held: the
registers then stand still until it is released, and go on where they would be by then. So that what an agent reads while they
are held can be compared with what the independent client reads, to the Wh.
Not here: agents, brokers, hub (`faults_kit`), what is judged (`faults_oracle`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modbus_oracle import RawModbus

from edge_agent.modbus.plan import plan_blocks
from firmware_sim.assembly import device_of
from firmware_sim.background import Background
from firmware_sim.config import ClockConfig, FeederConfig, HomeConfig, SimConfig, SimSection
from firmware_sim.faults import Fault, FaultScript
from firmware_sim.neighbourhood import Neighbourhood
from firmware_sim.server import MeterPort, crc16
from openmg.clock import VirtualClock

KINDS = ("prosumer", "consumer", "producer", "prosumer", "consumer")
PEAK_W = {"prosumer": 3000, "consumer": 0, "producer": 9000}
ENERGY_REGISTERS = 0x0048
"""Import and export in kWh, two floats (Eastron's manual of the SDM630)."""


class HeldClock:
    """The world's clock, which can be stopped for the meters alone."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock, self._held = clock, float(clock.t0)

    def now(self) -> float:
        return min(self._held, self._clock.now())

    def hold(self) -> None:
        self._held = self.now()

    def release(self) -> None:
        self._held = float("inf")


@dataclass(frozen=True)
class Energy:
    """A meter's two counters in Wh."""

    import_wh: int
    export_wh: int

    def __sub__(self, other: Energy) -> Energy:
        return Energy(self.import_wh - other.import_wh, self.export_wh - other.export_wh)

    def __add__(self, other: Energy) -> Energy:
        return Energy(self.import_wh + other.import_wh, self.export_wh + other.export_wh)


class RawRtu(RawModbus):
    """The same client in RTU frames, as a serial gateway passes them on."""

    def request(self, pdu: bytes) -> bytes:
        frame = bytes([self.unit]) + pdu
        self.socket.sendall(frame + crc16(frame))
        head = self._exactly(3)
        rest = self._exactly(2 if head[1] & 0x80 else head[2] + 2)
        answer = head + rest
        assert crc16(answer[:-2]) == answer[-2:] and answer[0] == self.unit
        return answer[1:-2]


class Switched:
    """A script of faults that is followed only while it is `on`; `count` tells how many there were."""

    rolls_over = False

    def __init__(self, script: FaultScript) -> None:
        self._script = script
        self.on, self.count = False, 0

    def next(self) -> Fault | None:
        fault = self._script.next() if self.on else None
        self.count += fault is not None
        return fault


class Street:
    """Meters by name, each as unit 1 of its port; or those in `units` behind one port, as units 1, 2, ...

    The clock is held from the start on, at t0: `release` lets the energy run.
    """

    def __init__(
        self,
        names: Sequence[str],
        clock: VirtualClock,
        *,
        rtu: bool = False,
        units: Sequence[str] = (),
        scripts: Mapping[str, Switched] | None = None,
    ) -> None:
        self.clock, self.rtu, scripts, names = HeldClock(clock), rtu, scripts or {}, tuple(units) or tuple(names)
        homes = [name for name in names if name.startswith("home")]
        behind = homes or [f"home-{place}" for place in range(1, 6)]  # what a feeder sees
        config = SimConfig(
            ClockConfig(clock.t0, clock.w0, clock.speed),
            tuple(_home(name, place) for place, name in enumerate(behind)),
            SimSection(history_days=1),
            tuple(FeederConfig(name, 1, 0) for name in names if name not in homes),
        )
        street, profile = Neighbourhood(config), config.sim.loaded_profile()
        self.units = {name: place if units else 1 for place, name in enumerate(names, 1)}
        self.devices = {
            name: device_of(profile, street.meter(name), self.units[name], self.clock, scripts.get(name))  # type: ignore[arg-type]
            for name in names
        }
        if units:
            port = MeterPort({self.units[name]: self.devices[name] for name in names}, "127.0.0.1", 0, rtu)
            self._ports = dict.fromkeys(names, port)
        else:
            self._ports = {name: MeterPort({1: self.devices[name]}, "127.0.0.1", 0, rtu) for name in names}
        self.three_polls = 3 * len(plan_blocks(profile.group("fast"), profile.link.max_registers))
        """Requests that hold two whole polls of an agent, whenever they began."""
        self._served = Background(list(dict.fromkeys(self._ports.values())))
        self.ports = {name: port.port for name, port in self._ports.items()}

    def close(self) -> None:
        self._served.close()

    def energy(self, name: str) -> Energy:
        """What the registers show now, asked over the wire; asked again where a fault spoilt the answer."""
        for _ in range(20):
            client = (RawRtu if self.rtu else RawModbus)(self.ports[name], self.units[name])
            try:
                imported, exported = client.floats(ENERGY_REGISTERS, 2)
                return Energy(round(imported * 1000), round(exported * 1000))
            except (AssertionError, ValueError, ConnectionError, TimeoutError):
                time.sleep(0.05)
            finally:
                client.close()
        raise AssertionError(f"the meter of {name} does not answer")

    def hold(self) -> dict[str, Energy]:
        """Stops the registers, and reads them all."""
        self.clock.hold()
        return {name: self.energy(name) for name, device in self.devices.items() if not device.faults.silent}


def _home(name: str, place: int) -> HomeConfig:
    kind = KINDS[place % len(KINDS)]
    return HomeConfig(name, kind, 1, place + 21, 0, PEAK_W[kind])
