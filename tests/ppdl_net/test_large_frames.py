"""Large frames: which are read, of whom, and that the largest honest ones are among them; what an old connection leaves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from net_support import Heard, Net, make_net, until
from pbft_support import LedgerApp
from test_flood import prove

from hub.operators.network import keep_card
from hub.ppdl.consensus.block import MAX_BLOCK_TX_BYTES, MAX_BLOCK_TXS, Block
from hub.ppdl.consensus.header import Header
from hub.ppdl.consensus.messages import (
    MAX_MESSAGE_BYTES,
    MAX_SYNC_BLOCKS,
    MAX_SYNC_BYTES,
    MAX_VIEW,
    Commit,
    Decided,
    Kind,
    Message,
    NewView,
    Prepare,
    PreparedCert,
    PrePrepare,
    QuorumCert,
    Status,
    SyncRequest,
    SyncResponse,
    ViewChange,
    encode_message,
)
from hub.ppdl.driver import kind_byte
from hub.ppdl.engine import PbftEngine
from hub.ppdl.genesis import MAX_U64, MAX_VALIDATORS
from hub.ppdl.net.framing import PIECE_BYTES, frame_of, pass_over, read_payload
from hub.ppdl.net.tcp import TcpTransport
from hub.ppdl.net.transport import LARGE_PAYLOAD_BYTES, MAX_FRAME_BYTES, MAX_UNASKED_BYTES, Channel
from hub.ppdl.store import initialise_store
from openmg.hashing import merkle_root

N = 4
WORD, SIGNATURE = bytes(32), bytes(65)


def block_of(txs: tuple[bytes, ...], height: int = 1) -> Block:
    return Block(Header(4711, height, WORD, MAX_U64, bytes(20), merkle_root(txs), WORD, WORD, WORD), txs)


def largest_block() -> Block:
    """As many transactions as a block may have, each as long as all of them can be."""
    size = MAX_BLOCK_TX_BYTES // MAX_BLOCK_TXS
    return block_of(tuple(number.to_bytes(4, "big") + bytes(size - 4) for number in range(MAX_BLOCK_TXS)))


def largest_unasked() -> list[Message]:
    """What a validator sends by itself that has a block: each with the largest numbers, lists and block there may be."""
    block, votes = largest_block(), (SIGNATURE,) * MAX_VALIDATORS
    cert = PreparedCert(MAX_VIEW, block.header, votes)
    change = ViewChange(MAX_U64, MAX_VIEW, cert, SIGNATURE)
    proposal = PrePrepare(MAX_VIEW, block, SIGNATURE)
    new_view = NewView(MAX_U64, MAX_VIEW, (change,) * MAX_VALIDATORS, proposal, SIGNATURE)
    return [proposal, ViewChange(MAX_U64, MAX_VIEW, cert, SIGNATURE, block), new_view]


def test_the_largest_honest_messages_fit_their_bounds() -> None:
    sizes = [len(encode_message(message)) for message in largest_unasked()]
    assert max(sizes) <= MAX_UNASKED_BYTES < max(sizes) + 256 * 1024  # and the bound is not much larger than they are
    seals = MAX_SYNC_BLOCKS * MAX_VALIDATORS * (2 + len(SIGNATURE))
    assert MAX_UNASKED_BYTES < MAX_SYNC_BYTES + seals + 4096 < MAX_MESSAGE_BYTES < MAX_FRAME_BYTES


def test_the_kind_of_every_message_is_seen_without_decoding_it() -> None:
    block = block_of((b"tx",))
    messages: list[Message] = [
        PrePrepare(0, block, SIGNATURE),
        Prepare(1, 0, WORD, SIGNATURE),
        Commit(1, 0, WORD, SIGNATURE),
        ViewChange(1, 1, None, SIGNATURE),
        NewView(1, 1, (ViewChange(1, 1, None, SIGNATURE),), PrePrepare(1, block, SIGNATURE), SIGNATURE),
        Decided(block, QuorumCert(0, (SIGNATURE,))),
        Status(1),
        SyncRequest(1),
        SyncResponse((Decided(block, QuorumCert(0, (SIGNATURE,))),)),
    ]
    assert [kind_byte(encode_message(message)) for message in messages] == list(Kind)
    assert [kind_byte(wire) for wire in (b"", b"\x81", b"\x00\x09", b"\x81\x18\x09", b"\xa1\x09")] == [-1] * 5


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 1_000_003])
async def test_a_payload_is_read_or_passed_over_to_its_last_byte(size: int) -> None:
    payload = os.urandom(size)
    for keep in (True, False):
        reader = asyncio.StreamReader()
        reader.feed_data(payload + b"next")
        if keep:
            assert await read_payload(reader, size) == payload
        else:
            await pass_over(reader, size)
        assert await reader.readexactly(4) == b"next"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[tuple[Net, PbftEngine]]:
    """Hub 1 of four validators, alone, which holds the card of a fifth hub, too."""
    net = make_net(tmp_path, N, strangers=1)
    keep_card(net.sites[0].folder, net.sites[N].card, candidate=True)
    initialise_store(tmp_path / "chain.sqlite", net.genesis)
    timing = {"block_interval_s": 0.01, "heartbeat_s": 0.05, "view_timeout_s": 60.0}
    key, place = net.sites[0].keys.validator_key, ("127.0.0.1", net.sites[0].port)
    engine = PbftEngine(
        net.genesis, key, LedgerApp(), tmp_path / "chain.sqlite", place, [], **timing, transport=net.transport(0)
    )
    await engine.start()
    yield net, engine
    await engine.stop()
    net.reservation.close()


def transport_of(engine: PbftEngine) -> TcpTransport:
    assert isinstance(engine.transport, TcpTransport)
    return engine.transport


def proposal_of(size: int, height: int = 1) -> bytes:
    """A PRE-PREPARE of at least so many bytes, without a right signature."""
    txs = tuple(os.urandom(1_000) for _ in range(size // 1_000 + 1))
    return encode_message(PrePrepare(0, block_of(txs, height), SIGNATURE))


async def test_a_block_is_read_of_a_validator_and_passed_over_of_anybody_else(hub: tuple[Net, PbftEngine]) -> None:
    net, engine = hub
    stats = transport_of(engine).stats
    guest, validator = await prove(net, net.sites[N], net.sites[0]), await prove(net, net.sites[1], net.sites[0])
    guest.write(frame_of(Channel.CONSENSUS, proposal_of(LARGE_PAYLOAD_BYTES)) + frame_of(Channel.CONSENSUS, b"junk"))
    await until(lambda: engine.status().malformed == 1)  # what comes behind it is read
    assert (stats.unwanted, stats.frames_received, engine.status().refused) == (1, 1, 0)
    validator.write(frame_of(Channel.CONSENSUS, proposal_of(LARGE_PAYLOAD_BYTES)))
    await until(lambda: engine.status().refused == 1)  # read, decoded, and its signature found wrong
    assert (stats.unwanted, stats.frames_received) == (1, 2)
    for writer in (guest, validator):
        writer.transport.abort()


async def test_more_than_the_largest_block_is_passed_over_even_of_a_validator(hub: tuple[Net, PbftEngine]) -> None:
    net, engine = hub
    stats, writer = transport_of(engine).stats, await prove(net, net.sites[1], net.sites[0])
    writer.write(frame_of(Channel.CONSENSUS, bytes(MAX_UNASKED_BYTES)))
    await until(lambda: stats.frames_received == 1)
    writer.write(frame_of(Channel.CONSENSUS, bytes(MAX_UNASKED_BYTES + 1)))
    await until(lambda: stats.unwanted == 1)
    for _ in range(2):
        writer.write(frame_of(Channel.SNAPSHOT, bytes(LARGE_PAYLOAD_BYTES + 1)))  # no state transfer is under way
    await until(lambda: stats.unwanted == 3)
    assert stats.frames_received == 1
    writer.transport.abort()


async def test_an_answer_of_block_sync_is_read_once_of_whom_was_asked(hub: tuple[Net, PbftEngine]) -> None:
    net, engine = hub
    stats, guest = transport_of(engine).stats, net.sites[N]
    writer = await prove(net, guest, net.sites[0])
    blocks = tuple(block_of(tuple(os.urandom(1_000) for _ in range(200)), height) for height in (1, 2))
    answer = frame_of(
        Channel.CONSENSUS, encode_message(SyncResponse(tuple(Decided(block, QuorumCert(0, (SIGNATURE,))) for block in blocks)))
    )
    writer.write(answer)
    await until(lambda: stats.unwanted == 1)
    writer.write(frame_of(Channel.CONSENSUS, encode_message(Status(50))))
    await until(lambda: engine._running.asked == guest.keys.validator)
    writer.write(answer)
    await until(lambda: engine.status().refused == 1)  # its certificate proves nothing
    assert engine._running.asked is None and stats.frames_received == 2
    writer.write(answer)
    await until(lambda: stats.unwanted == 2)
    writer.transport.abort()


async def test_of_an_unasked_answer_that_is_small_nothing_is_decoded(hub: tuple[Net, PbftEngine]) -> None:
    net, engine = hub
    writer = await prove(net, net.sites[1], net.sites[0])
    junk = bytes([0x81, Kind.SYNC_RESPONSE]) + b"no message at all"
    writer.write(frame_of(Channel.CONSENSUS, junk) + frame_of(Channel.CONSENSUS, b"junk"))
    await until(lambda: engine.status().malformed == 1)
    assert transport_of(engine).stats.frames_received == 2
    writer.transport.abort()


async def test_a_peer_that_comes_again_leaves_nothing_of_its_old_connections(tmp_path: Path) -> None:
    """It floods each of them, so that on each much has come that it may not have read yet."""
    net = make_net(tmp_path, 2)
    node = net.transport(0)
    await node.start(Heard())
    writers = []
    for _ in range(6):
        throttled = node.stats.throttled
        writers.append(await prove(net, net.sites[1], net.sites[0]))
        writers[-1].write(10_000 * b"\x00\x00\x00\x02\xee\x00")
        await until(lambda before=throttled: node.stats.throttled > before)  # type: ignore[misc]
    serving = [task for task in node._tasks if task.get_name().startswith("ppdl-serve")]
    await until(lambda: sum(not task.done() for task in serving) == 1)
    assert list(node._accepted) == [net.address(1)]
    for writer in writers:
        writer.transport.abort()
    await node.stop()
    net.reservation.close()
