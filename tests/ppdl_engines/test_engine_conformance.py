"""What every engine owes an application and its callers (`hub/ppdl/application.py`, `hub/ppdl/engines/base.py`)."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import pytest
from engine_nets import WAIT_S, Net, verify

from hub.ppdl.consensus.block import MAX_TX_BYTES
from hub.ppdl.consensus.certs import CertError
from hub.ppdl.engine import EngineFailed
from hub.ppdl.mempool import TxRefused
from openmg.hashing import keccak256


async def test_every_transaction_is_executed_once_and_in_one_order(net: Net) -> None:
    txs = [f"inc:{i % 5}:{i}".encode() for i in range(15)]
    senders = itertools.cycle(net.engines)
    hashes = await asyncio.gather(*(next(senders).submit(tx) for tx in txs))
    assert hashes == [keccak256(tx) for tx in txs]
    nodes = range(len(net.engines))
    await net.executed(txs, nodes)
    orders = [net.app(i).txs() for i in nodes]
    assert all(order == orders[0] for order in orders)
    assert sorted(orders[0]) == sorted(txs)
    assert await net.engines[0].submit(txs[3]) == hashes[3]  # known: accepted again without effect
    await net.engines[0].submit(b"inc:last")
    await net.executed([b"inc:last"], nodes)
    assert net.app().txs().count(txs[3]) == 1
    assert all(count == 1 for count in net.app().counts.values())


async def test_headers_are_proved_linked_and_carry_the_app_hash_of_the_block_before(net: Net) -> None:
    for number in range(3):
        await net.engines[0].submit(f"inc:{number}".encode())
        await net.executed([f"inc:{number}".encode()])
    height = await net.engines[0].wait_height(net.engines[0].status().height + 1, WAIT_S)
    facts = [net.verified(0, h) for h in range(1, height + 1)]
    assert [fact.height for fact in facts] == list(range(1, height + 1))
    assert all(b.parent == a.hash for a, b in itertools.pairwise(facts))
    times = [net.genesis.genesis_time_ms, *(fact.timestamp_ms for fact in facts)]
    assert all(a < b for a, b in itertools.pairwise(times))
    blocks = net.app().blocks[:height]
    assert [(fact.height, fact.timestamp_ms, fact.proposer.hex()) for fact in facts] == [block[:3] for block in blocks]
    assert all(fact.proposer in net.members for fact in facts)
    after = [keccak256(net.genesis.app_state), *(bytes.fromhex(block[3]) for block in blocks)]
    assert [fact.app_hash for fact in facts] == after[:height]
    assert len(set(after)) > 3  # the chain did carry changes of state
    whole = net.engines[0].headers_after(0, height)
    assert whole == [net.engines[0].headers_after(h, 1)[0] for h in range(height)]
    assert net.engines[0].headers_after(height + 1000, 5) == []


async def test_a_certificate_of_too_few_signers_proves_nothing(net: Net) -> None:
    await net.engines[0].wait_height(1, WAIT_S)
    (signed,) = net.engines[0].headers_after(0, 1)
    verify(net.name, net.genesis, signed, net.members, net.public_keys)
    few = replace(signed, seals=signed.seals[: (2 * net.n) // 3])
    other_view = replace(signed, view=signed.view + 1)
    flipped = bytearray(signed.seals[0])
    flipped[-2] ^= 1
    broken = replace(signed, seals=(bytes(flipped), *signed.seals[1:]))
    repeated = replace(signed, seals=(signed.seals[0],) * len(signed.seals) + (signed.seals[0],))
    for bad in (few, other_view, broken, repeated):
        with pytest.raises(CertError):
            verify(net.name, net.genesis, bad, net.members, net.public_keys)


REFUSALS = [
    (b"late:1", "too late", False),
    (b"garbled:1", "this is no transaction", True),
    (b"explode:1", "the application failed to check the transaction", False),
    (b"", "0 bytes", True),
    (b"inc:" + bytes(MAX_TX_BYTES), str(MAX_TX_BYTES), True),
]


async def test_bad_transactions_are_refused_with_a_reason_and_wait_nowhere(net: Net) -> None:
    for tx, reason, malformed in REFUSALS:
        with pytest.raises(TxRefused, match=reason) as refused:
            await net.engines[0].submit(tx)
        assert refused.value.malformed is malformed
    largest = b"inc:" + b"x" * (MAX_TX_BYTES - 4)
    await net.engines[0].submit(largest)
    await net.executed([largest])
    assert net.app().txs() == [largest]
    assert net.engines[0].status().malformed == 0  # nobody else is to blame for what was submitted here


async def test_one_transaction_of_a_subject_waits_at_a_time(net: Net) -> None:
    first, second = b"one-of:a:1", b"one-of:a:2"
    outcomes = await asyncio.gather(*(net.engines[0].submit(tx) for tx in (first, second)), return_exceptions=True)
    (refusal,) = (one for one in outcomes if isinstance(one, TxRefused))
    assert "waits already" in str(refusal)
    (taken,) = (tx for tx, one in zip((first, second), outcomes, strict=True) if isinstance(one, bytes))
    await net.executed([taken])
    later = b"one-of:a:3"
    for _ in range(50):  # the mempool learns of the block a moment after the application
        try:
            await net.engines[0].submit(later)
            break
        except TxRefused:
            await net.engines[0].wait_height(net.engines[0].status().height + 1, WAIT_S)
    await net.executed([later])


async def test_a_failed_transaction_fails_alone(net: Net) -> None:
    txs = [b"inc:a", b"fail:1", b"inc:b"]
    for tx in txs:
        await net.engines[0].submit(tx)
    await net.executed(txs)
    results = {tx: one for block, result in net.decided[0] for tx, one in zip(block.txs, result.tx_results, strict=True)}
    assert [results[tx].ok for tx in txs] == [True, False, True]
    assert (results[b"fail:1"].reason, results[b"fail:1"].data) == ("it failed", b"\x01")
    assert net.app().counts == {"a": 1, "b": 1}
    assert [event for _, result in net.decided[0] for event in result.events] == [b"a", b"b"]
    assert await net.engines[0].submit(b"fail:1") == keccak256(b"fail:1")  # a block carried it: it does not wait again
    await net.engines[0].submit(b"inc:c")
    await net.executed([b"inc:c"])
    assert net.app().txs().count(b"fail:1") == 1


async def test_a_transaction_that_nobody_votes_for_does_not_stop_the_chain(net: Net) -> None:
    await net.engines[0].submit(b"veto:1")
    for number in range(3):
        await net.engines[0].submit(f"inc:{number}".encode())
    await net.executed([b"inc:0", b"inc:1", b"inc:2"])
    assert b"veto:1" not in net.app().txs()


async def test_listeners_hear_of_every_block_in_order_with_its_header_there(net: Net) -> None:
    known: list[bool] = []
    net.engines[0].on_decided(lambda block, result: known.append(len(net.engines[0].headers_after(block.height - 1, 1)) == 1))
    net.engines[0].on_decided(lambda block, result: 1 // 0)  # its failure is its own
    start = net.engines[0].status().height
    await net.engines[0].submit(b"inc:a")
    height = await net.engines[0].wait_height(start + 3, WAIT_S)
    await net.until(lambda: len(known) >= 3)
    heights = [block.height for block, _ in net.decided[0]]
    assert heights == list(range(heights[0], heights[-1] + 1)) and heights[-1] >= height - 1
    assert all(known)
    block = net.decided[0][-1][0]
    fact = net.verified(0, block.height)
    assert (block.hash, block.header.timestamp_ms, block.header.proposer) == (fact.hash, fact.timestamp_ms, fact.proposer)


async def test_a_query_reads_the_committed_state(net: Net) -> None:
    assert (await net.engines[0].query("count", b"a")).value == b"0"
    await net.engines[0].submit(b"inc:a")
    await net.executed([b"inc:a"])
    height = net.engines[0].status().height
    answer = await net.engines[0].query("count", b"a")
    assert answer.ok and answer.value == b"1" and answer.height >= height
    refused = await net.engines[0].query("nowhere")
    assert not refused.ok and "no such path" in refused.reason


async def test_a_stopped_engine_says_so(net: Net) -> None:
    await net.engines[0].wait_height(1, WAIT_S)
    await net.stop()
    with pytest.raises(TxRefused, match="stopped"):
        await net.engines[0].submit(b"inc:a")
    with pytest.raises(EngineFailed, match="stopped"):
        await net.engines[0].wait_height(10**6, WAIT_S)


async def test_a_restart_goes_on_where_it_was(net: Net) -> None:
    await net.engines[0].submit(b"inc:before")
    await net.executed([b"inc:before"], range(len(net.engines)))
    first = net.engines[0].headers_after(0, 1)
    await net.again()
    assert net.engines[0].status().height >= 1
    await net.engines[0].submit(b"inc:after")
    await net.executed([b"inc:after"])
    assert net.app().txs() == [b"inc:before", b"inc:after"]
    assert net.engines[0].headers_after(0, 1) == first
    height = net.engines[0].status().height
    assert [net.verified(0, h).height for h in range(1, height + 1)] == list(range(1, height + 1))
    trace = [line for line in net.app().trace() if line.startswith("commit")]
    assert trace == [f"commit {h}" for h in range(1, len(trace) + 1)]  # no block was committed twice


async def test_a_lost_application_is_rebuilt_from_the_chain_and_nobody_is_told_again(net: Net) -> None:
    await net.engines[0].submit(b"inc:a")
    await net.executed([b"inc:a"])
    await net.stop()
    app = net.app()
    before = app.blocks[:]
    app.path.unlink()
    app.trace_path.unlink()
    await net.again()
    await net.until(lambda: net.app().height > len(before) and net.decided[0])  # told after the application has it
    assert net.app().blocks[: len(before)] == before
    assert net.app().counts == {"a": 1}
    told = [block.height for block, _ in net.decided[0]]
    assert told and told == list(range(len(before) + 1, told[-1] + 1))
