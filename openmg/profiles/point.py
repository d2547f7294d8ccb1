"""One measured quantity of a meter, and one probe by which a meter is recognised.

Rules: pure. A value is always in the project's unit (`quantities`): number in the registers, divided by `divisor`,
times the factor from the meter's unit. A value outside `low` to `high` is implausible: an address that is off by
one reads a plausible-looking wrong number. A probe that is marked unverified speaks for a meter when it matches
and never against it.
Not here: files (`profile`), requests (`edge_agent.modbus`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from openmg.profiles.registers import decode, decode_text, encode, is_whole, limits, width


@dataclass(frozen=True)
class Point:
    """Where a quantity lies, how it is coded, its unit, its plausible range and what is not yet verified of it."""

    name: str
    address: int
    type: str
    order: str
    unit: str
    meter_unit: str
    divisor: int
    factor: float
    group: str
    kind: str
    low: float
    high: float
    not_available: str
    unverified: str | None = None

    @cached_property
    def width(self) -> int:
        """Number of registers."""
        return width(self.type)

    @property
    def end(self) -> int:
        """First address after the point."""
        return self.address + self.width

    @property
    def resolution(self) -> float:
        """Smallest step (in `unit`) of a whole-number point; 0 for a float."""
        return self.factor / self.divisor if is_whole(self.type) else 0.0

    @property
    def modulus(self) -> float | None:
        """The value (in `unit`) at which a counter begins again at 0; None for floats and gauges."""
        if self.kind != "counter" or not is_whole(self.type):
            return None
        return (limits(self.type)[1] + 1) * self.resolution

    def decode(self, registers: Sequence[int]) -> float | None:
        """The value in `unit`; None where the meter says "not available". ValueError for a wrong count."""
        number = decode(self.type, self.order, registers, self.not_available)
        return None if number is None else number / self.divisor * self.factor

    def encode(self, value: float | None) -> tuple[int, ...]:
        """The registers of a value in `unit`, rounded to the resolution; OverflowError when it does not fit."""
        if value is None:
            return encode(self.type, self.order, None, self.not_available)
        number = value / self.factor * self.divisor
        return encode(self.type, self.order, round(number) if is_whole(self.type) else number)

    def plausible(self, value: float) -> bool:
        """Whether the value lies in the range of the profile."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Probe:
    """A read that tells a model from others: a value in a range, one of some codes, or a text with a beginning."""

    address: int
    count: int
    function_code: int
    point: Point | None = None
    values: tuple[int, ...] = ()
    text: str = ""
    low: float = 0.0
    high: float = 0.0
    unverified: str | None = None

    def matches(self, registers: Sequence[int]) -> bool:
        """Whether the answer to the read (`count` registers from `address`) is what this model gives."""
        if len(registers) != self.count:
            return False
        if self.point is not None:
            value = self.point.decode(registers)
            return value is not None and self.low <= value <= self.high
        if self.text:
            return decode_text(registers).startswith(self.text)
        return registers[0] in self.values


def counter_step(before: float, after: float, modulus: float | None) -> float | None:
    """How far a counter went from one reading to the next, over at most one roll-over; None when it fell.

    A fall counts as a roll-over only when it ends in the first and began in the last hundredth of the range: any
    other fall is another meter, a reset one or a wrong reading.
    """
    if after >= before:
        return after - before
    if modulus is None or before < 0.99 * modulus or after > 0.01 * modulus:
        return None
    return after + modulus - before
