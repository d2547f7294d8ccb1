"""Scripted scenarios, one or more for each bug that other PBFT engines shipped (numbers.

The project's bug table, docs of the consensus package).
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from pbft_lab import Lab, Member, Rule

from hub.ppdl.application import Verdict
from hub.ppdl.consensus import certs, viewchange
from hub.ppdl.consensus.core import HELP_PER_TICK
from hub.ppdl.consensus.effects import (
    Advanced,
    Broadcast,
    Complaint,
    Decide,
    LogComplete,
    Persist,
    Proposed,
    Received,
    Restored,
    Send,
    SetTimer,
    Tick,
    Timeout,
    Tip,
    Validate,
    Validated,
    VoteRecord,
)
from hub.ppdl.consensus.messages import (
    Commit,
    Decided,
    Kind,
    Message,
    MessageError,
    NewView,
    Prepare,
    PrePrepare,
    Status,
    SyncRequest,
    SyncResponse,
    ViewChange,
    encode_message,
)
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.consensus.votes import VIEW_WINDOW, ViewChangeBox


def only(*kinds: type) -> Rule:
    return lambda a, b, m: isinstance(m, kinds)


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


def stuck_in(phase: str) -> Lab:
    """Height 1 is decided by 1, 2, 3; node 0 missed it in the given phase."""
    lab = Lab()
    lab.propose(1, b"A")
    if phase == "idle":
        lab.deliver(lambda a, b, m: b != 0)
    elif phase == "proposal seen":
        lab.deliver(lambda a, b, m: b != 0 or isinstance(m, PrePrepare))
    elif phase == "prepared":
        lab.deliver(lambda a, b, m: b != 0 or not isinstance(m, Commit))
    elif phase == "view changing":
        lab.time_out(0)
        lab.deliver(lambda a, b, m: 0 not in (a, b))
    elif phase == "far view":
        lab.deliver(lambda a, b, m: 0 not in (a, b))
        for i in (2, 3):
            lab.step(0, Received(lab.addresses[i], lab.view_change(i, 40)))
        assert lab.members[0].replica.view == 40
    lab.wire.clear()
    assert lab.heights() == [0, 1, 1, 1]
    return lab


PHASES = ("idle", "proposal seen", "prepared", "view changing", "far view")


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


def test_row_8_a_replica_without_its_log_is_silent_until_past_what_it_may_have_signed() -> None:
    lab = Lab()
    lab.propose(1, b"A")
    lab.deliver(lambda a, b, m: not (b == 0 and isinstance(m, Commit)))
    lab.restart(0, keep_log=False)
    replica = lab.members[0].replica
    lab.wire.clear()
    effects = lab.step(0, Tick()) + lab.step(0, Timeout(1, 0))
    effects += lab.step(0, Received(lab.addresses[1], lab.pre_prepare(1, 0, lab.members[1].decided[0].block)))
    assert not [e for e in effects if isinstance(e, Persist)]
    assert all(isinstance(e.message, Status) for e in effects if isinstance(e, Broadcast))
    for i in (1, 2):  # quorum - 1 others say where they work
        lab.step(0, Received(lab.addresses[i], Status(lab.members[i].replica.height)))
    assert replica.abstain_through == 3
    for height in (1, 2, 3):
        assert not replica.may_vote()
        if height > 1:
            lab.propose(height % 4)
            lab.deliver()
        lab.step(0, Received(lab.addresses[1], lab.members[1].decided[height - 1]))
    assert replica.height == 4 and replica.may_vote()
    lab.wire.clear()
    lab.propose(0)  # height 4: node 0 is proposer and speaks again
    lab.deliver()
    assert lab.heights() == [4, 4, 4, 4]


def test_row_8_log_recovery_is_noted_durably() -> None:
    lab = Lab()
    replica = lab.make(0)
    replica.log_lost, replica.abstain_through = True, 1
    block = lab.block(1, b"A")
    replica.step(Received(lab.addresses[1], Decided(block, lab.qc(0, block, (1, 2, 3)))))
    tip = Tip(1, block.hash, 5, bytes(32), lab.set, lab.set)
    assert LogComplete() in replica.step(Advanced(tip))


def test_row_8_more_than_f_lost_logs_stop_the_chain() -> None:
    lab = Lab()
    for i in (0, 3):
        lab.restart(i, keep_log=False)
    lab.propose(1, b"A")
    for _ in range(4):
        lab.deliver()
        lab.time_out(0, 1, 2, 3)
        for i in range(4):
            lab.step(i, Tick())
    lab.deliver()
    assert lab.heights() == [0, 0, 0, 0]


def test_row_9_a_vote_is_persisted_before_anything_is_sent_with_it() -> None:
    lab = Lab()
    want = lab.members[1].wants[-1]
    effects = lab.members[1].replica.step(Proposed(want.height, 0, (b"A",), 5))
    kinds = [type(e).__name__ for e in effects]
    assert kinds.index("Persist") < kinds.index("Broadcast")
    (persist,) = [e for e in effects if isinstance(e, Persist)]
    assert [r.kind for r in persist.votes] == [Kind.PRE_PREPARE, Kind.PREPARE]


def test_row_9_after_a_crash_the_same_vote_is_repeated_and_no_other() -> None:
    lab = Lab()
    first, second = lab.block(1, b"A"), lab.block(1, b"B")
    lab.step(0, Received(lab.addresses[1], lab.pre_prepare(1, 0, first)))
    lab.restart(0)
    lab.wire.clear()
    lab.step(0, Received(lab.addresses[1], lab.pre_prepare(1, 0, second)))  # the proposer equivocates
    assert lab.members[0].replica.state.proposal is not None  # it has taken and validated the second block
    assert lab.prepare(0, 0, second) not in [message for _, _, message in lab.wire]
    assert [record.digest for record in lab.members[0].records] == [first.hash]
    lab.step(0, Tick())
    repeated = [e.message for e in lab.step(0, Tick()) if isinstance(e, Broadcast)]
    assert lab.prepare(0, 0, first) in repeated
    assert lab.prepare(0, 0, second) not in repeated


def test_row_9_a_crash_between_the_last_commit_and_the_block_is_made_good_at_once() -> None:
    """A validator alone has nobody who would send the deciding vote again."""
    lab = Lab(1)
    effects = lab.members[0].replica.step(Proposed(1, 0, (b"A",), 1000))
    stored = [effect for effect in effects if isinstance(effect, Persist)]
    votes = tuple(record for effect in stored for record in effect.votes)
    again = lab.make(0, restored=Restored(votes, stored[-1].prepared))
    [decide] = [effect for effect in again.start() if isinstance(effect, Decide)]
    assert decide in effects


def test_row_9_a_proposer_does_not_propose_twice_after_a_crash() -> None:
    lab = Lab()
    lab.propose(1, b"A")
    lab.wire.clear()
    lab.restart(1)
    member = lab.members[1]
    assert len(member.wants) == 1  # it is not asked again
    effects = lab.step(1, Proposed(1, 0, (b"B",), 9))
    assert not effects
    lab.step(1, Tick())
    lab.step(1, Tick())
    lab.deliver()
    assert lab.members[0].decided[0].block.txs == (b"A",)


def test_row_9_after_a_view_change_no_lower_view_is_helped_even_after_a_crash() -> None:
    lab = Lab()
    lab.time_out(0)
    lab.restart(0)
    replica = lab.members[0].replica
    assert (replica.view, replica.state.active) == (1, False)
    assert lab.step(0, Received(lab.addresses[1], lab.pre_prepare(1, 0, lab.block(1, b"A")))) == []


def test_row_9_prepared_certificate_survives_a_crash() -> None:
    lab = Lab()
    lab.propose(1, b"A")
    lab.deliver(lambda a, b, m: not isinstance(m, Commit))
    for i in range(4):
        lab.restart(i)
    lab.wire.clear()
    lab.time_out(0, 2, 3)
    changes = [m for _, _, m in lab.wire if isinstance(m, ViewChange)]
    assert changes and all(vc.cert is not None and vc.block is not None for vc in changes)
    lab.deliver()
    assert lab.members[0].decided[0].block.txs == (b"A",)


def test_row_11_a_lying_peer_moves_nothing_and_is_passed_over() -> None:
    lab = stuck_in("idle")
    replica = lab.members[0].replica
    asked: list[bytes] = []
    lab.step(0, Received(lab.addresses[3], Status(2**60)))
    for i in (1, 2):
        lab.step(0, Received(lab.addresses[i], Status(2)))
    fake = lab.block(3, b"fake")
    for _ in range(12):
        for effect in lab.step(0, Tick()):
            if isinstance(effect, Send) and isinstance(effect.message, SyncRequest):
                asked.append(effect.peer)
        bad = SyncResponse((Decided(fake, lab.qc(0, fake, (3,))),))
        lab.step(0, Received(lab.addresses[3], bad))
        assert replica.height == 1
    assert len(set(asked)) >= 2  # somebody else is asked too
    assert Complaint.INVALID in {r.complaint for r in lab.members[0].reports}
    lab.deliver()
    assert replica.height == 2


def test_row_11_unasked_sync_is_ignored_and_help_is_rationed() -> None:
    lab = stuck_in("idle")
    response = SyncResponse((lab.members[1].decided[0],))
    lab.step(0, Received(lab.addresses[1], response))
    assert lab.heights()[0] == 0
    for _ in range(50):
        lab.step(1, Received(lab.addresses[0], SyncRequest(1)))
    assert sum(isinstance(m, SyncResponse) for _, _, m in lab.wire) == HELP_PER_TICK


def test_row_11_a_forged_block_behind_a_true_one_is_reported_and_the_batch_is_dropped() -> None:
    """The second block of an answer is looked at when the first is executed, outside any message."""
    lab = stuck_in("idle")
    lab.propose(2, b"B")
    lab.deliver(lambda a, b, m: b != 0)
    for i in (1, 2, 3):
        lab.step(0, Received(lab.addresses[i], Status(3)))
    [(_, liar, request)] = [item for item in lab.wire if isinstance(item[2], SyncRequest)]
    lab.wire.clear()
    true = lab.members[1].decided
    lone = Decided(true[1].block, lab.qc(0, true[1].block, (3,)))
    lab.step(0, Received(lab.addresses[liar], SyncResponse((true[0], lone, true[1]))))
    member = lab.members[0]
    assert request == SyncRequest(1) and lab.heights() == [1, 2, 2, 2]
    assert (member.reports[-1].complaint, member.reports[-1].sender) == (Complaint.INVALID, lab.addresses[liar])
    for _ in range(3):
        for i in range(4):
            lab.step(i, Tick())
        lab.deliver()
    assert lab.heights() == [2, 2, 2, 2]


def test_row_12_a_certificate_of_the_wrong_set_is_refused() -> None:
    """Height 2 has a new set; the old set's quorum proves nothing there."""
    lab = Lab(5)
    old, new = ValidatorSet(tuple(lab.addresses[:4])), ValidatorSet(tuple(lab.addresses[1:]))
    tip = Tip(1, bytes(32), 0, bytes(32), new, new)
    replica = lab.make(1, tip)
    block = lab.block(2, b"x", tip=tip)
    replica.step(Received(lab.addresses[2], Decided(block, lab.qc(0, block, (0, 1, 2, 3)))))
    assert not replica.state.deciding
    assert old.hash != new.hash
    replica.step(Received(lab.addresses[2], Decided(block, lab.qc(0, block, (1, 2, 3)))))
    assert replica.state.deciding


def test_row_12_header_must_name_the_next_set() -> None:
    lab = Lab()
    other = ValidatorSet(tuple(lab.addresses[:3]))
    wrong = lab.block(1, b"x", tip=Tip(0, lab.tip.hash, 0, bytes(32), lab.set, other))
    lab.step(0, Received(lab.addresses[1], lab.pre_prepare(1, 0, wrong)))
    assert "validator set" in lab.members[0].reports[-1].detail


def test_row_13_equivocation_is_reported_and_the_first_vote_stays() -> None:
    lab = Lab()
    first, second = lab.block(1, b"A"), lab.block(1, b"B")
    for block in (first, second):
        lab.step(0, Received(lab.addresses[1], lab.pre_prepare(1, 0, block)))
        lab.step(0, Received(lab.addresses[2], lab.prepare(2, 0, block)))
        lab.step(0, Received(lab.addresses[2], lab.commit(2, 0, block)))
    complaints = [r for r in lab.members[0].reports if r.complaint is Complaint.EQUIVOCATION]
    assert len(complaints) == 3
    state = lab.members[0].replica.state
    assert state.prepares.count(0, first.hash) == 2 and state.prepares.count(0, second.hash) == 0


def test_row_15_an_idle_height_is_watched() -> None:
    lab = Lab()
    assert all(m.timers[-1] == SetTimer(1, 0, idle=True) for m in lab.members)
    lab.time_out(0, 2, 3)  # proposer 1 stays silent
    lab.deliver()
    assert lab.heights() == [1, 1, 1, 1]
    assert lab.members[0].decided[0].block.txs == (b"fresh in view 1",)


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


def test_a_rejected_block_gets_no_vote_and_the_next_proposer_replaces_it() -> None:
    lab = Lab(verdict=Verdict.REJECT)
    lab.propose(1, b"A")
    lab.deliver()
    assert lab.heights() == [0, 0, 0, 0]
    lab.verdict = Verdict.ACCEPT
    lab.time_out(0, 2, 3)
    lab.deliver()
    assert lab.members[0].decided[0].block.txs == (b"fresh in view 1",)


def test_unavailable_is_asked_again() -> None:
    lab = Lab(verdict=Verdict.UNAVAILABLE)
    lab.propose(1, b"A")
    lab.deliver()
    lab.verdict = Verdict.ACCEPT
    for _ in range(3):
        for i in range(4):
            lab.step(i, Tick())
        lab.deliver()
    assert lab.heights() == [1, 1, 1, 1]


def test_late_or_foreign_verdicts_are_ignored() -> None:
    lab = Lab(verdict=Verdict.REJECT)
    block = lab.block(1, b"A")
    effects = lab.step(0, Received(lab.addresses[1], lab.pre_prepare(1, 0, block)))
    assert any(isinstance(e, Validate) for e in effects)
    for event in (
        Validated(1, 1, block.hash, Verdict.ACCEPT),
        Validated(2, 0, block.hash, Verdict.ACCEPT),
        Validated(1, 0, bytes(32), Verdict.ACCEPT),
    ):
        assert lab.step(0, event) == []


def bad_blocks(lab: Lab) -> dict[str, Message]:
    """Proposals of node 1 for (1, 0) that break one chain rule each."""
    tip = lab.tip
    strange = Tip(0, bytes(32), 0, bytes(32), lab.set, lab.set)
    other_app = Tip(0, tip.hash, 0, b"\1" * 32, lab.set, lab.set)
    early = Tip(0, tip.hash, 0, bytes(32), lab.set, lab.set)
    return {
        "parent": lab.pre_prepare(1, 0, lab.block(1, b"x", tip=strange)),
        "app hash": lab.pre_prepare(1, 0, lab.block(1, b"x", tip=other_app)),
        "timestamp": lab.pre_prepare(1, 0, lab.block(1, b"x", timestamp_ms=0, tip=early)),
        "proposer named": lab.pre_prepare(1, 0, lab.block(2, b"x")),
        "signer": lab.pre_prepare(2, 0, lab.block(2, b"x")),
        "later view": lab.pre_prepare(2, 1, lab.block(2, b"x")),
    }


@pytest.mark.parametrize("name", ["parent", "app hash", "timestamp", "proposer named", "signer", "later view"])
def test_bad_proposals_get_no_vote(name: str) -> None:
    lab = Lab()
    effects = lab.step(0, Received(lab.addresses[1], bad_blocks(lab)[name]))
    assert [type(e).__name__ for e in effects] == ["Report"]
    assert lab.members[0].reports[-1].complaint is Complaint.INVALID


def test_a_quorum_against_my_state_stops_me() -> None:
    lab = Lab()
    diverged = lab.block(1, b"x", tip=Tip(0, lab.tip.hash, 0, b"\1" * 32, lab.set, lab.set))
    lab.step(0, Received(lab.addresses[1], Decided(diverged, lab.qc(0, diverged, (1, 2, 3)))))
    member: Member = lab.members[0]
    assert member.reports[-1].complaint is Complaint.DIVERGED and member.replica.halted
    assert lab.step(0, Tick()) == [] and lab.heights()[0] == 0


def test_an_early_message_of_the_next_height_waits() -> None:
    lab = Lab()
    lab.propose(1, b"A")
    lab.deliver(lambda a, b, m: b != 0)
    lab.propose(2, b"B")
    lab.deliver(lambda a, b, m: True)  # node 0 gets height 2 while it is in height 1
    assert lab.heights() == [0, 2, 2, 2]
    lab.step(0, Received(lab.addresses[1], lab.members[1].decided[0]))
    lab.deliver()
    assert lab.heights()[0] == 2


def test_observer_follows_and_never_votes() -> None:
    lab = Lab(5)
    lab.set = ValidatorSet(tuple(lab.addresses[:4]))
    lab.tip = Tip(0, lab.domain.genesis_hash, 0, bytes(32), lab.set, lab.set)
    lab.members = [Member(lab.make(i)) for i in range(5)]
    for i, member in enumerate(lab.members):
        lab.carry(i, member.replica.start())
    lab.propose(1, b"A")
    lab.deliver()
    assert lab.heights() == [1] * 5
    assert not lab.members[4].records


def test_a_malformed_vote_log_is_refused_with_a_sentence() -> None:
    lab = Lab()
    record = VoteRecord(Kind.PREPARE, 1, 0, bytes(32), encode_message(Status(1)))
    with pytest.raises(MessageError, match="damaged"):
        lab.make(0, restored=Restored((record,)))
