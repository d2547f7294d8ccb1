"""New blocks of the plasma chain as the market role takes them: read to the end first, then taken over at once.

Rules: only blocks with enough confirmations are read, and a span counts only when the chain stayed the same meanwhile, so
that a chain that stops answering half way loses nothing and one that is rewritten mixes nothing.
Not here: states of pools and accounts, which are read at the newest block (`hub.market.service`).
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.chain.cursor import BlockCursor, Span
from hub.market.energy_view import EnergyView, RegistryChange
from hub.market.view import ChainView, Swap
from hub.plasma.note_log import NoteNews


@dataclass(frozen=True)
class News:
    """Everything that one span of blocks says."""

    span: Span
    swaps: tuple[Swap, ...]
    recorded: tuple[tuple[int, int], ...]
    notes: NoteNews
    nullifiers: tuple[int, ...]
    registry: tuple[RegistryChange, ...]
    rooted: tuple[tuple[int, int], ...]
    prices: dict[int, int]


class NewsReader:
    """Reads one span after the other; blocks on the chain."""

    def __init__(self, view: ChainView, energy: EnergyView, confirmations: int) -> None:
        self._view = view
        self._energy = energy
        self._cursor = BlockCursor(view.client, confirmations)

    def next(self) -> News | None:
        """The next span's events; None when there is none. ChainRewritten, ChainError: nothing was taken."""
        span = self._cursor.ahead()
        if span is None:
            return None
        first, last = span.first, span.last.number
        news = News(
            span,
            tuple(self._view.swaps(first, last)),
            tuple(self._view.recorded_slots(first, last)),
            self._view.notes(first, last),
            tuple(self._view.nullifiers(first, last)),
            tuple(self._energy.registry_changes(first, last)),
            tuple(self._energy.rooted_slots(first, last)),
            self._energy.prices(first, last),
        )
        self._cursor.advance(span)
        return news

    def restart(self) -> None:
        """The next span begins at block 0."""
        self._cursor.restart()
