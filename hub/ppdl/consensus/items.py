"""A decoder with a bound on items: what a peer may make this hub build from its bytes.

Each byte of CBOR can be an item of its own, and building and checking four million of them takes seconds in the one
thread that reads all messages. So the heads are counted first, up to the limit and no further; a string is passed over
in one step, whatever its length. This says nothing of form, which `openmg.codec` checks.
"""

from __future__ import annotations

from typing import Any

from openmg import codec

_STRINGS = (2, 3)  # major types of RFC 8949 section 3.1 whose content is no items
_ONE_BYTE, _EIGHT_BYTES = 24, 27  # low five bits of a head that an argument of 1, 2, 4 or 8 bytes follows


def has_more_items(data: bytes, limit: int) -> bool:
    """Whether the CBOR bytes hold more than `limit` items, nested ones included; takes at most `limit` steps."""
    position = items = 0
    while position < len(data):
        items += 1
        if items > limit:
            return True
        major, argument = data[position] >> 5, data[position] & 31
        position += 1
        if _ONE_BYTE <= argument <= _EIGHT_BYTES:
            size = 1 << (argument - _ONE_BYTE)
            argument = int.from_bytes(data[position : position + size], "big")
            position += size
        if major in _STRINGS:
            position += argument
    return False


def decode(data: bytes, *, max_bytes: int, max_items: int) -> Any:
    """The value of canonical bytes within both bounds. Raises codec.DecodeError for anything else."""
    if len(data) <= max_bytes and has_more_items(data, max_items):
        raise codec.DecodeError(f"more than {max_items} items")
    return codec.decode(data, max_bytes=max_bytes)
