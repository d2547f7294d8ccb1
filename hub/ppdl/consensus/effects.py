"""What goes into a replica (events) and what comes out (effects), plus what it keeps over a crash.

Invariant for whoever runs the core: effects are carried out in order, and those after a `Persist` only once
it is durable. A vote therefore never leaves a machine that could forget it.

What is shared or kept by the core (a tip, a message, a certificate) is frozen. The other events and effects have one
reader each; they are plain, since a frozen object costs three times as much to make.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from functools import cached_property

from hub.ppdl.application import Verdict
from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.evidence import Evidence
from hub.ppdl.consensus.messages import Announceable, Decided, Kind, Message, PreparedCert, SyncRequest, encode_message
from hub.ppdl.consensus.quorum import ValidatorSet


@dataclass(frozen=True)
class Tip:
    """State after `height` decided and executed blocks: what block height + 1 must build on."""

    height: int
    hash: bytes
    timestamp_ms: int
    app_hash: bytes
    validators: ValidatorSet  # of height + 1
    next_validators: ValidatorSet  # of height + 2


@dataclass(frozen=True)
class Received:
    """A well-formed message from an authenticated peer (`sender`: its 20-byte address)."""

    sender: bytes
    message: Message


@dataclass(frozen=True)
class Announced:
    """A message of an authenticated peer whose block is of no use to the replica, and was not decoded."""

    sender: bytes
    announcement: Announceable


@dataclass
class Timeout:
    """The view timer set for (height, view) ran out."""

    height: int
    view: int


@dataclass
class Tick:
    """A regular pulse: say again what may have been lost, ask for missing blocks."""


@dataclass
class Proposed:
    """Answer to `Propose`: transactions and wall time (ms) of a fresh block."""

    height: int
    view: int
    txs: tuple[bytes, ...]
    timestamp_ms: int


@dataclass
class Validated:
    """Answer to `Validate`."""

    height: int
    view: int
    digest: bytes
    verdict: Verdict


@dataclass
class Advanced:
    """The decided block is stored and executed; the next height starts on `tip`."""

    tip: Tip


Event = Received | Announced | Timeout | Tick | Proposed | Validated | Advanced


@dataclass
class VoteRecord:
    """One signed statement of this validator; at most one per (kind, height, view) exists for ever.

    `said`: the message, or its canonical bytes when they come from a disk. It is encoded by whoever writes it down.
    """

    kind: Kind
    height: int
    view: int
    digest: bytes
    said: Message | bytes = field(compare=False)

    @cached_property
    def wire(self) -> bytes:
        """The canonical bytes of the message."""
        return self.said if isinstance(self.said, bytes) else encode_message(self.said)


@dataclass(frozen=True)
class PreparedProof:
    """The highest prepared certificate of the height, with its block."""

    cert: PreparedCert
    block: Block


@dataclass(frozen=True)
class Restored:
    """What the disk remembers for the height to work on.

    `complete` is false when the vote log was lost: then nobody knows what was signed.
    """

    votes: tuple[VoteRecord, ...] = ()
    prepared: PreparedProof | None = None
    complete: bool = True


@dataclass
class Persist:
    """Make these durable, all or nothing, before any later effect."""

    votes: tuple[VoteRecord, ...]
    prepared: PreparedProof | None = None


@dataclass
class LogComplete:
    """The vote log can be trusted again: durably note it."""


@dataclass
class Broadcast:
    """Send to every other validator."""

    message: Message


@dataclass
class Send:
    """Send to one peer."""

    peer: bytes
    message: Message | SyncRequest


@dataclass
class SetTimer:
    """Start the one view timer again for (height, view).

    `idle` while a healthy view may still be silent until its heartbeat.
    """

    height: int
    view: int
    idle: bool


@dataclass
class CancelTimer:
    """Stop the view timer."""


@dataclass
class Propose:
    """Ask for a fresh block of (height, view), not before `earliest_ms`; a view above 0 needs it at once."""

    height: int
    view: int
    earliest_ms: int


@dataclass
class Validate:
    """Ask the application about another validator's fresh block."""

    height: int
    view: int
    block: Block


@dataclass
class Decide:
    """The height is decided: execute and store it, then answer with `Advanced`."""

    decided: Decided


@dataclass
class ServeBlocks:
    """Send a peer the decided blocks from `height` on."""

    peer: bytes
    height: int


class Complaint(enum.Enum):
    """Why a message was not used."""

    INVALID = "invalid message"
    EQUIVOCATION = "equivocation"
    DIVERGED = "a quorum decided another state than this replica computed"


@dataclass(frozen=True)
class Report:
    """To be counted, and logged once per sender. After DIVERGED the replica does nothing more.

    `evidence`: with EQUIVOCATION, the two statements of `sender`, for the application to record.
    """

    complaint: Complaint
    sender: bytes
    detail: str
    evidence: Evidence | None = None


Effect = Persist | LogComplete | Broadcast | Send | SetTimer | CancelTimer | Propose | Validate | Decide | ServeBlocks | Report
