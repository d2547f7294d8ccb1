"""What the chain keeps of its rounds and tells of them: replays, restarts, snapshots, answers, records and their bounds."""

from __future__ import annotations

import dataclasses
import gc
from pathlib import Path

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
    app_genesis,
    blob_of,
    genesis,
    small_update,
)

from hub.ppdl.app import learning_rounds
from hub.ppdl.app import snapshot as snapshot_module
from hub.ppdl.app.answers import RejectionsAnswer
from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.genesis_state import AppStateError
from hub.ppdl.app.reputation import pseudonym
from hub.ppdl.app.round_answers import ModelAnswer, ReputationAnswer, RoundAnswer, RoundsAnswer
from hub.ppdl.app.round_state import EVALUATED_ROUNDS
from hub.ppdl.app.state import State
from hub.ppdl.application import BlockCtx, ChunkResult, OfferResult
from hub.status import learning_section
from openmg.forecast.model import initial_master, master_bytes
from openmg.forecast.spec import ForecastSpec
from openmg.learning.quantise import update_bytes
from openmg.messages import base


def test_a_replay_of_the_chain_gives_the_same_app_hash(chain: Chain, tmp_path: Path) -> None:
    """Replay from block 1 gives the same app hash at every height, whatever was in the blocks."""
    chain.whole_round()
    chain.to_aggregate()
    chain.good(chain.duty(chain.wrong(), chain.leader()))
    chain.block(*chain.votes(), b"rubbish", chain.verdict(VALIDATOR_KEYS[0], False), chain.verdict(VALIDATOR_KEYS[3], False))
    chain.wait(7)
    again = PpdlApplication(tmp_path / "replay.sqlite")
    again.init_chain(genesis())
    for height, txs in enumerate(chain.blocks, 1):
        again.finalize_block(BlockCtx(height, 1_781_485_200_000 + 1000 * height, VALIDATORS[height % 4]), txs)
        again.commit()
    assert again.info() == chain.app.info()
    again.close()


@pytest.mark.parametrize("phase", ["commit", "reveal", "aggregate", "committee"])
def test_a_restart_in_any_phase_goes_on_from_the_database(tmp_path: Path, phase: str) -> None:
    chain = Chain(tmp_path / "app.sqlite")
    {"commit": chain.block, "reveal": chain.to_reveal, "aggregate": chain.to_aggregate, "committee": chain.to_committee}[
        phase
    ]()
    before, info = chain.whole, chain.app.info()
    chain.close()
    chain.app = PpdlApplication(tmp_path / "app.sqlite")
    assert (chain.whole, chain.app.info()) == (before, info) and chain.state.round.phase == phase
    chain.close()


def test_evaluations_of_all_devices_count_in_every_phase(chain: Chain) -> None:
    chain.to_committee()
    chain.good(*(chain.evaluation(meter, 100_000 * i) for i, meter in enumerate(METERS)))
    record = chain.state.records[-1]
    assert (record.loss_count, record.loss_sum_micro) == (9, 3_600_000)
    chain.refused(chain.evaluation(METERS[0]), "already gave one")


def test_answers_name_devices_by_pseudonym(chain: Chain) -> None:
    chain.to_reveal()
    now = chain.ask("round", RoundAnswer)
    assert (now.phase, now.expected, len(now.participants), now.committee) == ("reveal", 7, 7, 2)
    assert now.phase_end_height == PLAN.commit_blocks + PLAN.reveal_blocks
    bad = chain.state.commits[0].device
    chain.good(*chain.votes(malformed=[bad]))
    chain.blobs.pop(bad)
    chain.accept(chain.right())
    chain.good(*(chain.ballot(judge, 500_000, 400_000) for judge in chain.judges()))
    said = b"".join(chain.query(f"{head}/{MODEL.hex()}").value for head in ("round", "rounds", "reputation", "evaluations"))
    assert not any(address in said for address in ADDRESSES)
    rounds, reputation = chain.ask("rounds", RoundsAnswer), chain.ask("reputation", ReputationAnswer)
    (rejected,), (low,) = rounds.rounds[0].rejected, reputation.devices
    assert rejected.device == low.device and (low.score_milli, low.left_out) == (600, False)


def test_the_model_answer_has_a_candidate_in_the_committees_phase_only(chain: Chain) -> None:
    answer = chain.ask("model", ModelAnswer)
    assert answer.candidate == answer.candidate_hash == b""
    assert answer.parameters == master_bytes(initial_master(SPEC, PLAN.seed))
    chain.to_committee()
    answer = chain.ask("model", ModelAnswer)
    assert answer.candidate == chain.state.candidates[0].model.master and answer.committee == chain.state.round.committee


def test_a_genesis_is_refused_whose_round_nobody_can_fill_or_whose_model_does_not_fit_a_transaction() -> None:
    with pytest.raises(AppStateError, match="a committee of 3"):
        app_genesis(dataclasses.replace(PLAN, min_participants=7, committee_size=3))
    large = ForecastSpec(hidden=(256, 128))
    with pytest.raises(AppStateError, match="agrees on smaller models only"):
        app_genesis(dataclasses.replace(PLAN, spec=large))


@pytest.mark.parametrize("phase", ["reveal", "aggregate", "committee"])
def test_a_snapshot_in_the_middle_of_a_round_restores_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str) -> None:
    """A replica that takes the snapshot goes on with the same state and comes to the same app hash as the others."""
    monkeypatch.setattr(snapshot_module, "SNAPSHOT_INTERVAL", 1)
    chain = Chain(tmp_path / "app.sqlite")
    {"reveal": chain.to_reveal, "aggregate": chain.to_aggregate, "committee": chain.to_committee}[phase]()
    if phase == "reveal":
        chain.good(chain.vote(VALIDATOR_KEYS[0]))
    if phase == "aggregate":
        chain.good(chain.duty(chain.right(), chain.leader()))
    snapshot = chain.app.list_snapshots()[-1]
    assert snapshot.height == chain.height
    chunks = [chain.app.load_snapshot_chunk(snapshot.height, snapshot.format, i) for i in range(snapshot.chunks)]
    target = Chain(tmp_path / "target.sqlite")
    assert target.app.offer_snapshot(snapshot, chain.app.info().app_hash) is OfferResult.ACCEPT
    for index, chunk in enumerate(chunks):
        assert target.app.apply_snapshot_chunk(index, chunk, b"") is ChunkResult.ACCEPT
    assert target.whole == chain.whole and target.duties == chain.duties
    last = {"reveal": chain.votes(VALIDATOR_KEYS[1:]), "aggregate": [], "committee": []}[phase]
    if phase == "aggregate":
        last = [chain.verdict(key, True) for key in VALIDATOR_KEYS[1:3]]
    if phase == "committee":
        last = [chain.ballot(judge, 500_000, 400_000) for judge in chain.judges()]
    assert target.good(*last).app_hash == chain.good(*last).app_hash
    assert target.phase == chain.phase != (0, phase)
    target.close()
    chain.close()


def states_alive() -> int:
    gc.collect()
    return sum(isinstance(thing, State) for thing in gc.get_objects())


def test_refusals_that_are_a_meters_fault_are_remembered_by_pseudonym_and_hold_no_old_state(chain: Chain) -> None:
    meter, before = chain.trainers()[0], states_alive()
    for other in METERS:  # nine states, one after the other
        chain.app.check_tx(chain.commit(meter, blob_of(1), base_hash=bytes(32)))
        chain.app.check_tx(chain.commit(meter, blob_of(1), round_number=4))  # late, which is nobody's fault
        chain.good(chain.evaluation(other))
    assert states_alive() <= before + 2
    refused = base.decode(RejectionsAnswer, chain.query("rejections").value)
    assert refused.total == len(METERS)
    assert {item.device for item in refused.latest} == {pseudonym(0, meter.address, CHAIN_ID, MODEL)}


def test_only_the_last_rounds_may_still_be_evaluated(chain: Chain) -> None:
    old = [chain.evaluation(METERS[0])]
    for number in range(EVALUATED_ROUNDS):
        while chain.state.round.number == number:
            chain.block()
        old.append(chain.evaluation(METERS[0]))
    assert [chain.app.check_tx(tx).ok for tx in old] == [False] + [True] * EVALUATED_ROUNDS


def test_records_are_bounded_and_round_0_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning_rounds, "MAX_RECORDS", 4)
    chain = Chain(tmp_path / "app.sqlite", dataclasses.replace(PLAN, commit_blocks=1, max_round_blocks=1))
    chain.wait(6)
    assert [record.number for record in chain.state.records] == [0, 4, 5, 6]
    chain.close()


def test_the_consoles_section_tells_the_round_and_who_was_rejected(chain: Chain) -> None:
    chain.to_reveal()
    bad = chain.state.commits[0].device
    chain.good(*chain.votes(malformed=[bad]))
    chain.blobs.pop(bad)
    chain.good(chain.duty(chain.wrong(), chain.leader()))
    chain.good(*(chain.verdict(key, False) for key in VALIDATOR_KEYS[1:3]))
    section = learning_section(chain.query)
    assert section is not None
    assert (section["phase"], section["attempt"], section["participants"], section["registered"]) == ("aggregate", 1, 7, 9)
    chain.accept(chain.right())
    chain.good(*(chain.ballot(judge, 500_000, 900_000) for judge in chain.judges()))
    section = learning_section(chain.query)
    assert section is not None
    assert (section["completed"], section["refused"], section["voided"]) == (0, 1, 0)
    assert (section["last_participants"], section["last_outcome"], section["phase"]) == (6, "refused", "commit")
    name = "0x" + pseudonym(0, bad, CHAIN_ID, MODEL).hex()
    assert section["rejected"] == [{"device": name, "round": 0, "reason": "malformed"}]
    assert section["wrong_aggregates"] == [{"round": 0, "attempt": 0, "validator": "0x" + VALIDATORS[0].hex()}]


def test_whom_the_rule_found_far_off_is_on_record_with_its_reason(chain: Chain) -> None:
    """The proposal that validators compute names it, so the finding is agreed on with the aggregate."""
    far = chain.trainers()[2].address
    chain.to_reveal(update={far: update_bytes(small_update(3, scale=1500.0))})
    chain.good(*chain.votes())
    assert chain.state.round.included == tuple(sorted(chain.blobs))
    chain.accept(chain.right())
    chain.good(*(chain.ballot(judge, 500_000, 400_000) for judge in chain.judges()))
    record = chain.state.records[0]
    assert [(item.device, item.reason) for item in record.rejected] == [(far, "few_neighbours")]
    assert record.capped == (far,)
    assert [(score.device, score.score_milli) for score in chain.state.scores] == [(far, 850)]
