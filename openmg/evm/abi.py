"""Contract call data from a function's signature (Solidity contract ABI specification, "Formal specification").

Rules: `uintN`, `intN`, `address`, `bool`, `bytesN`, `bytes`, tuples and arrays of these, nested; a value that does not
fit its type raises ValueError. Decoding is not here: a meter never reads a contract, its hub tells it what it needs.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from openmg.hashing import keccak256, word

_ARRAY = re.compile(r"(.*)\[(\d*)\]$")


@functools.cache
def selector(signature: str) -> bytes:
    """The four bytes that name the function, e.g. of `transfer(address,uint256)`."""
    return keccak256(signature.encode("ascii"))[:4]


def split_types(text: str) -> list[str]:
    """The types of a comma separated list, commas inside parentheses apart."""
    types, depth, start = [], 0, 0
    for i, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            types.append(text[start:i])
            start = i + 1
    return [*types, text[start:]] if text else []


def _is_dynamic(kind: str) -> bool:
    array = _ARRAY.match(kind)
    if array:
        return not array.group(2) or _is_dynamic(array.group(1))
    if kind.startswith("("):
        return any(_is_dynamic(part) for part in split_types(kind[1:-1]))
    return kind == "bytes"


def _encode_sequence(kinds: Sequence[str], values: Sequence[Any]) -> bytes:
    if len(kinds) != len(values):
        raise ValueError(f"{len(values)} values for {len(kinds)} types ({','.join(kinds)})")
    parts = [(_is_dynamic(kind), encode_value(kind, value)) for kind, value in zip(kinds, values, strict=True)]
    offset = sum(32 if dynamic else len(data) for dynamic, data in parts)
    heads, tails = [], []
    for dynamic, data in parts:
        if dynamic:
            heads.append(word(offset))
            tails.append(data)
            offset += len(data)
        else:
            heads.append(data)
    return b"".join(heads + tails)


def encode_value(kind: str, value: Any) -> bytes:
    """The encoding of one value of the type; ValueError when it does not fit."""
    array = _ARRAY.match(kind)
    if array:
        element, size = array.groups()
        if size and len(value) != int(size):
            raise ValueError(f"{len(value)} values for {kind}")
        body = _encode_sequence([element] * len(value), list(value))
        return body if size else word(len(value)) + body
    if kind.startswith("("):
        return _encode_sequence(split_types(kind[1:-1]), list(value))
    if kind == "bytes":
        return word(len(value)) + bytes(value) + bytes(-len(value) % 32)
    return _encode_scalar(kind, value)


def _encode_scalar(kind: str, value: Any) -> bytes:
    if kind == "bool":
        return word(int(bool(value)))
    if kind == "address":
        if len(value) != 20:
            raise ValueError(f"an address has 20 bytes, not {len(value)}")
        return word(bytes(value))
    if kind.startswith("bytes"):
        if len(value) != int(kind[5:]):
            raise ValueError(f"{len(value)} bytes for {kind}")
        return bytes(value).ljust(32, b"\0")
    signed, bits = kind.startswith("int"), int(kind.lstrip("uint"))
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    if not low <= value < high:
        raise ValueError(f"{value} does not fit {kind}")
    return word(value)


def encode_call(signature: str, *arguments: Any) -> bytes:
    """Call data of a function; arguments in the order of the signature (no spaces in it, `uint256` not `uint`)."""
    kinds = split_types(signature[signature.index("(") + 1 : -1])
    return selector(signature) + _encode_sequence(kinds, arguments)
