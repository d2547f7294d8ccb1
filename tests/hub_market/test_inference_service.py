"""The inference role: a request on chain is witnessed as a signed PPDL transaction until the PPDL chain has its answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import app_world
import pytest
from app_world import VALIDATOR_KEYS
from evm_world import PPDL_CHAIN_ID
from market_world import MarketWorld

from hub.chain.client import EvmClient
from hub.inference.service import InferenceService
from hub.ppdl.app.answers import InferenceAnswer
from hub.ppdl.app.app import PpdlApplication
from hub.ppdl.app.transactions import KIND_INFERENCE, InferenceRequest, decode_tx, open_inference
from hub.ppdl.engine import PbftEngine
from hub.ppdl.genesis import make_genesis
from hub.ppdl.mempool import TxRefused
from hub.ppdl.store import initialise_store
from openmg.messages import base
from openmg.signing import address_of


@dataclass
class Witness:
    """A service on the chain whose transactions go to a PPDL chain of one validator; `lose` loses so many first."""

    world: MarketWorld
    app: PpdlApplication
    engine: PbftEngine
    lose: int = 0
    refuse: int = 0
    submitted: list[bytes] = field(default_factory=list)

    def service(self, client: EvmClient | None = None) -> InferenceService:
        chain = client or EvmClient(self.world.chain.url)
        query = lambda path: self.app.query(path, b"")  # noqa: E731
        return InferenceService(chain, self.world.contracts, PPDL_CHAIN_ID, VALIDATOR_KEYS[0], self.submit, query)

    async def submit(self, tx: bytes) -> bytes:
        self.submitted.append(tx)
        if len(self.submitted) <= self.refuse:
            raise TxRefused("the mempool is full")
        if len(self.submitted) <= self.lose:
            return b""
        return await self.engine.submit(tx)

    def request(self, microgrid: int) -> None:
        self.world.client.transact(self.world.contracts.inference, "request", microgrid)

    def answered(self, number: int) -> bool:
        return self.app.query(f"inference/{number}", b"").ok

    async def until(self, condition, running: asyncio.Task[None]) -> None:
        async with asyncio.timeout(15):
            while not condition() and not running.done():
                await asyncio.sleep(0.02)


@pytest.fixture
async def witness(world, tmp_path: Path, free_port, monkeypatch) -> AsyncIterator[Witness]:
    monkeypatch.setattr("hub.inference.service.STEP_SECONDS", 0.02)
    monkeypatch.setattr("hub.inference.service.RESUBMIT_STEPS", 3)
    address = address_of(VALIDATOR_KEYS[0])
    genesis = make_genesis(PPDL_CHAIN_ID, [address], app_world.app_genesis().encode(), 1_781_485_200_000)
    app, store = PpdlApplication(tmp_path / "one.sqlite"), tmp_path / "votes.sqlite"
    initialise_store(store, genesis)
    timing = {"block_interval_s": 0.02, "heartbeat_s": 0.2}
    engine = PbftEngine(genesis, VALIDATOR_KEYS[0], app, store, ("127.0.0.1", free_port()), [], **timing)
    await engine.start()
    yield Witness(world, app, engine)
    await engine.stop()
    app.close()


async def run(witness: Witness, service: InferenceService, condition) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(service.run(stop))
    try:
        await witness.until(condition, running)
        await asyncio.sleep(0.2)  # more rounds of submission, if there were any
    finally:
        stop.set()
        await asyncio.wait_for(running, 10)


async def test_a_request_is_signed_submitted_and_answered(witness):
    await asyncio.to_thread(witness.request, 2)
    service = witness.service()
    await run(witness, service, lambda: witness.answered(1))
    tx = decode_tx(witness.submitted[0])
    signed = open_inference(tx.payload, PPDL_CHAIN_ID)
    contracts = witness.world.contracts
    assert tx.kind == KIND_INFERENCE and signed.signer == address_of(VALIDATOR_KEYS[0])
    assert signed.message == InferenceRequest(contracts.chain_id, contracts.inference.address, 1, 2)
    answer = base.decode(InferenceAnswer, witness.app.query("inference/1", b"").value).answer
    assert (answer.microgrid, len(answer.answer_wh)) == (2, 24)
    assert service.seen == 1


async def test_nothing_is_submitted_once_it_is_answered(witness):
    await asyncio.to_thread(witness.request, 1)
    await run(witness, witness.service(), lambda: witness.answered(1))
    before = len(witness.submitted)
    restarted = witness.service()
    await run(witness, restarted, lambda: restarted.seen == 1)
    assert len(witness.submitted) == before


@pytest.mark.parametrize("fault", ["lose", "refuse"])
async def test_a_request_is_repeated_until_it_is_answered(witness, fault):
    setattr(witness, fault, 3)
    await asyncio.to_thread(witness.request, 1)
    await run(witness, witness.service(), lambda: witness.answered(1))
    assert len(witness.submitted) >= 4 and len(set(witness.submitted)) == 1


async def test_requests_that_come_while_it_runs_are_each_witnessed(witness):
    service, stop = witness.service(), asyncio.Event()
    running = asyncio.create_task(service.run(stop))
    for microgrid in (1, 2, 1):
        await asyncio.to_thread(witness.request, microgrid)
    await witness.until(lambda: all(witness.answered(number) for number in (1, 2, 3)), running)
    stop.set()
    await asyncio.wait_for(running, 10)
    named = [open_inference(decode_tx(tx).payload, PPDL_CHAIN_ID).message for tx in dict.fromkeys(witness.submitted)]
    assert [(item.request_id, item.microgrid) for item in named] == [(1, 1), (2, 2), (3, 1)]


async def test_with_too_many_open_the_oldest_is_given_up(witness, monkeypatch, caplog):
    monkeypatch.setattr("hub.inference.service.MAX_OPEN", 2)
    witness.lose = 10**6
    for _ in range(3):
        await asyncio.to_thread(witness.request, 1)
    service = witness.service()
    with caplog.at_level(logging.WARNING):
        await run(witness, service, lambda: len(witness.submitted) > 6)
    assert [record.getMessage() for record in caplog.records] == ["inference: request 1 is given up, too many are open"]
    named = {open_inference(decode_tx(tx).payload, PPDL_CHAIN_ID).message.request_id for tx in witness.submitted[-4:]}
    assert named == {2, 3}


async def test_a_chain_that_is_away_is_said_once(witness, free_port, caplog):
    service, stop = witness.service(EvmClient(f"http://127.0.0.1:{free_port()}")), asyncio.Event()
    with caplog.at_level(logging.WARNING):
        running = asyncio.create_task(service.run(stop))
        await asyncio.sleep(0.3)
        stop.set()
        await asyncio.wait_for(running, 10)
    assert len([record for record in caplog.records if record.name == "hub.inference.service"]) == 1
    assert witness.submitted == []
