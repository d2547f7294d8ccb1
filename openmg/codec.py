"""The one canonical encoding: deterministic CBOR (RFC 8949 section 4.2) of a small set of types.

Rules: integers, bytes, text, booleans, None, lists and dicts with text keys; no float, no tag, no other encoding of
the same value. `decode` accepts exactly what `encode` writes, so that a hash over the bytes is a hash of the value. It looks
at each byte once and holds nothing beside the bytes and the value that it builds; encoding that again to compare would hold
both twice, and the bytes may be a block of 2 MiB from anybody.
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
# RFC 8949 section 3: the major types of a head's high three bits; its low five bits are the argument, or say how long it is.
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _LIST, _DICT = range(6)
_FOLLOWS, _EIGHT_BYTES = 24, 27
_LEAST = (24, 1 << 8, 1 << 16, 1 << 32)
"""The smallest argument that needs one, two, four or eight bytes after the head; whatever is smaller has a shorter encoding."""
_SIMPLE = {0xF4: False, 0xF5: True, 0xF6: None}
_POSITIVE_BIG, _NEGATIVE_BIG = 0xC2, 0xC3
_CUT_OFF = "not canonical CBOR: the bytes end inside a value"
_BIG_BYTES = range(9, 33)
"""Length of an integer that 64 bits do not hold and 256 do."""


class DecodeError(ValueError):
    """The bytes are not the canonical encoding of an allowed value."""


def _check(value: Any, depth: int) -> None:
    """TypeError for a value without an encoding; `depth`: containers around it."""
    if value is None or isinstance(value, bool | bytes | str):
        return
    if isinstance(value, int):
        if not -_INT_LIMIT <= value < _INT_LIMIT:
            raise TypeError("integer wider than 256 bits")
        return
    if not isinstance(value, list | tuple | dict):
        raise TypeError(f"a {type(value).__name__} has no canonical encoding here")
    if depth == MAX_DEPTH:
        raise TypeError(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a dict key is {type(key).__name__}, not text")  # not the key: it may have a megabyte
            _check(item, depth + 1)
        return
    for item in value:
        _check(item, depth + 1)


def encode(value: Any) -> bytes:
    """Canonical bytes of the value; TypeError for a float or any other type outside the set."""
    _check(value, 0)
    return cbor2.dumps(value, canonical=True)


def head_bytes(argument: int) -> int:
    """Bytes before a byte string, text, list or dict of this length in its encoding."""
    return 1 + (0, *(1 << step for step in range(len(_LEAST))))[sum(argument >= least for least in _LEAST)]


def decode(
    data: bytes | memoryview,
    *,
    max_bytes: int = DEFAULT_MAX_BYTES,
    max_items: int = DEFAULT_MAX_ITEMS,
    views_from: int | None = None,
) -> Any:
    """The value of canonical bytes within both bounds (nested items count too); DecodeError for anything else.

    A byte string of `views_from` bytes or more is not copied: it comes as a view of `data`, for a decoder of its own.
    """
    if len(data) > max_bytes:
        raise DecodeError(f"{len(data)} bytes exceed the limit of {max_bytes}")
    try:
        return _read(data, max_items, max_bytes if views_from is None else views_from)
    except UnicodeDecodeError as error:
        raise DecodeError("not canonical CBOR: text is not UTF-8") from error


def _read(data: bytes | memoryview, max_items: int, views_from: int) -> Any:
    """One pass, in which a container is filled item by item; a step for each item, at most `max_items`."""
    own, view, end, at, items = type(data) is bytes, memoryview(data), len(data), 0, 0
    into: list[Any] = []  # the innermost container that is not full: its items, a dict's keys and values in turn
    wanted, major = 1, _LIST  # how many items it gets, and what becomes of them
    around: list[tuple[list[Any], int, int]] = []
    while True:
        while len(into) == wanted:
            if not around:
                if at != end:
                    raise DecodeError("not canonical CBOR: the bytes go on after the value")
                return into[0]
            full = into if major == _LIST else _dict_of(into)
            into, wanted, major = around.pop()
            into.append(full)
        items += 1
        if items > max_items:
            raise DecodeError(f"more than {max_items} items")
        if at >= end:
            raise DecodeError(_CUT_OFF)
        head = data[at]
        at += 1
        argument, kind = head & 31, head >> 5
        if kind > _DICT:
            if head in _SIMPLE:
                into.append(_SIMPLE[head])
                continue
            items += 1  # what the tag stands before
            if items > max_items:
                raise DecodeError(f"more than {max_items} items")
            value, at = _big_integer(data, head, at)
            into.append(value)
            continue
        if argument >= _FOLLOWS:
            argument, at = _long_argument(data, argument, at)
        if kind == _BYTES:
            first, at = at, at + argument
            if at > end:
                raise DecodeError(_CUT_OFF)
            if argument >= views_from:
                into.append(view[first:at])
            else:
                into.append(data[first:at] if own else bytes(data[first:at]))
        elif kind == _UNSIGNED:
            into.append(argument)
        elif kind == _TEXT:
            first, at = at, at + argument
            if at > end:
                raise DecodeError(_CUT_OFF)
            into.append(str(data[first:at], "utf-8"))
        elif kind == _NEGATIVE:
            into.append(-1 - argument)
        else:
            if len(around) == MAX_DEPTH:
                raise DecodeError(f"not canonical CBOR: nested deeper than {MAX_DEPTH}")
            around.append((into, wanted, major))
            into, wanted, major = [], argument if kind == _LIST else 2 * argument, kind


def _long_argument(data: bytes | memoryview, info: int, at: int) -> tuple[int, int]:
    """(argument, where it ends) of a head whose low bits `info` say that it follows in one, two, four or eight bytes."""
    if info > _EIGHT_BYTES:
        raise DecodeError("not canonical CBOR: a length that is not told")
    end = at + (1 << info - _FOLLOWS)
    argument = int.from_bytes(data[at:end], "big")
    if end > len(data) or argument < _LEAST[info - _FOLLOWS]:
        raise DecodeError("not canonical CBOR: a head that is cut off or longer than it need be")
    return argument, end


def _dict_of(items: list[Any]) -> dict[str, Any]:
    """The dict of keys and values in turn. Its keys ascend by length, then by bytes: that is the order of their encodings."""
    keys, last = items[::2], (-1, b"")
    for key in keys:
        if type(key) is not str:
            raise DecodeError(f"not canonical CBOR: a dict key is {type(key).__name__}, not text")
        utf8 = key.encode()
        place = len(utf8), utf8
        if place <= last:
            raise DecodeError("not canonical CBOR: the keys of a dict do not ascend")
        last = place
    return dict(zip(keys, items[1::2], strict=True))


def _big_integer(data: bytes | memoryview, head: int, at: int) -> tuple[int, int]:
    """(integer, where it ends): a tag 2 or 3 before the magnitude, as bytes that no shorter encoding stands for."""
    if head not in (_POSITIVE_BIG, _NEGATIVE_BIG):
        raise DecodeError("not canonical CBOR: a float, an unknown simple value or a tag of something else than an integer")
    length = data[at] ^ _BYTES << 5 if at < len(data) else 0  # a byte string's head, or a number that is no length here
    at += 1
    if length == _FOLLOWS:  # in one byte more
        length = data[at] if at < len(data) and data[at] >= _FOLLOWS else 0
        at += 1
    elif length > _FOLLOWS:
        length = 0
    magnitude = bytes(data[at : at + length]) if length in _BIG_BYTES else b""
    if len(magnitude) != length or not magnitude or magnitude[0] == 0:
        raise DecodeError("not canonical CBOR: a tag that no integer of more than 64 and up to 256 bits needs")
    value = int.from_bytes(magnitude, "big")
    return (value if head == _POSITIVE_BIG else -1 - value), at + length
