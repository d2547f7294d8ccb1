"""The one canonical encoding: deterministic CBOR (RFC 8949 section 4.2) of a small set of types.

Rules: integers, bytes, text, booleans, None, lists and dicts with text keys; no float, no tag, no other encoding of
the same value. `decode` accepts exactly what `encode` writes, so that a hash over the bytes is a hash of the value.
Not here: ABI words, which the EVM checks (`openmg.hashing.words`).
"""

from __future__ import annotations

from typing import Any

import cbor2

DEFAULT_MAX_BYTES = 1 << 20
"""1 MiB: ten times the largest message of the project (a model of 14,208 parameters in 32-bit integers)."""
DEFAULT_MAX_ITEMS = 1 << 16
"""Each byte can be an item of its own, and building a million of them takes seconds in the thread that reads messages; the
largest roster, 256 members of six fields, has 3,500."""
MAX_DEPTH = 16
"""No message nests deeper than four; sixteen leaves room and keeps recursion bounded."""
_INT_LIMIT = 2**256
# RFC 8949 section 3: major types, the meaning of the low five bits, and the two tags of integers wider than 64 bits.
_BYTES, _TEXT, _LIST, _DICT, _TAG, _SIMPLE = 2, 3, 4, 5, 6, 7
_ONE_BYTE, _EIGHT_BYTES = 24, 27
_FALSE_TRUE_NULL, _BIG_INTEGERS = (20, 21, 22), (2, 3)


class DecodeError(ValueError):
    """The bytes are not the canonical encoding of an allowed value."""


def _check(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise TypeError(f"nested deeper than {MAX_DEPTH}")
    if value is None or isinstance(value, bool | bytes | str):
        return
    if isinstance(value, int):
        if not -_INT_LIMIT <= value < _INT_LIMIT:
            raise TypeError("integer wider than 256 bits")
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a dict key is {type(key).__name__}, not text")  # not the key: it may have a megabyte
            _check(item, depth + 1)
    else:
        raise TypeError(f"a {type(value).__name__} has no canonical encoding here")


def encode(value: Any) -> bytes:
    """Canonical bytes of the value; TypeError for a float or any other type outside the set."""
    _check(value, 0)
    return cbor2.dumps(value, canonical=True)


def _walk(data: bytes, max_items: int) -> None:
    """Refuses what no `encode` writes, and too many items, before anything is built; takes at most `max_items` steps.

    The library follows shared references (tags 28 and 29), with which 200 bytes describe more items than memory holds.
    """
    position, items, to_come = 0, 0, [1]  # items still to come, at each depth
    while to_come:
        if to_come[-1] == 0:
            to_come.pop()
            continue
        to_come[-1] -= 1
        items += 1
        if items > max_items:
            raise DecodeError(f"more than {max_items} items")
        if position >= len(data):
            raise DecodeError("not canonical CBOR: the bytes end inside a value")
        major, info = data[position] >> 5, data[position] & 31
        position += 1
        if major == _SIMPLE:
            if info not in _FALSE_TRUE_NULL:
                raise DecodeError("not canonical CBOR: a float or an unknown simple value")
            continue
        if info > _EIGHT_BYTES:
            raise DecodeError("not canonical CBOR: a length that is not told")
        size = 1 << (info - _ONE_BYTE) if info >= _ONE_BYTE else 0
        argument = int.from_bytes(data[position : position + size], "big") if size else info
        position += size
        if major == _TAG:
            if argument not in _BIG_INTEGERS or data[position : position + 1] < b"\x40" or data[position] > 0x5F:
                raise DecodeError("not canonical CBOR: a tag")
            to_come[-1] += 1
        elif major in (_BYTES, _TEXT):
            position += argument
        elif major in (_LIST, _DICT):
            to_come.append(argument * (2 if major == _DICT else 1))
            if len(to_come) > MAX_DEPTH + 1:
                raise DecodeError(f"not canonical CBOR: nested deeper than {MAX_DEPTH}")
    if position != len(data):
        raise DecodeError("not canonical CBOR: the bytes end inside the value or go on after it")


def decode(data: bytes, *, max_bytes: int = DEFAULT_MAX_BYTES, max_items: int = DEFAULT_MAX_ITEMS) -> Any:
    """The value of canonical bytes within both bounds (nested items count too); DecodeError for anything else."""
    if len(data) > max_bytes:
        raise DecodeError(f"{len(data)} bytes exceed the limit of {max_bytes}")
    _walk(data, max_items)
    try:
        value = cbor2.loads(data)
        _check(value, 0)
        canonical = cbor2.dumps(value, canonical=True)
    except (cbor2.CBORDecodeError, TypeError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise DecodeError(f"not canonical CBOR: {error}") from error
    if canonical != data:
        raise DecodeError("not the canonical encoding of its value")
    return value
