"""The reductions of the model check lose nothing: a search without any finds the same."""

from __future__ import annotations

from itertools import permutations

import pytest
from plain_search import PlainSearch, Vector

from hub.ppdl.consensus.messages import Kind
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.sim.model.check import Bounds, Model
from hub.ppdl.sim.model.local import exchanged
from hub.ppdl.sim.model.search import State
from hub.ppdl.sim.model.standin import Chain


def reduced_vectors(bounds: Bounds, byzantine: int) -> set[Vector]:
    """Statements in every state of the real search, and in those that differ from it in names only."""
    model = Model(bounds, byzantine, Replica)
    found: set[Vector] = set()

    def visit(state: State) -> None:
        found.add(tuple(i.locals[part].said for i, part in zip(model.instances, state, strict=True)))

    model.search.run(visit, lambda states, depth: None)
    assert model.search.exhausted
    forger = model._forger
    swap = {} if forger is None else forger.twins_of_blocks(bounds.views)
    found |= {exchanged(vector, swap) for vector in found}
    alike = model._alike()
    renamed: set[Vector] = set()
    for vector in found:
        for order in permutations(alike):
            other = list(vector)
            for place, source in zip(alike, order, strict=True):
                other[place] = vector[source]
            renamed.add(tuple(other))
    return renamed


def core_of(vector: Vector) -> tuple[frozenset[object], ...]:
    """A vector without what binds nobody: PREPAREs, proposals."""
    binding = (Kind.COMMIT, Kind.VIEW_CHANGE, Kind.NEW_VIEW)
    return tuple(frozenset(token for token in said if token.kind in binding) for said in vector)


def assert_equivalent(plain: set[Vector], reduced: set[Vector]) -> None:
    assert reduced <= plain, "the reduced search invents states"
    assert_covered(plain, reduced)


def assert_covered(plain: set[Vector], reduced: set[Vector]) -> None:
    """Each vector has one in the reduced set that binds alike and says at least as much."""
    by_core: dict[object, list[Vector]] = {}
    for vector in reduced:
        by_core.setdefault(core_of(vector), []).append(vector)
    for vector in plain:
        covering = by_core.get(core_of(vector), [])
        assert any(all(a <= b for a, b in zip(vector, other, strict=True)) for other in covering), (
            f"no state of the reduced search says as much as {vector}"
        )


@pytest.mark.parametrize("byzantine", [0, 1])
def test_a_search_without_reductions_finds_the_same_in_view_0(byzantine: int) -> None:
    bounds = Bounds(views=0)
    plain = PlainSearch(bounds, byzantine, Replica).run()
    assert len(plain) > 5
    assert_equivalent(plain, reduced_vectors(bounds, byzantine))


def test_a_search_without_reductions_finds_the_same_over_a_decision() -> None:
    """COMMITs are delivered too, so replicas fall silent when they decide."""
    bounds = Bounds(views=0, adversary="none")
    plain = PlainSearch(bounds, 0, Replica, commits=True)
    assert_equivalent(plain.run(), reduced_vectors(bounds, 0))
    assert len({block for _, block in plain.decided}) == 1 and len(plain.decided) == 3


def assert_forger_covers_twins(views: int, byzantine: int) -> None:
    chain = Chain(4)
    names = {f"twin-{twin}-v{view}": f"{block}{view}" for twin, block in ("aA", "bB") for view in range(views + 1)}
    same = {chain.block(byzantine, twin).hash: chain.block(byzantine, block).hash for twin, block in names.items()}
    twins = reduced_vectors(Bounds(views=views, adversary="twin"), byzantine)
    honest = {tuple(exchanged(said, same) for said in vector[:3]) for vector in twins}
    assert_covered(honest, reduced_vectors(Bounds(views=views), byzantine))


@pytest.mark.parametrize("byzantine", [0, 1])
def test_beside_the_forger_honest_validators_say_whatever_they_say_beside_twins(byzantine: int) -> None:
    assert_forger_covers_twins(0, byzantine)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_forger_covers_a_twin_that_leads_view_1() -> None:
    assert_forger_covers_twins(1, 2)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("byzantine", [0, 1, 2])
def test_a_search_without_reductions_finds_the_same_over_a_view_change(byzantine: int) -> None:
    bounds = Bounds(views=1, adversary="none")
    plain = PlainSearch(bounds, byzantine, Replica).run()
    assert_equivalent(plain, reduced_vectors(bounds, byzantine))
