"""Which blocks a replica takes, from whom, and what it says of liars: rows 11 to 15, and proposals that get no vote."""

from __future__ import annotations

import pytest
from pbft_lab import Lab, Member, stuck_in

from hub.ppdl.application import Verdict
from hub.ppdl.consensus.core import HELP_PER_TICK
from hub.ppdl.consensus.effects import (
    Complaint,
    Received,
    Send,
    SetTimer,
    Tick,
    Tip,
    Validate,
    Validated,
)
from hub.ppdl.consensus.messages import (
    Decided,
    Message,
    Status,
    SyncRequest,
    SyncResponse,
)
from hub.ppdl.consensus.quorum import ValidatorSet


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
