"""Planting a bug: a subclass of the replica, or functions of the core replaced for the length of a `with` block.

Rules: what is replaced must exist, so that a bug cannot quietly stop being planted when the core is renamed; everything is
put back, also after an error. Planting is for one thread: it changes the modules of this process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from hub.ppdl.consensus.replica import Replica

Plant = Callable[[], AbstractContextManager[type[Replica]]]
_NO_OVERRIDES = {"__module__", "__doc__", "__qualname__", "__firstlineno__", "__static_attributes__", "__annotations__"}


class NothingToPlantOn(RuntimeError):
    """The core no longer has what a mutant replaces."""


def subclass(faulty: type[Replica]) -> Plant:
    """Plant by overriding methods of the replica."""

    @contextmanager
    def planted() -> Iterator[type[Replica]]:
        for name in set(vars(faulty)) - _NO_OVERRIDES:
            if not hasattr(Replica, name):
                raise NothingToPlantOn(f"mutant {faulty.__name__} overrides {name}, which the replica does not have")
        yield faulty

    return planted


def replaced(*changes: tuple[Any, str, Any]) -> Plant:
    """Plant by replacing (owner, name, by) for a while; the replica stays as it is."""

    @contextmanager
    def planted() -> Iterator[type[Replica]]:
        before: list[tuple[Any, str, Any]] = []
        try:
            for owner, name, by in changes:
                if name not in vars(owner):
                    raise NothingToPlantOn(f"mutant replaces {name} of {owner.__name__}, which does not define it")
                before.append((owner, name, vars(owner)[name]))
                setattr(owner, name, by)
            yield Replica
        finally:
            for owner, name, original in reversed(before):
                setattr(owner, name, original)

    return planted
