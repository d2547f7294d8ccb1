"""kill -9 of an agent, of the broker whose database is then deleted, and of the hub."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from edge_kit import Broker
from faults_kit import FEEDER, HOMES, Keeper, World
from faults_view import Recorder, sums_learnt

pytestmark = pytest.mark.timeout(1200)
each = pytest.mark.parametrize(
    "names", [pytest.param(FEEDER, id="feeder"), pytest.param(HOMES, id="group", marks=pytest.mark.slow)]
)


@each
def test_an_agent_is_killed(keeper: Broker, make_world: Callable[..., World], names: tuple[str, ...]) -> None:
    world, name = make_world(keeper, names=names), names[-1]
    world.start()
    world.delivered(1)
    world.remember(name)
    world.agents[name].kill()
    with world.recovering(name):
        world.agents[name].start()
    world.delivered(1)
    world.judge()


@each
def test_the_broker_is_killed_and_its_database_deleted(
    keeper: Broker, make_world: Callable[..., World], names: tuple[str, ...]
) -> None:
    world = make_world(keeper, names=names)
    world.start()
    world.delivered(1)
    world.remember()
    if isinstance(keeper, Keeper):
        keeper.lose()
    else:
        keeper.kill()  # amqtt has no database
    world.pass_slots(2)
    with world.recovering(*names):
        keeper.start()
    world.delivered(2)
    world.judge()


@pytest.mark.slow
@each
def test_the_hub_is_killed(keeper: Broker, make_world: Callable[..., World], names: tuple[str, ...]) -> None:
    """And of what the hub was told before and after, no home follows."""
    world = make_world(keeper, names=names)
    with Recorder(keeper.url) as seen:
        world.start()
        world.delivered(1)
        world.remember()
        world.hub.kill()
        world.pass_slots(2)
        with world.recovering(*names):
            world.hub.start()
        world.delivered(2)
        world.judge()
    if names == HOMES:
        learnt = sums_learnt(seen, [agent.key for agent in world.agents.values()])
        assert len(learnt) >= 3 and set(learnt.values()) == {frozenset(HOMES)}


@pytest.mark.slow
def test_agent_broker_and_hub_are_killed_at_once(keeper: Broker, make_world: Callable[..., World]) -> None:
    world = make_world(keeper)
    world.start()
    world.delivered(1)
    world.remember()
    keeper.kill()
    world.hub.kill()
    world.agents["home-4"].kill()
    world.pass_slots(1)
    with world.recovering(*HOMES):
        world.agents["home-4"].start()
        world.hub.start()
        keeper.start()
    world.delivered(2)
    world.judge()
