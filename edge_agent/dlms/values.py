"""A register's raw value, scaler and unit as whole watts and watt-hours, from the bytes of an answer.

Rules: pure, and in integers. Only what a register may hold is decoded, in as many steps as there are bytes at the most: the
library's own decoder of data does not come to an end with every input. The unit is the one that the meter states and never
assumed; energy is rounded down, as a counter shows what has passed, power to the nearest watt. Source: IEC 62056-6-2, class
Register, its table of units and its common data types. Not here: how the value is fetched (`session`).
"""

from __future__ import annotations

from dataclasses import dataclass

WATT, WATT_HOUR = 27, 30
UNIT_NAMES = {WATT: "W", WATT_HOUR: "Wh"}
MAX_SCALER = 9
"""Beyond it no meter of a home scales; it bounds the work of a broken answer."""


INTEGERS = {5: (4, True), 6: (4, False), 15: (1, True), 16: (2, True), 17: (1, False), 18: (2, False), 20: (8, True),
            21: (8, False), 22: (1, False)}  # fmt: skip
"""Tag of a type to its bytes and whether it is signed; 22 is an enumeration."""
STRUCTURE, OCTET_STRING = 2, 9
MAX_SHORT_LENGTH = 127
"""Lengths above are written otherwise, and needed by nothing here."""


class NoRegister(ValueError):
    """The values are no register that can be used; one half of a sentence."""


def decoded(data: bytes) -> int | list[int] | bytes:
    """An integer, a structure of integers or an octet string that is all of the data; NoRegister for anything else."""
    if data[:1] == bytes((STRUCTURE,)) and len(data) > 1:
        items, rest = [], data[2:]
        for _ in range(min(data[1], MAX_SHORT_LENGTH)):
            item, rest = _integer(rest)
            items.append(item)
        value: int | list[int] | bytes = items
    elif data[:1] == bytes((OCTET_STRING,)) and len(data) > 1 and data[1] <= MAX_SHORT_LENGTH:
        value, rest = data[2 : 2 + data[1]], data[2 + data[1] :]
        if len(value) != data[1]:
            raise NoRegister("is cut short")
    else:
        value, rest = _integer(data)
    if rest:
        raise NoRegister("has more behind its value")
    return value


def _integer(data: bytes) -> tuple[int, bytes]:
    """The integer at the start of the data, and what follows it."""
    size, signed = INTEGERS.get(data[0], (0, False)) if data else (0, False)
    if not size or len(data) <= size:
        raise NoRegister("holds no whole number")
    return int.from_bytes(data[1 : 1 + size], "big", signed=signed), data[1 + size :]


@dataclass(frozen=True)
class Scale:
    """A scaler_unit: the value is worth 10 ** scaler of the unit."""

    scaler: int
    unit: int

    @classmethod
    def of(cls, answer: object) -> Scale:
        """From the decoded attribute 3, a structure of two integers; NoRegister otherwise."""
        if not isinstance(answer, list) or len(answer) != 2 or not all(type(item) is int for item in answer):
            raise NoRegister("has no scaler and unit")
        scaler, unit = answer
        if abs(scaler) > MAX_SCALER:
            raise NoRegister(f"has scaler {scaler}, beyond {MAX_SCALER}")
        return cls(scaler, unit)

    def whole(self, raw: object, unit: int) -> int:
        """The value in whole W or Wh; NoRegister when it is no integer or measured in something else."""
        if self.unit != unit:
            raise NoRegister(f"is measured in unit {self.unit} instead of {unit} ({UNIT_NAMES[unit]})")
        if type(raw) is not int:
            raise NoRegister("holds no whole number")
        if self.scaler >= 0:
            return raw * int(10**self.scaler)
        divisor = int(10**-self.scaler)
        return raw // divisor if unit == WATT_HOUR else (raw + divisor // 2) // divisor
