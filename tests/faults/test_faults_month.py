"""The broker is away for a month, or from a home for over a day: all that waited is delivered when it is back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from edge_kit import Broker, wait_for
from faults_kit import FEEDER, HOMES, PATIENCE_S, World

from openmg.units import SLOTS_PER_DAY

pytestmark = [pytest.mark.timeout(3600), pytest.mark.slow]
MONTH = 30 * SLOTS_PER_DAY
OVER_A_DAY = SLOTS_PER_DAY + 8
AWAY_S = 1500.0
"""Bound of each wait; a slot lasts 40 ms or 2 s here."""


def away(world: World, broker: Broker, name: str, slots: int) -> None:
    """Until so many reports wait."""
    agent = world.agents[name]
    world.remember(name)
    broker.kill()
    wait_for(lambda: agent.count("outbox") >= slots, AWAY_S)
    world.remember(name)
    with world.recovering(name):
        broker.start()


def test_the_broker_is_away_for_a_month(keeper: Broker, make_world: Callable[..., World]) -> None:
    world = make_world(keeper, names=FEEDER, slot_s=0.04)
    world.start()
    world.delivered(1)
    away(world, keeper, *FEEDER, MONTH)
    world.judge(least_slots=MONTH, patience_s=AWAY_S)


def test_the_broker_is_away_from_a_home_for_over_a_day(keeper: Broker, make_world: Callable[..., World]) -> None:
    """It proves every slot meanwhile. Its neighbours end before, since their proofs would take the processor; what came after
    its day nobody may open, but the reports are there, each once, and commit to every Wh."""
    world, name = make_world(keeper, slot_s=2.0), HOMES[-1]
    world.start()
    wait_for(lambda: world.agents[name].count("slots WHERE seq IS NOT NULL"), PATIENCE_S)
    world.retire(*HOMES[:-1])
    away(world, keeper, name, OVER_A_DAY)
    world.judge(least_slots=OVER_A_DAY, patience_s=AWAY_S)
