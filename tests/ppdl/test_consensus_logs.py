"""What a replica signed and what it still knows of it, scripted: rows 8 and 9 of the bugs that other PBFT engines shipped."""

from __future__ import annotations

import pytest
from pbft_lab import Lab

from hub.ppdl.consensus.effects import (
    Advanced,
    Broadcast,
    Decide,
    LogComplete,
    Persist,
    Proposed,
    Received,
    Restored,
    Tick,
    Timeout,
    Tip,
    VoteRecord,
)
from hub.ppdl.consensus.messages import (
    Commit,
    Decided,
    Kind,
    MessageError,
    Status,
    ViewChange,
    encode_message,
)


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


def test_a_malformed_vote_log_is_refused_with_a_sentence() -> None:
    lab = Lab()
    record = VoteRecord(Kind.PREPARE, 1, 0, bytes(32), encode_message(Status(1)))
    with pytest.raises(MessageError, match="damaged"):
        lab.make(0, restored=Restored((record,)))
