"""What of a received message a replica reads: no block that it holds already, and none of which nothing can come.

To take a block of 2 MiB apart costs ten milliseconds and its memory once more, and every validator may send one at any time. So
the parts around a block are read first, and its header. A proposal that is too late, too early, not signed by whose turn it is,
the second in its place, or the second large one ahead of time is passed on as `Announced`: what its signer says is heard,
counted and held against it like a whole one. So is a NEW-VIEW or a DECIDED whose signatures prove nothing. A VIEW-CHANGE that
is no news is passed on without the block beside it.

Rules: pure; it changes nothing. Whether a message is right is judged by the replica, here only whether its block is of use.
"""

from __future__ import annotations

from hub.ppdl.consensus.decoding import open_message
from hub.ppdl.consensus.effects import Announced, Received
from hub.ppdl.consensus.messages import Kind, ViewChange
from hub.ppdl.consensus.replica import Replica


def read_message(replica: Replica, sender: bytes, wire: bytes) -> Received | Announced | None:
    """The message, as far as it is of use to the replica; None when nothing of it is. Raises MessageError."""
    opened = open_message(wire)
    match opened.kind:
        case Kind.PRE_PREPARE:
            seen = opened.announcement()
            if not replica.lacks_proposal(sender, seen, opened.block_bytes()):
                return Announced(sender, seen)
        case Kind.VIEW_CHANGE:
            change = opened.bare().message()
            if not isinstance(change, ViewChange) or not replica.lacks_attached(change):
                return Received(sender, change)
        case Kind.NEW_VIEW:
            if opened.height() < replica.height:
                return None
            new_view = opened.new_view()
            if not replica.lacks_new_view(sender, new_view):
                return Announced(sender, new_view)
        case Kind.DECIDED:
            if opened.height() != replica.height:
                return None
            decided = opened.decided()
            if not replica.lacks_decision(decided):
                return Announced(sender, decided)
    return Received(sender, opened.message(replica.held))
