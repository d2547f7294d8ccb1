"""Every planted bug is noticed by its check, and no check complains of the core as it is."""

from __future__ import annotations

from functools import cache

import pytest

from hub.ppdl.consensus import quorum
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.sim.model.check import Bounds, check
from hub.ppdl.sim.mutants import faults
from hub.ppdl.sim.mutants.catalogue import MUTANTS, Mutant
from hub.ppdl.sim.mutants.hunt import hunt, judged, try_mutant
from hub.ppdl.sim.mutants.killers import Killer
from hub.ppdl.sim.mutants.plant import NothingToPlantOn, replaced, subclass
from hub.ppdl.sim.mutants.scenarios import one_liar_drags_nobody

SLOW = {"model_byzantine_new_view"}
SURVIVES = Mutant("nothing is wrong", "no bug at all", subclass(Replica), one_liar_drags_nobody)


@cache
def on_the_core(killer: Killer) -> str | None:
    """What a check says of the unchanged core."""
    return judged(killer)


@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param(m, id=m.name.replace(" ", "_"), marks=[pytest.mark.slow] if m.killer.__name__ in SLOW else [])
        for m in MUTANTS
    ],
)
def test_a_mutant_is_killed_and_the_core_is_not(mutant: Mutant) -> None:
    assert on_the_core(mutant.killer) is None
    trial = try_mutant(mutant)
    assert trial.killed, f"nothing notices: {mutant.name}"


@pytest.mark.slow
def test_the_search_finds_the_lowest_certificate_without_a_script() -> None:
    """Random runs miss this bug; the exploration of views 0 to 2 does not."""
    [mutant] = [m for m in MUTANTS if "lowest" in m.name]
    with mutant.plant() as broken:
        report = check(Bounds(views=2, byzantine=0, completions=0), broken)
    [violation] = report.violations
    assert violation["property"].startswith("agreement") and len(violation["trace"]) >= 10


def test_there_are_enough_different_mutants() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 14
    assert all(mutant.source and mutant.killer.__doc__ for mutant in MUTANTS)


def test_what_was_planted_is_gone_afterwards_even_after_an_error() -> None:
    before = quorum.quorum
    with pytest.raises(ZeroDivisionError), replaced((quorum, "quorum", faults.quorum_of_2f))():
        assert quorum.quorum(4) == 2
        raise ZeroDivisionError
    assert quorum.quorum is before and quorum.quorum(4) == 3


def test_a_bug_cannot_be_planted_on_what_is_not_there() -> None:
    class Renamed(Replica):
        """Overrides a method that the core does not have."""

        def _no_such_rule(self) -> None:
            raise AssertionError

    with pytest.raises(NothingToPlantOn, match="_no_such_rule"), subclass(Renamed)():
        pass
    with (
        pytest.raises(NothingToPlantOn, match="no_such_function"),
        replaced((quorum, "quorum", faults.quorum_of_2f), (quorum, "no_such_function", None))(),
    ):
        pass
    assert quorum.quorum(4) == 3


def test_a_survivor_is_named() -> None:
    result = hunt((SURVIVES,))
    assert result.survivors == ["nothing is wrong"] and not result.passed and not result.false_alarms
    assert result.row()["trials"][0]["killed"] is False


def test_a_check_that_fails_without_a_bug_is_named() -> None:
    def alarm(replica_class: type[Replica]) -> str | None:
        raise AssertionError("always")

    result = hunt((Mutant("any", "none", subclass(Replica), alarm),))
    assert list(result.false_alarms) == ["alarm"] and not result.survivors and not result.passed
