"""The model check: what it explores, what it finds when the core is wrong, what it says about it."""

from __future__ import annotations

import pytest

from hub.ppdl.consensus import quorum
from hub.ppdl.consensus.certs import CertError
from hub.ppdl.consensus.core import HeightState
from hub.ppdl.consensus.effects import Timeout
from hub.ppdl.consensus.messages import Commit, Kind, Prepare
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.sim.model.check import Bounds, check
from hub.ppdl.sim.model.fork import fork
from hub.ppdl.sim.model.local import double_votes
from hub.ppdl.sim.model.standin import Chain, stand_in_signature
from hub.ppdl.sim.model.tokens import Token
from hub.ppdl.sim.mutants import faults
from hub.ppdl.sim.mutants.plant import replaced, subclass


@pytest.mark.parametrize("byzantine", range(4))
def test_views_0_and_1_hold_against_every_forger(byzantine: int) -> None:
    report = check(Bounds(views=1, byzantine=byzantine, completions=60))
    assert report.exhaustive and not report.violations
    assert report.completions == 60 and report.states > 150 and report.transitions > report.states


def test_view_0_holds_against_twins() -> None:
    report = check(Bounds(views=0, adversary="twin", completions=60))
    assert report.exhaustive and not report.violations and report.states > 100


def test_three_honest_validators_hold_over_restarts_at_any_time() -> None:
    report = check(Bounds(views=1, byzantine=1, adversary="none", restarts=True, completions=60))
    assert report.exhaustive and not report.violations


def test_restarts_add_states() -> None:
    plain, restarting = (check(Bounds(views=0, byzantine=1, restarts=r, completions=1)) for r in (False, True))
    assert restarting.states > plain.states


def test_a_violation_comes_with_a_shortest_trace_in_words() -> None:
    with replaced((quorum, "quorum", faults.quorum_of_2f))() as broken:
        report = check(Bounds(views=0, byzantine=1, completions=0), broken)
    [violation] = report.violations
    assert violation["byzantine"] == 1 and violation["property"].startswith("agreement")
    trace = violation["trace"]
    assert 4 <= len(trace) <= 8
    assert all(step.startswith("validator ") for step in trace)
    assert any("PRE-PREPARE view 0 block A0 from 1" in step for step in trace)
    assert any("PREPARE view 0 block B0" in step for step in trace)


def test_a_lock_without_an_end_is_found_as_lost_progress() -> None:
    with subclass(faults.NeverUnlocks)() as broken:
        report = check(Bounds(views=1, byzantine=0, completions=5_000), broken)
    assert report.violations and report.violations[0]["property"].startswith("progress")


def test_a_search_that_is_cut_short_says_so() -> None:
    report = check(Bounds(views=1, byzantine=1, completions=1, max_states=100))
    assert not report.exhaustive and not report.violations and report.states < 1_000


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({"validators": 8}, "4 to 7 validators"),
        ({"validators": 3}, "4 to 7 validators"),
        ({"views": 4}, "at most"),
        ({"views": -1}, "at most"),
        ({"adversary": "evil"}, "adversary"),
        ({"byzantine": 4}, "validator 4"),
    ],
)
def test_bounds_that_cannot_be_explored_are_refused(bounds: dict[str, int | str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Bounds(**bounds)  # type: ignore[arg-type]


def test_a_copy_of_a_state_shares_nothing_that_changes() -> None:
    chain = Chain(4)
    me = chain.addresses[0]
    state = HeightState()
    state.prepares.add(Prepare(1, 0, bytes(32), b""), me, 0)
    twin = fork(state)
    assert twin == state
    twin.prepares.add(Prepare(1, 0, bytes(32), b""), chain.addresses[1], 0)
    twin.mine[(Kind.COMMIT, 0)] = Commit(1, 0, bytes(32), b"")
    assert len(state.prepares) == 1 and not state.mine


def test_a_copy_of_something_unknown_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot copy"):
        fork({"queue": object()})


def test_a_stand_in_signature_binds_kind_height_view_and_digest() -> None:
    chain = Chain(4)
    place = Kind.PREPARE, 1, 0, bytes(32)
    signature = stand_in_signature(chain.addresses[2], chain.domain.digest(*place))
    assert chain.domain.signer(*place, signature) == chain.addresses[2]
    for other in (
        (Kind.COMMIT, 1, 0, bytes(32)),
        (Kind.PREPARE, 2, 0, bytes(32)),
        (Kind.PREPARE, 1, 1, bytes(32)),
        (Kind.PREPARE, 1, 0, b"\1" * 32),
    ):
        with pytest.raises(CertError):
            chain.domain.signer(*other, signature)
    with pytest.raises(CertError):
        chain.domain.signer(*place, chain.addresses[1] + signature[20:])


def test_two_statements_of_one_place_are_a_double_vote() -> None:
    first, second = Token(Kind.PREPARE, 0, b"A"), Token(Kind.PREPARE, 0, b"B")
    assert double_votes(frozenset({first, Token(Kind.PREPARE, 1, b"B"), Token(Kind.COMMIT, 0, b"B")})) == []
    assert len(double_votes(frozenset({first, second}))) == 1
    proposal, opening = Token(Kind.PRE_PREPARE, 1, b"A"), Token(Kind.NEW_VIEW, 1, b"B")
    assert len(double_votes(frozenset({proposal, opening}))) == 1


def test_an_assertion_of_the_core_is_a_violation_and_no_crash() -> None:
    class Fragile(Replica):
        """Fails an assertion at its first time-out."""

        def _on_timeout(self, event: Timeout) -> None:
            raise AssertionError("broken")

    report = check(Bounds(views=1, byzantine=0, adversary="none", completions=0), Fragile)
    assert "assertion" in report.violations[0]["property"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_views_0_to_2_hold_against_every_forger() -> None:
    report = check(Bounds(views=2, completions=300))
    assert report.exhaustive and not report.violations


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_views_0_and_1_hold_against_a_forger_and_restarts() -> None:
    report = check(Bounds(views=1, restarts=True, completions=300))
    assert report.exhaustive and not report.violations


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_views_0_and_1_hold_against_twins() -> None:
    report = check(Bounds(views=1, adversary="twin", byzantine=2, completions=300))
    assert report.exhaustive and not report.violations
