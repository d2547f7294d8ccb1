"""Bounded collections of other validators' statements for one height.

`VoteBox` keeps PREPARE or COMMIT votes: one per (view, sender), views within VIEW_WINDOW of the current one.
`ViewChangeBox` keeps one VIEW-CHANGE per sender, the highest, so that a flood of view numbers costs nothing
and drags nobody.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from hub.ppdl.consensus.messages import Commit, Prepare, ViewChange

VIEW_WINDOW = 8  # views on either side of the current one whose votes are kept: at most 17 n votes per box


class Added(enum.Enum):
    """What became of a vote."""

    NEW = 1
    KNOWN = 2
    EQUIVOCATION = 3
    OUTSIDE = 4


@dataclass
class VoteBox:
    """Votes of one kind by view and sender."""

    _views: dict[int, dict[bytes, Prepare | Commit]] = field(default_factory=dict)

    def wants(self, view: int, current: int) -> bool:
        """Whether votes of this view are kept while `current` is the replica's view."""
        return -VIEW_WINDOW <= view - current <= VIEW_WINDOW

    def holds(self, vote: Prepare | Commit, sender: bytes) -> bool:
        """Whether exactly this vote is here already (its signature needs no second check)."""
        votes = self._views.get(vote.view)
        return votes is not None and sender in votes and votes[sender] == vote

    def add(self, vote: Prepare | Commit, sender: bytes, current: int) -> Added:
        """Keep a verified vote; the first of a (view, sender) stays."""
        if not self.wants(vote.view, current):
            return Added.OUTSIDE
        votes = self._views.get(vote.view)
        if votes is None:
            votes = self._views[vote.view] = {}
        known = votes.get(sender)
        if known is not None:
            return Added.KNOWN if known.digest == vote.digest else Added.EQUIVOCATION
        votes[sender] = vote
        return Added.NEW

    def signatures(self, view: int, digest: bytes) -> tuple[bytes, ...]:
        """Signatures of the votes for `digest` in `view`, by ascending sender."""
        votes = self._views.get(view, {})
        return tuple([votes[s].signature for s in sorted(votes) if votes[s].digest == digest])

    def count(self, view: int, digest: bytes) -> int:
        """How many validators voted for `digest` in `view`."""
        votes = self._views.get(view)
        return 0 if votes is None else [vote.digest for vote in votes.values()].count(digest)

    def candidates(self, needed: int) -> list[tuple[int, bytes]]:
        """(view, digest) pairs with at least `needed` votes, ascending."""
        if not self._views:  # as at every start of a height
            return []
        pairs = {(view, vote.digest) for view, votes in self._views.items() for vote in votes.values()}
        return [pair for pair in sorted(pairs) if self.count(*pair) >= needed]

    def prune(self, current: int) -> None:
        """Forget views outside the window around `current`."""
        for view in [v for v in self._views if not self.wants(v, current)]:
            del self._views[view]

    def __len__(self) -> int:
        return sum(len(votes) for votes in self._views.values())


@dataclass
class ViewChangeBox:
    """The highest VIEW-CHANGE of each sender."""

    _by_sender: dict[bytes, ViewChange] = field(default_factory=dict)

    def is_news(self, sender: bytes, view: int) -> bool:
        """Whether a VIEW-CHANGE for `view` would replace what the sender said before."""
        known = self._by_sender.get(sender)
        return known is None or known.view < view

    def get(self, sender: bytes) -> ViewChange | None:
        """What the sender last said."""
        return self._by_sender.get(sender)

    def all(self) -> tuple[ViewChange, ...]:
        """Every message kept, by ascending sender."""
        return tuple(vc for _, vc in sorted(self._by_sender.items()))

    def add(self, message: ViewChange, sender: bytes) -> None:
        """Keep a verified message if it is the sender's highest."""
        if self.is_news(sender, message.view):
            self._by_sender[sender] = message

    def count_from(self, view: int) -> int:
        """Senders that want `view` or a later one."""
        return sum(vc.view >= view for vc in self._by_sender.values())

    def for_view(self, view: int) -> tuple[ViewChange, ...]:
        """The messages for exactly `view`, by ascending sender."""
        return tuple(vc for vc in self.all() if vc.view == view)

    def joinable_view(self, faulty: int, me: bytes) -> int:
        """The highest view that `faulty` + 1 others reached, one honest validator among them.

        0 when there is none.
        """
        if len(self._by_sender) <= faulty:
            return 0
        views = sorted((vc.view for s, vc in self._by_sender.items() if s != me), reverse=True)
        return views[faulty] if len(views) > faulty else 0

    def __len__(self) -> int:
        return len(self._by_sender)
