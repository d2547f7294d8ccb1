"""Which meters are on a bus: asks each unit whether it is there, and those that are by the probes of every profile.

Rules: reads only. A unit is there when it answers anything, an exception included. A profile is out when a probe of it that
is verified does not match; a probe that is unverified speaks for it only. An identification (a code or a text) weighs more
than a value in its range, because another meter's register may hold a plausible one. Of profiles with the same weight none
is preferred: all are told. A serial line is tried at one setting after the other until somebody answers. Late answers
of one unit are kept from the next by the link, as always.
Not here: what is written into a file (`edge_agent.config_file`), profiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from edge_agent.modbus.errors import LinkDown, LinkError, Refused
from edge_agent.modbus.link import ModbusLink, Unit
from edge_agent.modbus.target import BusTarget
from openmg.profiles.profile import Profile
from openmg.profiles.registers import decode_text
from openmg.profiles.sunspec import MARKER

IDENTIFIES = 10
"""Weight of a code or a text; a value in its range weighs 1, and a profile has fewer than ten of those."""
SUNSPEC_COMMON, COMMON_LENGTHS = 1, (65, 66)
HELLOS = ((4, 0, 2), (3, 0, 2))
"""Some meters say nothing to a function they do not have."""
Progress = Callable[[str], None]
Read = tuple[int, int, int]
"""Function, address, count."""


@dataclass(frozen=True)
class FoundMeter:
    """A unit that answers, and the profiles that fit it best: one when it is named, none when nobody knows it."""

    target: BusTarget
    unit: int
    profiles: tuple[str, ...]
    text: str

    @property
    def profile(self) -> str | None:
        """The one profile that fits; None when none or several do."""
        return self.profiles[0] if len(self.profiles) == 1 else None


def serial_settings(target: BusTarget, bauds: Iterable[int], parities: Iterable[str]) -> tuple[BusTarget, ...]:
    """The target at each setting of a serial line; a line of another transport has one."""
    if target.transport != "rtu":
        return (target,)
    return tuple(replace(target, baud=baud, parity=parity) for baud in bauds for parity in parities)


async def scan(
    targets: Iterable[BusTarget], units: Iterable[int], profiles: Iterable[Profile], progress: Progress
) -> tuple[FoundMeter, ...]:
    """The meters of the first target at which anybody answers; LinkDown when a port cannot be opened."""
    wanted, known = tuple(units), tuple(profiles)
    for target in targets:
        found = await _scan_bus(target, wanted, known, progress)
        if found:
            return found
    return ()


async def _scan_bus(
    target: BusTarget, units: tuple[int, ...], profiles: tuple[Profile, ...], progress: Progress
) -> tuple[FoundMeter, ...]:
    link = ModbusLink(target, quiet=True)
    link.open()
    line = f" at {target.baud} {target.parity}" if target.transport == "rtu" else ""
    found: list[FoundMeter] = []
    try:
        for done, unit in enumerate(units):
            progress(f"{target}{line}: unit {unit} ({done + 1} of {len(units)}), {len(found)} found")
            meter = await _look_at(link.unit(unit), profiles)
            if meter is not None:
                found.append(meter)
    finally:
        await link.close()
    return tuple(found)


async def _look_at(unit: Unit, profiles: tuple[Profile, ...]) -> FoundMeter | None:
    asked = _Asked(unit)
    if not any([await asked.is_there(hello) for hello in HELLOS]):
        return None
    sunspec = next((profile for profile in profiles if profile.sunspec is not None), None)
    if sunspec is not None and sunspec.sunspec is not None:
        for base in sunspec.sunspec.bases:
            if await asked.read((3, base, 2)) == MARKER:
                return FoundMeter(unit.link.target, unit.number, (sunspec.name,), await _common(asked, base))
    weights = await _weights(asked, profiles)
    best = max(weights.values(), default=0)
    fits = tuple(name for name, weight in weights.items() if weight == best > 0)
    models = {profile.name: f"{profile.device.vendor} {profile.device.model}" for profile in profiles}
    text = " or ".join(models[name] for name in fits) or "answers, but is no meter of any profile"
    return FoundMeter(unit.link.target, unit.number, fits, text)


async def weigh(unit: Unit, profiles: Iterable[Profile]) -> dict[str, int]:
    """How well each profile with probes fits a unit: 0 when it does not, from IDENTIFIES on when the unit names it."""
    return await _weights(_Asked(unit), profiles)


async def _weights(asked: _Asked, profiles: Iterable[Profile]) -> dict[str, int]:
    return {profile.name: await _weight(asked, profile) for profile in profiles if profile.probes}


async def _weight(asked: _Asked, profile: Profile) -> int:
    weight = 0
    for probe in profile.probes:
        registers = await asked.read((probe.function_code, probe.address, probe.count))
        if registers is not None and probe.matches(registers):
            weight += IDENTIFIES if probe.values or probe.text else 1
        elif probe.unverified is None:
            return 0
    return weight


async def _common(asked: _Asked, base: int) -> str:
    """Maker and model of the device's common block, which follows the marker."""
    header = await asked.read((3, base + 2, 2))
    if header is None or header[0] != SUNSPEC_COMMON or header[1] not in COMMON_LENGTHS:
        return "a SunSpec device without a common block"
    body = await asked.read((3, base + 4, 64)) or ()
    words = [decode_text(body[start : start + 16]).strip() for start in (0, 16)]
    return " ".join(word for word in words if word) or "a SunSpec device"


class _Asked:
    """One unit, each read asked once."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self._answers: dict[Read, tuple[int, ...] | None] = {}
        self._there = False

    async def is_there(self, hello: Read) -> bool:
        """Whether the unit answers; LinkDown when the bus itself is gone."""
        if not self._there:
            await self.read(hello)
        return self._there

    async def read(self, what: Read) -> tuple[int, ...] | None:
        """The registers; None when there are none to be had."""
        if what not in self._answers:
            self._answers[what] = await self._ask(what)
        return self._answers[what]

    async def _ask(self, what: Read) -> tuple[int, ...] | None:
        self.unit.link.forgive(self.unit.number)  # a unit is asked for what it may not have, and is not to be backed off from
        try:
            answer = await self.unit.read(*what)
        except Refused:
            self._there = True
            return None
        except LinkDown:
            if self.unit.link.problem:
                raise
            return None
        except LinkError:
            return None
        self._there = True
        return answer
