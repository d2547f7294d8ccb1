"""A plasma chain that takes blocks back: meters are never told notes that vanish, or are told the right ones again."""

from __future__ import annotations

import asyncio
import logging

import pytest
from evm_world import ETHER
from market_world import MarketWorld
from notes_world import prove_here
from test_market_service import Told, make

from hub.chain.client import EvmClient
from hub.market.view import ChainView
from hub.plasma.appender import Appender
from openmg.messages import base, topics
from openmg.messages.market import PADDING, NoteEntry, NotesBatch

DEPTH = 4
NOTES_TOPIC = topics.notes(0)


def note(world: MarketWorld, mark: int) -> None:
    """A note whose ciphertext begins with the mark, brought into the tree; at most DEPTH blocks."""
    client = world.chain.client("shielder")
    world.chain.give(client.address, ETHER)
    client.transact(world.contracts.confidential, "shield", bytes(20), mark, 77, bytes([mark]) * 114, value=mark)
    world.chain.skip(1)  # the epoch is over
    assert asyncio.run(Appender(world.chain.client("appender"), world.contracts.confidential, prove_here).turn())


def mine(world: MarketWorld, blocks: int) -> None:
    for _ in range(blocks):
        world.client.rpc("evm_mine")


def snapshot(world: MarketWorld) -> str:
    return str(world.client.rpc("evm_snapshot"))


def take_back(world: MarketWorld, taken: str) -> None:
    """The chain as it was at the snapshot; another block makes it another chain."""
    assert world.client.rpc("evm_revert", taken)
    world.client.rpc("evm_increaseTime", 5)
    mine(world, 1)


def marks(told: Told) -> list[int]:
    """First bytes of the ciphertexts of the notes last told, padding left out."""
    batch = base.decode(NotesBatch, told.last(NOTES_TOPIC))
    return [entry.ciphertext[0] for entry in batch.notes if entry != PADDING]


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def test_reorganised_plasma_chain_within_the_depth_is_never_told(world, caplog):
    """Blocks that vanish had too few blocks over them; the hub that told nothing is right afterwards."""
    told = make(world, confirmations=DEPTH)
    told.step()
    taken = snapshot(world)
    note(world, 1)
    assert NOTES_TOPIC not in told.step()
    take_back(world, taken)
    for _ in range(DEPTH):
        mine(world, 1)
        assert NOTES_TOPIC not in told.step()
    assert told.service.notes == 0
    note(world, 2)
    mine(world, DEPTH - 1)
    assert NOTES_TOPIC not in told.step()
    mine(world, 1)  # now the batch has DEPTH blocks over it
    assert NOTES_TOPIC in told.step()
    assert marks(told) == [2]
    assert errors(caplog) == []


def test_reorganised_plasma_chain_without_depth_is_noticed_and_told_anew(world, caplog):
    """With depth 0 wrong notes were told: that is said in one error, and the right ones take their place."""
    told = make(world)
    told.step()
    taken = snapshot(world)
    note(world, 1)
    assert NOTES_TOPIC in told.step()
    assert marks(told) == [1]
    take_back(world, taken)
    note(world, 2)
    for _ in range(3):
        told.step()
    assert marks(told) == [2]
    (error,) = errors(caplog)
    assert "no longer on the chain" in error and "read and told again" in error
    fresh = make(world)  # a hub that never saw the blocks which vanished
    fresh.step()
    assert fresh.last(NOTES_TOPIC) == told.last(NOTES_TOPIC)


def test_notes_that_do_not_come_back_are_taken_back(world, caplog):
    """The chain without any note: what stands at the broker is replaced by nothing, also when all is told again."""
    told = make(world)
    told.step()
    taken = snapshot(world)
    note(world, 1)
    told.step()
    take_back(world, taken)
    for _ in range(3):
        told.step()
    assert base.decode(NotesBatch, told.last(NOTES_TOPIC)) == NotesBatch(0, ())
    assert len(errors(caplog)) == 1 and told.service.notes == 0
    told.service.forget()
    assert NOTES_TOPIC in told.step()
    assert base.decode(NotesBatch, told.last(NOTES_TOPIC)) == NotesBatch(0, ())


def test_a_chain_that_is_rewritten_while_it_is_read_mixes_nothing(world, caplog):
    """Notes were read of one history when the chain became another: nothing of that span counts."""

    class Rewriting(ChainView):
        """A view whose chain changes between the notes and the nullifiers of one span."""

        taken = ""

        def nullifiers(self, first_block: int, last_block: int) -> list[int]:
            if self.taken:
                take_back(world, self.taken)
                self.taken = ""
                note(world, 2)
                mine(world, 6)
            return super().nullifiers(first_block, last_block)

    view = Rewriting(EvmClient(world.chain.url), world.contracts)
    told = make(world, view=view)
    told.step()
    view.taken = snapshot(world)
    note(world, 1)
    for _ in range(4):
        told.step()
    batches = [base.decode(NotesBatch, payload) for topic, payload in told.messages if topic == NOTES_TOPIC]
    assert [batch.notes[0].ciphertext[0] for batch in batches] == [2]
    assert isinstance(batches[0].notes[0], NoteEntry) and len(errors(caplog)) == 1
