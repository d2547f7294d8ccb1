"""Rounds on the chain: what enters, when a round closes, what comes out."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
from app_world import CHAIN_ID, METERS, PLAN, block, evaluation, model_update, small_update, started

from hub.ppdl.app.answers import EvaluationsAnswer, ModelAnswer, RejectionsAnswer, RoundAnswer, RoundsAnswer
from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.state import EVALUATED_ROUNDS, State
from hub.ppdl.app.transactions import update_tx
from openmg.forecast.model import initial_master, master_bytes, master_from_bytes
from openmg.learning.aggregate import ServerState, aggregate, apply_step
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import model_hash
from openmg.messages import base
from openmg.messages.learning import ModelUpdate

PARAMETERS = PLAN.spec.parameters
MASTER = initial_master(PLAN.spec, PLAN.seed)
NAME = model_hash(PLAN.spec, MASTER)


@pytest.fixture
def app(tmp_path: Path) -> PpdlApplication:
    return started(tmp_path / "app.sqlite")


def ask(app: PpdlApplication, path: str, cls: type) -> object:
    result = app.query(path, b"")
    assert result.ok, result.reason
    return base.decode(cls, result.value)


def model(app: PpdlApplication) -> ModelAnswer:
    answer = ask(app, "model", ModelAnswer)
    assert isinstance(answer, ModelAnswer)
    return answer


def rounds(app: PpdlApplication) -> RoundsAnswer:
    answer = ask(app, "rounds", RoundsAnswer)
    assert isinstance(answer, RoundsAnswer)
    return answer


def test_the_chain_starts_with_the_published_model(app: PpdlApplication) -> None:
    answer = model(app)
    assert answer.parameters == master_bytes(MASTER)
    assert (answer.round, answer.opened_height, answer.model_hash) == (0, 0, NAME)
    assert LearningPlan.decode(answer.plan) == PLAN


def test_a_round_closes_at_its_height_with_the_aggregate_of_what_the_chain_holds(app: PpdlApplication) -> None:
    updates = [model_update(meter, NAME) for meter in METERS[:5]]
    assert all(result.ok for result in block(app, updates[:2]).tx_results)
    block(app, updates[2:])
    assert model(app).round == 0
    block(app)
    answer = model(app)
    assert (answer.round, answer.opened_height) == (1, 3)
    rows = {meter.key.address: small_update(int(meter.name[5:])) for meter in METERS[:5]}
    start = ServerState(MASTER, np.zeros(PARAMETERS, np.int32))
    expected = apply_step(start, aggregate(rows, PLAN, len(METERS)).step, PLAN).master
    assert np.array_equal(master_from_bytes(PLAN.spec, answer.parameters), expected)
    assert answer.model_hash == model_hash(PLAN.spec, expected)
    closed, opened = rounds(app).rounds
    assert closed.participants == tuple(sorted(rows)) and closed.hostile == 2 and not closed.void
    assert (closed.base_hash, closed.model_hash, closed.closed_height) == (NAME, answer.model_hash, 3)
    assert (opened.number, opened.base_hash, opened.closed_height) == (1, answer.model_hash, 0)


def test_a_round_waits_for_participants_and_then_closes_at_once(app: PpdlApplication) -> None:
    block(app, [model_update(meter, NAME) for meter in METERS[:3]])
    for _ in range(3):
        block(app)
    assert model(app).round == 0
    block(app, [model_update(METERS[3], NAME)])
    assert model(app).round == 1


def test_a_round_without_enough_participants_is_void_and_the_model_stays(app: PpdlApplication) -> None:
    block(app, [model_update(meter, NAME) for meter in METERS[:3]])
    for _ in range(PLAN.max_round_blocks - 1):
        block(app)
    answer = model(app)
    assert (answer.round, answer.opened_height, answer.model_hash) == (1, 6, NAME)
    assert rounds(app).rounds[0].void and len(rounds(app).rounds[0].participants) == 3
    progress = ask(app, "round", RoundAnswer)
    assert isinstance(progress, RoundAnswer)
    assert (progress.completed, progress.voided, progress.participants) == (0, 1, ())
    assert block(app, [model_update(METERS[0], NAME, 1)]).tx_results[0].ok


@pytest.mark.parametrize(
    ("tx", "reason"),
    [
        (model_update(METERS[0], NAME, round_number=1), "round 1 is not open"),
        (model_update(METERS[0], bytes(32)), "another model"),
        (model_update(METERS[0], NAME, key=b"\x77" * 32), "not registered"),
        (model_update(METERS[0], NAME, update=np.full(PARAMETERS, 5000, np.int16)), "exceeds"),
        (
            update_tx(base.sign(ModelUpdate(0, NAME, bytes(10)), CHAIN_ID, METERS[0].key.signing_key)),
            "10 bytes instead of 28416",
        ),
        (
            update_tx(base.sign(ModelUpdate(0, NAME, b"\x00\x80" * PARAMETERS), CHAIN_ID, METERS[0].key.signing_key)),
            "-32768",
        ),
        (
            update_tx(base.sign(ModelUpdate(0, NAME, bytes(28_416)), CHAIN_ID + 1, METERS[0].key.signing_key)),
            "not registered",
        ),
    ],
)
def test_a_wrong_update_is_refused_everywhere_and_changes_nothing(app: PpdlApplication, tx: bytes, reason: str) -> None:
    verdict = app.check_tx(tx)
    assert not verdict.ok and reason in verdict.reason
    before = block(app).app_hash
    result = block(app, [tx])
    assert not result.tx_results[0].ok and reason in result.tx_results[0].reason
    assert result.app_hash == before


def test_the_norm_limit_is_exact(app: PpdlApplication) -> None:
    update = np.zeros(PARAMETERS, np.int16)
    update[:256] = PLAN.clip_units // 16
    assert app.check_tx(model_update(METERS[0], NAME, update=update)).ok
    update[256] = 1
    assert not app.check_tx(model_update(METERS[0], NAME, update=update)).ok


def test_a_device_has_one_update_in_a_round(app: PpdlApplication) -> None:
    block(app, [model_update(METERS[0], NAME)])
    again = block(app, [model_update(METERS[0], NAME, update=small_update(99))])
    assert "already has one" in again.tx_results[0].reason


def test_a_meter_at_fault_is_named_and_a_late_one_is_not(app: PpdlApplication) -> None:
    app.check_tx(model_update(METERS[2], bytes(32)))
    app.check_tx(model_update(METERS[2], NAME, round_number=4))
    refused = ask(app, "rejections", RejectionsAnswer)
    assert isinstance(refused, RejectionsAnswer)
    assert refused.total == 1
    assert [item.device for item in refused.latest] == [METERS[2].key.address]


def states_alive() -> int:
    gc.collect()
    return sum(isinstance(thing, State) for thing in gc.get_objects())


def test_remembered_refusals_hold_no_old_state(app: PpdlApplication) -> None:
    before = states_alive()
    for meter in METERS:  # nine states, one after the other
        app.check_tx(model_update(METERS[2], bytes(32)))
        assert block(app, [evaluation(meter, NAME)]).tx_results[0].ok
    assert states_alive() <= before + 2


def test_evaluations_are_averaged_over_homes_and_kept_with_their_round(app: PpdlApplication) -> None:
    first = block(app, [evaluation(meter, NAME, 0, 900_000 + i) for i, meter in enumerate(METERS[:4])])
    assert all(result.ok for result in first.tx_results)
    again = block(app, [evaluation(METERS[0], NAME, 0, 1)])
    assert "already gave one" in again.tx_results[0].reason
    wrong = block(app, [evaluation(METERS[5], bytes(32), 0)])
    assert "another model" in wrong.tx_results[0].reason
    for meter in METERS[:4]:
        block(app, [model_update(meter, NAME)])
    second = model(app)
    assert second.round == 1
    late = block(app, [evaluation(METERS[6], NAME, 0, 900_006), evaluation(METERS[0], second.model_hash, 1, 400_000)])
    assert all(result.ok for result in late.tx_results)
    answer = ask(app, "evaluations", EvaluationsAnswer)
    assert isinstance(answer, EvaluationsAnswer)
    shown = [(loss.round, loss.model_hash, loss.loss_micro, loss.homes) for loss in answer.rounds]
    mean = (4 * 900_000 + 6 + 900_006) // 5
    assert shown == [(0, NAME, mean, 5), (1, second.model_hash, 400_000, 1)]


def test_only_the_last_rounds_may_still_be_evaluated(app: PpdlApplication) -> None:
    for _ in range(EVALUATED_ROUNDS * PLAN.max_round_blocks):
        block(app)
    assert model(app).round == EVALUATED_ROUNDS
    outcome = block(app, [evaluation(METERS[0], NAME, 1), evaluation(METERS[0], NAME, 0), evaluation(METERS[0], NAME, 5)])
    assert [result.ok for result in outcome.tx_results] == [True, False, False]
