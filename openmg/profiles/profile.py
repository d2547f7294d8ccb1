"""A meter profile: registers, types, orders, limits and quirks of one meter model, read from one TOML file.

Rules: the profile's name is the name of its file. Addresses are PDU addresses (0-based, as on the wire; manuals
print one more). Point names come from `quantities`, so that all meters give the same words with the same units and
signs. Every point has a plausible range; the profile names its source, and says of what is not verified why. An
unknown key, a missing one, an overlap or an impossible value is a ProfileError with file, line and remedy. The
owner's folders (`profile_dirs`) come before the bundled profiles. `profile.schema.json` says the same to editors.
Not here: reading a meter (`edge_agent.modbus`), being one (`firmware_sim`), the file's tables (`profile_file`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openmg.config import ConfigError, load_toml
from openmg.profiles.point import Point, Probe
from openmg.profiles.profile_file import (
    MAX_REGISTERS,
    TRANSPORTS,
    Device,
    Link,
    PointFile,
    ProbeFile,
    ProfileFile,
    Simulation,
    SunSpecOptions,
    line_of,
)
from openmg.profiles.quantities import BILLING, QUANTITIES, factor

__all__ = [
    "MAX_REGISTERS",
    "TRANSPORTS",
    "Device",
    "Link",
    "Point",
    "Probe",
    "Profile",
    "ProfileError",
    "Simulation",
    "SunSpecOptions",
    "bundled",
    "known_profiles",
    "load_profile",
]
_FOLDER = Path(__file__).parent
MAX_LOADED = 32
"""Profiles that are kept in memory."""


class ProfileError(Exception):
    """The profile cannot be used; the text says which file, what and how to mend it."""


@dataclass(frozen=True)
class Profile:
    """One meter model; `points` are ordered by address and empty for a SunSpec device, whose map is discovered."""

    name: str
    device: Device
    link: Link
    points: tuple[Point, ...]
    probes: tuple[Probe, ...]
    sim: Simulation
    sunspec: SunSpecOptions | None = None

    @property
    def detect(self) -> str:
        """Name of the point that proves that such a meter answers: the first probe's; "" for SunSpec."""
        return next((probe.point.name for probe in self.probes if probe.point is not None), "")

    def point(self, name: str) -> Point:
        """The point of that name; KeyError when the meter has none."""
        for point in self.points:
            if point.name == name:
                return point
        raise KeyError(f"profile {self.name} has no point {name!r}")

    def group(self, name: str) -> tuple[Point, ...]:
        """All points of a read group, by address."""
        return tuple(point for point in self.points if point.group == name)

    def likeness(self, answers: Sequence[Sequence[int] | None]) -> int | None:
        """How many probes the answers match, one answer for each of `probes` (None: refused); None for another meter.

        Every probe that is verified must match; one that is not only adds to the count.
        """
        matched = [answer is not None and probe.matches(answer) for probe, answer in zip(self.probes, answers, strict=True)]
        if any(probe.unverified is None and not hit for probe, hit in zip(self.probes, matched, strict=True)):
            return None
        return sum(matched)

    def counter_limit(self, point: Point) -> float | None:
        """The value (in the point's unit) at which the meter's counter begins again at 0; None when it is unknown."""
        limits = [limit for limit in (point.modulus, self.sim.rollover_kwh) if limit is not None]
        return float(min(limits)) if point.kind == "counter" and limits else None

    def unverified(self) -> tuple[str, ...]:
        """What is not verified on a device, one sentence each."""
        reasons = [f"profile: {self.device.unverified}"] if self.device.unverified else []
        reasons += [f"{point.name}: {point.unverified}" for point in self.points if point.unverified]
        reasons += [f"probe at {probe.address:#06x}: {probe.unverified}" for probe in self.probes if probe.unverified]
        return tuple(reasons)


def bundled() -> tuple[str, ...]:
    """Names of the profiles that come with the project."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def known_profiles(profile_dirs: Sequence[Path] = ()) -> dict[str, Path]:
    """Every profile that can be named, with its file; the owner's folders first, then the bundled ones."""
    found: dict[str, Path] = {}
    for folder in (*profile_dirs, _FOLDER):
        if not folder.is_dir():
            raise ProfileError(f"profile folder {folder} is no directory; correct profile_dirs")
        for path in sorted(folder.glob("*.toml")):
            found.setdefault(path.stem, path)
    return found


def load_profile(name: str | Path, profile_dirs: Sequence[Path] = ()) -> Profile:
    """The profile of that name (owner's folders first), or in the file of that path; ProfileError."""
    path = Path(name)
    if path.suffix != ".toml":
        known = known_profiles(profile_dirs)
        if str(name) not in known:
            names = ", ".join(sorted(known))
            raise ProfileError(f"meter profile {str(name)!r} is unknown; use one of {names}, or the path of a .toml file")
        path = known[str(name)]
    try:
        status = path.stat()
    except OSError as error:
        raise ProfileError(f"meter profile {path}: cannot be read ({error.strerror}); give the path of a profile") from error
    return _load(path, (status.st_mtime_ns, status.st_size, status.st_ino))


@functools.lru_cache(MAX_LOADED)
def _load(path: Path, stamp: tuple[int, int, int]) -> Profile:
    """The profile of a file that has not changed since `stamp`: many meters have the same one."""
    try:
        file = load_toml(path, ProfileFile)
    except ConfigError as error:
        raise ProfileError(f"meter profile {error}") from error
    return _Builder(path, file).profile()


class _Builder:
    """Makes the checked profile of a file's tables; errors name the line of the point or table."""

    def __init__(self, path: Path, file: ProfileFile) -> None:
        self.path, self.file = path, file
        self._text = path.read_text(encoding="utf-8")

    def error(self, where: tuple[str, ...], problem: str) -> ProfileError:
        line = line_of(self._text, where)
        return ProfileError(f"meter profile {self.path}:{line}: {'.'.join(where)} {problem}")

    def profile(self) -> Profile:
        points = tuple(sorted((self._point(n, p) for n, p in self.file.points.items()), key=lambda p: p.address))
        self._check(points)
        probes = tuple(self._probe(probe, points) for probe in self.file.probe)
        file = self.file
        return Profile(self.path.stem, file.device, file.link, points, probes, file.sim, file.sunspec)

    def _point(self, name: str, point: PointFile) -> Point:
        where, defaults = ("points", name), self.file.defaults
        if name not in QUANTITIES:
            from difflib import get_close_matches  # for a mistake alone

            near = get_close_matches(name, QUANTITIES, 1)
            raise self.error(where, f"is no known quantity{f'; did you mean {near[0]!r}?' if near else ''}")
        quantity, kind, order = QUANTITIES[name], point.type or defaults.type, point.order or defaults.order
        if kind is None:
            raise self.error(where, "has no type; add type = ... to it or to [defaults]")
        if order is None:
            raise self.error(where, "has no order; add order = ... to it or to [defaults]")
        try:
            multiplier = factor(point.unit, quantity.unit)
        except KeyError:
            raise self.error(where, f"has unit {point.unit!r}, which does not convert to {quantity.unit}; mend it") from None
        return Point(
            name=name,
            address=point.address,
            type=kind,
            order=order,
            unit=quantity.unit,
            meter_unit=point.unit,
            divisor=point.divisor,
            factor=multiplier,
            group=point.group,
            kind=quantity.kind,
            low=point.range[0],
            high=point.range[1],
            not_available=point.not_available or defaults.not_available,
            unverified=point.unverified,
        )

    def _probe(self, probe: ProbeFile, points: tuple[Point, ...]) -> Probe:
        fc = self.file.link.function_code
        if probe.point is None:
            assert probe.address is not None
            return Probe(
                probe.address, probe.count, fc, values=probe.values, text=probe.text or "", unverified=probe.unverified
            )
        point = next((point for point in points if point.name == probe.point), None)
        if point is None:
            raise self.error(("probe",), f"point {probe.point!r} is not one of [points]; use a name from there")
        low, high = probe.range or (point.low, point.high)
        return Probe(point.address, point.width, fc, point=point, low=low, high=high, unverified=probe.unverified)

    def _check(self, points: tuple[Point, ...]) -> None:
        for before, after in zip(points, points[1:], strict=False):
            if before.end > after.address:
                raise self.error(("points", after.name), f"overlaps {before.name}; mend one address")
        for point in points:
            if point.width > self.file.link.max_registers:
                raise self.error(("link", "max_registers"), f"is smaller than {point.name}; raise it")
            if not any(low <= point.address and point.end <= high for low, high in self.file.sim.spans):
                raise self.error(("points", point.name), "lies outside sim.spans; widen them")
        missing = [name for name in BILLING if name not in self.file.points]
        if self.file.sunspec is None and missing:
            raise self.error(("points",), f"must have {', '.join(missing)}; a home's meter gives them")
