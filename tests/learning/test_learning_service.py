"""The learning service in an agent's context: a notice in, signed answers out, bad notices counted and dropped."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from learning_homes import START_HOUR, synthetic_homes

from edge_agent.config import AgentConfig, DeviceSection, HomeSection, HubSection, MeterSection, MqttSection
from edge_agent.learning.service import LearningService
from edge_agent.services import AgentContext
from edge_agent.slots import IMPORTED, ClosedSlot
from edge_agent.store import Store
from hub.ppdl.app.round_state import EVALUATED_ROUNDS
from openmg.clock import VirtualClock
from openmg.forecast.model import initial_master, master_bytes
from openmg.forecast.spec import ForecastSpec
from openmg.forecast.trainer import AdamState, Trainer
from openmg.forecast.trainer_numpy import F32, NumpyTrainer
from openmg.identity import DeviceKey
from openmg.learning.blobs import blob_hash, commitment_of, open_blob
from openmg.learning.plan import LearningPlan
from openmg.learning.quantise import model_hash, norm_units
from openmg.member.answers import EARLIER_EVALUATIONS, RoundAnswerer
from openmg.member.pending import PendingFile
from openmg.member.spans import of_home
from openmg.messages import base, topics
from openmg.messages.learning import PHASE_COMMIT, PHASE_REVEAL, Evaluation, ModelNotice, UpdateCommit, UpdateReveal
from openmg.tasks import end_task

CHAIN_ID = 7
PLAN = LearningPlan(evaluation_start_hour=START_HOUR + 672)
MODEL = PLAN.spec.short_name
TOPIC = topics.model(MODEL)
MASTER = initial_master(PLAN.spec, PLAN.seed)
KEY = DeviceKey(b"\x05" * 32)
HOME = synthetic_homes(3, seed=2)[2]


def notice(round_number: int = 0, **changes: object) -> ModelNotice:
    whole = ModelNotice(
        model=MODEL,
        round=round_number,
        phase=PHASE_COMMIT,
        height=12,
        phase_end_height=18,
        model_hash=model_hash(PLAN.spec, MASTER),
        parameters=master_bytes(MASTER),
        committee=(),
        candidate_hash=b"",
        candidate=b"",
        plan=PLAN.encode(),
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


class Agent:
    """What an agent gives its services: a real store with the home's past, and a wire that may be cut."""

    def __init__(self, folder: Path, history: list[int]) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.filters: list[str] = []
        self.connected = True
        self.store = Store(folder / "store.sqlite")
        self.import_hours(history)
        config = AgentConfig(
            DeviceSection("home-3", folder / "key", folder),
            MeterSection("127.0.0.1", 5020),
            MqttSection("mqtt://127.0.0.1:1883"),
            HubSection("0x" + "11" * 20, CHAIN_ID),
            HomeSection(1),
        )
        self.context = AgentContext(config, KEY, self.store, VirtualClock.real(), self.publish, self.filters.append)

    def import_hours(self, net_wh: list[int]) -> None:
        """The home's first hours into the store, as importing its past does."""
        slots = []
        for hour, net in enumerate(net_wh):
            for quarter, value in enumerate([net // 4] * 3 + [net - 3 * (net // 4)]):
                slot = (START_HOUR + hour) * 4 + quarter
                slots.append(ClosedSlot(slot, max(0, value), max(0, -value), IMPORTED))
        self.store.import_slots(slots, None)

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> bool:
        if self.connected:
            self.sent.append((topic, payload))
        return self.connected


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    whole = Agent(tmp_path, HOME)
    yield whole
    whole.store.close()


async def started(agent: Agent, trainer: Trainer | None = None) -> LearningService:
    service = LearningService(trainer)
    await service.start(agent.context)
    assert agent.filters == [topics.ALL_MODELS, topics.ALL_PRIVATE]
    return service


async def test_a_round_is_answered_with_an_evaluation_a_commit_and_its_blob(agent: Agent, tmp_path: Path) -> None:
    service = await started(agent)
    await service.on_message(TOPIC, base.encode(notice(3)))
    await service.on_message(TOPIC, base.encode(notice(3, phase=PHASE_REVEAL)))
    await service.stop()
    (first, evaluation), (second, commit), (_, again), (third, reveal) = agent.sent
    assert (first, second, third) == tuple(f"grid/v1/home-3/{leaf}" for leaf in ("evaluation", "commit", "reveal"))
    opened = base.open_signed(Evaluation, evaluation, CHAIN_ID)
    assert opened.signer == KEY.address and again == evaluation
    assert opened.message.round == 3 and opened.message.loss_micro > 0
    promised = base.open_signed(UpdateCommit, commit, CHAIN_ID)
    name = model_hash(PLAN.spec, MASTER)
    assert promised.signer == KEY.address and promised.message.base_hash == name
    blob = base.decode(UpdateReveal, reveal).blob
    assert commitment_of(KEY.address, 3, name, blob_hash(blob)) == promised.message.commitment
    assert 0 < norm_units(open_blob(PLAN, blob)) <= PLAN.clip_units
    other = tmp_path / "other"
    other.mkdir()
    twin = RoundAnswerer(
        KEY.address, of_home(lambda minutes: (START_HOUR, HOME)), PendingFile(other, MODEL), lambda size: blob[:size]
    )
    guessed = twin.answer(notice(3))  # same device, readings, notice and salt: only the meter's chance is unknown
    assert guessed is not None and guessed.commit is not None
    assert guessed.commit.base_hash == name and guessed.commit.commitment != promised.message.commitment


async def test_a_repeated_notice_brings_the_same_answer_and_an_older_one_none(agent: Agent) -> None:
    service = await started(agent)
    agent.connected = False
    await service.on_message(TOPIC, base.encode(notice(3)))
    assert service.answered == 0
    agent.connected = True
    for _ in range(2):
        await service.on_message(TOPIC, base.encode(notice(3)))
    assert agent.sent[:2] == agent.sent[2:] and len(agent.sent) == 4
    other = MASTER + 1
    await service.on_message(
        TOPIC,
        base.encode(notice(2, model_hash=model_hash(PLAN.spec, other), parameters=master_bytes(other))),
    )
    assert len(agent.sent) == 4 and service.answered == 2
    await service.stop()


async def test_losses_of_the_rounds_that_the_chain_still_counts_travel_along(agent: Agent) -> None:
    assert EARLIER_EVALUATIONS + 1 == EVALUATED_ROUNDS
    service = await started(agent)
    for number in (0, 1, 2, 3, 4, 6):
        agent.sent.clear()
        await service.on_message(TOPIC, base.encode(notice(number)))
        heard = [payload for topic, payload in agent.sent if topic.endswith("/evaluation")]
        rounds = [base.open_signed(Evaluation, payload, CHAIN_ID).message.round for payload in heard]
        assert rounds[0] == number
        assert rounds[1:] == [known for known in (0, 1, 2, 3, 4) if number - EVALUATED_ROUNDS < known < number]
        assert [topic for topic, _ in agent.sent].count("grid/v1/home-3/commit") == 1
    await service.stop()


class HeldTrainer(NumpyTrainer):
    """Waits in its first step, so that a test can act in the middle of a training."""

    def __init__(self) -> None:
        super().__init__(PLAN.spec)
        self.began, self.go_on = threading.Event(), threading.Event()

    def step(
        self, state: AdamState, inputs: F32, residual: F32, *, anchor: F32, learning_rate: float, prox: float
    ) -> tuple[AdamState, float]:
        self.began.set()
        assert self.go_on.wait(30)
        return super().step(state, inputs, residual, anchor=anchor, learning_rate=learning_rate, prox=prox)


async def test_stopping_in_the_middle_of_training_waits_for_it_and_sends_nothing(agent: Agent) -> None:
    trainer = HeldTrainer()
    service = await started(agent, trainer)
    task = asyncio.get_running_loop().create_task(service.on_message(TOPIC, base.encode(notice(0))))
    assert await asyncio.to_thread(trainer.began.wait, 30)
    await end_task(task)
    stopping = asyncio.get_running_loop().create_task(service.stop())
    await asyncio.sleep(0.05)
    assert not stopping.done()
    trainer.go_on.set()
    await stopping
    assert not agent.sent


async def test_unusable_notices_are_counted_and_logged_once(agent: Agent, caplog: pytest.LogCaptureFixture) -> None:
    service = await started(agent)
    bad = [
        b"",
        b"\xa1\x00",
        base.encode(notice(0, parameters=bytes(8))),
        base.encode(notice(0, model_hash=bytes(32))),
        base.encode(notice(0, plan=b"")),
        base.encode(notice(0, plan=replace(PLAN, spec=ForecastSpec(quantity="price")).encode())),
        base.encode(notice(0, plan=replace(PLAN, spec=ForecastSpec(lag_hours=24)).encode())),
    ]
    with caplog.at_level(logging.WARNING):
        for payload in bad:
            await service.on_message(TOPIC, payload)
    assert service.malformed == len(bad) and not agent.sent
    assert len([record for record in caplog.records if "ignored" in record.message]) == 1
    await service.on_message(TOPIC, base.encode(notice(0)))
    assert len(agent.sent) == 2
    await service.stop()


async def test_another_plan_is_refused_while_the_agent_runs(agent: Agent) -> None:
    service = await started(agent)
    await service.on_message(TOPIC, base.encode(notice(0)))
    narrow = replace(PLAN, evaluation_hours=24)
    await service.on_message(TOPIC, base.encode(notice(1, plan=narrow.encode())))
    assert service.malformed == 1 and len(agent.sent) == 2
    await service.stop()


async def test_a_home_without_history_says_so_once_and_takes_part_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    agent = Agent(tmp_path, HOME[:100])
    service = await started(agent)
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            await service.on_message(TOPIC, base.encode(notice(number)))
    assert [record.message for record in caplog.records if "import the home's history" in record.message] == [
        caplog.records[0].message
    ]
    assert not agent.sent
    agent.import_hours(HOME)
    await service.on_message(TOPIC, base.encode(notice(3)))
    assert len(agent.sent) == 2
    await service.stop()
    agent.store.close()
