"""A hub that lies to seven real agents: each lie is refused, and all that it heard says nothing of a single home.

The rules themselves are tested in `tests/masking`, in pure parts and with any lie that a search finds; here the lies go through
a real broker to agent processes, and what follows is computed from what the hub received.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from edge_kit import Broker, Processes, mosquitto, wait_for
from faults_kit import PATIENCE_S, World
from faults_liar import MEMBERS, LyingHub
from faults_view import Recorder, sums_learnt
from home_kit import UTILITY_KEY

from openmg.identity import DeviceKey
from openmg.masking import make_roster, roster_id
from openmg.messages.telemetry import RosterMember
from openmg.signing import address_of

pytestmark = [pytest.mark.timeout(1200), pytest.mark.slow]
VICTIM, *OTHERS = MEMBERS
OTHERS = tuple(OTHERS)


def with_a_utility(_name: str, text: str) -> str:
    return text.replace("[hub]", f'[hub]\nutility = "0x{address_of(UTILITY_KEY).hex()}"')


@pytest.fixture(scope="module")
def hub(repo_root: Path, free_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LyingHub]:
    """One world for all lies, each in slots of its own."""
    folder, processes = tmp_path_factory.mktemp("liar"), Processes(repo_root)
    broker = Broker("mosquitto" if mosquitto() else "amqtt", free_port(), folder, processes)
    broker.start()
    world = World(folder, processes, broker, names=MEMBERS, slot_s=6.0, poll_s=1.0, edit=with_a_utility)
    try:
        with Recorder(broker.url) as seen:
            world.start_agents()
            yield LyingHub(world, seen)
    finally:
        processes.end()
        world.close()


def test_a_feigned_drop_out_after_the_whole_group(hub: LyingHub) -> None:
    roster = hub.roster()
    slot, said = hub.hear((roster, MEMBERS))
    hub.answered(hub.notice(roster, slot, said), MEMBERS)
    without = hub.notice(roster, slot, {name: said[name] for name in OTHERS})
    hub.refused("second", OTHERS, lambda: hub.ask(without))
    hub.refused("absent", [VICTIM], lambda: hub.ask(without))
    assert not hub.answers(without)


def test_a_feigned_drop_out_before_the_whole_group(hub: LyingHub) -> None:
    """Six sign the set without the victim, and are held to it; the victim alone answers the whole set, which opens nothing."""
    roster = hub.roster()
    slot, said = hub.hear((roster, MEMBERS))
    few = {name: said[name] for name in OTHERS}
    signed = hub.answered(hub.notice(roster, slot, few), OTHERS, keys=False)
    whole = hub.notice(roster, slot, said)
    hub.refused("second", OTHERS, lambda: hub.answered(whole, [VICTIM]))
    assert hub.answers(whole).keys() == {VICTIM}
    hub.answered(hub.notice(roster, slot, few, signed), OTHERS)
    assert sums_learnt(hub.seen, hub.keys.values())[roster_id(roster), slot] == frozenset(OTHERS)


def test_a_slot_sent_again_under_a_smaller_roster(hub: LyingHub) -> None:
    roster, few = hub.roster(), MEMBERS[:5]
    slot, said = hub.hear((roster, MEMBERS))
    hub.answered(hub.notice(roster, slot, said), MEMBERS)
    smaller = make_roster(1, slot, hub.members(few))
    hub.show(smaller)
    again = hub.notice(smaller, slot, {name: said[name] for name in few})
    hub.refused("roster", few, lambda: hub.ask(again))
    later, _said = hub.hear((smaller, few))  # it is taken for the slots to come
    assert later > slot and not hub.answers(again) and not hub.reports(smaller, slot)


def test_overlapping_groups(hub: LyingHub) -> None:
    """One without the last home, one without the first: the difference of their sums would be that of two homes."""
    left, right = MEMBERS[:-1], MEMBERS[1:]
    first = hub.roster(left, ahead=4)
    second = make_roster(1, first.from_slot, hub.members(right))
    taken = f"6 members from slot {first.from_slot}"
    wait_for(lambda: all(taken in hub.world.agents[name].said() for name in left), PATIENCE_S)
    hub.show(second)  # of two for one slot the later one counts
    slot, said = hub.hear((second, right), (first, MEMBERS[:1]))
    hub.answered(hub.notice(second, slot, {name: said[name] for name in right}), right)
    other = hub.notice(first, slot, {name: said[name] for name in left})
    hub.refused("roster", left[1:], lambda: hub.ask(other))
    assert hub.answers(other).keys() <= {MEMBERS[0]} and hub.reports(first, slot).keys() == {MEMBERS[0]}


def test_a_sybil_roster(hub: LyingHub) -> None:
    """The victim among six meters of the operator's own making: it goes on under the roster that it had."""
    before = hub.roster()
    hub.hear((before, MEMBERS))
    sybils = [DeviceKey(bytes([200 + i]) * 32) for i in range(6)]
    made_up = [RosterMember(f"sybil-{i}", key.address, key.mask_public, 0, bytes(32)) for i, key in enumerate(sybils)]
    sybil = make_roster(1, hub.world.clock.slot() + 2, [*made_up, *hub.members([VICTIM])])
    hub.show(sybil)
    after = hub.roster(ahead=5)
    slot, said = hub.hear((after, MEMBERS))  # what came later on the same topic is taken
    hub.answered(hub.notice(after, slot, said), MEMBERS)
    named = {report.slot: report.roster_id for report, _shares in hub.seen.reports() if report.device == VICTIM}
    between = [named[slot] for slot in named if sybil.from_slot <= slot < after.from_slot]
    assert between and set(between) == {roster_id(before)}


def test_of_all_that_the_hub_heard_only_sums_of_groups_follow(hub: LyingHub) -> None:
    """By elimination over every report and every key, of this test and of all the lies before."""
    roster = hub.roster()
    slot, said = hub.hear((roster, MEMBERS))
    hub.answered(hub.notice(roster, slot, said), MEMBERS)
    learnt = sums_learnt(hub.seen, hub.keys.values())  # fails where a sum of few follows, or more than one of a slot
    assert learnt[roster_id(roster), slot] == frozenset(MEMBERS)
    reported = {(report.device, report.slot) for report, _shares in hub.seen.reports()}
    assert len(learnt) < len(reported) / len(MEMBERS)  # what nobody asked for stays closed
