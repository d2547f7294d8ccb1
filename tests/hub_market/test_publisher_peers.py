"""Learning's model notice from the chain's committed state, and what hubs tell each other of themselves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from app_world import METERS, MODEL, block, commit, started
from pbft_support import Cluster

from hub.learning.publisher import ModelPublisher
from hub.peers import STATUS_GOSSIP, PeerBook, PeerStatus
from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.round_answers import ModelAnswer, RoundAnswer
from hub.ppdl.application import QueryResult
from openmg.messages import base, topics
from openmg.messages.learning import ModelNotice


class Meters:
    """What a publisher told; `away` is a broker that takes nothing, `missing` the blobs that this hub waits for."""

    def __init__(self, app: PpdlApplication) -> None:
        self.app = app
        self.away = False
        self.missing = 0
        self.notices: list[ModelNotice] = []
        self.publisher = ModelPublisher(MODEL, lambda path: app.query(path, b""), self._publish, lambda: self.missing)

    def _publish(self, topic: str, payload: bytes) -> bool:
        if self.away:
            return False
        assert topic == topics.model(MODEL)
        self.notices.append(base.decode(ModelNotice, payload))
        return True

    def told(self) -> list[tuple[int, str]]:
        return [(notice.round, notice.phase) for notice in self.notices]

    def commit(self, count: int = len(METERS)) -> None:
        """A block in which so many meters commit."""
        name = base.decode(ModelAnswer, self.app.query(f"model/{MODEL.hex()}", b"").value)
        result = block(self.app, [commit(meter, name.model_hash, name.round) for meter in METERS[:count]])
        assert all(one.ok for one in result.tx_results)

    def until(self, *phase: object) -> None:
        """Blocks, each of which the publisher hears of, until the round is in this phase."""
        while (now(self.app).round, now(self.app).phase) != phase:
            block(self.app)
            self.publisher.step()


@pytest.fixture
def meters(tmp_path: Path):
    app = started(tmp_path / "app.sqlite")
    yield Meters(app)
    app.close()


def now(app: PpdlApplication) -> RoundAnswer:
    return base.decode(RoundAnswer, app.query(f"round/{MODEL.hex()}", b"").value)


def test_a_round_is_published_again_while_meters_are_missing(meters):
    """A broker may lose a notice that it took, and a round without its meters is void in the end."""
    meters.publisher.step()
    assert now(meters.app).phase_end_height - now(meters.app).phase_height == 3
    block(meters.app)
    for _ in range(3):
        meters.publisher.step()
    assert meters.told() == [(0, "commit")] * 2 and meters.notices[0].model_hash == meters.notices[1].model_hash


def test_a_phase_in_which_all_meters_have_spoken_is_not_published_again(meters):
    meters.publisher.step()
    meters.commit()
    meters.until(0, "reveal")
    assert meters.told() == [(0, "commit"), (0, "reveal")]


def test_a_blob_that_did_not_come_is_asked_for_again(meters):
    meters.publisher.step()
    meters.commit()
    meters.until(0, "reveal")
    meters.missing = 1
    block(meters.app)
    meters.publisher.step()
    assert meters.told()[1:] == [(0, "reveal"), (0, "reveal")]


def test_each_round_is_published_as_it_opens(meters):
    for _ in range(3):
        meters.publisher.step()
    assert meters.told() == [(0, "commit")]
    meters.commit()
    meters.until(1, "commit")  # nobody showed a blob
    meters.publisher.step()
    assert meters.told() == [(0, "commit"), (0, "reveal"), (1, "commit")]
    first, _, second = meters.notices
    state = base.decode(ModelAnswer, meters.app.query(f"model/{MODEL.hex()}", b"").value)
    assert (second.model_hash, second.parameters, second.plan) == (state.model_hash, state.parameters, state.plan)
    assert second.phase_end_height == state.phase_end_height == second.height + 3 > first.height


def test_a_model_that_was_not_taken_is_published_later(meters):
    meters.away = True
    meters.publisher.step()
    meters.commit()
    meters.until(1, "commit")
    meters.away = False
    meters.publisher.step()
    assert meters.told() == [(1, "commit")]  # the open round only: the first is over


def test_a_lost_broker_gets_the_model_again(meters):
    meters.publisher.step()
    meters.publisher.forget()
    meters.publisher.step()
    meters.publisher.step()
    assert meters.told() == [(0, "commit")] * 2


def test_without_an_answer_nothing_is_published():
    told: list[str] = []
    publisher = ModelPublisher(
        MODEL, lambda path: QueryResult(False, b"", 0, "not yet"), lambda topic, _: bool(told.append(topic)), lambda: 0
    )
    publisher.step()
    assert told == []


# ---- peers ------------------------------------------------------------------------------------------------------


def book(cluster: Cluster, number: int) -> PeerBook:
    engine = cluster.engines[number]
    return PeerBook(f"hub-{number + 1}", engine.address, engine)


async def test_hubs_hear_of_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr("hub.peers.STATUS_SECONDS", 0.05)
    cluster = Cluster(tmp_path, 2)
    async with cluster:
        books, stop = [book(cluster, 1), book(cluster, 0)], asyncio.Event()
        for item, engine in zip(books, reversed(cluster.engines), strict=True):
            engine.on_gossip(item.on_gossip)
        running = [asyncio.create_task(item.run(stop)) for item in books]
        await cluster.reach(1)
        async with asyncio.timeout(15):
            while any([peer.status.height >= 1 for peer in item.peers()] != [True, True] for item in books):
                await asyncio.sleep(0.02)
        for item in books:
            peers = item.peers()
            assert [peer.status.name for peer in peers] == ["hub-1", "hub-2"]
            assert [peer.address for peer in peers] == [engine.address for engine in cluster.engines]
            assert all(peer.online for peer in peers)
            assert [(peer.status.relay_submissions, peer.status.relay_account) for peer in peers] == [(0, b"")] * 2
        stop.set()
        await asyncio.wait_for(asyncio.gather(*running), 10)


def test_malformed_and_other_gossip_is_ignored(tmp_path):
    peers = book(Cluster(tmp_path, 1), 0)
    good = base.encode(PeerStatus("hub-2", 5, 0, 1, 2, b"\1" * 20))
    for payload in (b"", b"\xff", good[:-1], good + b"\0", b"\xa0"):
        peers.on_gossip(STATUS_GOSSIP, payload, b"\2" * 20)
    peers.on_gossip("envelope", good, b"\2" * 20)
    assert peers.peers() == ()


def test_the_latest_word_of_a_hub_counts_and_grows_old(tmp_path, monkeypatch):
    peers = book(Cluster(tmp_path, 1), 0)
    for height in (5, 6):
        peers.on_gossip(STATUS_GOSSIP, base.encode(PeerStatus("hub-2", height, 0, 0, 0, b"")), b"\2" * 20)
    peers.on_gossip(STATUS_GOSSIP, b"\xff", b"\2" * 20)  # does not undo what was said
    (peer,) = peers.peers()
    assert (peer.status.height, peer.address, peer.online) == (6, b"\2" * 20, True)
    monkeypatch.setattr("hub.peers.OFFLINE_SECONDS", 0.0)
    assert not peer.online
