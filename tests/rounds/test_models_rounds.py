"""Several models on one chain: rounds that interleave, and words about one model that count for no other."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub
from round_world import (
    ADDRESSES,
    CHAIN_ID,
    METERS,
    PLAN,
    VALIDATOR_KEYS,
    VALIDATORS,
    Chain,
    app_genesis,
    blob_of,
    genesis,
)

from hub.learning.attendants import LearningAttendants
from hub.learning.publisher import ModelPublisher
from hub.ppdl.app import snapshot as snapshot_module
from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.duties import AggregateProposal, Availability, Verdict
from hub.ppdl.app.genesis_state import AppGenesis, AppStateError
from hub.ppdl.app.round_answers import ModelAnswer, ModelsAnswer, RoundAnswer
from hub.ppdl.app.state import app_hash
from hub.ppdl.app.transactions import ballot_tx, commit_tx, evaluation_tx
from hub.ppdl.app.verdicts import proposal_hash
from hub.ppdl.application import BlockCtx, ChunkResult, OfferResult
from hub.status import learning_section
from openmg.forecast.model import initial_master
from openmg.forecast.spec import EXPORT_ENERGY, IMPORT_ENERGY, NET_ENERGY, ForecastSpec
from openmg.learning.blobs import blob_hash, commitment_of
from openmg.learning.plan import MAX_MODELS
from openmg.learning.quantise import model_hash
from openmg.messages import base, topics
from openmg.messages.learning import Ballot, Evaluation, ModelNotice, UpdateCommit
from openmg.signing import address_of

NET, EXPORT = NET_ENERGY.short_name, EXPORT_ENERGY.short_name
ROOMY = dataclasses.replace(PLAN, reveal_blocks=9, aggregate_blocks=9, committee_blocks=9)
SLOWER = dataclasses.replace(ROOMY, spec=EXPORT_ENERGY, commit_blocks=3, reveal_blocks=12, max_round_blocks=9)
"""Another rhythm, and seven learners instead of nine: round_world has two homes without panels."""
PLANS = (ROOMY, SLOWER)
NO_PANELS = METERS[-2:]


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    one = Chain(tmp_path / "app.sqlite", *PLANS)
    yield one
    one.close()


# ---- rounds that interleave ---------------------------------------------------------------------------------------------


def test_two_models_learn_at_once_each_at_its_own_rhythm(chain: Chain) -> None:
    blobs: dict[int, dict[bytes, bytes]] = {}
    for place in (0, 1):
        chain.place = place
        chain.good(*chain.promise(chain.trainers()))
        blobs[place] = chain.blobs
    assert [len(chain.whole.models[place].commits) for place in (0, 1)] == [7, 5]
    assert [learning.round.phase for learning in chain.whole.models] == ["reveal", "commit"], "2 blocks, and 3"
    chain.block()
    assert [learning.round.phase for learning in chain.whole.models] == ["reveal", "reveal"]
    for place in (1, 0):
        chain.place = place
        chain.good(*chain.votes())
    assert [learning.round.phase for learning in chain.whole.models] == ["aggregate", "aggregate"]
    for place in (0, 1):
        chain.place, chain.blobs = place, blobs[place]
        chain.accept(chain.right())
    for place in (1, 0):
        chain.place = place
        chain.good(*(chain.ballot(judge, 500_000, 400_000) for judge in chain.judges()))
    for place, learning in enumerate(chain.whole.models):
        record = learning.records[0]
        assert (record.outcome, record.included, record.committee) == ("learnt", tuple(sorted(blobs[place])), 2)
        assert learning.round.number == 1 and learning.model.model_hash == record.model_hash != record.base_hash
    assert chain.whole.models[0].model != chain.whole.models[1].model


def test_while_one_models_round_is_void_the_other_goes_on(chain: Chain) -> None:
    chain.place = 1
    for _ in range(2):
        chain.whole_round()
    net, export = chain.whole.models
    assert [record.outcome for record in net.records[:-1]] == ["void_commits"] * net.round.number != []
    assert [record.outcome for record in export.records] == ["learnt", "learnt", "open"]
    assert net.model.model_hash == model_hash(NET_ENERGY, initial_master(NET_ENERGY, PLAN.seed))


def word(chain: Chain, data: st.DataObject) -> list[bytes]:
    """Something that meters or validators may say of the chain's model now, right or wrong."""
    some = lambda things: data.draw(st.lists(st.sampled_from(things), max_size=9, unique=True))  # noqa: E731
    phase = chain.state.round.phase
    if phase == "commit":
        return [chain.commit(meter, blob_of(1 + METERS.index(meter))) for meter in some(METERS)]
    if phase == "reveal":
        return [chain.vote(key, present=some(ADDRESSES)) for key in some(VALIDATOR_KEYS)] or chain.votes()
    if phase == "aggregate" and not chain.duties.proposal_hash:
        chain.blobs = {address: blob_of(1 + ADDRESSES.index(address)) for address in chain.state.round.included}
        return [chain.duty(chain.right() if data.draw(st.booleans()) else chain.wrong(), chain.leader())]
    if phase == "aggregate":
        return [chain.verdict(key, data.draw(st.booleans())) for key in some(VALIDATOR_KEYS)]
    return [chain.ballot(meter, 500_000, data.draw(st.sampled_from([400_000, 900_000]))) for meter in some(METERS)]


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_models_rounds_are_as_if_the_other_were_silent(data: st.DataObject) -> None:
    """One chain hears of both models, two others of one each, height by height: what a model becomes is the same."""
    with tempfile.TemporaryDirectory() as folder:
        both, *alone = (Chain(Path(folder) / f"{name}.sqlite", *PLANS) for name in ("both", "net", "export"))
        for _ in range(data.draw(st.integers(4, 24))):
            heard: list[list[bytes]] = []
            for place in (0, 1):
                both.place = place
                heard.append(word(both, data) if data.draw(st.integers(0, 3)) else [])
            order = [0, 1] if data.draw(st.booleans()) else [1, 0]
            both.block(*(tx for place in order for tx in heard[place]))
            for place in (0, 1):
                alone[place].block(*heard[place])
                assert both.whole.models[place] == alone[place].whole.models[place]
        event(f"rounds: {[min(2, learning.round.number) for learning in both.whole.models]}")
        for one in (both, *alone):
            one.close()


# ---- words about another model --------------------------------------------------------------------------------------------


def both_in(chain: Chain, phase: str) -> list[dict[bytes, bytes]]:
    """Brings both models to the phase, with the same seeds in their blobs; what was promised for each."""
    blobs = []
    for place in (0, 1):
        chain.place = place
        if phase != "commit":
            chain.good(*chain.promise(chain.trainers()))
        blobs.append(chain.blobs)
    chain.block()
    for place in (0, 1) if phase in ("aggregate", "committee") else ():
        chain.place = place
        chain.good(*chain.votes())
    for place in (0, 1) if phase == "committee" else ():
        chain.place, chain.blobs = place, blobs[place]
        chain.accept(chain.right())
    assert phase == "commit" or [learning.round.phase for learning in chain.whole.models] == [phase] * 2
    return blobs


def test_a_commit_to_one_models_weights_is_no_commit_to_another(chain: Chain) -> None:
    meter, blob = chain.trainers()[0], blob_of(1)
    net, export = chain.whole.models
    for name, learning in ((EXPORT, net), (NET, export)):
        commitment = commitment_of(meter.address, 0, learning.model.model_hash, blob_hash(blob))
        message = UpdateCommit(name, 0, learning.model.model_hash, commitment)
        chain.refused(commit_tx(base.sign(message, CHAIN_ID, meter.signing_key)), "to another model than the round's")
        lost = Evaluation(name, 0, learning.model.model_hash, 5)
        chain.refused(evaluation_tx(base.sign(lost, CHAIN_ID, meter.signing_key)), "started from another model")
    chain.good(chain.commit(meter, blob))
    assert [len(learning.commits) for learning in chain.whole.models] == [1, 0]


def test_a_word_about_a_model_that_the_chain_does_not_have_is_refused(chain: Chain) -> None:
    meter, name = METERS[0], IMPORT_ENERGY.short_name
    said = [
        commit_tx(base.sign(UpdateCommit(name, 0, bytes(32), bytes(32)), CHAIN_ID, meter.signing_key)),
        evaluation_tx(base.sign(Evaluation(name, 0, bytes(32), 5), CHAIN_ID, meter.signing_key)),
        ballot_tx(base.sign(Ballot(name, 0, bytes(32), 5, 5), CHAIN_ID, meter.signing_key)),
        chain.duty(Availability(name, 0, b"", b""), VALIDATOR_KEYS[0]),
        chain.duty(Verdict(name, 0, 0, bytes(32), True), VALIDATOR_KEYS[0]),
        chain.duty(AggregateProposal(name, 0, 0, b"", b"", 0, b"", ()), VALIDATOR_KEYS[0]),
    ]
    for tx in said:
        chain.refused(tx, f"model 0x{name.hex()} is not one of this chain")
    for short in (b"", bytes(7), bytes(9)):
        with pytest.raises(ValueError, match="has a model"):
            UpdateCommit(short, 0, bytes(32), bytes(32))


def test_a_signed_word_with_another_models_name_put_into_it_is_nobodys(chain: Chain) -> None:
    both_in(chain, "reveal")
    chain.place = 0
    tx = chain.vote(VALIDATOR_KEYS[0])
    assert tx.count(NET) == 1
    chain.refused(tx.replace(NET, EXPORT), "not signed by a validator")
    chain.place = 1
    meter = chain.trainers()[0]
    chain.refused(chain.evaluation(meter).replace(EXPORT, NET), "not registered")


def test_a_device_that_is_not_registered_for_a_model_neither_trains_nor_judges_nor_evaluates_it(chain: Chain) -> None:
    chain.place = 1
    assert not {meter.address for meter in NO_PANELS} & {*(m.address for m in chain.registered)}
    for meter in NO_PANELS:
        chain.refused(chain.commit(meter, blob_of(1)), "is not registered for this model")
        chain.refused(chain.evaluation(meter), "is not registered for this model")
    assert chain.duties.registered == 7 and chain.ask("round", RoundAnswer).expected == 5
    both_in(chain, "committee")
    chain.refused(chain.ballot(NO_PANELS[0], 5, 5), "is not registered for this model")
    chain.place = 0
    assert chain.duties.registered == 9


def test_a_vote_for_one_models_blobs_includes_none_of_another(chain: Chain) -> None:
    both_in(chain, "reveal")
    chain.place = 0
    chain.good(*chain.votes())
    net, export = chain.whole.models
    assert (net.round.phase, export.round.phase, export.blob_votes) == ("aggregate", "reveal", ())


def test_a_word_on_one_models_proposal_is_none_on_the_same_bytes_of_another(chain: Chain) -> None:
    """The two aggregates are the same up to the model's name; the verdict on one names the other in vain."""
    both_in(chain, "aggregate")
    chain.place, digests = 0, []
    for place, name in enumerate((NET, EXPORT)):
        chain.place = place
        size = chain.plan.spec.master_bytes
        marks = bytes((len(chain.state.round.included) + 7) // 8)
        proposal = AggregateProposal(name, 0, 0, bytes(size), bytes(size), 0, marks, ())
        digests.append(proposal_hash(proposal))
        chain.good(chain.duty(proposal, chain.leader()))
    assert digests[0] != digests[1]
    key = next(key for key in VALIDATOR_KEYS if address_of(key) != chain.duties.leader)
    for place, other in ((0, digests[1]), (1, digests[0])):
        chain.place = place
        chain.refused(chain.verdict(key, True, other), "not about the proposal")
        chain.good(chain.verdict(key, True))
    assert all(len(learning.verdicts) == 2 for learning in chain.whole.models)


def test_a_ballot_on_one_models_candidate_is_none_on_anothers(chain: Chain) -> None:
    both_in(chain, "committee")
    net, export = chain.whole.models
    for place, other in ((0, export), (1, net)):
        chain.place = place
        judge = chain.judges()[0]
        wrong = chain.ballot(judge, 500_000, 400_000, name=other.candidates[0].model.model_hash)
        chain.refused(wrong, "another model than the round's candidate")
        chain.good(chain.ballot(judge, 500_000, 400_000))


class Deaf:
    """An engine whose gossip reaches nobody."""

    def gossip(self, kind: str, payload: bytes) -> None: ...

    def gossip_to(self, peer: bytes, kind: str, payload: bytes) -> None: ...

    async def submit(self, tx: bytes) -> bytes:
        return b""


def test_a_blob_that_is_shown_for_another_model_is_not_kept(chain: Chain, tmp_path: Path) -> None:
    """Its device promised one to both models in the same round; each commitment opens to its own blob alone."""
    meter = next(m for m in chain.trainers() if m.address not in chain.whole.models[1].round.committee and m not in NO_PANELS)
    blobs = {NET: blob_of(1), EXPORT: blob_of(2)}
    for place, name in enumerate((NET, EXPORT)):
        chain.place = place
        others = [other for other in chain.trainers() if other != meter]
        chain.good(chain.commit(meter, blobs[name]), *(chain.commit(other, blob_of(9)) for other in others))
    chain.block()
    attendants = LearningAttendants((NET, EXPORT), chain.app.duties, Deaf(), CHAIN_ID, VALIDATOR_KEYS[0], tmp_path)
    held = lambda name: attendants[name].exchange.store.bytes_held  # noqa: E731
    attendants.on_reveal(meter.address, EXPORT, 0, blobs[NET])
    attendants.on_reveal(meter.address, NET, 0, blobs[EXPORT])
    attendants.on_reveal(meter.address, IMPORT_ENERGY.short_name, 0, blobs[NET])
    assert held(NET) == held(EXPORT) == 0
    assert [attendants[name].exchange.refused for name in (NET, EXPORT)] == [1, 1]
    attendants.on_reveal(meter.address, NET, 0, blobs[NET])
    attendants.on_reveal(meter.address, EXPORT, 0, blobs[EXPORT])
    assert held(NET) == len(blobs[NET]) and held(EXPORT) == len(blobs[EXPORT])
    attendants.close()


# ---- the state that is agreed on -------------------------------------------------------------------------------------------


def test_the_header_names_the_first_model_and_the_state_hash_covers_every_one(chain: Chain) -> None:
    """Contracts check the header's model hash; it stays that of the vouched model whatever the others learn."""
    chain.place = 1
    chain.to_committee()
    before = chain.app.finalize_block(BlockCtx(chain.height + 1, 1, VALIDATORS[0]), [])
    chain.good(*(chain.ballot(judge, 500_000, 400_000) for judge in chain.judges()))
    row = chain.app._storage.block(chain.height)
    net, export = chain.whole.models
    assert row is not None and row.model_hash == net.model.model_hash and export.round.completed == 1
    assert row.app_hash == app_hash(row.state_hash, (), net.model.model_hash) != before.app_hash


@pytest.mark.parametrize("phases", [("reveal", "commit"), ("aggregate", "reveal"), ("commit", "committee")])
def test_a_snapshot_with_models_in_different_phases_restores_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phases: tuple[str, str]
) -> None:
    monkeypatch.setattr(snapshot_module, "SNAPSHOT_INTERVAL", 1)
    slow = tuple(dataclasses.replace(plan, reveal_blocks=50, aggregate_blocks=50, committee_blocks=50) for plan in PLANS)
    chain = Chain(tmp_path / "app.sqlite", *slow)
    for place, phase in enumerate(phases):
        chain.place = place
        {"commit": chain.block, "reveal": chain.to_reveal, "aggregate": chain.to_aggregate, "committee": chain.to_committee}[
            phase
        ]()
    assert {learning.round.phase for learning in chain.whole.models} == set(phases)
    snapshot = chain.app.list_snapshots()[-1]
    target = Chain(tmp_path / "target.sqlite", *slow)
    assert target.app.offer_snapshot(snapshot, chain.app.info().app_hash) is OfferResult.ACCEPT
    for index in range(snapshot.chunks):
        chunk = chain.app.load_snapshot_chunk(snapshot.height, snapshot.format, index)
        assert target.app.apply_snapshot_chunk(index, chunk, b"") is ChunkResult.ACCEPT
    assert target.whole == chain.whole
    target.close()
    target.app = PpdlApplication(tmp_path / "target.sqlite")
    assert target.whole == chain.whole, "and it is on disk"
    for place in (0, 1):
        chain.place = place
        late = chain.evaluation(chain.registered[0])
        assert target.block(late).app_hash == chain.good(late).app_hash
    one = Chain(tmp_path / "one.sqlite", slow[0])
    one.app.offer_snapshot(snapshot, chain.app.info().app_hash)
    results = [
        one.app.apply_snapshot_chunk(index, chain.app.load_snapshot_chunk(snapshot.height, snapshot.format, index), b"")
        for index in range(snapshot.chunks)
    ]
    assert results[-1] is ChunkResult.REJECT_SNAPSHOT, "a chain of one model has no place for another"
    for each in (chain, target, one):
        each.close()


def test_replaying_the_blocks_of_two_models_gives_the_same_state(chain: Chain, tmp_path: Path) -> None:
    both_in(chain, "committee")
    chain.wait(12)
    again = PpdlApplication(tmp_path / "replay.sqlite")
    again.init_chain(genesis(*PLANS))
    for height, txs in enumerate(chain.blocks, 1):
        again.finalize_block(BlockCtx(height, 1_781_485_200_000 + 1000 * height, VALIDATORS[height % 4]), txs)
        again.commit()
    assert again.info() == chain.app.info() and again._view().state == chain.whole
    again.close()


def test_the_list_of_models_tells_names_hashes_and_rounds(chain: Chain) -> None:
    chain.place = 1
    chain.whole_round()
    answer = base.decode(ModelsAnswer, chain.query("models").value)
    net, export = chain.whole.models
    assert answer.height == chain.height
    assert [(one.name, one.model_id, one.quantity, one.registered) for one in answer.models] == [
        (NET, NET_ENERGY.model_id, "net_energy", 9),
        (EXPORT, EXPORT_ENERGY.model_id, "export_energy", 7),
    ]
    assert [one.model_hash for one in answer.models] == [net.model.model_hash, export.model.model_hash]
    assert [one.completed for one in answer.models] == [0, 1] and answer.models[1].round == 1
    model = chain.ask("model", ModelAnswer)
    assert (model.model_hash, model.round) == (export.model.model_hash, 1) and model.plan == SLOWER.encode()
    for path in ("model", "model/", "model/xy", f"round/{IMPORT_ENERGY.short_name.hex()}", f"model/{NET.hex()}00"):
        assert not chain.query(path).ok


# ---- the genesis ----------------------------------------------------------------------------------------------------------


def plan_of(spec: ForecastSpec, **changes: object) -> object:
    return dataclasses.replace(PLAN, spec=spec, **changes)  # type: ignore[arg-type]


def test_a_genesis_of_several_models_is_canonical_and_checked() -> None:
    whole = app_genesis(*PLANS)
    assert AppGenesis.decode(whole.encode()) == whole
    specs = [ForecastSpec("import_energy", hidden=(64, width)) for width in range(8, 8 + MAX_MODELS)]
    for plans, problem in (
        ((SLOWER, PLAN), "the first plan's forecaster must be"),
        ((PLAN, PLAN), "plans of different forecasters"),
        ((PLAN, *map(plan_of, specs)), f"1 to {MAX_MODELS} plans"),
        ((PLAN, plan_of(ForecastSpec("price"))), "a plan for prices, trainers and price records go together"),
        ((PLAN, plan_of(ForecastSpec("generation"))), "no meter can learn"),
        ((PLAN, plan_of(ForecastSpec("import_energy", channels=("weather",)))), "no meter can learn"),
        ((PLAN, plan_of(ForecastSpec("import_energy", resolution_minutes=20, hidden=(16, 8)))), "no meter can learn"),
        ((PLAN, plan_of(EXPORT_ENERGY, min_participants=6)), "a round of export_energy needs 6 .* but 7 are registered"),
    ):
        with pytest.raises(AppStateError, match=problem):
            app_genesis(*plans)  # type: ignore[arg-type]
    with pytest.raises(AppStateError, match="1 to 4 plans"):
        dataclasses.replace(whole, plans=())
    for quantities in ((), ("export_energy",), ("net_energy", "export_energy"), ("net_energy", "price")):
        with pytest.raises(AppStateError, match="must have net_energy and others of"):
            dataclasses.replace(whole.devices[0], quantities=quantities)


# ---- what hubs and pages see ---------------------------------------------------------------------------------------------


def test_a_devices_commits_to_two_models_wait_side_by_side(chain: Chain) -> None:
    """A hub keeps one waiting transaction of a subject; the same round number of another model is another subject."""
    meter = next(m for m in chain.trainers() if m.address not in chain.whole.models[1].round.committee and m not in NO_PANELS)
    subjects = set()
    for place in (0, 1):
        chain.place = place
        for tx in (chain.commit(meter, blob_of(1)), chain.commit(meter, blob_of(2)), chain.evaluation(meter)):
            verdict = chain.app.check_tx(tx)
            assert verdict.ok
            subjects.add(verdict.subject)
    assert len(subjects) == 4


def test_the_consoles_section_has_every_model_and_names_devices_apart(chain: Chain) -> None:
    meter = next(m for m in chain.trainers() if m.address not in chain.whole.models[1].round.committee and m not in NO_PANELS)
    for place in (0, 1):
        chain.place = place
        chain.good(*chain.promise(chain.trainers()))
    chain.block()
    for place in (0, 1):
        chain.place = place
        chain.good(*chain.votes(malformed=[meter.address]))
        chain.blobs = {address: blob_of(1 + ADDRESSES.index(address)) for address in chain.state.round.included}
        chain.accept(chain.right())
        chain.good(*(chain.ballot(judge, 500_000, 400_000) for judge in chain.judges()))
    section = learning_section(chain.query)
    assert section is not None
    (other,) = section["others"]
    assert [(one["quantity"], one["completed"], one["registered"]) for one in (section, other)] == [
        ("net_energy", 1, 9),
        ("export_energy", 1, 7),
    ]
    names = [one["rejected"][0]["device"] for one in (section, other)]
    assert [one["rejected"][0]["reason"] for one in (section, other)] == ["malformed"] * 2 and len(set(names)) == 2


def test_each_models_notices_go_to_a_topic_of_their_own(chain: Chain) -> None:
    told: list[tuple[str, ModelNotice]] = []

    def publish(topic: str, payload: bytes) -> bool:
        told.append((topic, base.decode(ModelNotice, payload)))
        return True

    publishers = [ModelPublisher(name, chain.query, publish, lambda: 0) for name in (NET, EXPORT)]
    for _ in range(2):
        for publisher in publishers:
            publisher.step()
    assert [(topic, notice.model) for topic, notice in told] == [(topics.model(name), name) for name in (NET, EXPORT)]
    for (_, notice), learning, plan in zip(told, chain.whole.models, PLANS, strict=True):
        assert (notice.model_hash, notice.plan) == (learning.model.model_hash, plan.encode())
        assert notice.committee == learning.round.committee
    assert all(topics.is_model(topic) and topic_matches_sub(topics.ALL_MODELS, topic) for topic, _ in told)
