"""The part of the Protocol Buffers wire format that ABCI and CometBFT's signatures need.

Bytes in, fields out, and back; proto3 rules: a field with its default value is not written, an unknown field is
skipped by whoever does not ask for it. Every length is checked before anything is allocated.
Not here: what the fields mean (`messages.py`, `commit.py`).
"""

from __future__ import annotations

MAX_VARINT_BYTES = 10  # 64 bits in groups of seven
MAX_FIELDS = 16_384  # 4096 waiting transactions and 64 votes stay far below
U64 = 2**64
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


class WireError(ValueError):
    """Bytes that are no message."""


Fields = dict[int, list[int | bytes]]
"""Every value of every field number, in order."""


def varint(value: int) -> bytes:
    """Base-128 groups, least significant first; a negative number is taken as its 64-bit two's complement."""
    value %= U64
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at` and the place after it. Raises WireError."""
    value = 0
    for i in range(MAX_VARINT_BYTES):
        if at + i >= len(data):
            raise WireError("message ends inside a number")
        byte = data[at + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            if value >= U64:
                break
            return value, at + i + 1
    raise WireError("number has more than 64 bits")


def int_field(number: int, value: int) -> bytes:
    """A varint field; nothing for 0."""
    return varint(number << 3 | VARINT) + varint(value) if value else b""


def sfixed64_field(number: int, value: int) -> bytes:
    """A fixed 64-bit field; nothing for 0."""
    return varint(number << 3 | FIXED64) + (value % U64).to_bytes(8, "little") if value else b""


def bytes_field(number: int, value: bytes) -> bytes:
    """A bytes field; nothing when empty."""
    return message_field(number, value) if value else b""


def text_field(number: int, value: str) -> bytes:
    """A string field; nothing when empty."""
    return bytes_field(number, value.encode())


def message_field(number: int, value: bytes) -> bytes:
    """A length-delimited field that is written even when empty: an embedded message, or one of a list."""
    return varint(number << 3 | LENGTH) + varint(len(value)) + value


def parse(data: bytes) -> Fields:
    """All fields of a message. Raises WireError."""
    found: Fields = {}
    at = count = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        value: int | bytes
        match tag & 7:
            case 0:
                value, at = read_varint(data, at)
            case 2:
                size, at = read_varint(data, at)
                value, at = _take(data, at, size)
            case 1 | 5 as kind:
                value, at = _take(data, at, 8 if kind == FIXED64 else 4)
            case kind:
                raise WireError(f"field of unknown wire type {kind}")
        count += 1
        if count > MAX_FIELDS or tag >> 3 == 0:
            raise WireError("message has too many fields or a field 0")
        found.setdefault(tag >> 3, []).append(value)
    return found


def _take(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    if size > len(data) - at:
        raise WireError("message ends inside a field")
    return data[at : at + size], at + size


def get_bytes(fields: Fields, number: int) -> bytes:
    """The last value of a bytes field, empty when absent. Raises WireError."""
    value = fields.get(number, [b""])[-1]
    if not isinstance(value, bytes):
        raise WireError(f"field {number} is a number instead of bytes")
    return value


def get_all_bytes(fields: Fields, number: int) -> tuple[bytes, ...]:
    """Every value of a bytes field. Raises WireError."""
    values = tuple(value for value in fields.get(number, []) if isinstance(value, bytes))
    if len(values) != len(fields.get(number, [])):
        raise WireError(f"field {number} is a number instead of bytes")
    return values


def get_text(fields: Fields, number: int) -> str:
    """The last value of a string field. Raises WireError."""
    try:
        return get_bytes(fields, number).decode()
    except UnicodeDecodeError as error:
        raise WireError(f"field {number} is no text") from error


def get_int(fields: Fields, number: int) -> int:
    """The last value of an int64 field, 0 when absent. Raises WireError."""
    value = fields.get(number, [0])[-1]
    if not isinstance(value, int):
        raise WireError(f"field {number} is bytes instead of a number")
    return value - U64 if value >= U64 // 2 else value
