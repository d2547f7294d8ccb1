"""One simulated device on a line: a meter, its register image at this moment, its faults, its answers.

Rules: an answer is a function of the virtual time, of the request and of the fault script; a clock that is set back
does not turn the meter back. The image is encoded once for each `refresh_s` of simulated time. A value that does not
fit its register is said once and shown as "not available".
Not here: sockets and framing (`server`, `serial_line`), what the home does (`meter`, `neighbourhood`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from firmware_sim.faults import ROLLOVER_WITHIN_KWH, FaultScript, ManualFaults
from firmware_sim.image import Image
from firmware_sim.pdu import Rules, exception, respond

log = logging.getLogger(__name__)


class Clock(Protocol):
    """Whatever tells the simulated time in Unix seconds."""

    def now(self) -> float: ...


class Shows(Protocol):
    """Whatever stands behind a device: its values at a simulated time that never runs backwards."""

    @property
    def earliest(self) -> int: ...

    def values(self, sim_time: float) -> dict[str, float | None]: ...


class Coder(Protocol):
    """Values to registers: `image.ImageCoder` or `sunspec_image.SunSpecCoder`."""

    @property
    def refresh_s(self) -> float: ...

    @property
    def limits_kwh(self) -> Mapping[str, float]: ...

    @property
    def can_miss(self) -> frozenset[str]: ...

    def image(self, values: Mapping[str, float | None]) -> Image: ...


@dataclass(frozen=True)
class Outcome:
    """What comes back for a request: an answer PDU or silence, how late (wall s), and the seed of its garbling."""

    answer: bytes | None
    delay_s: float = 0.0
    garble_seed: int | None = None


SILENCE = Outcome(None)


class SimDevice:
    """Answers request PDUs for one unit."""

    def __init__(self, meter: Shows, coder: Coder, rules: Rules, clock: Clock, script: FaultScript | None = None) -> None:
        self.faults = ManualFaults()
        self.requests = 0
        self._meter, self._coder, self._rules, self._clock, self._script = meter, coder, rules, clock, script
        self._latest = 0.0
        self._images: dict[bool, Image] = {}
        self._drawn_at = -1
        self._said = False

    def answer(self, request: bytes) -> Outcome:
        """The outcome of a request at this moment."""
        self.requests += 1
        fault = self._script.next() if self._script else None
        if self.faults.silent or (fault is not None and fault.kind == "drop"):
            return SILENCE
        delay_s = fault.delay_s if fault else 0.0
        if self.faults.delay_answers > 0:
            self.faults.delay_answers -= 1
            delay_s += self.faults.delay_s
        if fault is not None and fault.kind == "exception" and request:
            return Outcome(exception(request[0], fault.code), delay_s)
        pdu = self._read(request, fault is not None and fault.kind == "nan")
        return Outcome(pdu, delay_s, fault.seed if fault is not None and fault.kind == "garbage" else None)

    def _read(self, request: bytes, without_values: bool) -> bytes:
        try:
            return respond(self._rules, self._image(without_values), request)
        except OverflowError as error:
            if not self._said:
                self._said = True
                log.warning("a simulated meter cannot show its values (%s); they are not available", error)
            return respond(self._rules, self._image(True), request)

    def _image(self, without_values: bool) -> Image:
        refresh_s = self._coder.refresh_s
        self._latest = max(self._latest, self._clock.now(), self._meter.earliest)
        tick = int(self._latest / refresh_s)
        if tick != self._drawn_at:
            self._drawn_at, self._images = tick, {}
        if without_values not in self._images:
            self._images[without_values] = self._draw(max(tick * refresh_s, self._meter.earliest), without_values)
        return self._images[without_values]

    def _draw(self, sim_time: float, without_values: bool) -> Image:
        values = self._meter.values(sim_time)
        if self._script is not None and self._script.rolls_over:
            for name, limit in self._coder.limits_kwh.items():
                values[name] = (values.get(name) or 0.0) + limit - ROLLOVER_WITHIN_KWH
        if without_values:
            values |= dict.fromkeys(self._coder.can_miss)
        return self._coder.image(values)
