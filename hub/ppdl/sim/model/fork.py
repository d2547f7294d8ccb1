"""Cheap copies of a replica's mutable state.

Rules: frozen dataclasses, numbers, bytes, enums and tuples are shared; dicts, lists, sets and other dataclasses are copied
all the way down. Anything else raises TypeError: state of a new kind in the core must not be shared by accident, or the
search would let one future reach into another.
"""

from __future__ import annotations

import copy
import enum
from typing import Any

_SHARED = (int, bytes, str, enum.Enum, tuple, frozenset, type(None))


def fork(value: Any) -> Any:
    """A copy that can be changed without touching `value`."""
    if isinstance(value, _SHARED):
        return value
    if isinstance(value, dict):
        return {key: fork(item) for key, item in value.items()}
    if isinstance(value, list | set):
        return type(value)(fork(item) for item in value)
    parameters = getattr(value, "__dataclass_params__", None)
    if parameters is None:
        raise TypeError(f"model check: cannot copy a {type(value).__name__}; teach hub/ppdl/sim/model/fork.py about it")
    if parameters.frozen:
        return value
    twin = copy.copy(value)
    for name, item in vars(value).items():
        setattr(twin, name, fork(item))
    return twin
