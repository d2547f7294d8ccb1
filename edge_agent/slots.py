"""From cumulative meter counters to the energy of slots.

Rules: pure; a slot's energy is the integer difference of the counters at its two boundaries, so the sum of
all slots equals the difference of the counters whatever was rounded or missed. A slot that was missed falls
into the next one that is closed. Counters that went back, or rose faster than the meter's largest power allows
(another meter, a reset), begin anew and never yield a negative or an absurd energy. A clock that was set back
goes on in the slot it now shows; a slot that was closed before is never closed again, its energy goes to the
next (`carry`). Not here: reading meters, keeping slots (`store`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from openmg.clock import slot_of, slot_start
from openmg.units import MAX_SLOT_WH, SLOT_SECONDS, SLOTS_PER_DAY

IMPORTED = 1
"""Flag: the slot comes from a file of the past."""
CARRIED = 2
"""Flag: the slot also holds the energy of slots that were missed before it."""
PARTIAL = 4
"""Flag: metering began inside the slot."""
RESET = 8
"""Flag: the meter's counters went back or jumped; the energy of the slot is unknown and given as 0."""
SET_BACK_S = 60
"""Simulated seconds that a clock may step back over a boundary (time service) before it counts as set back."""
SLACK_S = SLOT_SECONDS
"""A reading may be this much older or younger than its time says when counters are judged against power."""
CARRIED_SLACK_S = SLOTS_PER_DAY * SLOT_SECONDS
"""The same after the clock was set back: real time has passed that it no longer shows."""


@dataclass(frozen=True)
class Baseline:
    """Counters (Wh) at the boundary where `slot` begins.

    partial: they were first read inside of it. carried: they are older, from before the clock was set back.
    """

    slot: int
    import_total_wh: int
    export_total_wh: int
    partial: bool = False
    carried: bool = False


@dataclass(frozen=True)
class ClosedSlot:
    """Energy of a finished slot (Wh) and what is to know about it (flags)."""

    slot: int
    import_wh: int
    export_wh: int
    flags: int


def observe(
    baseline: Baseline | None, sim_time: float, import_total_wh: int, export_total_wh: int, max_power_w: float
) -> tuple[Baseline, ClosedSlot | None]:
    """What a reading at a simulated time changes: the baseline to go on from, and the slot that it closed, if any.

    max_power_w: more than this the meter cannot carry, in either direction.
    """
    current = slot_of(sim_time)
    if baseline is None:
        return Baseline(current, import_total_wh, export_total_wh, partial=True), None
    if slot_start(baseline.slot) - sim_time > SET_BACK_S:
        return replace(baseline, slot=current, carried=True), None
    if current <= baseline.slot:
        return baseline, None
    following = Baseline(current, import_total_wh, export_total_wh)
    import_wh = import_total_wh - baseline.import_total_wh
    export_wh = export_total_wh - baseline.export_total_wh
    flags = CARRIED if baseline.carried or current > baseline.slot + 1 else 0
    flags |= PARTIAL if baseline.partial else 0
    seconds = sim_time - slot_start(baseline.slot) + (CARRIED_SLACK_S if baseline.carried else SLACK_S)
    most_wh = min(max_power_w * seconds / 3600, MAX_SLOT_WH)
    if not (0 <= import_wh <= most_wh and 0 <= export_wh <= most_wh):
        return following, ClosedSlot(current - 1, 0, 0, flags | RESET)
    return following, ClosedSlot(current - 1, import_wh, export_wh, flags)


def carry(baseline: Baseline, following: Baseline) -> Baseline:
    """The baseline to go on from when the slot before `following` was closed already: its energy is the next slot's."""
    return replace(baseline, slot=following.slot, carried=True)
