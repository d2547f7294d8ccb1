"""Configuration files: TOML read into frozen dataclasses, with errors that name file, line, key and remedy.

Rules: a key that the dataclass does not have, a missing one without default and a value of the wrong type are errors;
a program prints the sentence and ends with exit code 2. Nested tables are nested dataclasses, `Path` values are taken
relative to the file. Range checks belong to `__post_init__` of the dataclass (ValueError, prefixed by the key).
Not here: what any program's options mean.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import tomllib
import types
import typing
from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
CONFIG_EXIT_CODE = 2
MAX_NUMBER = 1e15
"""No time, power or rate comes near; beyond it (and for NaN) arithmetic with clocks fails."""


class ConfigError(Exception):
    """One sentence: file, line, key, what is wrong and what to write instead."""


class _Reader:
    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines = text.splitlines()
        self.items: dict[str, int] = {}
        """Which [[table]] of each list of tables is being read, from 1."""

    def fail(self, section: tuple[str, ...], key: str | None, problem: str) -> ConfigError:
        name = ".".join((*section, key) if key else section)
        return ConfigError(f"{self.path}:{self.line_of(section, key)}: {name}: {problem}")

    def line_of(self, section: tuple[str, ...], key: str | None) -> int:
        """Line on which the key, or else its table, stands (`name = { ... }` is a table too); 1 when neither is written."""
        header, found, current, seen = ".".join(section), 0, "", 0
        for number, line in enumerate(self.lines, 1):
            table = re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line)
            if table:
                current = table.group(1).replace('"', "")
                if current == header:
                    seen += 1
                    if seen == self.items.get(header, seen):
                        found = number
                    else:
                        current = ""  # another item of the list
            elif key and current == header and re.match(rf"\s*\"?{re.escape(key)}\"?\s*=", line):
                return number
        if found or not section:
            return found or 1
        return self.line_of(section[:-1], section[-1])

    def build(self, cls: type[Any], table: dict[str, Any], section: tuple[str, ...]) -> Any:
        fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
        hints = _hints(cls)  # type: ignore[arg-type]  # a class is hashable
        for key in table:
            if key not in fields:
                from difflib import get_close_matches  # for a mistake alone

                near = get_close_matches(key, fields, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(sorted(fields))}"
                raise self.fail(section, key, f"unknown key; {hint}")
        values = {}
        for name, field in fields.items():
            if name in table:
                values[name] = self.value(hints[name], table[name], section, name)
            elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                table_name = ".".join((*section, name))
                add = f"[{table_name}]" if dataclasses.is_dataclass(hints[name]) else f"{name} = ..."
                raise self.fail(section, name, f"is missing; add `{add}`")
        try:
            return cls(**values)
        except ValueError as error:
            key = str(error).split(" ", 1)[0].rstrip(":")
            raise self.fail(section, key if key in fields else None, str(error)) from error

    def value(self, hint: Any, value: Any, section: tuple[str, ...], key: str) -> Any:
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Union, types.UnionType):
            inner = [arg for arg in args if arg is not type(None)]
            return self.value(inner[0], value, section, key)
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            if not isinstance(value, dict):
                raise self.fail(section, key, f"must be a table [{'.'.join((*section, key))}]")
            return self.build(hint, value, (*section, key))
        if origin in (tuple, list):
            if not isinstance(value, list):
                raise self.fail(section, key, "must be a list in brackets")
            items = []
            for number, item in enumerate(value, 1):
                self.items[".".join((*section, key))] = number
                items.append(self.value(args[0], item, section, key))
            self.items.pop(".".join((*section, key)), None)
            return tuple(items) if origin is tuple else items
        if origin is dict:
            if not isinstance(value, dict):
                raise self.fail(section, key, "must be a table")
            return {k: self.value(args[1], v, (*section, key), k) for k, v in value.items()}
        return self.scalar(hint, value, section, key)

    def scalar(self, hint: Any, value: Any, section: tuple[str, ...], key: str) -> Any:
        if hint is Path and isinstance(value, str):
            return self.path.parent / value
        if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value) if abs(value) < MAX_NUMBER else math.nan
            if math.isfinite(number):
                return number
            raise self.fail(section, key, f"is {value}; it must be a number below {MAX_NUMBER:g}")
        if hint is Any or (isinstance(value, hint) and not (hint is int and isinstance(value, bool))):
            return value
        wanted = {int: "a whole number", float: "a number", str: "text in quotes", bool: "true or false"}
        raise self.fail(section, key, f"is {value!r}; it must be {wanted.get(hint, 'a path in quotes')}")


@functools.cache
def _hints(cls: Hashable) -> dict[str, Any]:
    """The fields' types; there are as many as the program has sections."""
    return typing.get_type_hints(cls)


def load_toml(path: Path, schema: type[T]) -> T:
    """The file as a value of the dataclass; ConfigError with one sentence when it cannot be."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the path of a config file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text; save it as UTF-8") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+)", str(error))
        line = int(place.group(1)) if place else max(1, len(text.splitlines()))
        raise ConfigError(f"{path}:{line}: is not valid TOML: {error}") from error
    result: T = _Reader(path, text).build(schema, table, ())
    return result
