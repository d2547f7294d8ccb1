"""Meters that answer late, wrongly or not at all, and a dead unit in a chain of ten on one line.

Garbled answers come in RTU frames, whose check sum tells them; on Modbus TCP nothing in an answer would.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from edge_kit import Broker, wait_for
from faults_kit import FEEDER, HOMES, PATIENCE_S, World
from faults_meters import Switched

from firmware_sim.faults import KINDS, FaultScript

pytestmark = [pytest.mark.timeout(1200), pytest.mark.slow]
MOMENTS = tuple(kind for kind in KINDS if kind != "rollover")
"""Everything that goes wrong for a moment."""
SHARE = 0.2
"""Of all requests."""
FAULTS = 10
"""Of each meter, at the least."""


@pytest.mark.parametrize("names", [FEEDER, HOMES], ids=["feeder", "group"])
@pytest.mark.parametrize("kinds", [("late", "garbage"), MOMENTS], ids=["late-garbled", "all"])
def test_meters_answer_late_and_garbled(
    keeper: Broker, make_world: Callable[..., World], names: tuple[str, ...], kinds: tuple[str, ...]
) -> None:
    scripts = {name: Switched(FaultScript(7, place, kinds, SHARE)) for place, name in enumerate(names)}
    world = make_world(keeper, names=names, rtu=True, scripts=scripts)
    world.start()
    for script in scripts.values():
        script.on = True
    wait_for(lambda: all(script.count >= FAULTS for script in scripts.values()), PATIENCE_S)
    world.delivered(1)
    world.remember()
    for script in scripts.values():
        script.on = False
    with world.recovering(*names):
        pass
    world.delivered(1)
    world.judge()
    for name in names:
        assert world.agents[name].rows("SELECT value FROM counters WHERE name = 'poll_errors'")[0][0] >= 1


CHAIN = tuple(f"home-{unit}" for unit in range(1, 11))
OWNER, *GUESTS = CHAIN[:9]
"""The agent that has the line, and those that read theirs through it: its proxy takes eight."""
GUEST_TIMEOUT_S = 5.0
"""Of those that wait behind others, also behind a unit that does not answer for a second."""
DEAD = "home-7"


def test_a_unit_of_a_chain_of_ten_is_dead_for_some_slots(
    keeper: Broker, make_world: Callable[..., World], free_port: Callable[[], int]
) -> None:
    """Its neighbours lose no slot by it, the group is opened without it; its own energy waits for the end of its silence."""
    proxy = free_port()

    def on_one_line(name: str, text: str) -> str:
        if name == OWNER:
            return text + f"\n[proxy]\nport = {proxy}\n"
        text = text.replace("[meter]", f"[meter]\ntimeout_seconds = {GUEST_TIMEOUT_S}")
        return re.sub(r"^port = \d+$", f"port = {proxy}", text.replace('"rtu_over_tcp"', '"tcp"'), count=1, flags=re.MULTILINE)

    world = make_world(keeper, names=(OWNER, *GUESTS), units=CHAIN, slot_s=10.0, poll_s=1.0, rtu=True, edit=on_one_line)
    world.start()
    world.delivered(1)
    world.remember()
    before = {name: agent.running_slot() for name, agent in world.agents.items()}
    world.street.devices[DEAD].faults.silent = True
    world.pass_slots(4)
    died = max(before.values()) + 1
    for name, agent in world.agents.items():
        slots = {row[0] for row in agent.rows("SELECT slot FROM slots")}
        assert name == DEAD or slots >= {died, died + 1}, f"{name} lost a slot to its neighbour"
        assert name != DEAD or died + 1 not in slots
    with world.recovering(DEAD):
        world.street.devices[DEAD].faults.silent = False
    world.delivered(1)
    world.judge()
    assert world.stats["opened_without"] >= 1
