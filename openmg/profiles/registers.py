"""How a number lies in 16-bit Modbus registers: type, byte order and the codes that mean "no value".

Rules: pure and total over valid input; the byte order of a profile is named by letters, A being the most
significant byte of a 32-bit value (ABCD = big-endian, CDAB = words swapped, BADC = bytes swapped, DCBA =
little-endian); wider types apply the same rule to all their bytes. A float that is not a number is no value.
Whole numbers have a convention of the maker: `none` (every code is a value), `largest` (all ones; signed:
7F FF..., as ABB and Carlo Gavazzi) or `sunspec` (all ones; signed: 80 00...). `acc32` is an unsigned counter
that rolls over; it has no code for "no value", since 0 is where every counter begins.
Not here: which register holds what (`profile`), scale and units (`point`).
Source: Modbus Application Protocol V1.1b3 section 4.2 (big-endian registers); SunSpec Information Model
Specification V1.9 section 4.2 (not-implemented values); ABB B23/B24 user manual, section on unavailable values.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from functools import lru_cache

FORMATS = {
    "uint16": ">H", "int16": ">h", "uint32": ">I", "int32": ">i", "uint64": ">Q", "int64": ">q",
    "acc32": ">I", "float32": ">f",
}  # fmt: skip
_NUMBERS = {kind: struct.Struct(form) for kind, form in FORMATS.items()}
_WIDTHS = {kind: number.size // 2 for kind, number in _NUMBERS.items()}
_REGISTERS = {width: struct.Struct(f">{width}H") for width in set(_WIDTHS.values())}
ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")
CONVENTIONS = ("none", "largest", "sunspec")


def width(kind: str) -> int:
    """Number of registers that a type occupies."""
    return _WIDTHS[kind]


def is_whole(kind: str) -> bool:
    """Whether the type holds whole numbers only."""
    return kind != "float32"


def limits(kind: str) -> tuple[int, int]:
    """Smallest and largest number of a whole-number type."""
    bits = 16 * width(kind)
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if kind.startswith("int") else (0, (1 << bits) - 1)


@lru_cache(maxsize=64)
def no_value(kind: str, convention: str) -> int | None:
    """The number of a whole type that means "not available"; None when every number is a value."""
    if convention == "none" or not is_whole(kind) or kind == "acc32":
        return None
    low, high = limits(kind)
    return low if convention == "sunspec" and kind.startswith("int") else high


def to_order(raw: bytes, order: str) -> bytes:
    """Big-endian bytes to wire bytes of the order; its own inverse."""
    if order == "ABCD":
        return raw
    words = [raw[i : i + 2] for i in range(0, len(raw), 2)]
    if order in ("CDAB", "DCBA"):
        words.reverse()
    if order in ("BADC", "DCBA"):
        words = [word[::-1] for word in words]
    return b"".join(words)


def encode(kind: str, order: str, number: float | None, convention: str = "none") -> tuple[int, ...]:
    """The registers of a number; None gives the code for "no value".

    OverflowError when the number does not fit the type or None has no code there.
    """
    if number is None:
        number = no_value(kind, convention) if is_whole(kind) else math.nan
        if number is None:
            raise OverflowError(f"{kind} has no code for a value that is not available")
    try:
        raw = struct.pack(FORMATS[kind], int(number) if is_whole(kind) else number)
    except struct.error as error:
        raise OverflowError(f"{number} does not fit {kind}") from error
    return struct.unpack(f">{len(raw) // 2}H", to_order(raw, order))


def decode(kind: str, order: str, registers: Sequence[int], convention: str = "none") -> int | float | None:
    """The number in `width(kind)` registers; None where the meter says "not available" (also NaN, infinity)."""
    if len(registers) != _WIDTHS[kind]:
        raise ValueError(f"{kind} needs {_WIDTHS[kind]} registers, not {len(registers)}")
    raw = to_order(_REGISTERS[len(registers)].pack(*registers), order)
    number: int | float = _NUMBERS[kind].unpack(raw)[0]
    if number == no_value(kind, convention) or not math.isfinite(number):
        return None
    return number


def decode_text(registers: Sequence[int]) -> str:
    """The ASCII text in the registers, up to the first NUL, without outer blanks; other bytes become '?'."""
    raw = struct.pack(f">{len(registers)}H", *registers).split(b"\0", 1)[0]
    return "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in raw).strip()


def encode_text(text: str, count: int) -> tuple[int, ...]:
    """The text in `count` registers, padded with NUL; OverflowError when it is too long."""
    raw = text.encode("ascii")
    if len(raw) > 2 * count:
        raise OverflowError(f"{text!r} does not fit {count} registers")
    return struct.unpack(f">{count}H", raw.ljust(2 * count, b"\0"))
