"""Blindings of the trade's notes and sums, all from the owner's seed, so that a restored wallet finds what they blind.

Rules: each has a context of its own; none comes from the meter's secret or a period key, which the utility may be given.
Pure. Not here: blindings of slot commitments (`openmg.zk.slot_openings`), of change notes (`edge_agent.wallet.change`).
"""

from __future__ import annotations

from enum import Enum

from openmg.identity import hkdf
from openmg.zk.babyjub import SUBGROUP_ORDER
from openmg.zk.notes import WIDE_BYTES, derive_blinding
from openmg.zk.tags import H


class Outcome(Enum):
    """The notes that a pool makes when it settles an order: PETH of a sale, energy and PETH left of a purchase."""

    PAYOUT = b"payout.."
    DELIVERY = b"delivery"
    CHANGE = b"change.."


def mint_blinding(seed: bytes, slot: int) -> int:
    """Of the supply note that a slot's export becomes: the same at every attempt, as its N is."""
    return derive_blinding(seed, b"mint...." + slot.to_bytes(8, "big"))


def outcome_blinding(seed: bytes, outcome: Outcome, slot: int, key: int = 0) -> int:
    """Of the note in which an order ends: a slot's purchase, or the sale of a key's supply that was begun in a slot."""
    return derive_blinding(seed, outcome.value + slot.to_bytes(8, "big") + key.to_bytes(8, "big"))


def outcome_partial(seed: bytes, public_key: int, outcome: Outcome, slot: int, key: int = 0) -> int:
    """What the order names for that note: H(own, pk, blinding)."""
    return H("own", public_key, outcome_blinding(seed, outcome, slot, key))


def burn_blinding(seed: bytes, key: int) -> int:
    """u of a key's burn, below the order of the subgroup; the bias of the reduction is below 2^-128."""
    wide = hkdf(seed, f"owner/zk-burn/{key:010x}", WIDE_BYTES)
    return int.from_bytes(wide, "big") % SUBGROUP_ORDER
