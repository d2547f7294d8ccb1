"""How a value lies in 16-bit Modbus registers: type and byte order.

Rules: pure and total over valid input; the byte order of a profile is named by letters, A being the most
significant byte of a 32-bit value (ABCD = big-endian, CDAB = words swapped, BADC = bytes swapped, DCBA =
little-endian); wider types apply the same rule to all their bytes. Not here: which register holds what
(`openmg.profiles.profile`).
Source: Modbus Application Protocol V1.1b3 section 4.2 (big-endian registers); orders as meters in the field
use them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

FORMATS = {
    "u16": ">H", "i16": ">h", "u32": ">I", "i32": ">i", "u64": ">Q", "i64": ">q", "f32": ">f", "f64": ">d",
}  # fmt: skip
ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")


def width(kind: str) -> int:
    """Number of registers that a type occupies."""
    return struct.calcsize(FORMATS[kind]) // 2


def _to_order(raw: bytes, order: str) -> bytes:
    """Big-endian bytes to wire bytes of the order; its own inverse."""
    words = [raw[i : i + 2] for i in range(0, len(raw), 2)]
    if order in ("CDAB", "DCBA"):
        words.reverse()
    if order in ("BADC", "DCBA"):
        words = [word[::-1] for word in words]
    return b"".join(words)


def encode(kind: str, order: str, value: float) -> tuple[int, ...]:
    """The registers of a value; OverflowError when it does not fit the type."""
    number = value if kind.startswith("f") else int(value)
    try:
        raw = _to_order(struct.pack(FORMATS[kind], number), order)
    except struct.error as error:
        raise OverflowError(f"{value} does not fit {kind}") from error
    return struct.unpack(f">{len(raw) // 2}H", raw)


def decode(kind: str, order: str, registers: Sequence[int]) -> float | None:
    """The value of `width(kind)` registers; None where the meter says "not available" (NaN, infinity)."""
    if len(registers) != width(kind):
        raise ValueError(f"{kind} needs {width(kind)} registers, not {len(registers)}")
    raw = _to_order(struct.pack(f">{len(registers)}H", *registers), order)
    value: float = struct.unpack(FORMATS[kind], raw)[0]
    return value if math.isfinite(value) else None
