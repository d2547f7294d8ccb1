"""The appender: queued notes reach the tree in order, whoever brings them, and nothing is proved on a foreign root."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
from evm_world import Chain
from notes_world import NotesWorld, proof_result, prove_here
from pool_world import prove

from hub.chain.client import EvmClient
from hub.chain.cursor import ChainRewritten
from hub.chain.errors import CallReverted
from hub.plasma.appender import Appender, WrongRoot
from hub.plasma.note_log import NoteLog, read_note_news
from openmg.messages.market import PADDING
from openmg.zk.circuits import append
from openmg.zk.circuits.append import LEAVES, AppendWitness
from openmg.zk.prover import ProofRequest, ProofResult, prove_in_child
from openmg.zk.tree import NoteTree, named_root


@pytest.fixture(scope="module")
def deployed(quick_node: Chain) -> Iterator[NotesWorld]:
    with quick_node.undone():
        yield NotesWorld.deploy(quick_node)


@pytest.fixture
def world(deployed: NotesWorld) -> Iterator[NotesWorld]:
    with deployed.chain.undone():
        deployed.made, deployed.asked = 0, []
        yield NotesWorld(deployed.chain, deployed.token, deployed.chain.client("guardian"))


def log_of(world: NotesWorld) -> NoteLog:
    notes = NoteLog()
    notes.take(read_note_news(world.client, world.token, 0, world.client.block_number()))
    return notes


async def test_sixteen_notes_enter_at_once_and_a_rest_when_its_epoch_is_over(world):
    appender = world.appender()
    assert not await appender.turn()  # nothing waits
    world.begin_epoch()
    world.queue(LEAVES + 2)
    assert await appender.turn()
    assert (world.number("nextPosition"), world.number("appendedCount")) == (LEAVES, LEAVES)
    assert not await appender.turn()  # two wait, and their epoch goes on
    world.next_epoch()
    assert await appender.turn()
    assert (world.number("nextPosition"), world.number("appendedCount")) == (2 * LEAVES, LEAVES + 2)
    notes = log_of(world)
    assert notes.leaves[LEAVES + 2 :] == [PADDING] * (LEAVES - 2)
    assert world.number("currentRoot") == notes.root == named_root(0, NoteTree(n.commitment for n in notes.leaves).root())
    status = appender.status()
    assert (status.queued, status.in_tree, status.batches, status.overtaken, status.failed) == (18, 16, 2, 0, 0)
    assert status.prove_seconds_last > 0


async def test_a_restarted_appender_continues_where_the_chain_is(world):
    world.queue(3)
    world.next_epoch()
    assert await world.appender().turn()
    world.queue(1)
    world.next_epoch()
    restarted = world.appender()  # knows nothing but the chain
    assert await restarted.turn()
    assert [witness.batch for witness in world.asked] == [0, 1]
    assert restarted.status().batches == 1 and world.number("appendedCount") == 4


async def test_racing_appenders_lose_without_an_error(world, caplog):
    """Both prove the same batch; the slower one's transaction is refused, and it goes on with what is due then."""
    world.queue(LEAVES)
    slow, fast = world.appender("slow"), world.appender("fast")
    due = slow._look()
    assert due is not None
    result = await prove_here(due.witness)
    assert await fast.turn()
    with caplog.at_level(logging.WARNING):
        assert not slow._submit(due, result)
        world.queue(1)
        world.next_epoch()
        assert await slow.turn()
    assert caplog.records == []
    status = slow.status()
    assert (status.batches, status.overtaken, status.failed) == (1, 1, 0)


async def test_a_short_batch_that_filled_up_meanwhile_is_a_lost_race(world):
    world.queue(2)
    world.next_epoch()
    appender = world.appender()
    due = appender._look()
    assert due is not None
    result = await prove_here(due.witness)
    world.queue(LEAVES)  # sixteen are due now, not the two that were proved
    assert not appender._submit(due, result)
    assert appender.status().overtaken == 1
    assert await appender.turn()


async def test_nothing_is_proved_on_a_root_that_is_not_the_chains(world):
    """A node that says another root than its events lead to: a proof made on it would be of no use, or a trap."""
    world.queue(LEAVES)
    assert await world.appender().turn()
    world.queue(LEAVES)
    root = world.number("currentRoot")
    slot = next(
        slot
        for slot in range(64)
        if int(world.client.rpc("eth_getStorageAt", world.token.checksum_address, hex(slot), "latest"), 16) == root
    )
    world.chain.set_storage(world.token, slot, root - 1)
    world.asked.clear()
    for appender in (world.appender(), world.appender("another")):
        with pytest.raises(WrongRoot, match="nothing is proved on it"):
            await appender.turn()
    assert world.asked == []
    world.chain.set_storage(world.token, slot, root)
    assert await world.appender().turn()


async def test_a_proof_that_the_contract_refuses_is_no_lost_race(world):
    async def wrong(witness: AppendWitness) -> ProofResult:
        words, publics = prove(append, witness)
        return proof_result((*words[2:], *words[:2]), publics.as_list(), 0.0)

    world.queue(LEAVES)
    appender = Appender(world.chain.client("appender"), world.token, wrong)
    with pytest.raises(CallReverted, match="InvalidProof"):
        await appender.turn()
    assert (appender.status().failed, appender.status().overtaken) == (1, 0)


async def test_reorganised_plasma_chain(world):
    """Blocks with a batch vanish: the appender says so and starts over with the chain as it is then."""
    appender = world.appender()
    world.queue(1)
    snapshot = world.client.rpc("evm_snapshot")
    world.queue(LEAVES - 1)
    assert await appender.turn()
    assert world.client.rpc("evm_revert", snapshot)
    world.chain.client("guardian").rpc("evm_mine")
    with pytest.raises(ChainRewritten, match="no longer on the chain"):
        for _ in range(3):
            await appender.turn()
    world.client = world.chain.client("guardian")
    world.made = 50
    world.queue(LEAVES)
    assert await appender.turn()
    assert world.number("currentRoot") == log_of(world).root


async def test_the_role_proves_in_a_child_until_it_is_stopped(world):
    async def prove_apart(witness: AppendWitness) -> ProofResult:
        return await prove_in_child(ProofRequest("append", witness, "auto", None, demo=True))

    world.queue(LEAVES)
    stop = asyncio.Event()
    appender = Appender(world.chain.client("appender"), world.token, prove_apart, poll_seconds=0.05)
    running = asyncio.create_task(appender.run(stop))
    async with asyncio.timeout(60):
        while appender.status().batches < 1:
            await asyncio.sleep(0.05)
    stop.set()
    await asyncio.wait_for(running, 5)
    assert world.number("appendedCount") == LEAVES


async def test_a_stopped_role_waits_for_no_proof(world):
    proving = asyncio.Event()

    async def for_ever(witness: AppendWitness) -> ProofResult:
        proving.set()
        await asyncio.sleep(3_600)
        raise AssertionError

    world.queue(LEAVES)
    stop = asyncio.Event()
    running = asyncio.create_task(Appender(world.chain.client("appender"), world.token, for_ever).run(stop))
    await asyncio.wait_for(proving.wait(), 10)
    stop.set()
    await asyncio.wait_for(running, 2)


async def test_a_chain_that_is_away_is_said_once(world, free_port, caplog):
    away = EvmClient(f"http://127.0.0.1:{free_port()}", b"\1" * 32)
    stop = asyncio.Event()
    with caplog.at_level(logging.WARNING):
        running = asyncio.create_task(Appender(away, world.token, prove_here, poll_seconds=0.02).run(stop))
        await asyncio.sleep(0.3)
        stop.set()
        await asyncio.wait_for(running, 5)
    assert [record.getMessage().endswith("trying again") for record in caplog.records] == [True]
