"""A round's phases on the chain: what each takes, when it ends, what a closed round leaves."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from round_world import (
    ADDRESSES,
    CHAIN_ID,
    METERS,
    MODEL,
    PLAN,
    SPEC,
    VALIDATOR_KEYS,
    VALIDATORS,
    Chain,
    blob_of,
    small_update,
)

from hub.ppdl.app.duties import Availability, Found, bitmap_of
from hub.ppdl.app.round_answers import WrongAnswer
from hub.ppdl.app.transactions import commit_tx
from openmg.forecast.model import initial_master, master_bytes
from openmg.identity import DeviceKey
from openmg.learning.aggregate import ServerState, aggregate, apply_step
from openmg.learning.quantise import model_hash
from openmg.messages import base
from openmg.messages.learning import UpdateCommit

NAME = model_hash(SPEC, initial_master(SPEC, PLAN.seed))


def test_a_round_from_commit_to_a_new_model(chain: Chain) -> None:
    chain.whole_round()
    closed, opened = chain.state.records
    trained = tuple(sorted(chain.blobs))
    rows = {device: small_update(1 + ADDRESSES.index(device)) for device in trained}
    start = ServerState(initial_master(SPEC, PLAN.seed), np.zeros(SPEC.parameters, np.int32))
    expected = apply_step(start, aggregate(rows, PLAN, len(METERS)).step, PLAN)
    assert chain.state.model.master == master_bytes(expected.master)
    assert chain.state.model.momentum == master_bytes(expected.momentum)
    assert (closed.outcome, closed.base_hash, closed.model_hash) == ("learnt", NAME, model_hash(SPEC, expected.master))
    assert closed.participants == closed.included == trained and len(trained) == 7
    assert (closed.hostile, closed.attempts, closed.committee, closed.ballots, closed.worse) == (2, 1, 2, 2, 0)
    assert (opened.number, opened.base_hash, opened.outcome) == (1, closed.model_hash, "open")
    assert chain.state.round.opened_height == closed.closed_height == chain.height
    assert (chain.state.round.completed, chain.state.round.refused, chain.state.round.voided) == (1, 0, 0)


def test_the_commit_phase_lasts_its_length_even_when_all_have_committed(chain: Chain) -> None:
    chain.good(*chain.promise(chain.trainers()))
    assert chain.phase == (0, "commit")
    chain.block()
    assert chain.phase == (0, "reveal") and chain.height == PLAN.commit_blocks


def test_with_too_few_commits_the_phase_lasts_as_long_again_and_is_void_in_the_end(chain: Chain) -> None:
    chain.good(*chain.promise(chain.trainers(3)))
    chain.wait(PLAN.max_round_blocks - 2)
    assert chain.phase == (0, "commit")
    chain.block()
    assert chain.phase == (1, "commit") and chain.state.records[0].outcome == "void_commits"
    assert len(chain.state.records[0].participants) == 3 and chain.state.records[0].rejected == ()
    assert (chain.state.round.voided, chain.state.scores, chain.state.commits) == (1, (), ())


def test_a_late_fourth_commit_saves_the_round(chain: Chain) -> None:
    chain.good(*chain.promise(chain.trainers(3)))
    chain.wait(PLAN.commit_blocks - 1)
    fourth = chain.trainers(4)[3]
    chain.good(chain.commit(fourth, blob_of(4)))
    assert chain.phase == (0, "commit")
    chain.block()
    assert chain.phase == (0, "reveal")


def test_commits_are_refused_when_they_are_not_this_rounds(chain: Chain) -> None:
    meter, blob = chain.trainers()[0], blob_of(1)
    chain.refused(chain.commit(meter, blob, round_number=1), "round 1 is not open")
    chain.refused(chain.commit(meter, blob, base_hash=bytes(32)), "another model")
    chain.refused(chain.commit(DeviceKey(b"\x77" * 32), blob), "not registered")
    chain.refused(chain.commit(chain.judges()[0], blob), "is in the committee")
    message = UpdateCommit(MODEL, 0, NAME, bytes(32))
    chain.refused(commit_tx(base.sign(message, CHAIN_ID + 1, meter.signing_key)), "not registered")
    chain.good(chain.commit(meter, blob))
    chain.refused(chain.commit(meter, blob_of(2)), "already has one")
    chain.good(*(chain.commit(other, blob_of(9)) for other in chain.trainers()[1:4]))
    chain.refused(chain.commit(chain.trainers()[5], blob), "in its phase reveal")


def test_a_copied_commitment_opens_to_nothing(chain: Chain) -> None:
    """The device is in the preimage: who copies a commitment can never show its blob, not even the original one."""
    from hub.learning.blobs import Promise
    from openmg.learning.blobs import blob_hash, commitment_of

    victim, copier = chain.trainers(2)
    blob = blob_of(1)
    commitment = commitment_of(victim.address, 0, NAME, blob_hash(blob))
    for device in (victim, copier):
        chain.good(commit_tx(base.sign(UpdateCommit(MODEL, 0, NAME, commitment), CHAIN_ID, device.signing_key)))
    assert Promise(victim.address, 0, NAME, commitment).opened_by(blob_hash(blob))
    assert not Promise(copier.address, 0, NAME, commitment).opened_by(blob_hash(blob))


def test_a_quorum_of_votes_includes_and_fewer_do_not(chain: Chain) -> None:
    chain.to_reveal(chain.trainers(5))
    devices = [commit.device for commit in chain.state.commits]
    words = [devices, devices, devices[:4], devices[1:]]
    chain.good(*(chain.vote(key, present) for key, present in zip(VALIDATOR_KEYS, words, strict=True)))
    assert chain.phase == (0, "aggregate")  # each of the five has three of four votes
    assert chain.state.round.included == tuple(devices)


def test_f_validators_that_vote_for_blobs_nobody_has_include_nothing(chain: Chain) -> None:
    chain.to_reveal(chain.trainers(6))
    devices = [commit.device for commit in chain.state.commits]
    honest = devices[:5]
    chain.good(*chain.votes(VALIDATOR_KEYS[1:], present=honest), chain.vote(VALIDATOR_KEYS[0]))
    chain.until("aggregate")
    assert chain.state.round.included == tuple(honest)


def test_two_of_four_votes_are_no_quorum_and_the_round_is_void(chain: Chain) -> None:
    chain.to_reveal()
    began = chain.height
    chain.good(*chain.votes(VALIDATOR_KEYS[:2]))
    chain.wait(PLAN.reveal_blocks - 2)
    assert chain.phase == (0, "reveal")
    chain.block()
    assert chain.height == began + PLAN.reveal_blocks
    record = chain.state.records[0]
    assert chain.phase == (1, "commit") and record.outcome == "void_blobs" and record.included == ()
    assert {item.reason for item in record.rejected} == {"not_revealed"} and len(record.rejected) == 7
    assert chain.state.scores == (), "when no blob came, the fault need not be the meters'"


def test_the_included_set_does_not_depend_on_the_order_of_arrival(tmp_path: Path) -> None:
    states = []
    for name, backwards in (("a", False), ("b", True)):
        chain = Chain(tmp_path / f"{name}.sqlite")
        commits = chain.promise(chain.trainers())
        chain.good(*(reversed(commits) if backwards else commits))
        chain.until("reveal")
        votes = [chain.vote(key, list(chain.blobs)[: 7 - i]) for i, key in enumerate(VALIDATOR_KEYS)]
        chain.good(*(reversed(votes) if backwards else votes))
        chain.until("aggregate")
        states.append(chain.state)
        chain.close()
    assert states[0] == states[1] and len(states[0].round.included) == 5


def test_a_later_vote_must_name_more_and_counts_alone(chain: Chain) -> None:
    chain.to_reveal(chain.trainers(5))
    devices = [commit.device for commit in chain.state.commits]
    key = VALIDATOR_KEYS[0]
    chain.good(chain.vote(key, devices[:2]))
    chain.refused(chain.vote(key, devices[:2]), "and more")
    chain.refused(chain.vote(key, devices[1:4]), "and more")
    chain.refused(chain.vote(key, devices[:1], devices[1:2]), "and more")
    chain.good(chain.vote(key, devices[:3], devices[3:4]))
    (vote,) = chain.state.blob_votes
    assert vote.present == bitmap_of([True, True, True, False, False])
    assert vote.malformed == bitmap_of([False, False, False, True, False])


def test_a_validator_votes_once_in_a_block(chain: Chain) -> None:
    chain.to_reveal()
    devices = [commit.device for commit in chain.state.commits]
    first, second = chain.vote(VALIDATOR_KEYS[0], devices[:1]), chain.vote(VALIDATOR_KEYS[0], devices[:2])
    outcome = chain.block(first, second)
    assert [result.ok for result in outcome.tx_results] == [True, False]
    assert "already voted in block" in outcome.tx_results[1].reason


def test_votes_are_refused_of_strangers_out_of_phase_and_out_of_shape(chain: Chain) -> None:
    early = chain.duty(Availability(MODEL, 0, b"", b""), VALIDATOR_KEYS[0])
    chain.refused(early, "in its phase commit")
    chain.to_reveal()
    chain.refused(chain.vote(METERS[0].signing_key), "not signed by a validator")
    chain.refused(chain.duty(Availability(MODEL, 0, b"\x7f\x00", bytes(2)), VALIDATOR_KEYS[0]), "does not fit 7 devices")
    chain.refused(chain.duty(Availability(MODEL, 0, b"\xff", b"\x00"), VALIDATOR_KEYS[0]), "does not fit 7 devices")
    chain.refused(chain.duty(Availability(MODEL, 1, b"\x7f", b"\x00"), VALIDATOR_KEYS[0]), "round 1 is not open")
    chain.good(chain.vote(VALIDATOR_KEYS[0]))


def test_a_malformed_blob_is_a_rejection_on_chain_once_a_quorum_says_so(chain: Chain) -> None:
    chain.to_reveal()
    bad = chain.state.commits[3].device
    chain.good(*chain.votes(malformed=[bad]))
    assert chain.state.round.malformed == (bad,) and bad not in chain.state.round.included
    chain.blobs.pop(bad)
    chain.accept(chain.right())
    chain.good(*(chain.ballot(judge, 500_000, 400_000) for judge in chain.judges()))
    record = chain.state.records[0]
    assert [(item.device, item.reason) for item in record.rejected] == [(bad, "malformed")]
    assert [(score.device, score.score_milli) for score in chain.state.scores] == [(bad, 600)]


def test_one_validator_cannot_call_a_blob_malformed(chain: Chain) -> None:
    chain.to_reveal()
    victim = chain.state.commits[0].device
    chain.good(*chain.votes(VALIDATOR_KEYS[1:]), chain.vote(VALIDATOR_KEYS[0], malformed=[victim]))
    assert chain.state.round.malformed == () and victim in chain.state.round.included


def test_only_the_leader_of_the_attempt_proposes_and_once(chain: Chain) -> None:
    chain.to_aggregate()
    right, leader = chain.right(), chain.leader()
    assert VALIDATOR_KEYS.index(leader) == 0
    chain.refused(chain.duty(right, VALIDATOR_KEYS[1]), "does not lead attempt 0")
    chain.refused(chain.duty(dataclasses.replace(right, attempt=1), VALIDATOR_KEYS[1]), "attempt 1 is not open")
    short = dataclasses.replace(right, master=right.master[:-4], momentum=right.momentum[:-4])
    chain.refused(chain.duty(short, leader), "bytes instead of")
    chain.refused(chain.duty(dataclasses.replace(right, capped=b"\xff"), leader), "does not fit 7 devices")
    far = dataclasses.replace(right, rejected=(Found("far", b"\xff\x01"),))
    chain.refused(chain.duty(far, leader), "does not fit 7 devices")
    chain.good(chain.duty(right, leader))
    chain.refused(chain.duty(chain.wrong(), leader), "has its proposal already")


def test_what_the_rule_found_is_on_record_by_device(chain: Chain) -> None:
    chain.to_aggregate()
    proposal = dataclasses.replace(chain.right(), rejected=(Found("few_neighbours", b"\x05"),), capped=b"\x02")
    chain.accept(proposal)
    included = chain.state.round.included
    chain.good(*(chain.ballot(judge, 500_000, 400_000) for judge in chain.judges()))
    record = chain.state.records[0]
    assert [item.device for item in record.rejected] == [included[0], included[2]]
    assert record.capped == (included[1],)
    assert {score.device: score.score_milli for score in chain.state.scores} == {
        included[0]: 900,
        included[1]: 950,
        included[2]: 900,
    }


def test_a_wrong_aggregate_is_voted_down_recorded_and_the_next_attempt_closes_the_round(chain: Chain) -> None:
    chain.to_aggregate()
    wrong, liar = chain.wrong(), chain.leader()
    chain.good(chain.duty(wrong, liar))
    honest = [key for key in VALIDATOR_KEYS if key != liar]
    chain.good(chain.verdict(honest[0], False))
    assert chain.duties.attempt == 0, "one of four may be the faulty one"
    chain.good(chain.verdict(honest[1], False))
    assert (chain.duties.attempt, chain.phase, chain.state.candidates) == (1, (0, "aggregate"), ())
    chain.accept(chain.right())
    chain.good(*(chain.ballot(judge, 500_000, 400_000) for judge in chain.judges()))
    record = chain.state.records[0]
    assert (record.outcome, record.attempts, record.wrong_leaders) == ("learnt", 2, (VALIDATORS[0],))
    answer = chain.ask("wrong-aggregates", WrongAnswer)
    assert [(w.round, w.attempt, w.validator) for w in answer.wrong] == [(0, 0, VALIDATORS[0])]


def test_f_validators_can_neither_pass_a_wrong_aggregate_nor_stop_a_right_one(chain: Chain) -> None:
    chain.to_aggregate()
    right, leader = chain.right(), chain.leader()
    others = [key for key in VALIDATOR_KEYS if key != leader]
    chain.good(chain.duty(right, leader))
    chain.good(chain.verdict(others[0], False))  # the one faulty validator
    assert chain.phase == (0, "aggregate") and chain.duties.attempt == 0
    chain.good(chain.verdict(others[1], True), chain.verdict(others[2], True))
    assert chain.phase == (0, "committee")
    assert chain.state.wrong_aggregates == ()


def test_a_leader_and_one_friend_do_not_pass_a_wrong_aggregate(chain: Chain) -> None:
    chain.to_aggregate()
    leader = chain.leader()
    chain.good(chain.duty(chain.wrong(), leader))
    friend = next(key for key in VALIDATOR_KEYS if key != leader)
    chain.good(chain.verdict(friend, True))
    assert chain.phase == (0, "aggregate")  # two of four: no quorum of three


def test_a_silent_leader_costs_its_attempt_and_no_record(chain: Chain) -> None:
    chain.to_aggregate()
    began = chain.height
    chain.wait(PLAN.aggregate_blocks)
    assert (chain.duties.attempt, chain.height) == (1, began + PLAN.aggregate_blocks)
    assert chain.state.wrong_aggregates == ()
    chain.refused(chain.duty(dataclasses.replace(chain.right(), attempt=0), VALIDATOR_KEYS[0]), "attempt 0 is not open")
    chain.accept(chain.right())
    assert chain.phase == (0, "committee")


def test_a_round_is_void_when_all_attempts_failed(chain: Chain) -> None:
    chain.to_aggregate()
    chain.wait(PLAN.max_attempts * PLAN.aggregate_blocks)
    record = chain.state.records[0]
    assert chain.phase == (1, "commit") and record.outcome == "void_aggregate" and record.attempts == 3
    assert record.model_hash == record.base_hash == chain.state.model.model_hash == NAME


def test_verdicts_are_refused_about_another_proposal_of_strangers_and_twice(chain: Chain) -> None:
    chain.to_aggregate()
    chain.refused(chain.verdict(VALIDATOR_KEYS[1], True), "not about the proposal")
    leader = chain.leader()
    chain.good(chain.duty(chain.right(), leader))
    chain.refused(chain.verdict(METERS[0].signing_key, True), "not signed by a validator")
    chain.refused(chain.verdict(VALIDATOR_KEYS[1], True, bytes(32)), "not about the proposal")
    chain.refused(chain.verdict(VALIDATOR_KEYS[1], True, attempt=1), "not about the proposal")
    chain.refused(chain.verdict(leader, False), "has given its word")
    chain.good(chain.verdict(VALIDATOR_KEYS[1], True))
    chain.refused(chain.verdict(VALIDATOR_KEYS[1], False), "has given its word")


def test_a_committee_that_finds_the_candidate_worse_keeps_the_old_model(chain: Chain) -> None:
    chain.to_committee()
    chain.good(*(chain.ballot(judge, 500_000, 525_001) for judge in chain.judges()))
    record = chain.state.records[0]
    assert (record.outcome, record.worse, record.model_hash) == ("refused", 2, NAME)
    assert chain.state.model.model_hash == NAME and not any(chain.state.model.momentum)
    assert (chain.state.round.completed, chain.state.round.refused) == (0, 1)


def test_the_limit_of_worse_is_exact_and_a_tie_accepts(chain: Chain) -> None:
    chain.to_committee()
    first, second = chain.judges()
    chain.good(chain.ballot(first, 500_000, 525_000), chain.ballot(second, 500_000, 900_000))
    record = chain.state.records[0]
    assert (record.outcome, record.ballots, record.worse) == ("learnt", 2, 1)


@pytest.mark.parametrize("ballots", [0, 1])
def test_absent_members_hold_nothing_up_and_the_record_says_so(chain: Chain, ballots: int) -> None:
    chain.to_committee()
    began = chain.height
    for judge in chain.judges()[:ballots]:
        chain.good(chain.ballot(judge, 500_000, 900_000))
    chain.wait(PLAN.committee_blocks - ballots)
    assert chain.height == began + PLAN.committee_blocks
    record = chain.state.records[0]
    assert (record.outcome, record.ballots) == ("learnt_unjudged", ballots) and record.model_hash != NAME


def test_ballots_are_refused_of_others_about_others_and_twice(chain: Chain) -> None:
    judge = chain.judges()[0]
    chain.refused(chain.ballot(judge, 1, 1), "in its phase commit")
    chain.to_committee()
    chain.refused(chain.ballot(chain.trainers()[0], 1, 1), "not in the committee")
    chain.refused(chain.ballot(judge, 1, 1, NAME), "another model")
    chain.refused(chain.ballot(DeviceKey(b"\x77" * 32), 1, 1), "not registered")
    chain.good(chain.ballot(judge, 1, 1))
    chain.refused(chain.ballot(judge, 1, 1), "already has one")


def test_committees_rotate_and_leave_enough_to_take_part(chain: Chain) -> None:
    committees = [chain.state.round.committee]
    for _ in range(3):
        chain.whole_round()
        committees.append(chain.state.round.committee)
    assert all(len(members) == 2 and set(members) <= set(ADDRESSES) for members in committees)
    assert len(set(committees)) > 1


def test_without_a_committee_the_accepted_aggregate_is_the_model(tmp_path: Path) -> None:
    chain = Chain(tmp_path / "app.sqlite", dataclasses.replace(PLAN, committee_size=0))
    chain.to_aggregate()
    chain.accept(chain.right())
    assert chain.phase == (1, "commit") and chain.state.records[0].outcome == "learnt_unjudged"
    chain.close()
