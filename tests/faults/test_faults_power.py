"""Power is lost at an agent or at the hub: what its databases had not synced is gone, in whole or in part, torn at sectors."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from edge_kit import Broker, wait_for
from faults_kit import FEEDER, HOMES, PATIENCE_S, World
from faults_oracle import held, require_kept

from workbench.ppdl_soak.disk import LossyDisk, lose_unsynced

pytestmark = pytest.mark.timeout(1200)
CUTS = 3
"""In each run, with another seed each: what is kept of the unsynced writes is drawn anew."""


@pytest.fixture(autouse=True)
def _a_shared_library() -> None:
    """The disk stands between SQLite and the real one; a Python with SQLite built in cannot be given one."""
    try:
        LossyDisk()
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("names", [pytest.param(FEEDER, id="feeder"), pytest.param(HOMES, id="group", marks=pytest.mark.slow)])
def test_an_agent_loses_power(keeper: Broker, make_world: Callable[..., World], names: tuple[str, ...]) -> None:
    world, name = make_world(keeper, names=names), names[-1]
    agent = world.agents[name]
    world.start(lossy=(name,))
    for seed in range(CUTS if names == HOMES else 1):
        world.delivered(1)
        world.remember(name)
        agent.lose_power(seed)
        with world.recovering(name):
            agent.start(lossy=True)
    world.delivered(1)
    world.judge()
    assert "damaged" not in agent.said()


@pytest.mark.slow
def test_the_hub_loses_power(keeper: Broker, make_world: Callable[..., World]) -> None:
    """What it acknowledged the agents have deleted; and it holds to the survivor sets it has shown."""
    world = make_world(keeper)
    world.start(lossy=("hub",))
    for seed in range(CUTS):
        world.delivered(1)
        world.hub.lose_power(seed)
        with world.recovering(*HOMES):
            world.hub.start(lossy=True)
    world.delivered(1)
    world.judge()
    for agent in world.agents.values():
        assert "second" not in agent.said()  # no agent was shown two sets


@pytest.mark.slow
def test_an_agent_that_syncs_nothing_would_be_found_out(keeper: Broker, make_world: Callable[..., World]) -> None:
    """Else the rows above would hold for any store."""
    world = make_world(keeper, names=FEEDER)
    agent = world.agents[FEEDER[0]]
    world.start(lossy=FEEDER, environment={FEEDER[0]: {"OPENMG_FAULTS_SYNC": "OFF"}})
    wait_for(lambda: agent.count("slots") >= 2, PATIENCE_S)
    before = held(agent.store)
    agent.kill()
    assert lose_unsynced(agent.config_file.parent, random.Random(1), kept_share=0.0) > 0
    agent.start()
    wait_for(lambda: agent.count("baseline"), PATIENCE_S)
    with pytest.raises(AssertionError, match="is gone|was .* and is"):
        require_kept(before, held(agent.store), [])
