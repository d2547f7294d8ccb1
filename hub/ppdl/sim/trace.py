"""A readable account of a run: one line for each thing that happened, and a hash over all lines.

Two runs of one seed have the same hash, in any process on any machine. Tracing is off unless asked for: it costs more than
the run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from hub.ppdl.consensus.effects import (
    Advanced,
    Broadcast,
    CancelTimer,
    Decide,
    Effect,
    Event,
    LogComplete,
    Persist,
    Propose,
    Proposed,
    Received,
    Report,
    Send,
    ServeBlocks,
    SetTimer,
    Tick,
    Timeout,
    Validate,
    Validated,
)
from hub.ppdl.consensus.messages import (
    Commit,
    Decided,
    Message,
    NewView,
    Prepare,
    PrePrepare,
    Status,
    SyncRequest,
    SyncResponse,
    ViewChange,
)

MAX_LINES = 200_000
"""A run has at most some hundred thousand events; what comes after so many lines is hashed and not kept."""


def short(digest: bytes) -> str:
    """A digest as people compare it."""
    return digest[:3].hex()


def named(message: Message) -> str:
    """A message in a few words."""
    match message:
        case PrePrepare():
            return f"PRE-PREPARE h{message.height} v{message.view} {short(message.digest)}"
        case Prepare():
            return f"PREPARE h{message.height} v{message.view} {short(message.digest)}"
        case Commit():
            return f"COMMIT h{message.height} v{message.view} {short(message.digest)}"
        case ViewChange():
            cert = "nothing" if message.cert is None else f"{short(message.cert.header.hash)}@v{message.cert.view}"
            return f"VIEW-CHANGE h{message.height} v{message.view} prepared {cert}"
        case NewView():
            return f"NEW-VIEW h{message.height} v{message.view} {short(message.proposal.digest)}"
        case Decided():
            return f"DECIDED h{message.height} {short(message.block.hash)} by v{message.qc.view}"
        case Status():
            return f"STATUS h{message.height}"
        case SyncRequest():
            return f"SYNC-REQUEST h{message.height}"
        case SyncResponse():
            return f"SYNC-RESPONSE of {len(message.blocks)} blocks"


class Trace:
    """Lines of a run. `names`: address to the name of a node."""

    def __init__(self, names: dict[bytes, str], sink: Callable[[str], None] | None = None) -> None:
        self.lines: list[str] = []
        self._names = names
        self._sink = sink
        self._hash = hashlib.sha256()

    @property
    def hash(self) -> str:
        """SHA-256 over all lines so far."""
        return self._hash.hexdigest()

    def note(self, now: int, node: str, text: str) -> None:
        """One line."""
        line = f"{now:8} ms  {node:<4} {text}"
        self._hash.update(line.encode() + b"\n")
        if len(self.lines) < MAX_LINES:
            self.lines.append(line)
        if self._sink is not None:
            self._sink(line)

    def event(self, now: int, node: str, event: Event) -> None:
        """What a replica is told; ticks are left out."""
        match event:
            case Received():
                self.note(now, node, f"hears {self._name(event.sender)}: {named(event.message)}")
            case Timeout():
                self.note(now, node, f"timer of h{event.height} v{event.view} runs out")
            case Proposed():
                self.note(now, node, f"application proposes for h{event.height} v{event.view}")
            case Validated():
                self.note(now, node, f"application says {event.verdict.name} to {short(event.digest)}")
            case Advanced():
                self.note(now, node, f"executed h{event.tip.height} {short(event.tip.hash)}")
            case Tick():
                pass

    def effect(self, now: int, node: str, effect: Effect) -> None:
        """What a replica wants; requests to its own application are left out."""
        match effect:
            case Persist():
                votes = ", ".join(f"{v.kind.name} v{v.view} {short(v.digest)}" for v in effect.votes)
                self.note(now, node, f"  writes {votes or 'nothing'}" + (" and certificate" if effect.prepared else ""))
            case Broadcast():
                self.note(now, node, f"  says {named(effect.message)}")
            case Send():
                self.note(now, node, f"  to {self._name(effect.peer)}: {named(effect.message)}")
            case SetTimer():
                self.note(now, node, f"  sets timer of h{effect.height} v{effect.view}{' (idle)' if effect.idle else ''}")
            case Decide():
                block, view = effect.decided.block, effect.decided.qc.view
                self.note(now, node, f"  decides h{block.height} {short(block.hash)} by v{view}")
            case Report():
                who = self._name(effect.sender)
                self.note(now, node, f"  complains of {who}: {effect.complaint.value}: {effect.detail}")
            case LogComplete():
                self.note(now, node, "  trusts its vote log again")
            case ServeBlocks():
                self.note(now, node, f"  serves {self._name(effect.peer)} from h{effect.height}")
            case Propose() | Validate() | CancelTimer():
                pass

    def _name(self, address: bytes) -> str:
        return self._names.get(address, address[:4].hex())
