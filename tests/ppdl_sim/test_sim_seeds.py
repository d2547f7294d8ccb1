"""Seeds of every fault class: safety in every run, progress after healing."""

from __future__ import annotations

import pytest

from hub.ppdl.sim.campaign import Seeds, run_seeds
from hub.ppdl.sim.faults import CLASSES, Setup, UnknownFault, draw, parse_classes
from hub.ppdl.sim.world import World, rotating_sets, world_of

USUAL = ("drop", "dup", "reorder", "partition", "crash", "twins")


def check(n: int, classes: tuple[str, ...], first: int, count: int, heights: int = 6) -> None:
    done = run_seeds(Seeds(n, first, count, classes, heights))
    assert done.failures == (), done.failures[:3]
    assert done.count == count and done.decided_heights >= count * heights


@pytest.mark.parametrize("name", CLASSES)
def test_one_fault_class(name: str) -> None:
    check(4, (name,), 0, 8 if name == "liar" else 24)


@pytest.mark.parametrize(("n", "count"), [(1, 20), (2, 10), (3, 10), (4, 40), (5, 8), (7, 5)])
def test_the_usual_faults_together(n: int, count: int) -> None:
    check(n, USUAL, 1_000, count)


@pytest.mark.parametrize(("n", "count"), [(4, 20), (7, 2)])
def test_all_faults_together(n: int, count: int) -> None:
    check(n, CLASSES, 2_000, count)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_seeds_of_the_usual_faults() -> None:
    check(4, USUAL, 0, 10_000, heights=10)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_thousand_seeds_of_all_faults() -> None:
    check(4, CLASSES, 0, 2_000, heights=10)


@pytest.mark.parametrize("seed", range(3))
def test_real_signatures(seed: int) -> None:
    """The keyed stand-in changes no rule: worlds with secp256k1 keep the same promises."""
    outcome = world_of(seed, draw(seed, 4, USUAL), real_crypto=True).run(5)
    assert outcome.violations == () and outcome.decided >= 5


def test_both_kinds_of_signatures_give_the_same_run() -> None:
    runs = [World(4, 5, real_crypto=real).run(4) for real in (False, True)]
    assert runs[0] == runs[1]


def test_without_faults_no_view_changes() -> None:
    world = World(4, 1)
    assert world.run(10).violations == ()
    assert all(node.replica is not None and node.replica.view_changes_started == 0 for node in world.nodes)


def test_rotating_sets_keep_their_size() -> None:
    """A set of three stands no fault at all: with a twin it may fork, and that would be the world's fault."""
    world = World(4, 0, spare=1, set_rule=rotating_sets(4))
    assert world.run(12).violations == ()
    sets = [entry.tip.validators.addresses for entry in world.nodes[0].disk.blocks]
    assert {len(members) for members in sets} == {4} and len(set(sets)) == 5


def test_at_most_f_validators_are_faulty_and_every_class_is_drawn() -> None:
    seen = set()
    for seed in range(300):
        setup = draw(seed, 7, CLASSES)
        faulty = [*setup.twins, *setup.liars, *setup.faults.lost_disks, *setup.faults.lost_votes]
        assert len(faulty) == len(set(faulty)) <= 2
        seen |= set(setup.drawn)
    assert seen == set(CLASSES)


def test_faults_are_named() -> None:
    assert parse_classes("twins, drop,drop") == ("drop", "twins") and parse_classes("none") == ()
    assert draw(3, 4, ()) == Setup(4)
    with pytest.raises(UnknownFault, match="'rain' does not exist: choose from drop"):
        parse_classes("drop,rain")
