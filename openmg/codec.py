"""The one canonical encoding: deterministic CBOR (RFC 8949 section 4.2) of a small set of types.

Rules: integers, bytes, text, booleans, None, lists and dicts with text keys; no float, no tag, no other encoding of
the same value. `decode` accepts exactly what `encode` writes, so that a hash over the bytes is a hash of the value.
Not here: ABI words, which the EVM checks (`openmg.hashing.words`).
"""

from __future__ import annotations

import io
from typing import Any

import cbor2

DEFAULT_MAX_BYTES = 1 << 20
"""1 MiB: ten times the largest message of the project (a model of 7,344 parameters in 32-bit integers)."""
MAX_DEPTH = 16
"""No message nests deeper than four; sixteen leaves room and keeps recursion bounded."""
_INT_LIMIT = 2**256


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
                raise TypeError(f"dict key {key!r} is not text")
            _check(item, depth + 1)
    else:
        raise TypeError(f"a {type(value).__name__} has no canonical encoding here")


def encode(value: Any) -> bytes:
    """Canonical bytes of the value; TypeError for a float or any other type outside the set."""
    _check(value, 0)
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes, *, max_bytes: int = DEFAULT_MAX_BYTES) -> Any:
    """The value of canonical bytes; DecodeError for anything else."""
    if len(data) > max_bytes:
        raise DecodeError(f"{len(data)} bytes exceed the limit of {max_bytes}")
    stream = io.BytesIO(data)
    try:
        value = cbor2.CBORDecoder(stream).decode()
        _check(value, 0)
        canonical = cbor2.dumps(value, canonical=True)
    except (cbor2.CBORDecodeError, TypeError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise DecodeError(f"not canonical CBOR: {error}") from error
    if canonical != data:
        raise DecodeError("not the canonical encoding of its value")
    return value
