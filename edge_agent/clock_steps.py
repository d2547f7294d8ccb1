"""Steps of the wall clock: how far it was set while the agent ran, and what that does to slots. Pure.

Rules: a step is what the clock shows beside what has passed since the last look; time that a machine slept has passed. Steps of
less than SET_BACK_S change nothing (`slots`) and are no steps here, nor is a second of wall time under a fast clock. While the
agent was off only a step back can be told: its last reading lies in the future then. What is done about a step is the rule of
`slots` (energy) and `store_file` (numbers); here it is put into a sentence and counted.
Not here: who looks, and says it (`meter`).
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.slots import SET_BACK_S, Baseline
from openmg.clock import slot_of

LEAST_WALL_S = 1.0
"""Between two looks at two clocks a process may be kept waiting."""
MAX_SAID = 20
"""Steps that are told in the log; a clock that jumps on and on must not fill the disk."""


@dataclass(frozen=True)
class Look:
    """What the agent's clock showed (simulated s), and what had passed since the machine started (wall s)."""

    sim_s: float
    passed_s: float


class ClockWatch:
    """Finds the steps of one clock. speed: simulated seconds in one of wall time. last_sim_s: of the last reading before."""

    def __init__(self, speed: float, last_sim_s: float | None) -> None:
        self._speed, self._before = speed, last_sim_s
        self._last: Look | None = None
        self.set_back = self.set_ahead = 0
        self.last_effect = ""
        """What was done about the last step; "" before there was one."""

    def look(self, now: Look) -> float | None:
        """By how many simulated seconds the clock was set since the last look; None for no step. Back is negative."""
        last, self._last = self._last, now
        if last is not None:
            step = now.sim_s - last.sim_s - (now.passed_s - last.passed_s) * self._speed
        else:
            step = 0.0 if self._before is None else min(0.0, now.sim_s - self._before)
        if abs(step) <= max(SET_BACK_S, LEAST_WALL_S * self._speed):
            return None
        self.set_back += step < 0
        self.set_ahead += step > 0
        return step

    @property
    def steps(self) -> int:
        return self.set_back + self.set_ahead


def effect(
    step_s: float, sim_s: float, before: Baseline | None, after: Baseline | None, closed: int | None, newest: int | None
) -> str:
    """What a step of so many simulated seconds, to `sim_s`, did to slots and numbers, as one sentence without its end.

    before, after: where slots were measured from before and after the first reading under the clock as it is now; closed: the
    slot that this reading closed; newest: the newest slot that is closed.
    """
    what = f"the clock was set {'back' if step_s < 0 else 'ahead'} by {abs(step_s):.0f} s, into slot {slot_of(sim_s)}"
    if closed is not None:
        slots = f"slot {closed} takes all energy since the last one that was closed"
    elif after is not None and after.carried and newest is not None and newest >= after.slot:
        slots = (
            f"no slot is closed again, all energy goes to slot {newest + 1}, or to the slot a day from now if the clock"
            " stays as it is"
        )
    elif before is None or after is None or slot_of(sim_s) == before.slot:
        slots = "slots go on"
    else:
        slots = f"slot {after.slot} takes all energy since the last one that was closed"
    return f"{what}: {slots}; reports are numbered on"
