"""Links that need no learning: by root, timing, amount, topic and size, each a rule that somebody would try.

Each guesses the bit of a transcript, which home bought in the first slot, from what is recorded; where its rule says nothing,
it guesses at random. Rules: a link may use everything that hub, relays, utility and chain record together.
Not here: learning (`classify`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

from edge_agent.market.calls import BUY
from openmg.evm.abi import selector
from workbench.linkage.world import Transcript

BUY_SELECTOR = selector(BUY)
ROOT_OFFSET_WORDS = 8
"""In a purchase's payment, behind the eight words of its proof."""


def _coin() -> int:
    return secrets.randbelow(2)


def _larger(first: float, second: float) -> int:
    """0 when the first home stands out, 1 when the second does."""
    return _coin() if first == second else int(second > first)


def by_root(seen: Transcript) -> int:
    """The root that the purchase names, as one that only one of the homes would know."""
    bought = next(data for data in seen.calls[0] if data[:4] == BUY_SELECTOR)
    spend = 4 + int.from_bytes(bought[4 + 32 * 13 : 4 + 32 * 14], "big")
    root = int.from_bytes(bought[spend + 32 * ROOT_OFFSET_WORDS : spend + 32 * (ROOT_OFFSET_WORDS + 1)], "big")
    return root if root in (0, 1) else _coin()


def by_timing(seen: Transcript) -> int:
    """The call's place among those submitted, as its envelope's among those that came."""
    arrivals = sorted((sent.part, which) for which, home in enumerate(seen.homes) for sent in home.sent[0])
    place = next(i for i, data in enumerate(seen.calls[0]) if data[:4] == BUY_SELECTOR)
    share = place / max(1, len(seen.calls[0]) - 1)
    return arrivals[round(share * (len(arrivals) - 1))][1]


def by_amount(seen: Transcript) -> int:
    """Who reports more is who buys."""
    first, second = (home.reports[0].masked[0] for home in seen.homes)
    return _larger(first, second)


def by_topic(seen: Transcript) -> int:
    """On whose topic more is sent."""
    first, second = (len(home.sent[0]) for home in seen.homes)
    return _larger(first, second)


def by_size(seen: Transcript) -> int:
    """Whose envelopes are larger."""
    first, second = (sum(sent.size for sent in home.sent[0]) for home in seen.homes)
    return _larger(first, second)


LINKS: Mapping[str, Callable[[Transcript], int]] = {
    "root": by_root,
    "timing": by_timing,
    "amount": by_amount,
    "topic": by_topic,
    "size": by_size,
}
