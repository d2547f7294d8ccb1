"""Views, votes and quorums, scripted: the normal case, and rows 1 to 7 of the bugs that other PBFT engines shipped.

The rows are those of docs/PPDL.md.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from pbft_lab import PHASES, Lab, stuck_in

from hub.ppdl.consensus import certs, viewchange
from hub.ppdl.consensus.effects import (
    Complaint,
    Received,
    SetTimer,
    Tick,
)
from hub.ppdl.consensus.messages import (
    Commit,
    NewView,
    Prepare,
    PrePrepare,
    ViewChange,
)
from hub.ppdl.consensus.votes import VIEW_WINDOW, ViewChangeBox


def test_normal_case_decides_everywhere() -> None:
    lab = Lab()
    lab.propose(1)
    lab.deliver()
    assert lab.heights() == [1, 1, 1, 1] and len(lab.hashes(1)) == 1
    for member in lab.members:
        certs.verify_qc(lab.domain, lab.set, member.decided[0].block.header, member.decided[0].qc)
    lab.propose(2)
    lab.deliver()
    assert lab.heights() == [2, 2, 2, 2]


def test_one_validator_alone_decides() -> None:
    lab = Lab(1)
    for _ in range(3):
        lab.propose(0)
    assert lab.heights() == [3]


def test_two_of_four_do_not_decide() -> None:
    lab = Lab()
    lab.members[2].up = lab.members[3].up = False
    lab.propose(1)
    lab.deliver()
    assert lab.heights() == [0, 0, 0, 0]


def prepared_views(lab: Lab) -> list[int | None]:
    proofs = [m.replica.state.prepared for m in lab.members]
    return [None if p is None else p.cert.view for p in proofs]


def enter_view_1_with_b(lab: Lab, decides: bool) -> None:
    """After A was prepared at node 0 only, view 1 starts without it and prepares B at 1, 2, 3."""
    lab.time_out(1, 2, 3)
    lab.deliver(
        lambda a, b, m: (
            0 not in (a, b)
            and (isinstance(m, ViewChange | NewView | Prepare) or (decides and b == 3 and isinstance(m, Commit)))
        )
    )


@pytest.fixture
def locked_on_a() -> Lab:
    lab = Lab()
    lab.propose(1, b"A")
    lab.deliver(lambda a, b, m: isinstance(m, PrePrepare) or (isinstance(m, Prepare) and b == 0))
    assert prepared_views(lab) == [0, None, None, None]
    return lab


def test_row_1_split_certificates_with_one_crash_still_decide(locked_on_a: Lab) -> None:
    lab = locked_on_a
    enter_view_1_with_b(lab, decides=False)
    assert prepared_views(lab) == [0, 1, 1, 1] and lab.heights() == [0, 0, 0, 0]
    lab.members[2].up = False
    lab.time_out(0, 1, 3)
    lab.deliver()
    assert [lab.heights()[i] for i in (0, 1, 3)] == [1, 1, 1]
    assert len(lab.hashes(1)) == 1
    assert lab.members[0].decided[0].block.txs == (b"fresh in view 1",)  # B, of the higher view, not A


def higher_certificate_scenario(lab: Lab) -> set[bytes]:
    """B is decided at node 3, which then vanishes; A waits at node 0, who becomes proposer of view 3."""
    enter_view_1_with_b(lab, decides=True)
    assert lab.heights() == [0, 0, 0, 1]
    lab.members[3].up = False
    for _ in range(3):
        lab.time_out(0, 1, 2)
        lab.deliver()
    return lab.hashes(1)


def test_row_1_highest_certificate_wins_over_mine(locked_on_a: Lab) -> None:
    assert len(higher_certificate_scenario(locked_on_a)) == 1
    assert locked_on_a.heights() == [1, 1, 1, 1]


def test_row_1_taking_the_lowest_certificate_would_fork(locked_on_a: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario above has teeth: with this planted bug, which random runs do not find, it forks."""

    def lowest(changes: tuple[ViewChange, ...]) -> certs.PreparedCert | None:
        found = [vc.cert for vc in changes if vc.cert is not None]
        return min(found, key=lambda cert: cert.view, default=None)

    monkeypatch.setattr(viewchange, "select_certificate", lowest)
    monkeypatch.setattr(certs, "select_certificate", lowest)
    assert len(higher_certificate_scenario(locked_on_a)) == 2


def test_row_2_two_of_three_voters_are_no_quorum_of_five() -> None:
    lab = Lab(5)
    block = lab.block(1, b"x")
    lab.step(0, Received(lab.addresses[1], lab.pre_prepare(1, 0, block)))
    for i in (1, 2):
        lab.step(0, Received(lab.addresses[i], lab.prepare(i, 0, block)))
    assert prepared_views(lab)[0] is None  # 3 = 2f + 1 votes, 4 needed
    lab.step(0, Received(lab.addresses[3], lab.prepare(3, 0, block)))
    assert prepared_views(lab)[0] == 0


def test_row_3_forged_new_view_is_reported_and_ignored() -> None:
    lab = Lab()
    block = lab.block(1, b"A")
    changes = (lab.view_change(0, 1), lab.view_change(1, 1, lab.cert(0, block)), lab.view_change(2, 1))
    forged = lab.new_view(2, 1, changes, lab.block(2, b"mine"))
    lab.step(3, Received(lab.addresses[2], forged))
    replica = lab.members[3].replica
    assert (replica.view, replica.state.proposal) == (0, None)
    assert [r.complaint for r in lab.members[3].reports] == [Complaint.INVALID]


def test_row_4_a_flood_of_views_costs_one_slot_and_drags_nobody() -> None:
    lab = Lab()
    replica = lab.members[0].replica
    for view in [*range(1, 300), 2**32 - 1]:
        lab.step(0, Received(lab.addresses[3], lab.view_change(3, view)))
    assert len(replica.state.view_changes) == 1 and replica.view == 0
    lab.step(0, Received(lab.addresses[2], lab.view_change(2, 7)))
    assert replica.view == 7  # the second highest: one of the two is honest
    assert len(replica.state.view_changes) == 3


def test_row_4_votes_far_from_the_view_are_not_kept() -> None:
    lab = Lab()
    block = lab.block(1, b"x")
    for view in range(200):
        lab.step(0, Received(lab.addresses[3], lab.prepare(3, view, block)))
    assert len(lab.members[0].replica.state.prepares) == VIEW_WINDOW + 1


def test_row_4_a_flood_of_votes_and_views_has_no_signature_checked() -> None:
    lab = Lab()
    replica, block = lab.members[0].replica, lab.block(1, b"x")
    for view in range(1, 40):
        for said in (lab.prepare(3, view, block), lab.commit(3, view, block), lab.view_change(3, view)):
            replica.domain._signers.clear()
            lab.step(0, Received(lab.addresses[3], said))
            assert not replica.domain._signers
    assert replica.view == 0 and not lab.members[0].reports


def test_row_4_claims_are_verified_before_they_count() -> None:
    """One forged COMMIT among three of view 1; then a true one decides."""
    lab = Lab()
    block = lab.block(1, b"x")
    lab.step(0, Received(lab.addresses[1], lab.pre_prepare(1, 0, block)))
    forged = replace(lab.commit(2, 1, block), signature=lab.commit(2, 2, block).signature)
    for i, vote in ((1, lab.commit(1, 1, block)), (2, forged), (3, lab.commit(3, 1, block))):
        lab.step(0, Received(lab.addresses[i], vote))
    assert [r.complaint for r in lab.members[0].reports] == [Complaint.INVALID] and lab.heights()[0] == 0
    lab.step(0, Received(lab.addresses[2], lab.commit(2, 1, block)))
    assert lab.heights()[0] == 1


def test_row_4_a_claim_takes_no_statement_back() -> None:
    """The fuzzer found it: an unsigned VIEW-CHANGE for a later view made a replica forget the sender's signed one."""
    lab, box = Lab(), ViewChangeBox()
    said = lab.view_change(3, 1)
    box.add(said, lab.addresses[3])
    forged = replace(lab.view_change(3, 5), signature=said.signature)
    box.claim(forged, lab.addresses[3])
    assert box.all() == (said,) and not box.is_news(lab.addresses[3], 5)
    assert box.redeem() == [(lab.addresses[3], forged)]
    assert box.all() == (said,) and box.is_news(lab.addresses[3], 5)


def test_row_4_prepares_that_came_before_their_view_count_in_it() -> None:
    lab = Lab()
    block = lab.block(2, b"x")
    for i in (2, 3):
        lab.step(0, Received(lab.addresses[i], lab.prepare(i, 1, block)))
    changes = tuple(lab.view_change(i, 1) for i in (1, 2, 3))
    lab.step(0, Received(lab.addresses[2], lab.new_view(2, 1, changes, block)))
    lab.deliver(lambda a, b, m: False)
    assert prepared_views(lab)[0] == 1


def test_row_4_noise_in_another_view_is_blamed_at_the_second() -> None:
    lab = Lab()
    for text in (b"A", b"B"):
        vote = replace(lab.prepare(3, 2, lab.block(1, text)), signature=lab.prepare(3, 5, lab.block(1, text)).signature)
        lab.step(0, Received(lab.addresses[3], vote))
    assert [r.complaint for r in lab.members[0].reports] == [Complaint.INVALID]


def test_row_4_view_changes_are_verified_before_they_are_joined() -> None:
    lab = Lab()
    forged = replace(lab.view_change(2, 5), signature=lab.view_change(2, 6).signature)
    lab.step(0, Received(lab.addresses[2], forged))
    lab.step(0, Received(lab.addresses[3], lab.view_change(3, 5)))
    assert lab.members[0].replica.view == 0
    assert [r.complaint for r in lab.members[0].reports] == [Complaint.INVALID]
    lab.step(0, Received(lab.addresses[2], lab.view_change(2, 4)))
    assert lab.members[0].replica.view == 4


@pytest.mark.parametrize("phase", PHASES)
def test_row_6_a_synced_block_resets_any_phase(phase: str) -> None:
    lab = stuck_in(phase)
    lab.step(0, Received(lab.addresses[1], lab.members[1].decided[0]))
    replica = lab.members[0].replica
    assert lab.heights() == [1, 1, 1, 1]
    assert (replica.height, replica.view, replica.state.active) == (2, 0, True)
    assert replica.state.prepared is None and replica.state.proposal is None and not replica.state.mine
    lab.propose(2)
    lab.deliver()
    assert lab.heights() == [2, 2, 2, 2]


@pytest.mark.parametrize("phase", PHASES)
def test_row_6_a_stuck_node_catches_up_by_itself(phase: str) -> None:
    lab = stuck_in(phase)
    for _ in range(3):
        for i in range(4):
            lab.step(i, Tick())
        lab.deliver()
    assert lab.heights() == [1, 1, 1, 1]


@pytest.mark.parametrize("phase", PHASES)
def test_row_6_restart_in_any_phase(phase: str) -> None:
    lab = stuck_in(phase)
    before = [(r.kind, r.view, r.digest) for r in lab.members[0].records]
    lab.restart(0)
    assert lab.members[0].replica.view == max((v for _, v, _ in before), default=0)
    for _ in range(3):
        for i in range(4):
            lab.step(i, Tick())
        lab.deliver()
    lab.propose(2)
    lab.deliver()
    assert lab.heights() == [2, 2, 2, 2]
    spoken = {}
    for record in lab.members[0].records:
        place = record.kind, record.height, record.view
        assert spoken.setdefault(place, record.digest) == record.digest


def test_row_7_view_change_carries_the_certificate_and_the_block() -> None:
    lab = Lab()
    lab.propose(1, b"A")
    lab.deliver(lambda a, b, m: not isinstance(m, Commit))
    lab.time_out(0, 1, 2, 3)
    sent = [m for _, _, m in lab.wire if isinstance(m, ViewChange)]
    assert sent and all(m.cert is not None and m.block is not None for m in sent)
    lab.deliver()
    assert lab.heights() == [1, 1, 1, 1]
    assert lab.members[0].decided[0].block.txs == (b"A",) and lab.members[0].decided[0].qc.view == 1


def test_escalation_waits_for_a_quorum() -> None:
    """A replica that alone suspects does not run ahead through views."""
    lab = Lab()
    lab.time_out(0)
    assert lab.members[0].timers[-1].view == 0  # no timer for view 1 yet
    lab.wire.clear()
    for i in (2, 3):
        lab.step(0, Received(lab.addresses[i], lab.view_change(i, 1)))
    assert lab.members[0].timers[-1] == SetTimer(1, 1, idle=False)


def test_lost_messages_are_repeated_until_the_height_is_decided() -> None:
    lab = Lab()
    lab.propose(1, b"A")
    lab.wire.clear()  # everything lost
    for _ in range(6):
        for i in range(4):
            lab.step(i, Tick())
        lab.deliver()
    assert lab.heights() == [1, 1, 1, 1]


def test_lost_new_view_is_sent_again_to_who_asks() -> None:
    lab = Lab()
    lab.time_out(0, 1, 2, 3)
    lab.deliver(lambda a, b, m: not (b == 0 and not isinstance(m, ViewChange)) and not isinstance(m, Commit))
    assert lab.members[0].replica.state.active is False
    for i in range(4):
        lab.step(i, Tick())
        lab.step(i, Tick())
    lab.deliver()
    assert lab.heights() == [1, 1, 1, 1]
