"""The ladder of order sizes: 1, 2, 5, 10, 20, 50, 100, ... lots, so that a size says little about who orders.

Pure. Not here: what a lot is (`openmg.zk.meters.LOT_WH`).
"""

from __future__ import annotations

from openmg.zk.meters import LOT_BITS

STEPS = tuple(step * 10**power for power in range(5) for step in (1, 2, 5) if step * 10**power < 1 << LOT_BITS)
"""Every size that contracts take, ascending."""


def largest_step(lots: int) -> int:
    """The largest size that is not above `lots`; 0 when there is none."""
    return max((step for step in STEPS if step <= lots), default=0)
