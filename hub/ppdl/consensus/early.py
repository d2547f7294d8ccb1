"""Messages of heights that this replica has not reached.

While a replica executes a block, the others go on without it: until the height that it must propose, at most n further.
Then they wait for it. What they said meanwhile is kept here, so that it needs no tick and no decided block to follow them.

Bounds, for each validator: one message of each kind of the next height; of the heights after it, as far as EARLY_HEIGHTS,
one PREPARE, one COMMIT and the proposals of its own turns. A validator's later message takes the place of its earlier
one. Of what does not fit the height is remembered (`missed`): who gets there asks for the decided block at once.
Nothing here has been verified; that happens when its height has come.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hub.ppdl.consensus.messages import Commit, Kind, NewView, Prepare, PrePrepare, ViewChange, kind_of
from hub.ppdl.consensus.quorum import ValidatorSet

EARLY_HEIGHTS = 8
"""Heights after the current one. Eight rounds of the network are a long pause already; a proposal may have 2 MiB."""

Early = PrePrepare | Prepare | Commit | ViewChange | NewView


@dataclass
class EarlyBox:
    """Early messages by height, sender and kind."""

    missed: int = 0  # the highest height of which a message was not kept
    _messages: dict[tuple[int, bytes, Kind], Early] = field(default_factory=dict)

    def keep(self, sender: bytes, message: Early, height: int, following: ValidatorSet) -> None:
        """Keep a message of a height above `height`; `following` is the set of the one after it."""
        if sender not in following:
            return
        ahead = message.height - height
        if ahead == 1 or (ahead <= EARLY_HEIGHTS and _fits_far(sender, message, following)):
            self._messages[(message.height, sender, kind_of(message))] = message
        else:
            self.missed = max(self.missed, message.height)

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


def _fits_far(sender: bytes, message: Early, validators: ValidatorSet) -> bool:
    """Whether the message is of use by itself more than one height ahead, and small or its sender's turn."""
    if isinstance(message, PrePrepare):
        return message.view == 0 and sender == validators.proposer(message.height, 0)
    return isinstance(message, Prepare | Commit)
