"""What a flood from one peer costs the others: blocks a second, and each replica's memory, with and without.

Four validators, each a process of its own, loopback TCP with TLS, SQLite with synchronous=FULL, mempools kept filled. A fifth
hub with a valid key, whose card all of them hold, is connected to each: silent in the quiet runs, and in the others it sends as
fast as it can. Quiet and flooded runs take turns, so that a busy machine is the same for both; compared are medians.

    garbage       malformed frames on every channel, and unknown channels
    transactions  well-formed transactions that the application refuses
    votes         PREPAREs under the flooder's valid signature, which is no validator's
    statuses      valid messages that say nothing new
    large         4 MiB of noise in each frame

Prints a table and writes `benchmarks/results/ppdl_flood.json`. The flooder is held back by the validators' limits and takes
little of the processor itself; what it takes counts against them here.

    python benchmarks/bench_ppdl_flood.py [--kinds garbage,votes] [--seconds 8] [--runs 5]
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
from hub.ppdl.consensus.certs import Domain
from hub.ppdl.consensus.messages import Kind, Prepare, Status, encode_message
from hub.ppdl.engine import PbftEngine
from hub.ppdl.genesis import Genesis, load_genesis, make_genesis, save_genesis
from hub.ppdl.mempool import TxRefused
from hub.ppdl.net.framing import frame_of, read_frame
from hub.ppdl.net.handshake import DIALER, Hello, channel_binding, decode_hello, proof_digest
from hub.ppdl.net.tcp import TcpTransport
from hub.ppdl.net.tls import TlsIdentity
from hub.ppdl.net.transport import MAX_FRAME_BYTES, Channel
from hub.ppdl.store import initialise_store
from openmg.signing import sign_digest

RESULTS = Path(__file__).with_name("results") / "ppdl_flood.json"
KINDS = ("garbage", "transactions", "votes", "statuses", "large")
N, CHAIN_ID = 4, 32
WARM_UP_S = 5.0  # until the flood's burst is through and the system's socket buffers are full
SWEPT_HEIGHTS = 600
CHUNK_BYTES = 64 * 1024


class Guarded(HashChain):
    """Takes what begins with `ok`, as an application takes what is signed by its meters."""

    def check_tx(self, tx: bytes) -> TxVerdict:
        return TxVerdict(tx[:2] == b"ok", "not signed by a meter")


def provision(root: Path) -> None:
    """Folders of four validators and of the flooder, who knows them and is known to them."""
    ports, now_s = free_ports(N + 1), int(time.time())
    folders = [HubFolder(root / f"hub-{i}") for i in range(N + 1)]
    cards = [
        init_identity(folder, CHAIN_ID, None, Place(f"hub-{i}", "127.0.0.1", port), times(now_s, 30))
        for i, (folder, port) in enumerate(zip(folders, ports, strict=True))
    ]
    genesis = make_genesis(CHAIN_ID, [card.address for card in cards[:N]], b"", 1)
    save_genesis(root / "genesis.cbor", genesis)
    for i, folder in enumerate(folders):
        initialise_store(folder.store, genesis)
        for other, card in enumerate(cards):
            if other != i:
                keep_card(folder, card, candidate=other == N)


def memory_kib(what: str) -> int:
    """A figure of /proc/self/status: VmHWM is the peak of the resident memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def validator(folder: HubFolder, genesis: Genesis, seconds: float) -> None:
    """One validator; prints its figures as JSON."""
    keys, card = HubKeys.load(folder.hub_key), load_card(folder.own_card)
    tls = TlsIdentity(folder.root, genesis, keys.validator)
    transport = TcpTransport(genesis, keys.validator_key, "127.0.0.1", card.port, tls=tls)
    engine = PbftEngine(
        genesis, keys.validator_key, Guarded(), folder.store, ("127.0.0.1", card.port), [],
        block_interval_s=0.0, heartbeat_s=1.0, view_timeout_s=2.0, transport=transport,
    )  # fmt: skip
    await engine.start()
    await engine.wait_height(1, 60)
    loop = asyncio.get_running_loop()
    start_s, end_s = loop.time() + WARM_UP_S, loop.time() + WARM_UP_S + seconds
    first = last = (0.0, 0, 0.0)
    while (now_s := loop.time()) < end_s:
        if now_s >= start_s:
            last = (now_s, engine.status().height, time.process_time())
            first = first if first[0] else last
        if engine.status().mempool < 8:
            with contextlib.suppress(TxRefused):
                await engine.submit(b"ok" + os.urandom(1000))
        await asyncio.sleep(0.01)
    status, blocks = engine.status(), last[1] - first[1]
    print(
        json.dumps(
            {
                "blocks_per_second": blocks / (last[0] - first[0]),
                "cpu_ms_per_s": 1000 * (last[2] - first[2]) / (last[0] - first[0]),
                "cpu_ms_per_block": 1000 * (last[2] - first[2]) / max(1, blocks),
                "peak_mib": memory_kib("VmHWM") / 1024,
                "view_changes": status.view_changes,
                "throttled": transport.stats.throttled,
                "received": transport.stats.frames_received,
            }
        )
    )
    await asyncio.sleep(1.0)  # the others measure to the end as well
    await engine.stop()


def junk(kind: str, keys: HubKeys, genesis: Genesis) -> Iterator[bytes]:
    """Frames of a kind, for ever."""
    domain = Domain(genesis.chain_id, genesis.hash)
    noise = os.urandom(MAX_FRAME_BYTES - 1)
    signed = range(SWEPT_HEIGHTS if kind == "votes" else 0)
    votes = [frame_of(Channel.CONSENSUS, vote(domain, keys, number)) for number in signed]
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
            case "large":
                yield frame_of(Channel.CONSENSUS, mark + noise[8:])
            case _:
                return


def vote(domain: Domain, keys: HubKeys, number: int) -> bytes:
    """A PREPARE under a right signature, for a height that may be the one under way, another each time."""
    height, digest = 1 + number * 7 % SWEPT_HEIGHTS, number.to_bytes(32, "big")
    signature = sign_digest(keys.validator_key, domain.digest(Kind.PREPARE, height, 0, digest))
    return encode_message(Prepare(height, 0, digest, signature))


async def flooder(root: Path, genesis: Genesis, kind: str, seconds: float) -> None:
    """The fifth hub: proves its key to each validator, then floods it, or is silent."""
    folder = HubFolder(root / f"hub-{N}")
    keys, card = HubKeys.load(folder.hub_key), load_card(folder.own_card)
    sent = [0] * N
    frames = junk(kind, keys, genesis)

    async def one(i: int) -> None:
        hub = load_card(HubFolder(root / f"hub-{i}").own_card)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_cert_chain(folder.tls_certificate, folder.tls_key)
        context.load_verify_locations(cadata=hub.certificate)
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", hub.port, ssl=context, server_hostname="")
                break
            except ConnectionError:
                await asyncio.sleep(0.1)
        mine = Hello(genesis.chain_id, genesis.hash, keys.validator, os.urandom(32))
        writer.write(frame_of(Channel.CONSENSUS, mine.encode()))
        theirs = decode_hello((await read_frame(reader, 300))[1:])
        binding = channel_binding(card.certificate_hash, hub.certificate_hash)
        writer.write(frame_of(Channel.CONSENSUS, sign_digest(keys.validator_key, proof_digest(DIALER, mine, theirs, binding))))
        await read_frame(reader, 300)
        with contextlib.suppress(OSError):
            chunk = bytearray()  # many small frames in one write, so that the flood costs its sender little
            for frame in frames:
                chunk += frame
                sent[i] += 1
                if len(chunk) < CHUNK_BYTES:
                    continue
                if writer.is_closing():
                    return
                writer.write(bytes(chunk))
                chunk.clear()
                await writer.drain()
                await asyncio.sleep(0)
            await asyncio.sleep(3600)

    tasks = [asyncio.create_task(one(i)) for i in range(N)]
    await asyncio.wait(tasks, timeout=seconds + WARM_UP_S + 3)
    print(json.dumps({"sent": sum(sent), "cpu_s": time.process_time()}))
    os._exit(0)  # in the middle of a flood there is nothing to tidy


async def one_run(kind: str, seconds: float) -> dict[str, float]:
    """Start five processes; medians and maxima over the validators."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        provision(root)
        processes = []
        for me in range(N + 1):
            command = [sys.executable, __file__, "--child", str(me), directory, kind, str(seconds)]
            processes.append(await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE))
        outputs = await asyncio.gather(*(process.communicate() for process in processes))
    if any(process.returncode for process in processes):
        raise SystemExit("bench_ppdl_flood: a process failed; its error stands above")
    said: list[dict[str, Any]] = [json.loads(output) for output, _ in outputs]
    validators = said[:N]
    return {
        "blocks_per_second": statistics.median(one["blocks_per_second"] for one in validators),
        "cpu_ms_per_s": statistics.median(one["cpu_ms_per_s"] for one in validators),
        "cpu_ms_per_block": statistics.median(one["cpu_ms_per_block"] for one in validators),
        "peak_mib": max(one["peak_mib"] for one in validators),
        "view_changes": max(one["view_changes"] for one in validators),
        "throttled": sum(one["throttled"] for one in validators),
        "frames_sent": said[N]["sent"],
        "flooder_cpu_s": said[N]["cpu_s"],
    }


def show(name: str, run: dict[str, float]) -> None:
    speed = f"{run['blocks_per_second']:9.1f} {run['cpu_ms_per_s']:9.0f} {run['cpu_ms_per_block']:13.2f}"
    rest = f"{run['peak_mib']:9.1f} {run['view_changes']:8.0f} {run['frames_sent']:9.0f} {run['flooder_cpu_s']:8.2f}"
    print(f"{name:>13} {speed} {rest}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"of {', '.join(KINDS)}")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    if set(kinds) - set(KINDS):
        raise SystemExit(f"bench_ppdl_flood: --kinds is {options.kinds}; use some of {', '.join(KINDS)}")
    runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in ("quiet", *kinds)}
    print(f"{'kind':>13} {'blocks/s':>9} {'CPU ms/s':>9} {'CPU ms/block':>13}", end=" ")
    print(f"{'peak MiB':>9} {'views':>8} {'sent':>9} {'CPU s':>8}")
    for _ in range(options.runs):
        for kind in runs:
            runs[kind].append(asyncio.run(one_run(kind, options.seconds)))
            show(kind, runs[kind][-1])
    median = {kind: {key: statistics.median(run[key] for run in of) for key in of[0]} for kind, of in runs.items()}
    print(f"medians of {options.runs}, against quiet:")
    for kind in kinds:
        speed, memory = (median[kind][key] / median["quiet"][key] - 1 for key in ("blocks_per_second", "peak_mib"))
        show(kind, median[kind])
        print(f"{'':>13} blocks/s {100 * speed:+.1f} %, peak memory {100 * memory:+.1f} %")
    machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "machine": platform.machine()}
    report = {"bench": "ppdl_flood", "options": vars(options), "machine": machine, "runs": runs, "median": median}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")


def child(arguments: list[str]) -> None:
    number, where, kind, seconds = int(arguments[0]), Path(arguments[1]), arguments[2], float(arguments[3])
    genesis = load_genesis(where / "genesis.cbor")
    if number < N:
        asyncio.run(validator(HubFolder(where / f"hub-{number}"), genesis, seconds))
    else:
        asyncio.run(flooder(where, genesis, kind, seconds))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    else:
        main()
