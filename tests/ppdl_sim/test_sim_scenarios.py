"""Every scripted scenario holds, and each fails for the bug that it is about."""

from __future__ import annotations

import pytest
from planted import (
    FollowsAnyone,
    ForgetsCertificate,
    NeverSuspects,
    StaysInViewChange,
    VotesAgainAfterWipe,
)

from hub.ppdl.consensus import certs, viewchange
from hub.ppdl.consensus.messages import PreparedCert
from hub.ppdl.consensus.replica import Replica
from hub.ppdl.sim.scenarios_disk import SCENARIOS
from hub.ppdl.sim.stage import Stage


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str) -> None:
    assert SCENARIOS[name]() == []


@pytest.mark.parametrize(
    ("replica_class", "name", "finding"),
    [
        (ForgetsCertificate, "row_7_a_decided_block_survives_the_view_change", "fork"),
        (ForgetsCertificate, "row_7_a_prepared_block_survives_a_crash_of_all", "fork"),
        (FollowsAnyone, "row_4_flood_of_view_numbers", "nobody leaves view 0"),
        (FollowsAnyone, "row_4_two_others_are_joined", "one alone moves nobody"),
        (StaysInViewChange, "row_6_blocks_arrive_in_any_phase", "view changing: "),
        (VotesAgainAfterWipe, "row_8_a_wiped_proposer_does_not_propose_again", "is not asked for a block"),
        (VotesAgainAfterWipe, "row_8_more_than_f_wiped_disks_stop_the_chain", "nobody decides anything more"),
        (NeverSuspects, "row_15_a_silent_first_proposer", "the idle height is watched"),
    ],
)
def test_a_planted_bug_fails_its_scenario(replica_class: type[Replica], name: str, finding: str) -> None:
    failures = SCENARIOS[name](replica_class)
    assert any(finding in failure for failure in failures), failures


def lowest(changes) -> PreparedCert | None:  # type: ignore[no-untyped-def]
    found = [vc.cert for vc in changes if vc.cert is not None]
    return min(found, key=lambda cert: (cert.view, cert.header.hash), default=None)


def test_the_lowest_certificate_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random seeds do not find this one."""
    for module in (certs, viewchange):
        monkeypatch.setattr(module, "select_certificate", lowest)
    failures = SCENARIOS["new_view_takes_the_highest_certificate"]()
    assert failures and failures[0].startswith("fork: height 1")


def test_a_stage_moves_only_as_told() -> None:
    stage = Stage()
    stage.deliver()
    assert stage.world.heights() == [0] * 4 and stage.world.now < 100
    stage.propose(0)  # node 1 is asked at height 1, node 0 is not
    assert stage.failures == ["expected that node 0 waits for a block to propose"]


def test_a_stage_tells_its_story() -> None:
    lines: list[str] = []
    stage = Stage(trace=True, sink=lines.append)
    stage.hold("COMMIT", to=(2,))
    stage.propose(1)
    stage.deliver()
    assert stage.world.heights() == [1, 1, 0, 1] and stage.block_at(1, 2) is None
    stage.release()
    assert stage.world.heights() == [1] * 4 and stage.block_at(1, 2) == stage.block_at(1, 0)
    assert any("decides h1" in line for line in lines)
