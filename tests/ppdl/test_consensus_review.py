"""What a review of the core against the table of known bugs found, and rows of the table that had no scenario of their own."""

from __future__ import annotations

import dataclasses

import pytest
from pbft_lab import Lab

from hub.ppdl.consensus.catchup import MAX_STRANGERS
from hub.ppdl.consensus.effects import Advanced, Received, Restored, Send, Tick, Tip, VoteRecord
from hub.ppdl.consensus.messages import Commit, Decided, Kind, MessageError, Status, encode_message
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.consensus.replica import Replica


def wiped(lab: Lab, i: int = 0) -> Replica:
    lab.restart(i, keep_log=False)
    return lab.members[i].replica


def tell(lab: Lab, heights: dict[int, int]) -> None:
    for sender, height in heights.items():
        lab.step(0, Received(lab.addresses[sender], Status(height)))


def test_row_8_a_lying_peer_does_not_silence_a_validator_that_lost_its_log() -> None:
    """Seven validators, two faulty: one lost its log, one says that the chain is at a height that never comes."""
    lab = Lab(7)
    replica = wiped(lab)
    tell(lab, {6: 2**60, 1: 1, 2: 1, 3: 1})
    tell(lab, {4: 1, 5: 1})
    assert replica.abstain_through == 2
    for height in (1, 2):
        assert not replica.may_vote()
        block = lab.block((height + 1) % 7 or 1, b"x", timestamp_ms=height, tip=replica.tip)
        lab.step(0, Received(lab.addresses[1], Decided(block, lab.qc(0, block, (1, 2, 3, 4, 5)))))
    assert replica.height == 3 and replica.may_vote()


@pytest.mark.parametrize("n", range(2, 14))
def test_row_8_whoever_answers_and_whoever_lies_the_silence_is_long_enough(n: int) -> None:
    """This validator may have voted at height 10. The worst case: only as many honest others as a quorum needs sent
    COMMIT at height 9, where they still are, the others are behind, and liars (this validator is one of the f) claim the
    least or the most."""
    lab = Lab(n)
    validators = lab.set
    liars = max(0, validators.max_faulty - 1)
    committed = validators.quorum - 1 - liars
    others = list(range(1, n))
    for lie in (1, 2**60):
        heights = [lie] * liars + [9] * committed + [1] * (n - 1 - liars - committed)
        for answering in range(1, n):
            replica = wiped(lab)
            tell(lab, dict(zip(others[:answering], sorted(heights)[:answering], strict=True)))  # the worst come first
            assert replica.abstain_through is None or replica.abstain_through >= 10, (n, lie, answering)
        replica = wiped(lab)
        tell(lab, dict(zip(others, heights, strict=True)))
        assert replica.abstain_through == 10, (n, lie)


def test_row_8_three_validators_tolerate_no_loss_but_both_others_are_asked() -> None:
    """One of the two may be behind what the other one and the lost log decided."""
    lab = Lab(3)
    replica = wiped(lab)
    tell(lab, {1: 1})
    assert replica.abstain_through is None
    tell(lab, {2: 10})
    assert replica.abstain_through == 11


def test_row_8_and_12_newcomers_that_lag_do_not_end_the_silence() -> None:
    """Height 9 was decided by the old set with this validator, which then voted at 10, the new set's first height. The new
    members have just started: what they say about their height must not count for what the old ones decided."""
    lab = Lab(7)
    old, new = (ValidatorSet(tuple(lab.addresses[i] for i in members)) for members in ((0, 1, 2, 3), (0, 4, 5, 6)))
    tips = [Tip(8, b"8" * 32, 8, bytes(32), old, new)]
    replica = lab.make(0, tips[0], Restored((), None, complete=False))
    replica.start()
    for sender, height in {1: 9, 2: 9, 3: 9, 4: 1, 5: 1, 6: 1}.items():
        replica.step(Received(lab.addresses[sender], Status(height)))
    signers = {9: (0, 1, 2, 3), 10: (4, 5, 6)}
    for height in (9, 10):
        block = lab.block(0, b"x", timestamp_ms=height, tip=tips[-1])
        replica.step(Received(lab.addresses[1], Decided(block, lab.qc(0, block, signers[height]))))
        tips.append(Tip(height, block.hash, height, bytes(32), new, new))
        assert not replica.may_vote()  # at 9 it does not even know who decided 8
        replica.step(Advanced(tips[-1]))
        assert replica.may_vote() is (height == 10)


def test_row_8_and_12_what_an_old_set_said_does_not_end_the_silence_under_a_new_one() -> None:
    """The old members stopped at height 10, where their set ended; the new ones, with this validator, went on to 20."""
    lab = Lab(7)
    old, new = (ValidatorSet(tuple(lab.addresses[i] for i in members)) for members in ((0, 1, 2, 3), (0, 4, 5, 6)))
    tip = Tip(8, b"8" * 32, 8, bytes(32), old, old)
    replica = lab.make(0, tip, Restored((), None, complete=False))
    replica.start()
    for height, signers, following in ((9, (1, 2, 3), new), (10, (1, 2, 3), new), (11, (4, 5, 6), new)):
        block = lab.block(0, b"x", timestamp_ms=height, tip=tip)
        replica.step(Received(lab.addresses[1], Decided(block, lab.qc(0, block, signers))))
        tip = Tip(height, block.hash, height, bytes(32), tip.next_validators, following)
        replica.step(Advanced(tip))
        for sender, claimed in {1: 10, 2: 10, 3: 10, 4: 20, 5: 20, 6: 20}.items():
            replica.step(Received(lab.addresses[sender], Status(claimed)))
    assert (replica.height, replica.abstain_through) == (12, 21) and not replica.may_vote()


def test_row_9_a_vote_log_of_another_key_is_refused() -> None:
    """A rotated key with the old key's store would repeat the old key's votes as its own, in certificates that fail."""
    lab = Lab()
    lab.propose(1, b"A")
    lab.deliver(lambda a, b, m: not isinstance(m, Commit))
    votes = tuple(lab.members[2].records)
    assert votes and lab.make(2, restored=Restored(votes)).state.mine
    with pytest.raises(MessageError, match="another key"):
        lab.make(0, restored=Restored(votes))
    broken = dataclasses.replace(lab.prepare(2, 0, lab.block(1, b"A")), signature=bytes(65))
    record = VoteRecord(Kind.PREPARE, 1, 0, broken.digest, encode_message(broken))
    with pytest.raises(MessageError, match="another key"):
        lab.make(2, restored=Restored((record,)))


def test_row_12_a_hub_joins_from_block_1_when_all_first_validators_are_gone() -> None:
    """It knows only the genesis set; those who have the chain now are strangers to it until it has caught up."""
    lab = Lab(8)
    first = ValidatorSet(tuple(lab.addresses[:4]))
    replica = lab.make(7, Tip(0, lab.domain.genesis_hash, 0, bytes(32), first, first))
    replica.start()
    replica.step(Received(lab.addresses[5], Status(900)))
    asked = [e for _ in range(2) for e in replica.step(Tick()) if isinstance(e, Send)]
    assert asked == [] or asked[0].peer == lab.addresses[5]
    assert replica._asked == lab.addresses[5]


def test_attack_strangers_cost_a_bounded_memory() -> None:
    lab = Lab()
    replica = lab.make(0)
    early = lab.prepare(2, 0, lab.block(2, b"x", tip=dataclasses.replace(lab.tip, height=1)))
    for number in range(1000, 3000):
        stranger = number.to_bytes(20, "big")
        replica.step(Received(stranger, Status(7)))
        replica.step(Received(stranger, early))
    assert len(replica.peer_heights) == MAX_STRANGERS and not replica._early
    replica.step(Received(lab.addresses[3], Status(7)))
    assert replica.peer_heights[lab.addresses[3]] == 7  # they take no validator's place


def test_row_5_a_view_change_between_replicas_of_two_heights_ends() -> None:
    """Half has decided height 1, half is changing views there; the last height's certificate is the whole proof."""
    lab = Lab()
    lab.propose(1, b"A")
    lab.deliver(lambda a, b, m: not isinstance(m, Commit) or b in (1, 2))
    assert lab.heights() == [0, 1, 1, 0]
    lab.time_out(0, 1, 2, 3)
    for _ in range(3):
        lab.deliver()
        for i in range(4):
            lab.step(i, Tick())
    lab.deliver()
    lab.time_out(0, 1, 2, 3)
    lab.deliver()
    assert min(lab.heights()) >= 2 and len(lab.hashes(1)) == len(lab.hashes(2)) == 1


def test_row_14_no_number_of_prepares_decides_and_commits_of_two_views_do_not_add_up() -> None:
    lab = Lab()
    lab.propose(1, b"A")
    lab.deliver(lambda a, b, m: not isinstance(m, Commit))
    assert [m.replica.state.prepares.count(0, m.replica.state.proposal.block.hash) for m in lab.members] == [4] * 4
    assert lab.heights() == [0] * 4
    block = lab.members[0].replica.state.proposal.block
    lab.step(0, Received(lab.addresses[1], lab.commit(1, 0, block)))  # with its own: two in view 0
    lab.step(0, Received(lab.addresses[2], lab.commit(2, 1, block)))
    lab.step(0, Received(lab.addresses[3], lab.commit(3, 1, block)))
    assert lab.heights() == [0] * 4
    lab.step(0, Received(lab.addresses[3], lab.commit(3, 0, block)))
    assert lab.heights() == [1, 0, 0, 0]
