"""From cumulative meter counters to the energy of slots.

Rules: pure; a slot's energy is the integer difference of the counters at its two boundaries, so the sum of
all slots equals the difference of the counters whatever was rounded or missed. A slot that was missed falls
into the next one that is closed. Counters that went back (another meter, a reset) begin anew and never yield
a negative or an absurd energy. Not here: reading meters, keeping slots (`store`).
"""

from __future__ import annotations

from dataclasses import dataclass

from openmg.clock import slot_of
from openmg.units import MAX_SLOT_WH

IMPORTED = 1
"""Flag: the slot comes from a file of the past."""
CARRIED = 2
"""Flag: the slot also holds the energy of slots that were missed before it."""
PARTIAL = 4
"""Flag: metering began inside the slot."""
RESET = 8
"""Flag: the meter's counters went back; the energy of the slot is unknown and given as 0."""


@dataclass(frozen=True)
class Baseline:
    """Counters (Wh) at the boundary where `slot` begins; `partial` when they were first read inside of it."""

    slot: int
    import_total_wh: int
    export_total_wh: int
    partial: bool = False


@dataclass(frozen=True)
class ClosedSlot:
    """Energy of a finished slot (Wh) and what is to know about it (flags)."""

    slot: int
    import_wh: int
    export_wh: int
    flags: int


def observe(
    baseline: Baseline | None, sim_time: float, import_total_wh: int, export_total_wh: int
) -> tuple[Baseline, ClosedSlot | None]:
    """What a reading at a simulated time changes: the baseline to go on from, and the slot that it closed, if any."""
    current = slot_of(sim_time)
    if baseline is None:
        return Baseline(current, import_total_wh, export_total_wh, partial=True), None
    if current <= baseline.slot:
        return baseline, None
    following = Baseline(current, import_total_wh, export_total_wh)
    import_wh = import_total_wh - baseline.import_total_wh
    export_wh = export_total_wh - baseline.export_total_wh
    flags = CARRIED if current > baseline.slot + 1 else 0
    flags |= PARTIAL if baseline.partial else 0
    if not (0 <= import_wh <= MAX_SLOT_WH and 0 <= export_wh <= MAX_SLOT_WH):
        return following, ClosedSlot(current - 1, 0, 0, flags | RESET)
    return following, ClosedSlot(current - 1, import_wh, export_wh, flags)
