"""The leaves of an agreed slot, as the PPDL state of this hub keeps them, for the meters that prove with them.

Not here: which slots are told (`hub.market.noticeboard`), what a leaf is (`openmg.zk.meters`).
"""

from __future__ import annotations

from collections.abc import Callable

from hub.ppdl.application import QueryResult
from openmg.messages.base import decode
from openmg.messages.market import SlotLeavesNotice


def leaves_of_slot(query: Callable[[str], QueryResult], microgrid: int, slot: int) -> SlotLeavesNotice | None:
    """The slot's leaves; None when the slot is not recorded yet, or no longer kept."""
    result = query(f"slot-leaves/{microgrid}/{slot}")
    return decode(SlotLeavesNotice, result.value) if result.ok else None
