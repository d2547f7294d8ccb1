"""From cumulative meter counters to the energy of slots.

Rules: pure; a slot's energy is the integer difference of the counters at its two boundaries, so the sum of
all slots equals the difference of the counters whatever was rounded or missed. A slot that was missed falls
into the next one that is closed. Counters that leap between two readings (another meter, a reset, a roll-over) move the
baseline along (`rebase`), so that what both counters showed is kept and only what passed between the two readings is missing.
Counters that went back, or rose faster than the meter's largest power allows, without a reading to tell where, begin anew; none
of it ever yields a negative or an absurd energy. A slot that was closed before is never closed again, its energy goes to the
next (`carry`). A clock that was set back behind closed slots closes none for a day, so that the energy waits for the first slot
after them; one that is not set right by then goes on in the slot that it shows. Not here: reading meters, keeping slots
(`store`).
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
"""Flag: the meter's counters leapt; the energy of the slot is what is known of it, which may be 0."""
SET_BACK_S = 60
"""Simulated seconds that a clock may step back over a boundary (time service) before it counts as set back."""
SLACK_S = SLOT_SECONDS
"""A reading may be this much older or younger than its time says when counters are judged against power."""
BACK_SLOTS = SLOTS_PER_DAY
"""So long a clock that was set back is taken for wrong, and after that for right. What is metered in slots long past nobody can
settle: they are older than any roster."""
LEAP_SLACK_S = 60
"""The same between two readings, of which the older is known by its time; in wall seconds, as long as a meter may be late."""
TREMOR_WH = 10
"""A counter may step back so far, in the rounding of some meters, and makes up for it."""
CARRIED_SLACK_S = SLOTS_PER_DAY * SLOT_SECONDS
"""The same after the clock was set back: real time has passed that it no longer shows."""


@dataclass(frozen=True)
class Baseline:
    """Counters (Wh) at the boundary where `slot` begins.

    partial: they were first read inside of it. carried: they are older, from before the clock was set back. reset: the counters
    leapt since, and these were moved along, so they may be negative.
    """

    slot: int
    import_total_wh: int
    export_total_wh: int
    partial: bool = False
    carried: bool = False
    reset: bool = False


@dataclass(frozen=True)
class Counters:
    """What a meter showed (Wh) at a simulated second."""

    sim_time: int
    import_total_wh: int
    export_total_wh: int


@dataclass(frozen=True)
class ClosedSlot:
    """Energy of a finished slot (Wh) and what is to know about it (flags)."""

    slot: int
    import_wh: int
    export_wh: int
    flags: int


def observe(
    baseline: Baseline | None,
    sim_time: float,
    import_total_wh: int,
    export_total_wh: int,
    max_power_w: float,
    newest: int | None = None,
) -> tuple[Baseline, ClosedSlot | None]:
    """What a reading at a simulated time changes: the baseline to go on from, and the slot that it closed, if any.

    max_power_w: more than this the meter cannot carry, in either direction. newest: the newest slot closed so far, of a carried
    baseline; None: there is none, or it does not matter.
    """
    current = slot_of(sim_time)
    if baseline is None:
        return Baseline(current, import_total_wh, export_total_wh, partial=True), None
    if slot_start(baseline.slot) - sim_time > SET_BACK_S:
        return replace(baseline, slot=current, carried=True), None
    if current <= baseline.slot:
        return baseline, None
    if newest is not None and current <= newest + 1 and baseline.carried and current < baseline.slot + BACK_SLOTS:
        return baseline, None
    following = Baseline(current, import_total_wh, export_total_wh)
    import_wh = import_total_wh - baseline.import_total_wh
    export_wh = export_total_wh - baseline.export_total_wh
    flags = CARRIED if baseline.carried or current > baseline.slot + 1 else 0
    flags |= (PARTIAL if baseline.partial else 0) | (RESET if baseline.reset else 0)
    seconds = sim_time - slot_start(baseline.slot) + (CARRIED_SLACK_S if baseline.carried else SLACK_S)
    most_wh = min(max_power_w * seconds / 3600, MAX_SLOT_WH)
    if not (0 <= import_wh <= most_wh and 0 <= export_wh <= most_wh):
        return following, ClosedSlot(current - 1, 0, 0, flags | RESET)
    return following, ClosedSlot(current - 1, import_wh, export_wh, flags)


def carry(baseline: Baseline, following: Baseline) -> Baseline:
    """The baseline to go on from when the slot before `following` was closed already: its energy is the next slot's."""
    return replace(baseline, slot=following.slot, carried=True)


def rebase(
    baseline: Baseline, before: Counters, now: Counters, max_power_w: float, replaced: bool = False, speed: float = 1.0
) -> Baseline | None:
    """The baseline moved along with counters that leapt from one reading to the next; None when they go on as counters do.

    replaced: they are known to be another meter's, however plausible they look. speed: simulated seconds in one of wall time.
    """
    import_wh = now.import_total_wh - before.import_total_wh
    export_wh = now.export_total_wh - before.export_total_wh
    seconds: float = now.sim_time - before.sim_time
    seconds = seconds + LEAP_SLACK_S * max(1.0, speed) if seconds >= 0 else CARRIED_SLACK_S
    most_wh = max_power_w * seconds / 3600
    if not replaced and all(-TREMOR_WH <= energy <= most_wh for energy in (import_wh, export_wh)):
        return None
    imported, exported = baseline.import_total_wh + import_wh, baseline.export_total_wh + export_wh
    return replace(baseline, import_total_wh=imported, export_total_wh=exported, reset=True)
