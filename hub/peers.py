"""What the hubs tell each other of themselves, once a second: height, view and what their relayer did."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import ClassVar

from hub.ppdl.engine import EngineFailed, PbftEngine
from hub.relay.relayer import Relayer
from openmg.messages import base

STATUS_GOSSIP = "hub.status"
STATUS_SECONDS = 1.0
OFFLINE_SECONDS = 5.0


@dataclass(frozen=True)
class PeerStatus:
    """One hub's word on itself."""

    PURPOSE: ClassVar[str] = "hub-status"
    name: str
    height: int
    view: int
    view_changes: int
    relay_submissions: int
    relay_account: bytes  # empty when the hub does not relay


@dataclass(frozen=True)
class SeenPeer:
    """A hub's latest word and when it came (monotonic seconds)."""

    address: bytes
    status: PeerStatus
    seen: float

    @property
    def online(self) -> bool:
        return time.monotonic() - self.seen < OFFLINE_SECONDS


class PeerBook:
    """The latest word of every hub, this one included; one entry a validator."""

    def __init__(self, name: str, address: bytes, engine: PbftEngine) -> None:
        self._name = name
        self._address = address
        self._engine = engine
        self._peers: dict[bytes, SeenPeer] = {}
        self.relayer: Relayer | None = None

    def on_gossip(self, kind: str, payload: bytes, sender: bytes) -> None:
        """Another hub's status; anything malformed is ignored."""
        if kind == STATUS_GOSSIP:
            with contextlib.suppress(base.InvalidMessage):
                self._peers[sender] = SeenPeer(sender, base.decode(PeerStatus, payload), time.monotonic())

    async def run(self, stop: asyncio.Event) -> None:
        """Tell the others until `stop` is set; EngineFailed when the engine stopped by itself, which ends the hub."""
        while not stop.is_set():
            failure = self._engine.status().failure
            if failure is not None:
                raise EngineFailed(failure)
            own = self._own()
            self._peers[self._address] = SeenPeer(self._address, own, time.monotonic())
            self._engine.gossip(STATUS_GOSSIP, base.encode(own))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), STATUS_SECONDS)

    def _own(self) -> PeerStatus:
        engine, relayer = self._engine.status(), self.relayer
        submissions = relayer.status().submissions if relayer else 0
        account = relayer.client.address if relayer else b""
        return PeerStatus(self._name, engine.height, engine.view, engine.view_changes, submissions, account)

    def peers(self) -> tuple[SeenPeer, ...]:
        """Every hub heard of, by name."""
        return tuple(sorted(self._peers.values(), key=lambda peer: peer.status.name))
