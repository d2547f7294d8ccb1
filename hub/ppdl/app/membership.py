"""What queries say about validators: the sets with their heights, open proposals, recorded equivocation.

Read like the answers of `answers`, which names the paths. Everything here follows from the agreed state, so that any
replica gives the same answer at the same height.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hub.ppdl.app.governance import set_at
from hub.ppdl.app.state import Offence, OpenProposal, SetSpan, State
from hub.ppdl.consensus.quorum import quorum

SETS_SHOWN = 32
"""The latest; an older one that is still remembered is asked for by a height in it."""


@dataclass(frozen=True)
class Flagged:
    """A validator and how many of its equivocations are kept on record."""

    address: bytes
    offences: int


@dataclass(frozen=True)
class ValidatorsAnswer:
    """`height`: the last committed block. The latest sets in ascending order; the last may begin later than height + 1.

    quorum: of the set that agrees on height + 1. flagged: members of the latest set with offences on record.
    """

    PURPOSE: ClassVar[str] = "query"
    height: int
    quorum: int
    sets: tuple[SetSpan, ...]
    flagged: tuple[Flagged, ...]


@dataclass(frozen=True)
class SetAnswer:
    """The set that agrees on `height`."""

    PURPOSE: ClassVar[str] = "query"
    height: int
    quorum: int
    set: SetSpan


@dataclass(frozen=True)
class ProposalsAnswer:
    """Open proposals, oldest first; `number` is what a new one must name (`set_change.SetChange`)."""

    PURPOSE: ClassVar[str] = "query"
    height: int
    number: int
    proposals: tuple[OpenProposal, ...]


@dataclass(frozen=True)
class OffencesAnswer:
    """`total` counts all that were ever recorded; `kept` are those of heights that still matter."""

    PURPOSE: ClassVar[str] = "query"
    total: int
    kept: tuple[Offence, ...]


def validators_answer(state: State, height: int) -> ValidatorsAnswer:
    """The latest sets and who in them is flagged."""
    current, latest = set_at(state, height + 1), state.sets[-1]
    assert current is not None  # the set of the next block is always remembered
    counts = {address: sum(one.offender == address for one in state.offences.kept) for address in latest.addresses}
    flagged = tuple(Flagged(address, count) for address, count in counts.items() if count)
    return ValidatorsAnswer(height, quorum(len(current.addresses)), state.sets[-SETS_SHOWN:], flagged)


def set_answer(state: State, height: int, asked: int) -> SetAnswer | None:
    """The set of one height; None when it is not decided yet (later than height + 2) or no longer remembered."""
    span = set_at(state, asked) if asked <= height + 2 else None
    return None if span is None else SetAnswer(asked, quorum(len(span.addresses)), span)


def proposals_answer(state: State, height: int) -> ProposalsAnswer:
    """What may be voted for."""
    return ProposalsAnswer(height, state.sets[-1].number, state.proposals)
