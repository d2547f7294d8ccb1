"""Messages of heights that this replica has not reached.

While a replica executes a block, the others go on without it: until the height that it must propose, at most n further.
Then they wait for it. What they said meanwhile is kept here, so that it needs no tick and no decided block to follow them.

Bounds, for each validator: one message of each kind of the next height; of the heights after it, as far as EARLY_HEIGHTS,
one PREPARE, one COMMIT and the proposals of its own turns. A validator's later message takes the place of its earlier
one, but its first proposal stays: nobody can have it decoded a second. Of what does not fit the height is remembered
(`missed`): who gets there asks for the decided block at once. Nothing here has been verified; that happens when its height
has come.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.messages import Announcement, Commit, Kind, NewView, Prepare, PrePrepare, ViewChange
from hub.ppdl.consensus.quorum import ValidatorSet

EARLY_HEIGHTS = 8
"""Heights after the current one. Eight rounds of the network are a long pause already; a proposal may have 2 MiB."""

Early = PrePrepare | Prepare | Commit | ViewChange | NewView


@dataclass
class EarlyBox:
    """Early messages by height, sender and kind."""

    missed: int = 0  # the highest height of which a message was not kept
    _messages: dict[tuple[int, bytes, Kind], Early] = field(default_factory=dict)

    def keep(self, sender: bytes, message: Early | Announcement, height: int, following: ValidatorSet) -> None:
        """Keep a message of a height above `height`; `following` is the set of the one after it."""
        if sender not in following:
            return
        place = message.height, sender, message.kind
        if not _fits(sender, message, height, following):
            self.missed = max(self.missed, message.height)
        elif isinstance(message, PrePrepare):
            self._messages.setdefault(place, message)
        elif not isinstance(message, Announcement):
            self._messages[place] = message

    def lacks(self, sender: bytes, seen: Announcement, height: int, following: ValidatorSet) -> bool:
        """Whether the proposal announced would be kept."""
        place = seen.height, sender, seen.kind
        return sender in following and place not in self._messages and _fits(sender, seen, height, following)

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


def _fits(sender: bytes, message: Early | Announcement, height: int, following: ValidatorSet) -> bool:
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
