"""Messages of heights that this replica has not reached.

While a replica executes a block, the others go on without it: until the height that it must propose, at most n further.
Then they wait for it. What they said meanwhile is kept here, so that it needs no tick and no decided block to follow them.

Bounds, for each validator: one message of each kind of the next height; of the heights after it, as far as EARLY_HEIGHTS,
one PREPARE, one COMMIT and the proposals of its own turns, one of them with more than EARLY_BLOCK_BYTES. A validator's later
message takes the place of its earlier one, but its first proposal stays: nobody can have it decoded a second. Of what does
not fit the height is remembered (`missed`): who gets there asks for the decided block at once. Nothing here counts as
verified; that happens when its height has come.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.messages import (
    Announcement,
    Commit,
    Kind,
    NewView,
    NewViewAnnouncement,
    Prepare,
    PrePrepare,
    ViewChange,
)
from hub.ppdl.consensus.quorum import ValidatorSet

EARLY_HEIGHTS = 8
"""Heights after the current one. Eight rounds of the network are a long pause already; a proposal may have 2 MiB."""

EARLY_BLOCK_BYTES = 64 * 1024
"""A larger proposal is kept for one of a validator's turns only. Of four validators each has two turns within EARLY_HEIGHTS;
two blocks of 2 MiB, and a third that is just being read, are more than a tenth of a small hub's memory."""

Early = PrePrepare | Prepare | Commit | ViewChange | NewView


@dataclass
class EarlyBox:
    """Early messages by height, sender and kind."""

    missed: int = 0  # the highest height of which a message was not kept
    _messages: dict[tuple[int, bytes, Kind], Early] = field(default_factory=dict)

    def keep(
        self, sender: bytes, message: Early | Announcement | NewViewAnnouncement, height: int, following: ValidatorSet
    ) -> None:
        """Keep a message of a height above `height`; `following` is the set of the one after it."""
        if sender not in following:
            return
        place = message.height, sender, message.kind
        fits = _fits(sender, message, height, following)
        if fits and isinstance(message, PrePrepare) and self._has_room(sender, message.block.size):
            self._messages.setdefault(place, message)
        elif fits and isinstance(message, Prepare | Commit | ViewChange | NewView):
            self._messages[place] = message
        elif place not in self._messages:
            self.missed = max(self.missed, message.height)

    def lacks(self, sender: bytes, seen: Announcement, size: int, height: int, following: ValidatorSet) -> bool:
        """Whether the proposal announced, whose block has `size` bytes, would be kept."""
        if sender not in following or (seen.height, sender, seen.kind) in self._messages:
            return False
        return _fits(sender, seen, height, following) and self._has_room(sender, size)

    def lacks_view(self, sender: bytes, seen: NewViewAnnouncement, following: ValidatorSet) -> bool:
        """Whether a NEW-VIEW for the next height is later than what is kept of its sender."""
        known = self._messages.get((seen.height, sender, seen.kind))
        return sender in following and (not isinstance(known, NewView) or known.view < seen.view)

    def _has_room(self, sender: bytes, size: int) -> bool:
        """Whether a block of `size` bytes may be kept beside what is kept of the sender's proposals."""
        if size <= EARLY_BLOCK_BYTES:
            return True
        kept = (message for (_, of, _), message in self._messages.items() if of == sender)
        return not any(isinstance(message, PrePrepare) and message.block.size > EARLY_BLOCK_BYTES for message in kept)

    def block(self, digest: bytes) -> Block | None:
        """A block with this hash, if a message kept here has brought it."""
        blocks = (_block_of(message) for message in self._messages.values())
        return next((block for block in blocks if block is not None and block.hash == digest), None)

    def take(self, height: int, following: ValidatorSet) -> list[tuple[bytes, Early]]:
        """Remove what belongs to `height`, which has come, by ascending sender; forget who is not in the set after it."""
        if not self._messages:
            return []
        due = [(sender, message) for (at, sender, _), message in sorted(self._messages.items(), key=_place) if at == height]
        self._messages = {
            place: message for place, message in self._messages.items() if place[0] > height and place[1] in following
        }
        return due

    def __len__(self) -> int:
        return len(self._messages)


def _place(item: tuple[tuple[int, bytes, Kind], Early]) -> tuple[int, bytes, Kind]:
    return item[0]


def _fits(sender: bytes, message: Early | Announcement | NewViewAnnouncement, height: int, following: ValidatorSet) -> bool:
    """Whether the message is near enough to be of use; of far ones only those that are small, or of its sender's turn."""
    ahead = message.height - height
    if ahead > EARLY_HEIGHTS:
        return False
    if isinstance(message, PrePrepare | Announcement):
        return message.view == 0 and sender == following.proposer(message.height, 0)
    return ahead == 1 or isinstance(message, Prepare | Commit)


def _block_of(message: Early) -> Block | None:
    match message:
        case PrePrepare() | ViewChange():
            return message.block
        case NewView():
            return message.proposal.block
        case _:
            return None
