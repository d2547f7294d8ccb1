"""The application under the real engine: four validators over TCP run rounds of real training to one falling loss."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from app_world import CHAIN_ID, FIRST_SLOT, HISTORY_HOURS, METERS, START_HOUR, VALIDATOR_KEYS, genesis, slot_tx
from app_world import PLAN as SHORT_PLAN

from edge_agent.learning.learner import LocalLearner
from hub.ppdl.app.answers import EvaluationsAnswer, ModelAnswer, RoundsAnswer, SlotsAnswer
from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.transactions import evaluation_tx, update_tx
from hub.ppdl.engine import PbftEngine
from hub.ppdl.net.transport import PeerAddress
from hub.ppdl.store import initialise_store
from openmg.forecast.model import master_from_bytes
from openmg.forecast.trainer import get_trainer
from openmg.messages import base
from openmg.messages.learning import Evaluation, ModelUpdate
from openmg.signing import address_of

ROUNDS = 3
PLAN = dataclasses.replace(SHORT_PLAN, min_participants=len(METERS), max_round_blocks=1000)
"""Rounds wait for every meter, so the test does not depend on the machine's speed."""
TIMEOUT_S = 150.0  # nine homes train three times: a minute on a busy machine


def home(number: int) -> list[int]:
    random = np.random.default_rng(number)
    hour = (START_HOUR + np.arange(HISTORY_HOURS) + 9) % 24
    shape = 300 + 200 * np.sin(2 * np.pi * (hour - 8 + number / 3) / 24)
    return [round(v) for v in shape * random.lognormal(sigma=0.2, size=HISTORY_HOURS)]


async def answer_round(engine: PbftEngine, learners: list[LocalLearner], model: ModelAnswer) -> None:
    """What nine meters and the hub's ingest do for a round."""
    await engine.wait_height(model.height)  # this hub may be a block behind the one that was asked
    master = master_from_bytes(PLAN.spec, model.parameters)
    for meter, learner in zip(METERS, learners, strict=True):
        result = await asyncio.to_thread(learner.train, master, model.round)
        evaluation = Evaluation(model.round, model.model_hash, result.loss_micro)
        update = ModelUpdate(model.round, result.base_hash, result.update_int16)
        await engine.submit(evaluation_tx(base.sign(evaluation, CHAIN_ID, meter.key.signing_key)))
        await engine.submit(update_tx(base.sign(update, CHAIN_ID, meter.key.signing_key)))


async def ask_model(engine: PbftEngine) -> ModelAnswer:
    return base.decode(ModelAnswer, (await engine.query("model")).value)


async def test_four_validators_agree_on_rounds_of_real_training(tmp_path: Path, free_port: Callable[[], int]) -> None:
    ports = {address_of(key): free_port() for key in VALIDATOR_KEYS}
    engines = []
    for number, key in enumerate(VALIDATOR_KEYS):
        store = tmp_path / f"hub-{number}" / "ppdl.sqlite"
        initialise_store(store, genesis(PLAN))
        peers = [PeerAddress(peer, "127.0.0.1", port) for peer, port in ports.items() if peer != address_of(key)]
        application = PpdlApplication(store.with_name("app.sqlite"))
        listen = ("127.0.0.1", ports[address_of(key)])
        timing = {"block_interval_s": 0.05, "heartbeat_s": 0.3, "view_timeout_s": 5.0}
        engines.append(PbftEngine(genesis(PLAN), key, application, store, listen, peers, **timing))
    trainer = get_trainer(PLAN.spec)
    learners = [
        LocalLearner(meter.key.address, PLAN, lambda minutes, n=n: (START_HOUR, home(n)), trainer)
        for n, meter in enumerate(METERS)
    ]
    for engine in engines:
        await engine.start()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await engines[1].submit(slot_tx(FIRST_SLOT))
            for number in range(ROUNDS):
                while (model := await ask_model(engines[0])).round < number:
                    await engines[0].wait_height(model.height + 1)
                await answer_round(engines[number % 4], learners, model)
            while (model := await ask_model(engines[0])).round < ROUNDS:
                await engines[0].wait_height(model.height + 1)
            losses = [learner.evaluate(master_from_bytes(PLAN.spec, model.parameters)) for learner in learners]
            for engine in engines:
                await engine.wait_height(model.height)
        rounds = base.decode(RoundsAnswer, (await engines[0].query("rounds")).value).rounds
        for engine in engines[1:]:
            assert (await ask_model(engine)).parameters == model.parameters
            others = base.decode(RoundsAnswer, (await engine.query("rounds")).value).rounds
            assert others[:ROUNDS] == rounds[:ROUNDS]
            slots = base.decode(SlotsAnswer, (await engine.query("slots/1")).value).slots
            assert [record.slot for record in slots] == [FIRST_SLOT]
        seen = base.decode(EvaluationsAnswer, (await engines[2].query("evaluations")).value).rounds
        assert len(rounds) == ROUNDS + 1
    finally:
        for engine in engines:
            await engine.stop()
    agreed = [loss.loss_micro for loss in seen[:ROUNDS]] + [sum(losses) // len(losses)]
    assert all(loss.homes == len(METERS) for loss in seen[:ROUNDS])
    assert all(later < earlier for earlier, later in zip(agreed, agreed[1:], strict=False)), agreed
    assert agreed[-1] < agreed[0] * 0.9, agreed
