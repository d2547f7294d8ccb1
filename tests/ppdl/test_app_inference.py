"""Vouched inference: integer, over what the chain recorded, once per request, for validators only."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_world import (
    CHAIN_ID,
    FIRST_SLOT,
    HISTORY_HOURS,
    METERS,
    PLAN,
    START_HOUR,
    VALIDATOR_KEYS,
    block,
    ctx,
    feeder_wh,
    slot_tx,
    started,
)

from hub.ppdl.app.answers import EventsAnswer, InferenceAnswer
from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.inference import MAX_ANSWERS_IN_BLOCK
from hub.ppdl.app.transactions import InferenceRequest, inference_tx
from hub.ppdl.application import Verdict
from openmg.forecast.fixedpoint import forecast_wh
from openmg.forecast.model import initial_master
from openmg.hashing import keccak256, merkle_root, merkle_verify, word
from openmg.learning.quantise import model_hash
from openmg.messages import base

CONTRACT = b"\xc0" * 20
REQUEST = InferenceRequest(1337, CONTRACT, 5, 2)
MASTER = initial_master(PLAN.spec, PLAN.seed)


@pytest.fixture
def app(tmp_path: Path) -> PpdlApplication:
    return started(tmp_path / "app.sqlite")


def tx(request: InferenceRequest = REQUEST, key: bytes = VALIDATOR_KEYS[0]) -> bytes:
    return inference_tx(request, CHAIN_ID, key)


def answer(app: PpdlApplication, number: int = 5) -> InferenceAnswer:
    return base.decode(InferenceAnswer, app.query(f"inference/{number}", b"").value)


def test_the_answer_is_the_integer_forecast_of_the_recorded_history(app: PpdlApplication) -> None:
    result = block(app, [tx()])
    assert result.tx_results[0].ok, result.tx_results[0].reason
    given = answer(app).answer
    assert given.answer_wh == forecast_wh(PLAN.spec, MASTER, feeder_wh(2), START_HOUR + HISTORY_HOURS, (), 9).mean_wh
    assert given.as_of_slot == FIRST_SLOT - 1 and given.height == 1
    expected = b"".join(
        (
            keccak256(b"openmg.event.inference.v1"),
            word(CHAIN_ID),
            bytes(12) + CONTRACT,
            word(1337),
            word(5),
            word(2),
            word(FIRST_SLOT - 1),
            model_hash(PLAN.spec, MASTER),
            keccak256(b"".join((value % 2**256).to_bytes(32, "big") for value in given.answer_wh)),
        )
    )
    assert result.events == (expected,) and answer(app).event == expected


def test_agreed_slots_move_the_forecast(app: PpdlApplication) -> None:
    block(app, [slot_tx(FIRST_SLOT + i, values=[(900, 0)] * 6) for i in range(4)])
    block(app, [tx(InferenceRequest(1337, CONTRACT, 8, 1))])
    given = answer(app, 8).answer
    assert given.as_of_slot == FIRST_SLOT + 3
    history = (*feeder_wh(1)[1:], 4 * 6 * 900)
    assert given.answer_wh == forecast_wh(PLAN.spec, MASTER, history, START_HOUR + HISTORY_HOURS + 1, (), 9).mean_wh


def test_a_request_is_answered_once_per_contract_and_chain(app: PpdlApplication) -> None:
    block(app, [tx()])
    assert "already answered" in app.check_tx(tx(key=VALIDATOR_KEYS[1])).reason
    assert app.check_tx(tx(InferenceRequest(1338, CONTRACT, 5, 2))).ok
    assert app.check_tx(tx(InferenceRequest(1337, b"\xc1" * 20, 5, 2))).ok


def test_a_block_holds_a_bounded_number_of_answers_and_the_rest_wait(app: PpdlApplication) -> None:
    """Else one validator could fill every block with forecasts that take longer than a view lasts."""
    txs = [tx(InferenceRequest(1337, CONTRACT, number, 2)) for number in range(MAX_ANSWERS_IN_BLOCK + 2)]
    assert all(app.check_tx(one).ok for one in txs)
    assert app.prepare_proposal(ctx(1), txs, 10**6) == txs[:-2]
    assert app.process_proposal(ctx(1), txs[:-2]) is Verdict.ACCEPT
    assert app.process_proposal(ctx(1), txs) is Verdict.REJECT
    assert [result.ok for result in block(app, txs).tx_results] == [True] * MAX_ANSWERS_IN_BLOCK + [False] * 2
    assert all(app.check_tx(one).ok for one in txs[-2:])
    assert all(result.ok for result in block(app, txs[-2:]).tx_results)


def test_others_than_validators_and_unknown_microgrids_are_refused(app: PpdlApplication) -> None:
    assert "not signed by a validator" in app.check_tx(tx(key=METERS[0].key.signing_key)).reason
    assert "not in the genesis" in app.check_tx(tx(InferenceRequest(1337, CONTRACT, 5, 3))).reason
    with pytest.raises(ValueError, match="20-byte contract"):
        InferenceRequest(1337, b"\xc0", 5, 2)


def test_events_are_proven_against_the_app_hash(app: PpdlApplication) -> None:
    result = block(app, [slot_tx(FIRST_SLOT), tx(), slot_tx(FIRST_SLOT + 1)])
    proofs = base.decode(EventsAnswer, app.query("events/1", b"").value)
    assert proofs.app_hash == result.app_hash == app.info().app_hash
    assert tuple(item.event for item in proofs.events) == result.events and len(result.events) == 5
    root = merkle_root(result.events)
    joined = keccak256(b"openmg.ppdl.app.v1") + proofs.state_hash + root + proofs.model_hash
    assert keccak256(joined) == proofs.app_hash
    for item in proofs.events:
        assert merkle_verify(root, item.event, item.index, item.count, item.proof)
    assert not merkle_verify(root, proofs.events[0].event, 1, 3, proofs.events[0].proof)
