"""Changes of valid encodings: of their bytes, and of the values inside, which are then encoded again.

The second kind gets past the check for canonical form to the checks behind it. Encodings inside byte strings (a header in
a block in a message) are opened as well.
"""

from __future__ import annotations

from typing import Any

import cbor2

from openmg import codec
from workbench.ppdl_fuzz.tape import Tape

MAX_GROWTH = 64
"""Bytes that one change adds at most."""
_DEEP = 40
_STRANGE: tuple[Any, ...] = (
    *(None, 0, -1, "", b"", [], {}, True, 1.5, "x" * 600, 2**256, {"": 0}, [0] * 70),
    {b"k" * 600: 0},  # a key that is no text, and long
)


def bent(tape: Tape, data: bytes) -> bytes:
    """The bytes with one to three changes."""
    for _ in range(1 + tape.below(3)):
        data = _bent_once(tape, data)
    return data


def _bent_once(tape: Tape, data: bytes) -> bytes:
    at, how = tape.below(len(data) + 1), tape.below(7)
    end = min(len(data), at + 1 + tape.below(8))
    if how == 0 and at < len(data):
        return data[:at] + bytes([data[at] ^ 1 << tape.below(8)]) + data[at + 1 :]
    if how == 1:
        return data[:at] + tape.take(end - at) + data[end:]
    if how == 2:
        return data[:at]
    if how == 3:
        return data + tape.chunk(MAX_GROWTH)
    if how == 4:
        return data[:at] + data[end:]
    if how == 5:
        return data[:end] + data[at:end] + data[end:]
    return data[:at] + b"\xff" * (end - at) + data[end:]


def reshaped(tape: Tape, data: bytes) -> bytes:
    """The encoding of a value that differs from that of `data` in one place; bent bytes when `data` is no encoding."""
    try:
        value = codec.decode(data)
    except codec.DecodeError:
        return bent(tape, data)
    return cbor2.dumps(_reshaped(tape, value), canonical=True)


def _reshaped(tape: Tape, value: Any) -> Any:
    """The value with one place inside it changed."""
    if isinstance(value, list) and value and not tape.rarely(6):
        at = tape.below(len(value))
        how = tape.below(8)
        if how == 7:
            return value[:at] + value[at + 1 :]
        if how == 6:
            return value[:at] + [value[at]] + value[at:]
        return value[:at] + [_reshaped(tape, value[at])] + value[at + 1 :]
    if isinstance(value, dict) and value and not tape.rarely(6):
        key = tape.pick(sorted(value))
        if tape.rarely(8):
            return {name: item for name, item in value.items() if name != key}
        return value | {key: _reshaped(tape, value[key])}
    if isinstance(value, bytes) and len(value) > 1 and not tape.rarely(3):
        return reshaped(tape, value) if tape.below(2) else bent(tape, value)
    return strange(tape, value)


def strange(tape: Tape, old: Any) -> Any:
    """Another value in the place of `old`, of its own type more often than not."""
    if isinstance(old, int) and not isinstance(old, bool) and tape.below(4) < 3:
        return tape.pick((old + 1, old - 1, -old, tape.number(2**256 - 1, old), 2**255, 2**256, -(2**64), 0))
    if isinstance(old, bytes) and tape.below(4) < 3:
        return tape.pick((b"", bytes(len(old)), old + b"\0", old[:-1], tape.take(len(old)), b"\xff" * len(old)))
    return tape.pick((*_STRANGE, _nested(), old))


def _nested() -> list[Any]:
    """Deeper than anything that is read."""
    value: list[Any] = []
    for _ in range(_DEEP):
        value = [value]
    return value
