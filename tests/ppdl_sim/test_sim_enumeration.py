"""The enumeration: which scripts there are, a fixed slice of them, and a bug that random seeds miss."""

from __future__ import annotations

import pytest
from test_sim_scenarios import lowest

from hub.ppdl.consensus import certs, viewchange
from hub.ppdl.sim.campaign import enumerate_scripts
from hub.ppdl.sim.enumeration import Round, first_rounds, play, scripts_from

EVERYBODY = Round((0, 1, 2, 3, 4))


def test_the_scripts_of_one_round_are_all_there_and_hold() -> None:
    firsts = first_rounds()
    assert [sum(played.twin == twin for played in firsts) for twin in range(4)] == [36] * 4
    assert len({(played.twin, played.script) for played in firsts}) == len(firsts)
    assert all(played.failures == () for played in firsts)


def test_one_of_two_scripts_with_the_twins_exchanged_is_played() -> None:
    scripts = {played.script for played in first_rounds() if played.twin == 0}
    assert (Round((0, 1, 2)),) in scripts and (Round((1, 2, 4)),) not in scripts
    assert (Round(EVERYBODY.side, "commits", 0),) in scripts and (Round(EVERYBODY.side, "commits", 4),) not in scripts


@pytest.mark.parametrize("twin", range(4))
def test_a_slice_of_two_rounds_holds(twin: int) -> None:
    firsts = [played.script for played in first_rounds() if played.twin == twin][5::15]
    count = 0
    for first in firsts:
        for played in scripts_from(twin, first, 2):
            assert played.failures == (), f"twin {twin}: {' '.join(map(str, played.script))}"
            count += 1
    assert count > 50


def test_the_lowest_certificate_is_found_among_three_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (certs, viewchange):
        monkeypatch.setattr(module, "select_certificate", lowest)
    prefix = (Round(EVERYBODY.side, "prepares", 0), Round((1, 2, 3), "commits", 1))
    forked = [played.failures[0] for played in scripts_from(0, prefix, 3) if played.failures]
    assert forked and forked[0].startswith("fork: height 1")


def test_a_script_is_readable() -> None:
    script = (Round((1, 2, 3), "commits", 1), Round((0, 1, 2), "commits"), Round(()))
    assert " ".join(map(str, script)) == "[1,2,3 commits to 1] [0,1,2 commits to nobody] [nobody]"
    assert play(0, script)[0].failures == ()


def test_rounds_are_bounded() -> None:
    with pytest.raises(ValueError, match="rounds is 6; choose 1 to 5"):
        enumerate_scripts(6)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_whole_enumeration_of_three_rounds() -> None:
    done = enumerate_scripts(3, jobs=2)
    assert done.violations == 0, done.failures[:3]
    assert done.scripts > 40_000
