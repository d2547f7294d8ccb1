"""Who is told what happens in an engine, and the frames of messages beside consensus (gossip)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, ParamSpec

from openmg import codec

log = logging.getLogger(__name__)

MAX_GOSSIP_BYTES = 256 * 1024
MAX_GOSSIP_KIND = 64
MAX_LISTENERS = 16

Arguments = ParamSpec("Arguments")


class Listeners(Generic[Arguments]):
    """Functions that are called with every event of one kind, in the order they were added."""

    def __init__(self) -> None:
        self._listeners: list[Callable[Arguments, None]] = []

    def add(self, listener: Callable[Arguments, None]) -> None:
        """Raises ValueError when there are too many."""
        if len(self._listeners) >= MAX_LISTENERS:
            raise ValueError(f"more than {MAX_LISTENERS} listeners: combine some")
        self._listeners.append(listener)

    def tell(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        """A listener's failure is its own: logged, never the engine's."""
        for listener in self._listeners:
            try:
                listener(*args, **kwargs)
            except Exception:
                log.exception("PPDL listener failed")


def gossip_frame(kind: str, payload: bytes) -> bytes:
    """The frame of a gossip message. Raises ValueError when it is too large."""
    if len(payload) > MAX_GOSSIP_BYTES or not 1 <= len(kind) <= MAX_GOSSIP_KIND:
        raise ValueError(f"gossip {kind!r} of {len(payload)} bytes is too large: at most {MAX_GOSSIP_BYTES}")
    return codec.encode([kind, payload])


def gossip_of(frame: bytes) -> tuple[str, bytes] | None:
    """Exact inverse of `gossip_frame`; None for anything else."""
    try:
        kind, body = codec.decode(frame, max_bytes=MAX_GOSSIP_BYTES + 2 * MAX_GOSSIP_KIND, max_items=3)
    except (codec.DecodeError, TypeError, ValueError):
        return None
    if not isinstance(kind, str) or not isinstance(body, bytes):
        return None
    fits = 1 <= len(kind) <= MAX_GOSSIP_KIND and len(body) <= MAX_GOSSIP_BYTES
    return (kind, body) if fits else None
