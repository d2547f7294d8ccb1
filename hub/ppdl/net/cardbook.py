"""Which cards hold now: whose certificate is whose, and where each validator is dialed.

At most MAX_CARDS_OF_ONE cards of one validator count, the newest first. A card is void when
it expired, or when a newer one of the same validator is the sole one by now (`cards.py`). Pure: time is passed in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hub.ppdl.net.cards import PeerCard
from hub.ppdl.net.transport import PeerAddress

MAX_CARDS_OF_ONE = 4
"""The one in use, its successor, and two successors that were prepared and never used."""


@dataclass(frozen=True)
class CardBook:
    """Cards of other validators that passed `check_card`, by validator, newest first."""

    cards: dict[bytes, tuple[PeerCard, ...]]

    @classmethod
    def of(cls, cards: Iterable[PeerCard], own: bytes) -> CardBook:
        """The book of these cards without those of `own`, each validator's newest MAX_CARDS_OF_ONE."""
        by_validator: dict[bytes, list[PeerCard]] = {}
        for card in cards:
            if card.address != own:
                by_validator.setdefault(card.address, []).append(card)
        return cls({address: _newest(found) for address, found in sorted(by_validator.items())})

    def valid(self, now_s: int) -> dict[bytes, tuple[PeerCard, ...]]:
        """The cards that hold now; a validator without one is left out."""
        found = {address: _holding(cards, now_s) for address, cards in self.cards.items()}
        return {address: cards for address, cards in found.items() if cards}

    def places(self, now_s: int) -> dict[bytes, tuple[PeerAddress, ...]]:
        """Where each validator may listen, newest card first."""
        return {
            address: tuple(dict.fromkeys(PeerAddress(address, card.host, card.port) for card in cards))
            for address, cards in self.valid(now_s).items()
        }

    def owners(self, now_s: int) -> dict[bytes, frozenset[bytes]]:
        """Validators by the SHA-256 of each certificate that holds now.

        More than one, if a validator puts another's certificate into its card: that must not shut the other out.
        """
        found: dict[bytes, set[bytes]] = {}
        for address, cards in self.valid(now_s).items():
            for card in cards:
                found.setdefault(card.certificate_hash, set()).add(address)
        return {certificate_hash: frozenset(addresses) for certificate_hash, addresses in found.items()}


def _newest(cards: list[PeerCard]) -> tuple[PeerCard, ...]:
    ordered = sorted(cards, key=lambda card: (card.issued_s, card.signature), reverse=True)
    return tuple(ordered[:MAX_CARDS_OF_ONE])


def _holding(cards: tuple[PeerCard, ...], now_s: int) -> tuple[PeerCard, ...]:
    """Without what expired, and without what a newer card has made void."""
    holding: list[PeerCard] = []
    for card in cards:
        if now_s < card.expires_s:
            holding.append(card)
        if now_s >= card.sole_from_s:
            break  # everything older is void, whether or not this one expired
    return tuple(holding)
