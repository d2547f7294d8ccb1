"""What an engine says of itself: figures of one moment for consoles, reports and tests, and that it stopped."""

from __future__ import annotations

from dataclasses import dataclass


class EngineFailed(RuntimeError):
    """The engine stopped; the message is one sentence for the operator."""


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """Figures of one moment.

    `height`: last committed block; `first_height`: the first that is kept here; `rounds`: (height, view) pairs gone through
    since start. `snapshots_installed`, `snapshot_peers_dropped`: of state transfer, since start. `stores_set_aside`: damaged
    stores that are kept beside this hub's.
    """

    height: int
    view: int
    view_changes: int
    rounds: int
    validators: int
    peers_connected: tuple[bytes, ...]
    peer_heights: tuple[tuple[bytes, int], ...]
    mempool: int
    mempool_bytes: int
    quiescent: bool
    voting: bool
    malformed: int
    refused: int
    equivocations: int
    failure: str | None
    first_height: int = 1
    snapshots_installed: int = 0
    snapshot_peers_dropped: int = 0
    stores_set_aside: int = 0
