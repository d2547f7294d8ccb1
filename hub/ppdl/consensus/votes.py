"""Bounded collections of other validators' statements for one height.

`VoteBox` keeps PREPARE or COMMIT votes: one per (view, sender), views within VIEW_WINDOW of the current one.
`ViewChangeBox` keeps the highest VIEW-CHANGE of each sender and one claim, so that a flood of view numbers costs nothing
and drags nobody.

To verify a signature costs more than everything else about a vote. So what nothing can follow from yet is *claimed*: kept
for its sender, whom the transport has authenticated, and verified (`redeem`) when something may follow. Nothing here ever
counts a claim as a statement; where claims are counted, it is to see whether verifying them is worth while.
"""

from __future__ import annotations

import enum
from collections import Counter
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
    _claims: dict[int, dict[bytes, Prepare | Commit]] = field(default_factory=dict)  # of who has no vote in that view

    def wants(self, view: int, current: int) -> bool:
        """Whether votes of this view are kept while `current` is the replica's view."""
        return -VIEW_WINDOW <= view - current <= VIEW_WINDOW

    def holds(self, vote: Prepare | Commit, sender: bytes, claimed: bool = False) -> bool:
        """Whether exactly this vote is here already, verified or, with `claimed`, not: it needs no second look."""
        votes = self._views.get(vote.view)
        if votes is not None and sender in votes and votes[sender] == vote:
            return True
        return claimed and self._claims.get(vote.view, {}).get(sender) == vote

    def knows(self, view: int, sender: bytes) -> bool:
        """Whether a vote or a claim of the sender in this view is here."""
        return any(sender in said.get(view, {}) for said in (self._views, self._claims))

    def claim(self, vote: Prepare | Commit, sender: bytes) -> None:
        """Keep the first vote of a sender in a view, unverified."""
        self._claims.setdefault(vote.view, {})[sender] = vote

    def redeem(self, view: int, digest: bytes, needed: int) -> list[tuple[bytes, Prepare | Commit]]:
        """Take out the claims for `digest` in `view`, to be verified, if with them there may be `needed` votes."""
        claims = self._claims.get(view) if self._claims else None
        if not claims:
            return []
        senders = [sender for sender, vote in claims.items() if vote.digest == digest]
        if self.count(view, digest) + len(senders) < needed:
            return []
        return [(sender, claims.pop(sender)) for sender in sorted(senders)]

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
        if self._claims:
            self._claims.get(vote.view, {}).pop(sender, None)
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
        """(view, digest) pairs with at least `needed` votes and claims, ascending."""
        if not self._views and not self._claims:  # as at every start of a height
            return []
        boxes = (*self._views.items(), *self._claims.items())
        said = Counter((view, vote.digest) for view, votes in boxes for vote in votes.values())
        return sorted(pair for pair, count in said.items() if count >= needed)

    def prune(self, current: int) -> None:
        """Forget views outside the window around `current`."""
        for votes in (self._views, self._claims):
            for view in [v for v in votes if not self.wants(v, current)]:
                del votes[view]

    def __len__(self) -> int:
        return sum(len(votes) for votes in (*self._views.values(), *self._claims.values()))


@dataclass
class ViewChangeBox:
    """The highest VIEW-CHANGE of each sender, and a higher one that it only claims: no claim takes a statement back."""

    _by_sender: dict[bytes, ViewChange] = field(default_factory=dict)
    _claims: dict[bytes, ViewChange] = field(default_factory=dict)

    def is_news(self, sender: bytes, view: int) -> bool:
        """Whether a VIEW-CHANGE for `view` goes beyond what the sender said or claimed before."""
        known = self.get(sender)
        return known is None or known.view < view

    def get(self, sender: bytes) -> ViewChange | None:
        """What the sender last said or claimed."""
        return self._claims.get(sender) or self._by_sender.get(sender)

    def all(self) -> tuple[ViewChange, ...]:
        """Every verified message, by ascending sender."""
        return tuple(vc for _, vc in sorted(self._by_sender.items()))

    def add(self, message: ViewChange, sender: bytes) -> None:
        """Keep a verified message if it is the sender's highest."""
        if self.is_news(sender, message.view):
            self._by_sender[sender] = message
            self._claims.pop(sender, None)

    def claim(self, message: ViewChange, sender: bytes) -> None:
        """Keep a message that was not verified if it is the sender's highest."""
        if self.is_news(sender, message.view):
            self._claims[sender] = message

    def redeem(self) -> list[tuple[bytes, ViewChange]]:
        """Take out what was not verified, by ascending sender."""
        claims, self._claims = sorted(self._claims.items()), {}
        return claims

    def count_from(self, view: int) -> int:
        """Senders that want `view` or a later one."""
        return sum(vc.view >= view for vc in self.all())

    def for_view(self, view: int) -> tuple[ViewChange, ...]:
        """The messages for exactly `view`, by ascending sender."""
        return tuple(vc for vc in self.all() if vc.view == view)

    def joinable_view(self, faulty: int, me: bytes) -> int:
        """The highest view that `faulty` + 1 others reached, one honest validator among them, or that so many claim.

        0 when there is none.
        """
        last = {**self._by_sender, **self._claims}
        if len(last) <= faulty:
            return 0
        views = sorted((vc.view for s, vc in last.items() if s != me), reverse=True)
        return views[faulty] if len(views) > faulty else 0

    def __len__(self) -> int:
        return len(self._by_sender) + len(self._claims)
