"""The registers of a simulated meter: values by point name in, spans of register bytes out.

Rules: pure; only the registers that are asked for are encoded, since readers ask for the same few blocks again and
again; a value the meter does not have is shown as "not available" where its type can say so and as 0
where it cannot; registers of a span that hold no point read 0, addresses outside all spans do not exist.
Identification registers hold what the profile's probes ask for. Counters begin again at the meter's limit.
Not here: what a request for them is answered (`pdu`), SunSpec devices (`sunspec_image`).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from openmg.profiles.point import Point
from openmg.profiles.registers import FORMATS, encode, is_whole, limits, no_value

if TYPE_CHECKING:
    from openmg.profiles.profile import Profile


MAX_PLANS = 256
"""Different reads whose structs are kept; a reader has some ten."""


class Span(Protocol):
    """Registers from `start` to before `end`."""

    @property
    def start(self) -> int: ...

    @property
    def end(self) -> int: ...

    def part(self, address: int, count: int) -> bytes:
        """The bytes of registers that lie in the span; OverflowError when a value does not fit its type."""


@dataclass(frozen=True)
class RawSpan:
    """Registers that are there as big-endian bytes."""

    start: int
    raw: bytes

    @property
    def end(self) -> int:
        """First address after the span."""
        return self.start + len(self.raw) // 2

    def part(self, address: int, count: int) -> bytes:
        """The bytes of `count` registers from `address` on."""
        first = 2 * (address - self.start)
        return self.raw[first : first + 2 * count]


Image = tuple[Span, ...]


class ImageCoder:
    """Encodes the values of one meter model again and again; each span is one struct, worked out once.

    `can_miss` are the points whose type has a code for "not available", `limits_kwh` where counters begin again.
    """

    refresh_s = 0.01
    """Simulated seconds for which an image stands: a poll of several requests sees one moment."""

    def __init__(self, profile: Profile) -> None:
        self.limits_kwh = {p.name: limit for p in profile.points if (limit := profile.counter_limit(p)) is not None}
        self.can_miss = frozenset(p.name for p in profile.points if _can_miss(p))
        fields: list[tuple[int, _Field | _Constant]] = [
            (p.address, _Field(p, self.limits_kwh.get(p.name))) for p in profile.points
        ]
        fields += [(address, _Constant(raw)) for address, raw in _identification(profile)]
        self._spans = [_SpanCoder(low, high, fields) for low, high in profile.sim.spans]
        placed = sum(len(span.fields) for span in self._spans)
        if placed < len(fields):
            raise ValueError(f"profile {profile.name}: a register of it lies outside sim.spans; widen them")

    def image(self, values: Mapping[str, float | None]) -> Image:
        """The registers of a meter that shows these values."""
        return tuple(_ValueSpan(span, values) for span in self._spans)


class _Field:
    """One point: the struct code and the number to pack for a value."""

    def __init__(self, point: Point, limit: float | None) -> None:
        self._point = point
        self._whole, self._plain = is_whole(point.type), point.order == "ABCD"
        self._scale = point.divisor / point.factor
        self._limit = limit if limit is None or not is_whole(point.type) else round(limit * self._scale)
        self._missing = point.encode(None if _can_miss(point) else 0.0)
        self._swapped = point.order == "CDAB" and point.type in ("int32", "uint32", "acc32")
        self.code = FORMATS[point.type][1:] if self._plain else "I" if self._swapped else f"{2 * point.width}s"

    def number(self, values: Mapping[str, float | None]) -> float | bytes:
        """What `code` packs."""
        value = values.get(self._point.name)
        if value is None:
            return self._unpacked(self._missing)
        number: float = round(value * self._scale) if self._whole else value * self._scale
        if self._limit is not None:
            number %= self._limit
        if self._plain:
            return number
        if self._swapped:
            return swapped(int(number), self._point)
        return self._unpacked(encode(self._point.type, self._point.order, number))

    def _unpacked(self, registers: tuple[int, ...]) -> float | bytes:
        raw = struct.pack(f">{len(registers)}H", *registers)
        return struct.unpack(f">{self.code}", raw)[0]  # type: ignore[no-any-return]


class _Constant:
    """Registers that never change: identification."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self.code = raw, f"{len(raw)}s"

    def number(self, _values: Mapping[str, float | None]) -> bytes:
        """The bytes themselves."""
        return self._raw


class _SpanCoder:
    """The fields of one span; a read of it is one struct, with zeros between the fields, which is made once."""

    def __init__(self, low: int, high: int, fields: list[tuple[int, _Field | _Constant]]) -> None:
        self.low, self.high = low, high
        inside = sorted((item for item in fields if low <= item[0] < high), key=lambda item: item[0])
        self.fields = [(at, at + struct.calcsize(f">{field.code}") // 2, field) for at, field in inside]
        self._plans: dict[tuple[int, int], tuple[struct.Struct, list[_Field | _Constant], int]] = {}

    def encode(self, values: Mapping[str, float | None], address: int, count: int) -> bytes:
        """The bytes of `count` registers from `address` on."""
        plan = self._plans.get((address, count))
        if plan is None:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            plan = self._plans[address, count] = self._plan(address, address + count)
        packer, fields, skipped = plan
        try:
            return packer.pack(*[field.number(values) for field in fields])[skipped : skipped + 2 * count]
        except struct.error as error:
            raise OverflowError(f"a value does not fit its registers from {address:#06x} on ({error})") from error

    def _plan(self, address: int, end: int) -> tuple[struct.Struct, list[_Field | _Constant], int]:
        """The struct over all fields that the read touches, those fields, and how many bytes lie before the read."""
        touched = [item for item in self.fields if item[0] < end and item[1] > address]
        low = min([address, *(at for at, _end, _field in touched)])
        high = max([end, *(field_end for _at, field_end, _field in touched)])
        code, reached = ">", low
        for at, field_end, field in touched:
            code += f"{2 * (at - reached)}x{field.code}"
            reached = field_end
        return struct.Struct(f"{code}{2 * (high - reached)}x"), [field for *_place, field in touched], 2 * (address - low)


@dataclass(frozen=True)
class _ValueSpan:
    """A span that is encoded as far as it is read."""

    coder: _SpanCoder
    values: Mapping[str, float | None]

    @property
    def start(self) -> int:
        return self.coder.low

    @property
    def end(self) -> int:
        return self.coder.high

    def part(self, address: int, count: int) -> bytes:
        return self.coder.encode(self.values, address, count)


def swapped(number: int, point: Point) -> int:
    """A 32-bit number with its two words exchanged; OverflowError when it does not fit the point's type."""
    low, high = limits(point.type)
    if not low <= number <= high:
        raise OverflowError(f"{number} does not fit {point.type} of {point.name}")
    number &= 0xFFFF_FFFF
    return (number & 0xFFFF) << 16 | number >> 16


def value_insides(points: tuple[Point, ...]) -> frozenset[int]:
    """Addresses inside a multi-register value, at which no read may start or end."""
    return frozenset(a for point in points for a in range(point.address + 1, point.end))


def _can_miss(point: Point) -> bool:
    return not is_whole(point.type) or no_value(point.type, point.not_available) is not None


def _identification(profile: Profile) -> list[tuple[int, bytes]]:
    """Registers that the probes without a point read; a type code that answers single reads has no register."""
    found = []
    for probe in profile.probes:
        if probe.text:
            found.append((probe.address, probe.text.encode("ascii").ljust(2 * probe.count, b"\0")))
        elif probe.values and "single_register_type_code" not in profile.sim.quirks:
            found.append((probe.address, struct.pack(">H", probe.values[0])))
    return found
