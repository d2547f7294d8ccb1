"""What may be put on the board: checked, bounded and encoded once, so that a browser reads exactly what the
hub wrote.

Rules. Values are JSON: null, booleans, integers, finite floats, text, lists, objects with text keys. An
integer that a browser cannot hold exactly (beyond 2^53 - 1, such as an amount in wei) travels as decimal
text. The encoded text is the frozen copy: what the caller does to its own object afterwards changes nothing
on the board.

Not here: what the values mean. The board does not know an energy sum from a block height.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

MAX_DEPTH = 12  # levels of nesting; the deepest section (chains) uses 4
MAX_SECTION_BYTES = 256 * 1024  # one section, encoded; 100 devices need about 15 kB
MAX_SAFE_INTEGER = 2**53 - 1  # the largest integer a browser's number holds exactly

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


class BoardError(ValueError):
    """A value or name that cannot stand on the board; the message says which and why."""


def check_name(name: str, what: str) -> str:
    """Return `name` if it may name a section, series or event kind; `what` is used in the error."""
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise BoardError(f"console {what} {name!r}: use 1 to 64 of a-z, 0-9, '_', '.', '-', a letter or digit first")
    return name


def check_number(value: int, what: str) -> int:
    """Return `value` if it is an integer that a browser holds exactly."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise BoardError(f"console {what}: {value!r} is not an integer")
    if abs(value) > MAX_SAFE_INTEGER:
        raise BoardError(f"console {what}: {value} is beyond 2^53 - 1; use a larger unit")
    return value


def encode_section(section: str, value: object) -> str:
    """Encode a section's value as compact JSON text of at most MAX_SECTION_BYTES."""
    text = json.dumps(_plain(value, section, 0), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    size = len(text.encode("utf-8", "replace"))
    if size > MAX_SECTION_BYTES:
        raise BoardError(f"console section {section}: {size} bytes, at most {MAX_SECTION_BYTES}; show fewer rows")
    return text


def _plain(value: object, where: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise BoardError(f"console section {where}: nested deeper than {MAX_DEPTH} levels")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        # A lone surrogate cannot be written as UTF-8; it becomes '?', as nothing else would be readable.
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, int):
        return int(value) if abs(value) <= MAX_SAFE_INTEGER else str(int(value))
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BoardError(f"console section {where}: {value!r} is not a finite number; leave the key out")
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, dict):
        return {_key(key, where): _plain(item, f"{where}.{key}", depth + 1) for key, item in value.items()}
    raise BoardError(f"console section {where}: a {type(value).__name__} is not JSON; use text, numbers, lists, dicts")


def _key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise BoardError(f"console section {where}: key {key!r} is not text")
    return key
