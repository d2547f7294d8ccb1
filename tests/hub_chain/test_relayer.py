"""Relayers: they compete, lose races without harm, follow set changes, and are never believed."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

import pytest
from evm_world import ETHER, GENESIS_HASH, PPDL_CHAIN_ID, Chain, PpdlChain, validator_keys

from hub.chain.artifacts import load_artifact
from hub.chain.client import Contract, EvmClient
from hub.chain.errors import CallReverted
from hub.relay.relayer import MAX_BATCH, Relayer
from openmg.signing import address_of

REWARD_WEI = 5


@dataclass(frozen=True)
class Sealed:
    header_bytes: bytes
    view: int
    seals: tuple[bytes, ...]


class Source:
    """Decided headers with their certificates, and the sets that sealed them."""

    def __init__(self, ppdl: PpdlChain) -> None:
        self.ppdl = ppdl
        self.sealed: list[Sealed] = []

    def decide(self, count: int = 1, view: int = 0) -> None:
        for _ in range(count):
            header = self.ppdl.extend()
            seals = self.ppdl.seals(header, len(self.ppdl.headers), view)
            self.sealed.append(Sealed(header, view, tuple(seals[i : i + 65] for i in range(0, len(seals), 65))))

    def headers_after(self, height: int, limit: int) -> list[Sealed]:
        return self.sealed[height : height + limit]

    def validators_at(self, height: int) -> list[bytes]:
        return [address_of(key) for key in self.ppdl.keys]


def deploy(chain: Chain) -> tuple[Source, Contract]:
    ppdl = PpdlChain(validator_keys(4))
    client = chain.client("deployer")
    chain.give(client.address, ETHER)
    members = [address_of(key) for key in ppdl.keys]
    artifact = load_artifact("PpdlRelay")
    relay, tx_hash = client.create(artifact, PPDL_CHAIN_ID, GENESIS_HASH, members, REWARD_WEI, 10**9, value=ETHER // 2)
    client.wait(tx_hash)
    return Source(ppdl), relay


def height(client: EvmClient, relay: Contract) -> int:
    return int(client.call(relay, "height"))


def test_batches_views_and_rewards(chain):
    source, relay = deploy(chain)
    relayer = Relayer(chain.client("relayer"), relay, source)
    assert relayer.relay_next() == 0
    source.decide(3)
    source.decide(view=2)
    assert relayer.relay_next() == 4
    source.decide(MAX_BATCH + 5)
    assert [relayer.relay_next(), relayer.relay_next(), relayer.relay_next()] == [MAX_BATCH, 5, 0]
    status = relayer.status()
    assert (status.height, status.submissions, status.headers, status.races_lost) == (
        MAX_BATCH + 9,
        3,
        MAX_BATCH + 9,
        0,
    )
    assert relayer.claim() == (MAX_BATCH + 9) * REWARD_WEI
    assert relayer.claim() == 0


class Late(Source):
    """A source during whose answer another relayer submits the same headers."""

    def __init__(self, source: Source, other: Relayer) -> None:
        super().__init__(source.ppdl)
        self.sealed = source.sealed
        self.other: Relayer | None = other

    def headers_after(self, height: int, limit: int) -> list[Sealed]:
        found = super().headers_after(height, limit)
        if self.other is not None:
            other, self.other = self.other, None
            assert other.relay_next() == len(found)
        return found


def test_a_lost_race_is_counted_and_forgotten(chain):
    source, relay = deploy(chain)
    source.decide(2)
    winner = Relayer(chain.client("winner"), relay, source)
    loser = Relayer(chain.client("loser"), relay, Late(source, winner))
    assert loser.relay_next() == 0
    assert loser.status().races_lost == 1
    source.decide()
    assert loser.relay_next() == 1
    assert height(loser.client, relay) == 3


def test_a_header_that_is_refused_for_itself_is_no_lost_race(chain):
    source, relay = deploy(chain)
    source.ppdl.extend(parent=bytes(32))
    seals = source.ppdl.seals(source.ppdl.headers[0], 1)
    source.sealed.append(Sealed(source.ppdl.headers[0], 0, (seals,)))
    with pytest.raises(CallReverted, match="WrongHeader"):
        Relayer(chain.client("relayer"), relay, source).relay_next()


def test_the_relayer_applies_an_announced_set(chain):
    source, relay = deploy(chain)
    source.ppdl.next_keys = validator_keys(7, "newcomer")
    source.decide()
    relayer = Relayer(chain.client("relayer"), relay, source, validators=source)
    assert relayer.relay_next() == 1
    source.ppdl.keys, source.ppdl.next_keys = source.ppdl.next_keys, None
    source.decide()
    assert relayer.relay_next() == 1


def test_a_batch_ends_with_an_announced_set(chain):
    """The contract takes no header behind an announcement in the same batch; a relayer that is late has them all."""
    source, relay = deploy(chain)
    source.decide(2)
    source.ppdl.next_keys = validator_keys(7, "newcomer")
    source.decide()
    source.ppdl.keys, source.ppdl.next_keys = source.ppdl.next_keys, None
    source.decide(2)
    relayer = Relayer(chain.client("relayer"), relay, source, validators=source)
    assert [relayer.relay_next() for _ in range(3)] == [3, 2, 0]


async def test_two_relayers_compete_on_a_mining_chain(start_node):
    with start_node(7_030, 0.3) as node:
        chain = Chain(node.url)
        source, relay = deploy(chain)
        relayers = [Relayer(chain.client(name), relay, source, poll_seconds=0.05) for name in ("one", "two")]
        stop = asyncio.Event()
        tasks = [asyncio.create_task(relayer.run(stop)) for relayer in relayers]
        for _ in range(12):
            source.decide()
            await asyncio.sleep(0.15)
        reader = EvmClient(node.url)
        for _ in range(600):
            if await asyncio.to_thread(height, reader, relay) == 12:
                break
            await asyncio.sleep(0.1)
        stop.set()
        await asyncio.gather(*tasks)
        assert height(reader, relay) == 12
        statuses = [relayer.status() for relayer in relayers]
        assert sum(status.headers for status in statuses) == 12
        assert all(status.failures == 0 for status in statuses)


async def test_a_silent_chain_is_logged_once_and_tried_again(free_port, chain, caplog):
    source, relay = deploy(chain)
    source.decide()
    relayer = Relayer(EvmClient(f"http://127.0.0.1:{free_port()}", b"\1" * 32), relay, source)
    with caplog.at_level(logging.WARNING):
        assert [await relayer.turn() for _ in range(3)] == [0, 0, 0]
    assert len(caplog.records) == 1
    assert relayer.status().failures == 3
    relayer.client = chain.client("relayer")
    assert await relayer.turn() == 1
