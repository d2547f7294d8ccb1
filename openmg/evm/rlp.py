"""Recursive length prefix encoding of byte strings and lists of them (Ethereum yellow paper, appendix B)."""

from __future__ import annotations

from collections.abc import Sequence

Item = bytes | Sequence["Item"]


def _prefixed(payload: bytes, offset: int) -> bytes:
    if len(payload) <= 55:
        return bytes([offset + len(payload)]) + payload
    length = len(payload).to_bytes((len(payload).bit_length() + 7) // 8, "big")
    return bytes([offset + 55 + len(length)]) + length + payload


def encode(item: Item) -> bytes:
    """The encoding of a byte string or of a (nested) list."""
    if isinstance(item, bytes):
        return item if len(item) == 1 and item[0] < 0x80 else _prefixed(item, 0x80)
    return _prefixed(b"".join(encode(element) for element in item), 0xC0)


def integer(value: int) -> bytes:
    """The byte string of an unsigned integer: big-endian without leading zeros, empty for 0."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
