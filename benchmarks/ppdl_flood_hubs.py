"""The processes of `bench_ppdl_flood.py`: honest validators, the fifth hub that floods, and the validator that floods.

Each is told when the first phase begins, and prints its figures as one line of JSON. Phases without and with the flood take
turns, the first one is quiet.

Not here: what is sent (`ppdl_flood_junk.py`), and what the figures mean (`bench_ppdl_flood.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import sqlite3
import ssl
import sys
import time
from itertools import pairwise
from pathlib import Path

from benchmarks.bench_pbft import HashChain, free_ports
from benchmarks.ppdl_flood_junk import FloodingTransport, Junk
from hub.keys import HubKeys
from hub.operators.folder import HubFolder, load_card
from hub.operators.identity import Place, init_identity, times
from hub.operators.network import keep_card
from hub.ppdl.application import TxVerdict
from hub.ppdl.consensus.header import Header
from hub.ppdl.engine import PbftEngine
from hub.ppdl.genesis import Genesis, make_genesis
from hub.ppdl.mempool import TxRefused
from hub.ppdl.net.framing import frame_of, read_frame
from hub.ppdl.net.handshake import DIALER, Hello, channel_binding, decode_hello, proof_digest
from hub.ppdl.net.tcp import TcpTransport
from hub.ppdl.net.tls import TlsIdentity
from hub.ppdl.net.transport import Channel
from hub.ppdl.store import initialise_store
from openmg.signing import sign_digest

N, CHAIN_ID = 4, 32
SETTLE_S = 3.0  # at the start of each phase, in which the speed is not measured
CHUNK_BYTES = 64 * 1024
RECONNECT_S = 0.02
HEIGHT_EVERY_S = 0.1
RESET_PEAK = "5"  # to /proc/self/clear_refs: the peak of the resident memory begins again (Linux, proc(5))


class Guarded(HashChain):
    """Takes what begins with `ok`, as an application takes what is signed by its meters."""

    def check_tx(self, tx: bytes) -> TxVerdict:
        return TxVerdict(tx[:2] == b"ok", "not signed by a meter")


def honest(voter: bool) -> int:
    """How many validators do no harm; the flooder's folder is the one after theirs."""
    return N - voter


def provision(root: Path, voter: bool) -> None:
    """Folders of the honest validators and of the flooder, who all know each other; with `voter` it is one of N."""
    others = honest(voter)
    ports, now_s = free_ports(others + 1), int(time.time())
    folders = [HubFolder(root / f"hub-{i}") for i in range(others + 1)]
    cards = [
        init_identity(folder, CHAIN_ID, None, Place(f"hub-{i}", "127.0.0.1", port), times(now_s, 30))
        for i, (folder, port) in enumerate(zip(folders, ports, strict=True))
    ]
    genesis = make_genesis(CHAIN_ID, [card.address for card in cards[:N]], b"", 1)
    (root / "genesis.cbor").write_bytes(genesis.encode())
    for i, folder in enumerate(folders):
        initialise_store(folder.store, genesis)
        for other, card in enumerate(cards):
            if other != i:
                keep_card(folder, card, candidate=other == others and not voter)


def memory_kib(what: str) -> int:
    """A figure of /proc/self/status: VmHWM is the peak of the resident memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def forget_peak() -> None:
    """Let the peak of the resident memory begin again, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text(RESET_PEAK)


def stay_on(core: int) -> None:
    """Keep this process on one core; on a machine with one, or without the call, it stays where it is."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})


async def told_to_begin() -> float:
    """Say that this process is ready; wait for the moment at which the first phase begins (monotonic clock, s)."""
    print("ready", flush=True)
    return float(await asyncio.to_thread(sys.stdin.readline))


def engine_of(folder: HubFolder, genesis: Genesis, transport: TcpTransport) -> PbftEngine:
    keys, card = HubKeys.load(folder.hub_key), load_card(folder.own_card)
    return PbftEngine(
        genesis, keys.validator_key, Guarded(), folder.store, ("127.0.0.1", card.port), [],
        block_interval_s=0.0, heartbeat_s=1.0, view_timeout_s=2.0, transport=transport,
    )  # fmt: skip


def others_turn_ms(engine: PbftEngine, first: int, last: int, flooder: bytes) -> float:
    """Mean time from one proposal to the next, where neither is the flooder's (ms): its own may come as late as it likes."""
    headers = [Header.decode(signed.header_bytes) for signed in engine.headers_after(first, last - first)]
    turns = [
        following.timestamp_ms - header.timestamp_ms
        for header, following in pairwise(headers)
        if flooder not in (header.proposer, following.proposer)
    ]
    return sum(turns) / max(1, len(turns))


async def validator(folder: HubFolder, genesis: Genesis, seconds: float, phases: int, flooder: bytes) -> None:
    """One honest validator; prints its figures of each phase as JSON. `flooder` is the address of the hub that floods."""
    stay_on(0)
    keys, card = HubKeys.load(folder.hub_key), load_card(folder.own_card)
    tls = TlsIdentity(folder.root, genesis, keys.validator)
    transport = TcpTransport(genesis, keys.validator_key, "127.0.0.1", card.port, tls=tls)
    engine = engine_of(folder, genesis, transport)
    await engine.start()
    await engine.wait_height(1, 60)
    begin_s = await told_to_begin()
    measured: list[dict[str, float]] = []
    highest = 0.0
    filling = asyncio.create_task(keep_filled(engine))
    for phase in range(phases):
        phase_s = begin_s + phase * (SETTLE_S + seconds)
        await asyncio.sleep(max(0.0, phase_s - time.monotonic()))
        forget_peak()
        before = await figures_at(phase_s + SETTLE_S, engine)
        after = await figures_at(phase_s + SETTLE_S + seconds, engine)
        peak_mib = memory_kib("VmHWM") / 1024
        turn_ms = others_turn_ms(engine, int(before["blocks"]), int(after["blocks"]), flooder)
        measured.append({name: after[name] - before[name] for name in after} | {"peak_mib": peak_mib, "turn_ms": turn_ms})
        highest = max(highest, peak_mib)
    filling.cancel()
    status = engine.status()
    report = {
        "phases": measured,
        "peak_mib": highest,
        "view_changes": status.view_changes,
        "throttled": transport.stats.throttled,
    }
    print(json.dumps(report), flush=True)
    await asyncio.sleep(1.0)  # the others measure to the end as well
    await engine.stop()


async def keep_filled(engine: PbftEngine) -> None:
    """There is always a transaction for the next block."""
    while True:
        if engine.status().mempool < 8:
            with contextlib.suppress(TxRefused):
                await engine.submit(b"ok" + os.urandom(1000))
        await asyncio.sleep(0.01)


async def figures_at(moment_s: float, engine: PbftEngine) -> dict[str, float]:
    await asyncio.sleep(max(0.0, moment_s - time.monotonic()))
    return {"s": time.monotonic(), "blocks": engine.status().height, "cpu_s": time.process_time()}


class Flooder:
    """The fifth hub, no validator: proves its key to each validator; in every second phase it floods them."""

    def __init__(self, root: Path, genesis: Genesis, kind: str) -> None:
        self.folder = HubFolder(root / f"hub-{N}")
        self.keys, self.card = HubKeys.load(self.folder.hub_key), load_card(self.folder.own_card)
        self.hubs = [load_card(HubFolder(root / f"hub-{i}").own_card) for i in range(N)]
        self.genesis, self.kind, self.sent = genesis, kind, 0
        store = HubFolder(root / "hub-0").store  # of a flooded validator, so that the flooder knows its height
        self.frames = Junk(kind, self.keys, genesis, Heights(store).last).frames()

    async def connect(self, i: int) -> asyncio.StreamWriter:
        """A connection on which the key is proved. What came before it on an older one is not read any more."""
        hub = self.hubs[i]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_cert_chain(self.folder.tls_certificate, self.folder.tls_key)
        context.load_verify_locations(cadata=hub.certificate)
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.port, ssl=context, server_hostname="")
        mine = Hello(self.genesis.chain_id, self.genesis.hash, self.keys.validator, os.urandom(32))
        writer.write(frame_of(Channel.CONSENSUS, mine.encode()))
        theirs = decode_hello((await read_frame(reader, 300))[1:])
        binding = channel_binding(self.card.certificate_hash, hub.certificate_hash)
        proof = sign_digest(self.keys.validator_key, proof_digest(DIALER, mine, theirs, binding))
        writer.write(frame_of(Channel.CONSENSUS, proof))
        await read_frame(reader, 300)
        return writer

    async def be_silent(self, i: int) -> None:
        """Connected and silent."""
        writer = await self.connect(i)
        try:
            await asyncio.sleep(3600)
        finally:
            writer.transport.abort()

    async def flood(self, i: int) -> None:
        """As fast as it is read; after the end of a connection on the next one."""
        while True:
            with contextlib.suppress(OSError, EOFError):
                writer = await self.connect(i)
                try:
                    await self._send(writer)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(RECONNECT_S)

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        chunk = bytearray()  # many small frames in one write, so that more of them come
        for frame in self.frames:
            chunk += frame
            self.sent += 1
            if len(chunk) < CHUNK_BYTES:
                continue
            if writer.is_closing():
                return
            writer.write(bytes(chunk))
            chunk.clear()
            await writer.drain()
            await asyncio.sleep(0)
        self.sent += self.kind == "connections"

    async def phases(self, seconds: float, phases: int) -> None:
        """Silent and flooding in turn; a silent connection takes the place of the flooding one."""
        begin_s = await told_to_begin()
        for phase in range(phases):
            floods = phase % 2 == 1 and self.kind != "quiet"
            tasks = [asyncio.create_task(self.flood(i) if floods else self.be_silent(i)) for i in range(N)]
            await asyncio.sleep(max(0.0, begin_s + (phase + 1) * (SETTLE_S + seconds) - time.monotonic()))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class Heights:
    """The height in another's store, looked at once in HEIGHT_EVERY_S: each look takes of the processor that is measured."""

    def __init__(self, store: Path) -> None:
        self._uri, self._at_s, self._height = f"{store.as_uri()}?mode=ro", 0.0, 0

    def last(self) -> int:
        if time.monotonic() - self._at_s > HEIGHT_EVERY_S:
            with contextlib.closing(sqlite3.connect(self._uri, uri=True)) as rows:
                (self._height,) = rows.execute("SELECT MAX(height) FROM blocks").fetchone()
            self._at_s = time.monotonic()
        return self._height


async def flooder(root: Path, genesis: Genesis, kind: str, seconds: float, phases: int) -> None:
    """Prints its figures as JSON."""
    stay_on(1)
    one = Flooder(root, genesis, kind)
    await one.phases(seconds, phases)
    print(json.dumps({"sent": one.sent, "cpu_s": time.process_time()}), flush=True)
    os._exit(0)  # in the middle of a flood there is nothing to tidy


async def voting_flooder(root: Path, genesis: Genesis, kind: str, seconds: float, phases: int, pace: float) -> None:
    """The fourth validator, which does its part in every phase and floods in every second one. Prints its figures as JSON.

    It submits no transactions: these would count for its limits, too.
    """
    stay_on(1)
    folder = HubFolder(root / f"hub-{N - 1}")
    keys, card = HubKeys.load(folder.hub_key), load_card(folder.own_card)
    tls = TlsIdentity(folder.root, genesis, keys.validator)
    junk = Junk(kind, keys, genesis, lambda: engine.status().height)
    transport = FloodingTransport(genesis, keys.validator_key, card.port, tls, junk, pace)
    engine = engine_of(folder, genesis, transport)
    await engine.start()
    await engine.wait_height(1, 60)
    begin_s = await told_to_begin()
    for phase in range(phases):
        await asyncio.sleep(max(0.0, begin_s + phase * (SETTLE_S + seconds) - time.monotonic()))
        if phase % 2 == 1 and kind != "quiet":
            transport.flooding.set()
        else:
            transport.flooding.clear()
    await asyncio.sleep(max(0.0, begin_s + phases * (SETTLE_S + seconds) - time.monotonic()))
    print(json.dumps({"sent": transport.sent, "cpu_s": time.process_time()}), flush=True)
    await asyncio.sleep(1.0)  # the others measure to the end
    os._exit(0)
