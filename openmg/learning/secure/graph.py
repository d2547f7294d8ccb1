"""Who shares masks with whom: everybody in a small round, a regular graph drawn by the round's seed in a large one.

The members stand on a ring in the order of keccak(seed | address), and each is joined to the k/2 next on either side
(a Harary graph with randomly placed members, Bell et al. 2020, section 3.2).

With one fifth of the members hostile and one fifth gone (each at most; the worst round of each row):

| members | k | some honest member has enough hostile holders | the round cannot be opened | honest graph falls apart |
|---|---|---|---|---|
| to 40 | all | 0 | 0 | 0 |
| 41 to 100 | 40 | 0 | < 2^-24 | < 2^-80 |
| 101 to 256 | 80 | < 2^-43 | < 2^-39 | < 2^-130 |
| 257 to 4,096 | 128 | < 2^-36 | < 2^-34 | < 2^-150 |

The first two are hypergeometric tails times n, the third (two gaps of k/2 members on the ring) n^2/2 times the chance that
k given members are all hostile or gone; the tests compute them again. They hold when the seed was fixed after the members.
The last two columns take who is gone for chance. A hub that *chooses* whom it calls gone can cut a sparse graph: each honest
member still shares masks with an honest neighbour (`RoundTerms.share_threshold`), but the sum of a few may come to light. Where
a hub is to be stood that cheats so, rounds stay within FULL_GRAPH_MEMBERS.
"""

from __future__ import annotations

from openmg.hashing import keccak256

FULL_GRAPH_MEMBERS = 40
"""Up to here everybody is everybody's neighbour."""
DEGREES = ((100, 40), (256, 80), (4096, 128))
"""k by the largest number of members it serves."""


def degree(members: int) -> int:
    """The number k of neighbours of each member."""
    if members <= FULL_GRAPH_MEMBERS:
        return members - 1
    return next(k for most, k in DEGREES if members <= most)


def neighbours(addresses: tuple[bytes, ...], seed: bytes) -> dict[bytes, tuple[bytes, ...]]:
    """The neighbours of each address, ascending; symmetric, and nobody is its own."""
    k = degree(len(addresses))
    if k == len(addresses) - 1:
        return {own: tuple(sorted(other for other in addresses if other != own)) for own in addresses}
    ring = sorted(addresses, key=lambda address: (keccak256(seed + address), address))
    steps = [step for step in range(-(k // 2), k // 2 + 1) if step]
    return {own: tuple(sorted(ring[(place + step) % len(ring)] for step in steps)) for place, own in enumerate(ring)}
