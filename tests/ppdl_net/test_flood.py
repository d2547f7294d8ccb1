"""Four engines over TLS while a fifth hub with a valid key floods them all: nothing grows beyond its bound, nobody starves.

Only bounds and progress are asserted, not speed; what a flood costs in speed and memory is measured by
benchmarks/bench_ppdl_flood.py.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from net_support import Net, Site, make_net, until
from pbft_support import LedgerApp

from hub.operators.network import keep_card
from hub.ppdl.engine import PbftEngine
from hub.ppdl.net import limits
from hub.ppdl.net.framing import frame_of, read_frame
from hub.ppdl.net.handshake import DIALER, Hello, channel_binding, decode_hello, proof_digest
from hub.ppdl.net.queues import INBOX_BYTES_PER_SENDER, INBOX_PER_SENDER, INTAKE_BYTES, INTAKE_FRAMES
from hub.ppdl.net.tcp import TcpTransport
from hub.ppdl.net.transport import MAX_FRAME_BYTES, Channel
from hub.ppdl.store import initialise_store
from openmg.signing import sign_digest

N, BLOCKS = 4, 8
RATE, BURST = 200, 400
"""Frames a second and at once in these tests: in one process a flooder does not reach the limits of real ones."""
STREAM_BYTES = 2 * 64 * 1024 + 256 * 1024
"""asyncio reads on until a stream holds twice its limit, and TLS hands over at most 256 KiB more."""


def engines_of(net: Net, root: Path) -> list[PbftEngine]:
    made = []
    for i in range(N):
        store = root / f"chain{i}.sqlite"
        initialise_store(store, net.genesis)
        app, site = LedgerApp(), net.sites[i]
        timing = {"block_interval_s": 0.01, "heartbeat_s": 0.05, "view_timeout_s": 2.0}
        made.append(
            PbftEngine(
                net.genesis,
                site.keys.validator_key,
                app,
                store,
                ("127.0.0.1", site.port),
                [],
                **timing,
                transport=net.transport(i),
            )  # fmt: skip
        )
    return made


async def prove(net: Net, flooder: Site, hub: Site) -> asyncio.StreamWriter:
    context = flooder.client_context(trust=[hub.card])
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port, ssl=context, server_hostname="")
    mine = Hello(net.genesis.chain_id, net.genesis.hash, flooder.keys.validator, b"n" * 32)
    writer.write(frame_of(Channel.CONSENSUS, mine.encode()))
    theirs = decode_hello((await read_frame(reader, 300))[1:])
    binding = channel_binding(flooder.card.certificate_hash, hub.card.certificate_hash)
    writer.write(
        frame_of(Channel.CONSENSUS, sign_digest(flooder.keys.validator_key, proof_digest(DIALER, mine, theirs, binding)))
    )
    await read_frame(reader, 300)
    return writer


def frames(kind: str) -> Iterator[bytes]:
    """What the flooder sends, for ever."""
    for number in itertools.count():
        junk = number.to_bytes(8, "big")
        if kind == "garbage":
            channel = (Channel.CONSENSUS, Channel.GOSSIP, Channel.TX)[number % 3]
            yield frame_of(channel, b"garbled" + junk)
            yield b"\x00\x00\x00\x02\xee\x00"  # an unknown channel
        elif kind == "transactions":
            yield frame_of(Channel.TX, b"bad" + junk + bytes(2_000))
        else:
            yield frame_of(Channel.CONSENSUS, os.urandom(64) * ((MAX_FRAME_BYTES - 1) // 64))


async def flood(writer: asyncio.StreamWriter, kind: str) -> None:
    with suppress(OSError):
        for frame in frames(kind):
            writer.write(frame)
            await writer.drain()
            await asyncio.sleep(0)


@pytest.mark.parametrize("kind", ["garbage", "transactions", "large"])
async def test_a_flood_of_one_peer_fills_nothing_and_starves_nobody(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FRAMES_PER_S", RATE)
    monkeypatch.setattr(limits, "FRAMES_BURST", BURST)
    net = make_net(tmp_path, N, strangers=1)
    flooder = net.sites[N]
    for site in net.sites[:N]:
        keep_card(site.folder, flooder.card, candidate=True)
    engines = engines_of(net, tmp_path)
    for engine in engines:
        await engine.start()
    began = time.monotonic()
    writers, floods = [], []
    try:
        for site in net.sites[:N]:
            writers.append(await prove(net, flooder, site))
        floods = [asyncio.create_task(flood(writer, kind)) for writer in writers]
        transports = [engine.transport for engine in engines]
        await until(lambda: all(transport.stats.throttled > 0 for transport in transports))
        goal = max(engine.status().height for engine in engines) + BLOCKS
        numbers = itertools.count()
        while min(engine.status().height for engine in engines) < goal:
            for engine in engines:
                await engine.submit(f"honest-{next(numbers)}".encode())
                check_bounds(engine, flooder.keys.validator, time.monotonic() - began)
            await asyncio.wait_for(engines[0].wait_height(engines[0].status().height + 1), 20)
        honest = {tx for tx in LedgerApp.txs(engines[0]._app) if tx.startswith(b"honest-")}  # type: ignore[arg-type]
        assert len(honest) > BLOCKS // 2  # the others' transactions went into blocks meanwhile
        assert all(transport.stats.frames_dropped == 0 for transport in transports)  # nobody's frames were dropped for it
        assert all(engine.status().failure is None for engine in engines)
        assert all(engine._running.progress.blocks == engine.status().height for engine in engines)  # what they all may cost
    finally:
        for task in floods:
            task.cancel()
        await asyncio.gather(*floods, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        for engine in engines:
            await engine.stop()
        net.reservation.close()


def check_bounds(engine: PbftEngine, flooder: bytes, seconds: float) -> None:
    """What the flooder holds of one replica right now."""
    transport = engine.transport
    assert isinstance(transport, TcpTransport)
    count, size = engine._running.inbox.waiting(flooder)
    assert count <= INBOX_PER_SENDER and size <= INBOX_BYTES_PER_SENDER  # it is no validator: no larger frame is read of it
    intake = engine._intake._queues.get(flooder)
    assert intake is None or (len(intake) <= INTAKE_FRAMES and intake._bytes <= INTAKE_BYTES)
    link = transport._accepted.get(flooder)
    assert link is None or len(link.reader._buffer) <= STREAM_BYTES  # type: ignore[attr-defined]
    assert len(transport._accepted) <= N and len(transport._receiver.allowances) <= N
    assert transport.stats.malformed <= BURST + RATE * (seconds + 1)
    assert len(engine._blamed) <= 3 * N
