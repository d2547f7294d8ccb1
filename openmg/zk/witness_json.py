"""A circuit's witness as JSON values and back, for every circuit alike: dataclasses of field elements.

A dataclass is an object with exactly its fields, a tuple a list, a number a string of 0x and hex digits below r.
Rules: decoding is strict in shape, order of magnitude and spelling, since what is decoded is proved; a ValueError names the
place of the fault and never a value, which may be a key. Encoded witnesses hold secrets and go nowhere but to a prover.
Not here: the request around the witness (`prover`), which witnesses are true (`circuits`).
"""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from openmg.zk.field import R

MAX_ITEMS = 64
"""Of one tuple; the longest in any witness are the paths of 20 siblings."""

_NUMBER = re.compile(r"0x(0|[1-9a-f][0-9a-f]{0,63})")

Json = dict[str, Any] | list[Any] | str


def encode(witness: object) -> Json:
    """The JSON value of a witness or of a part; TypeError for anything that no witness holds."""
    if is_dataclass(witness) and not isinstance(witness, type):
        return {item.name: encode(getattr(witness, item.name)) for item in fields(witness)}
    if isinstance(witness, tuple):
        return [encode(item) for item in witness]
    return hex(int(witness))  # type: ignore[call-overload]  # gmpy2's integers are no `int`


def decode(kind: type[Any], value: object) -> Any:
    """The witness of that dataclass; ValueError of one sentence for anything else."""
    return _decode(kind, value, "witness")


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {item.name: hints[item.name] for item in fields(kind)}


def _decode(kind: Any, value: object, place: str) -> Any:
    if kind is int:
        return _number(value, place)
    if get_origin(kind) is tuple:
        return _tuple(get_args(kind), value, place)
    return _record(kind, value, place)


def _number(value: object, place: str) -> int:
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        raise ValueError(f"{place} of the proof request is not a number of the form 0x1f")
    number = int(value, 16)
    if number >= R:
        raise ValueError(f"{place} of the proof request is outside the circuit field")
    return number


def _tuple(kinds: tuple[Any, ...], value: object, place: str) -> tuple[Any, ...]:
    if not isinstance(value, list) or len(value) > MAX_ITEMS:
        raise ValueError(f"{place} of the proof request is not a list of at most {MAX_ITEMS} items")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(value) != len(kinds):
        raise ValueError(f"{place} of the proof request has {len(value)} items instead of {len(kinds)}")
    return tuple(_decode(kind, item, f"{place}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value, strict=True)))


def _record(kind: type[Any], value: object, place: str) -> Any:
    hints = _hints(kind)  # type: ignore[arg-type]  # classes are hashable
    if not isinstance(value, dict) or value.keys() != hints.keys():
        raise ValueError(f"{place} of the proof request must be an object with exactly {', '.join(hints)}")
    return kind(**{name: _decode(hint, value[name], f"{place}.{name}") for name, hint in hints.items()})
