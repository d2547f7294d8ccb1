"""What a flood from one peer costs the others: blocks a second, processor time, and each replica's memory, with and without.

Four validators, each a process of its own, loopback TCP with TLS, SQLite with synchronous=FULL, mempools kept filled. A fifth
hub with a valid key, whose card all of them hold, is connected to each. In one run phases without and with its flood take turns
(quiet, flood, quiet, ... quiet); a flooded one is compared with the mean of the quiet ones before and after it, so that neither
a busy machine nor a growing chain counts for the flood. Of each phase the first SETTLE_S are left out: until the first burst is
through, or what was under way is gone.

The validators share one core and the flooder has another, in every phase: counted is what the flood makes the validators do,
and not what making it costs its sender, who would be on a machine of its own. Four on one core is the hard case: what a flood
takes of each of them, it takes four times of that core.

    garbage       malformed frames on every channel, and unknown channels
    transactions  well-formed transactions that the application refuses
    votes         PREPAREs under the flooder's valid signature, which is no validator's
    statuses      valid messages that say nothing new
    gossip        the largest well-formed messages beside consensus
    large         4 MiB of noise in each frame
    proposals     well-formed PRE-PREPAREs with the largest block, for heights long decided
    turns         such PRE-PREPAREs for the height at which it is the flooder's turn next, another block each time
    connections   a new connection with a valid proof as often as it is let in

Memory is the peak of the resident memory over a whole run, against that of a run in which the fifth hub is always silent.
Prints a table and writes `benchmarks/results/ppdl_flood.json`.

    python benchmarks/bench_ppdl_flood.py [--kinds garbage,votes] [--seconds 6] [--floods 4] [--runs 1]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import platform
import resource
import sqlite3
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.bench_pbft import HashChain, free_ports
from hub.keys import HubKeys
from hub.operators.folder import HubFolder, load_card
from hub.operators.identity import Place, init_identity, times
from hub.operators.network import keep_card
from hub.ppdl.application import TxVerdict
from hub.ppdl.consensus.block import MAX_BLOCK_TX_BYTES, Block
from hub.ppdl.consensus.certs import Domain
from hub.ppdl.consensus.header import Header
from hub.ppdl.consensus.messages import Kind, Prepare, PrePrepare, Status, encode_message
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.engine import PbftEngine
from hub.ppdl.genesis import Genesis, load_genesis, make_genesis, save_genesis
from hub.ppdl.listeners import MAX_GOSSIP_BYTES, gossip_frame
from hub.ppdl.mempool import TxRefused
from hub.ppdl.net.framing import frame_of, read_frame
from hub.ppdl.net.handshake import DIALER, Hello, channel_binding, decode_hello, proof_digest
from hub.ppdl.net.tcp import TcpTransport
from hub.ppdl.net.tls import TlsIdentity
from hub.ppdl.net.transport import MAX_FRAME_BYTES, Channel
from hub.ppdl.store import initialise_store
from openmg.hashing import merkle_root
from openmg.signing import sign_digest

RESULTS = Path(__file__).with_name("results") / "ppdl_flood.json"
KINDS = ("garbage", "transactions", "votes", "statuses", "gossip", "large", "proposals", "turns", "connections")
N, CHAIN_ID = 4, 32
SETTLE_S = 3.0  # at the start of each phase, not measured
SWEPT_HEIGHTS = 600
LARGE_TXS = 2048  # of a proposal; 1 KiB each fill the block
CHUNK_BYTES = 64 * 1024
RECONNECT_S = 0.02
TURN_OF_THE_SILENT_S = 0.3  # a flooder that is a validator proposes nothing: every fifth block waits for a view change
BEGIN_AFTER_S = 1.0  # from the word to begin: long enough to reach every process


class Guarded(HashChain):
    """Takes what begins with `ok`, as an application takes what is signed by its meters."""

    def check_tx(self, tx: bytes) -> TxVerdict:
        return TxVerdict(tx[:2] == b"ok", "not signed by a meter")


def provision(root: Path, voter: bool) -> None:
    """Folders of four validators and of the flooder, who knows them and is known to them, and with `voter` is one of them."""
    ports, now_s = free_ports(N + 1), int(time.time())
    folders = [HubFolder(root / f"hub-{i}") for i in range(N + 1)]
    cards = [
        init_identity(folder, CHAIN_ID, None, Place(f"hub-{i}", "127.0.0.1", port), times(now_s, 30))
        for i, (folder, port) in enumerate(zip(folders, ports, strict=True))
    ]
    genesis = make_genesis(CHAIN_ID, [card.address for card in cards[: N + voter]], b"", 1)
    save_genesis(root / "genesis.cbor", genesis)
    for i, folder in enumerate(folders):
        initialise_store(folder.store, genesis)
        for other, card in enumerate(cards):
            if other != i:
                keep_card(folder, card, candidate=other == N and not voter)


def memory_kib(what: str) -> int:
    """A figure of /proc/self/status: VmHWM is the peak of the resident memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def stay_on(core: int) -> None:
    """Keep this process on one core; on a machine with one, or without the call, it stays where it is."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})


async def told_to_begin() -> float:
    """Say that this process is ready; wait for the moment at which the first phase begins (monotonic clock, s)."""
    print("ready", flush=True)
    return float(await asyncio.to_thread(sys.stdin.readline))


async def validator(folder: HubFolder, genesis: Genesis, seconds: float, phases: int) -> None:
    """One validator; prints its figures of each phase as JSON."""
    stay_on(0)
    keys, card = HubKeys.load(folder.hub_key), load_card(folder.own_card)
    tls = TlsIdentity(folder.root, genesis, keys.validator)
    transport = TcpTransport(genesis, keys.validator_key, "127.0.0.1", card.port, tls=tls)
    engine = PbftEngine(
        genesis, keys.validator_key, Guarded(), folder.store, ("127.0.0.1", card.port), [],
        block_interval_s=0.0, heartbeat_s=1.0, transport=transport,
        view_timeout_s=2.0 if len(genesis.validators) == N else TURN_OF_THE_SILENT_S,
    )  # fmt: skip
    await engine.start()
    await engine.wait_height(1, 60)
    begin_s = await told_to_begin()
    measured: list[dict[str, float]] = []
    filling = asyncio.create_task(keep_filled(engine))
    for phase in range(phases):
        phase_s = begin_s + phase * (SETTLE_S + seconds)
        before = await figures_at(phase_s + SETTLE_S, engine)
        after = await figures_at(phase_s + SETTLE_S + seconds, engine)
        measured.append({name: after[name] - before[name] for name in after})
    filling.cancel()
    status = engine.status()
    report = {
        "phases": measured,
        "peak_mib": memory_kib("VmHWM") / 1024,
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


def junk(kind: str, keys: HubKeys, genesis: Genesis, store: Path) -> Iterator[bytes]:
    """Frames of a kind, for ever; `store` is one of a flooded validator, so that the flooder knows its height."""
    domain = Domain(genesis.chain_id, genesis.hash)
    noise = os.urandom(MAX_FRAME_BYTES - 1)
    signed = range(SWEPT_HEIGHTS if kind == "votes" else 0)
    votes = [frame_of(Channel.CONSENSUS, vote(domain, keys, number)) for number in signed]
    proposal = frame_of(Channel.CONSENSUS, large_proposal(domain, keys, 1)) if kind == "proposals" else b""
    for number in itertools.count():
        mark = number.to_bytes(8, "big")
        match kind:
            case "garbage":
                yield frame_of((Channel.CONSENSUS, Channel.GOSSIP, Channel.TX)[number % 3], mark * (1 + number % 40))
                yield b"\x00\x00\x00\x02\xee\x00"
            case "transactions":
                yield frame_of(Channel.TX, b"no" + mark + bytes(990))
            case "votes":
                yield votes[number % SWEPT_HEIGHTS]
            case "statuses":
                yield frame_of(Channel.CONSENSUS, encode_message(Status(1)))
            case "gossip":
                yield frame_of(Channel.GOSSIP, gossip_frame("news", mark + noise[8:MAX_GOSSIP_BYTES]))
            case "large":
                yield frame_of(Channel.CONSENSUS, mark + noise[8:])
            case "proposals":
                yield proposal
            case "turns":
                yield frame_of(Channel.CONSENSUS, large_proposal(domain, keys, next_turn(genesis, keys, store)))
            case _:
                return


def vote(domain: Domain, keys: HubKeys, number: int) -> bytes:
    """A PREPARE under a right signature, for a height that may be the one under way, another each time."""
    height, digest = 1 + number * 7 % SWEPT_HEIGHTS, number.to_bytes(32, "big")
    signature = sign_digest(keys.validator_key, domain.digest(Kind.PREPARE, height, 0, digest))
    return encode_message(Prepare(height, 0, digest, signature))


def next_turn(genesis: Genesis, keys: HubKeys, store: Path) -> int:
    """The first height not under way at which the flooder proposes; any, if it never does."""
    members = ValidatorSet(genesis.validators)
    with contextlib.closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as rows:
        (decided,) = rows.execute("SELECT MAX(height) FROM blocks").fetchone()
    coming = range(decided + 2, decided + 2 + len(members))
    return next((height for height in coming if members.proposer(height, 0) == keys.validator), decided + 2)


def large_proposal(domain: Domain, keys: HubKeys, height: int) -> bytes:
    """A PRE-PREPARE well-formed in every part, with as many bytes as a block may have."""
    txs = tuple(os.urandom(MAX_BLOCK_TX_BYTES // LARGE_TXS) for _ in range(LARGE_TXS))
    word = bytes(32)
    block = Block(Header(CHAIN_ID, height, word, 1, keys.validator, merkle_root(txs), word, word, word), txs)
    return encode_message(
        PrePrepare(0, block, sign_digest(keys.validator_key, domain.digest(Kind.PRE_PREPARE, height, 0, block.hash)))
    )


class Flooder:
    """The fifth hub, no validator unless asked for: proves its key to each validator; in every second phase it floods them."""

    def __init__(self, root: Path, genesis: Genesis, kind: str) -> None:
        self.folder = HubFolder(root / f"hub-{N}")
        self.keys, self.card = HubKeys.load(self.folder.hub_key), load_card(self.folder.own_card)
        self.hubs = [load_card(HubFolder(root / f"hub-{i}").own_card) for i in range(N)]
        self.genesis, self.kind, self.sent = genesis, kind, 0
        self.frames = junk(kind, self.keys, genesis, HubFolder(root / "hub-0").store)

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


async def flooder(root: Path, genesis: Genesis, kind: str, seconds: float, phases: int) -> None:
    """Prints its figures as JSON."""
    stay_on(1)
    one = Flooder(root, genesis, kind)
    await one.phases(seconds, phases)
    print(json.dumps({"sent": one.sent, "cpu_s": time.process_time()}), flush=True)
    os._exit(0)  # in the middle of a flood there is nothing to tidy


async def one_run(kind: str, seconds: float, floods: int, voter: bool) -> dict[str, float]:
    """Start five processes, let them begin together; figures of the validators."""
    phases = 2 * floods + 1
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        provision(root, voter)
        processes = []
        for me in range(N + 1):
            command = [sys.executable, __file__, "--child", str(me), directory, kind, str(seconds), str(phases)]
            pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
            processes.append(await asyncio.create_subprocess_exec(*command, **pipes))
        for process in processes:
            assert process.stdout is not None
            if not await process.stdout.readline():
                raise SystemExit("bench_ppdl_flood: a process did not begin; its error stands above")
        begin = f"{time.monotonic() + BEGIN_AFTER_S}\n".encode()
        outputs = await asyncio.gather(*(process.communicate(begin) for process in processes))
    if any(process.returncode for process in processes):
        raise SystemExit("bench_ppdl_flood: a process failed; its error stands above")
    said: list[dict[str, Any]] = [json.loads(output) for output, _ in outputs]
    return figures(said[:N], said[N])


def figures(validators: list[dict[str, Any]], flooder: dict[str, Any]) -> dict[str, float]:
    """Medians over phases and validators. A flooded phase stands between two quiet ones, and is compared with their mean."""
    count = len(validators[0]["phases"])
    rates = [statistics.median(v["phases"][i]["blocks"] / v["phases"][i]["s"] for v in validators) for i in range(count)]
    costs = [
        statistics.median(1000 * v["phases"][i]["cpu_s"] / max(1, v["phases"][i]["blocks"]) for v in validators)
        for i in range(count)
    ]
    beside = [(i, i - 1, i + 1) for i in range(1, count, 2)]
    return {
        "quiet_blocks_per_s": statistics.median(rates[::2]),
        "flood_blocks_per_s": statistics.median(rates[1::2]),
        "blocks_ratio": statistics.median(2 * rates[i] / (rates[before] + rates[after]) for i, before, after in beside),
        "quiet_cpu_ms_per_block": statistics.median(costs[::2]),
        "flood_cpu_ms_per_block": statistics.median(costs[1::2]),
        "cpu_ratio": statistics.median(2 * costs[i] / (costs[before] + costs[after]) for i, before, after in beside),
        "peak_mib": max(v["peak_mib"] for v in validators),
        "view_changes": max(v["view_changes"] for v in validators),
        "throttled": sum(v["throttled"] for v in validators),
        "frames_sent": flooder["sent"],
        "flooder_cpu_s": flooder["cpu_s"],
    }


HEAD = f"{'kind':>13} {'blocks/s quiet':>14} {'flood':>7} {'ratio':>6} {'CPU ms/block quiet':>18} {'flood':>7} {'ratio':>6}" + (
    f" {'peak MiB':>9} {'views':>6} {'sent':>9} {'CPU s':>6}"
)


def show(name: str, run: dict[str, float]) -> None:
    speed = f"{run['quiet_blocks_per_s']:14.1f} {run['flood_blocks_per_s']:7.1f} {run['blocks_ratio']:6.2f}"
    cost = f"{run['quiet_cpu_ms_per_block']:18.2f} {run['flood_cpu_ms_per_block']:7.2f} {run['cpu_ratio']:6.2f}"
    rest = f"{run['peak_mib']:9.1f} {run['view_changes']:6.0f} {run['frames_sent']:9.0f} {run['flooder_cpu_s']:6.1f}"
    print(f"{name:>13} {speed} {cost} {rest}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"of {', '.join(KINDS)}")
    parser.add_argument("--seconds", type=float, default=6.0, help="measured of each phase")
    parser.add_argument("--floods", type=int, default=4, help="phases with a flood in each run")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument(
        "--as-validator", action="store_true", help="the flooder is the fifth validator, which votes for nothing"
    )
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    if set(kinds) - set(KINDS):
        raise SystemExit(f"bench_ppdl_flood: --kinds is {options.kinds}; use some of {', '.join(KINDS)}")
    runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in ("quiet", *kinds)}
    load_before = os.getloadavg()
    print(HEAD)
    for _ in range(options.runs):
        for kind in runs:
            runs[kind].append(asyncio.run(one_run(kind, options.seconds, options.floods, options.as_validator)))
            show(kind, runs[kind][-1])
    median = {kind: {key: statistics.median(run[key] for run in of) for key in of[0]} for kind, of in runs.items()}
    print(f"medians of {options.runs}, load before {load_before[0]:.1f}; memory against quiet:")
    for kind in kinds:
        memory = median[kind]["peak_mib"] / median["quiet"]["peak_mib"] - 1
        print(f"{kind:>13} blocks/s x {median[kind]['blocks_ratio']:.2f}, peak memory {100 * memory:+.1f} %")
    machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "machine": platform.machine()}
    report = {"bench": "ppdl_flood", "options": vars(options), "machine": machine, "load_before": load_before}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report | {"runs": runs, "median": median}, indent=1) + "\n")


def child(arguments: list[str]) -> None:
    number, where, kind = int(arguments[0]), Path(arguments[1]), arguments[2]
    seconds, phases = float(arguments[3]), int(arguments[4])
    genesis = load_genesis(where / "genesis.cbor")
    if number < N:
        asyncio.run(validator(HubFolder(where / f"hub-{number}"), genesis, seconds, phases))
    else:
        asyncio.run(flooder(where, genesis, kind, seconds, phases))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    else:
        main()
