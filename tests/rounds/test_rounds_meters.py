"""The meter's side of a round: real training and evaluation behind real notices, a restart between commit and reveal."""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from round_homes import Home, Notices, home
from round_world import CHAIN_ID, METERS, MODEL, PLAN, START_HOUR, Chain

from edge_agent.config import AgentConfig, DeviceSection, HomeSection, HubSection, MeterSection, MqttSection
from edge_agent.learning.service import LearningService
from edge_agent.services import AgentContext
from edge_agent.slots import IMPORTED, ClosedSlot
from edge_agent.store import Store
from hub.ppdl.app.transactions import ballot_tx, commit_tx, evaluation_tx
from openmg.clock import VirtualClock
from openmg.forecast.trainer import get_trainer
from openmg.identity import DeviceKey
from openmg.learning.blobs import blob_hash, commitment_of, make_blob, open_blob
from openmg.member.pending import PendingFile, PendingUpdate
from openmg.messages import base, topics
from openmg.messages.learning import Evaluation, ModelNotice, UpdateCommit, UpdateReveal

SLOW = dataclasses.replace(PLAN, reveal_blocks=20, aggregate_blocks=20, committee_blocks=20, max_round_blocks=100)


def play_round(chain: Chain, homes: list[Home]) -> None:
    """One round in which every home answers every notice and the validators do their part."""
    notices = Notices(chain.query)
    answers = [one.answer(notices.now()) for one in homes]
    txs = []
    for one, answer in zip(homes, answers, strict=True):
        txs += [evaluation_tx(one.signed(answer.evaluations[0]))]
        txs += [commit_tx(one.signed(answer.commit))] if answer.commit else []
    chain.good(*txs)
    chain.until("reveal")
    notice = notices.now()
    chain.blobs = {one.key.address: a.reveal.blob for one in homes if (a := one.answer(notice)).reveal is not None}
    chain.good(*chain.votes(present=chain.blobs))
    chain.accept(chain.right())
    notice = notices.now()
    ballots = [ballot_tx(one.signed(a.ballot)) for one in homes if (a := one.answer(notice)).ballot is not None]
    assert len(ballots) == len(chain.state.round.committee)
    chain.good(*ballots)


def test_rounds_of_real_training_are_learnt_and_the_loss_falls(tmp_path: Path) -> None:
    chain = Chain(tmp_path / "app.sqlite", SLOW)
    homes = [Home(tmp_path / f"home-{i}", meter, i) for i, meter in enumerate(METERS)]
    for _ in range(3):
        play_round(chain, homes)
    records = chain.state.records[:-1]
    assert [record.outcome for record in records] == ["learnt"] * 3
    assert all(len(record.included) == 7 and record.rejected == () for record in records)
    losses = [record.loss_sum_micro for record in records]
    assert all(record.loss_count == 9 for record in records) and losses[2] < losses[0]
    chain.close()


def test_a_committee_refuses_what_a_hostile_majority_made_of_the_plain_mean(tmp_path: Path) -> None:
    """Five of seven send their update turned around and as long as the clip allows; two honest judges measure the result."""
    chain = Chain(tmp_path / "app.sqlite", dataclasses.replace(SLOW, rule="mean", byzantine_num=0, worse_milli=10))
    trainers = [meter.address for meter in chain.trainers()]
    before = chain.state.model
    homes = [Home(tmp_path / f"home-{i}", meter, i, poison=meter.address in trainers[:5]) for i, meter in enumerate(METERS)]
    play_round(chain, homes)
    record = chain.state.records[0]
    assert (record.outcome, record.ballots, record.worse) == ("refused", 2, 2)
    assert len(record.included) == 7 and chain.state.model == before
    chain.close()


# ---- a restart between commit and reveal ------------------------------------------------------------------------------


class Agent:
    """What an agent gives its services, with a real store and state folder that outlive the service."""

    def __init__(self, folder: Path, key: DeviceKey) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.folder, self.key = folder, key
        self.store = Store(folder / "store.sqlite")
        slots = []
        for hour, net in enumerate(home(1)):
            for quarter, value in enumerate([net // 4] * 3 + [net - 3 * (net // 4)]):
                slots.append(ClosedSlot((START_HOUR + hour) * 4 + quarter, max(0, value), max(0, -value), IMPORTED))
        self.store.import_slots(slots, None)
        config = AgentConfig(
            DeviceSection("home-1", folder / "key", folder),
            MeterSection("127.0.0.1", 5020),
            MqttSection("mqtt://127.0.0.1:1883"),
            HubSection("0x" + "11" * 20, CHAIN_ID),
            HomeSection(1),
        )
        self.context = AgentContext(config, key, self.store, VirtualClock.real(), self.publish, lambda topic: None)

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> bool:
        self.sent.append((topic, payload))
        return True

    async def hear(self, *notices: ModelNotice) -> dict[str, bytes]:
        """A service that starts, hears these notices and stops; what it published, by the topic's leaf."""
        self.sent.clear()
        service = LearningService(get_trainer(PLAN.spec, "numpy"))
        await service.start(self.context)
        for notice in notices:
            await service.on_message(topics.model(MODEL), base.encode(notice))
        await service.stop()
        return {topic.rsplit("/", 1)[1]: payload for topic, payload in self.sent}


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    one = Chain(tmp_path / "app.sqlite", SLOW)
    yield one
    one.close()


@pytest.fixture
def agent(tmp_path: Path, chain: Chain) -> Iterator[Agent]:
    folder = tmp_path / "agent"
    folder.mkdir()
    one = Agent(folder, chain.trainers()[0])
    yield one
    one.store.close()


async def test_a_meter_that_restarts_between_commit_and_reveal_shows_what_it_promised(agent: Agent, chain: Chain) -> None:
    notices = Notices(chain.query)
    first = await agent.hear(notices.now())
    assert set(first) == {"evaluation", "commit"}
    again = await agent.hear(notices.now())
    assert again == first, "a restarted meter signs the same commit, since a second one would be refused"
    others = [chain.commit(meter, make_blob(bytes(16), b"")) for meter in chain.trainers()[1:]]
    chain.good(commit_tx(first["commit"]), *others)
    chain.until("reveal")
    shown = await agent.hear(notices.now())
    assert set(shown) == {"evaluation", "reveal"}
    reveal = base.decode(UpdateReveal, shown["reveal"])
    commit = base.open_signed(UpdateCommit, first["commit"], CHAIN_ID).message
    assert commitment_of(agent.key.address, 0, commit.base_hash, blob_hash(reveal.blob)) == commit.commitment
    open_blob(SLOW, reveal.blob)
    evaluation = base.open_signed(Evaluation, shown["evaluation"], CHAIN_ID).message
    assert evaluation == base.open_signed(Evaluation, first["evaluation"], CHAIN_ID).message
    mode = PendingFile(agent.folder, MODEL).path.stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


async def test_a_meter_that_promised_nothing_shows_nothing(agent: Agent, chain: Chain) -> None:
    chain.to_reveal(chain.trainers()[1:])
    assert set(await agent.hear(Notices(chain.query).now())) == {"evaluation"}


async def test_a_lost_file_costs_the_round_and_not_more(agent: Agent, chain: Chain) -> None:
    notices = Notices(chain.query)
    await agent.hear(notices.now())
    path = PendingFile(agent.folder, MODEL).path
    path.write_bytes(path.read_bytes()[:-7])
    chain.good(*(chain.commit(meter, make_blob(bytes(16), b"")) for meter in chain.trainers()[1:]))
    chain.until("reveal")
    assert set(await agent.hear(notices.now())) == {"evaluation"}
    while chain.state.round.phase != "commit" or agent.key.address in chain.state.round.committee:
        chain.block()  # a round or two, in which it may be drawn into the committee
    assert set(await agent.hear(notices.now())) == {"evaluation", "commit"}


async def test_a_member_of_the_committee_judges_and_does_not_train(tmp_path: Path, chain: Chain) -> None:
    folder = tmp_path / "judge"
    folder.mkdir()
    judge, notices = Agent(folder, chain.judges()[0]), Notices(chain.query)
    assert set(await judge.hear(notices.now())) == {"evaluation"}
    chain.to_committee()
    said = await judge.hear(notices.now(), notices.now())
    assert set(said) == {"evaluation", "ballot"} and not PendingFile(folder, MODEL).path.exists()
    chain.good(ballot_tx(said["ballot"]))
    judge.store.close()


async def test_a_candidate_whose_hash_is_another_is_not_judged(tmp_path: Path, chain: Chain) -> None:
    folder = tmp_path / "judge"
    folder.mkdir()
    judge = Agent(folder, chain.judges()[0])
    chain.to_committee()
    notice = Notices(chain.query).now()
    forged = dataclasses.replace(notice, candidate=bytes(len(notice.candidate)))
    assert await judge.hear(forged) == {}
    judge.store.close()


def test_a_pending_file_is_whole_or_nothing(tmp_path: Path) -> None:
    file = PendingFile(tmp_path, MODEL)
    assert file.load() is None
    pending = PendingUpdate(3, bytes(32), b"blob", 17)
    file.save(pending)
    file.save(dataclasses.replace(pending, round=4))
    assert file.load() == dataclasses.replace(pending, round=4)
    for data in (b"", b"\x00", b"\x84\x03\x40\x40\x00", file.path.read_bytes()[:-1]):
        file.path.write_bytes(data)
        assert file.load() is None


def test_a_notice_has_a_candidate_in_the_committees_phase_only(chain: Chain) -> None:
    notice = Notices(chain.query).now()
    with pytest.raises(ValueError, match="in the committee's phase only"):
        dataclasses.replace(notice, candidate=bytes(4), candidate_hash=bytes(32))
    with pytest.raises(ValueError, match="has one of the phases"):
        dataclasses.replace(notice, phase="dinner")
