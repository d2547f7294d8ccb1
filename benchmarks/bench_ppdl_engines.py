"""Commit latency of our PBFT and of CometBFT side by side: n nodes each, a process of its own per node, durable votes.

Same machine, same disk, same load, one engine after the other in every round. One transaction of the given size at a time,
submitted at node 0 to a chain at rest; latency is the time from there to the application's commit at node 0. Blocks per
second counts commits there. Both engines drive the same small Python application; `cometbft-noop` is CometBFT with its
built-in empty application, to show what our adapter costs it, and `cometbft-noop-slow` the same with CometBFT's own pauses
of gossip (100 ms), which the adapter shortens. CometBFT runs with its own fsync rules (WAL and key state), timeout_commit
0 and skip_timeout_commit. Every transaction changes the app hash; CometBFT then adds an empty block, which is waited for
and counted apart. The disk's own fsync time stands beside the table.

    python benchmarks/bench_ppdl_engines.py [--nodes 4] [--seconds 10] [--tx-bytes 1000] [--rounds 3] [--json]

Prints a table and writes benchmarks/results/ppdl_engines.json. Needs CometBFT: python scripts/build_cometbft.py.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.bench_pbft import HashChain, free_ports, fsync_ms
from hub.ppdl.engines.base import Engine
from hub.ppdl.engines.cometbft.binary import BinaryError, find_binary
from hub.ppdl.engines.cometbft.engine import CometEngine
from hub.ppdl.engines.cometbft.home import (
    CometPeer,
    Timing,
    initialise_home,
    node_id,
    public_key_of,
    settings,
    write_node_files,
)
from hub.ppdl.engines.cometbft.process import CometProcess
from hub.ppdl.engines.cometbft.rpc import Rpc, RpcError, RpcUnavailable
from hub.ppdl.engines.registry import NodeSetup, make_engine, provision
from hub.ppdl.genesis import Genesis, make_genesis
from hub.ppdl.mempool import TxRefused
from hub.ppdl.net.transport import PeerAddress
from hub.ppdl.sim.keys import validator_keys
from openmg.signing import address_of

RESULTS = Path(__file__).with_name("results") / "ppdl_engines.json"
ENGINES = ("pbft", "cometbft", "cometbft-noop", "cometbft-noop-slow")
COMET_GOSSIP = {"p2p.flush_throttle_timeout": "100ms", "consensus.peer_gossip_sleep_duration": "100ms"}
"""CometBFT's own values, made for a wide network; the adapter sets shorter ones."""
CHAIN_ID = 31
WARM_UP = 5  # transactions that are not counted
WAIT_S = 60.0
FSYNCS = 200
TIMING = {"block_interval_s": 0.0, "heartbeat_s": 2.0, "view_timeout_s": 3.0}
NOOP_POLL_S = 0.001


class TimedChain(HashChain):
    """Tells the times of its commits."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[tuple[float, int]] = []
        self.waiting: tuple[bytes, asyncio.Event, asyncio.AbstractEventLoop] | None = None
        self.pending: tuple[bytes, ...] = ()
        self.done_at, self.done_height = 0.0, 0

    def finalize_block(self, ctx, txs):  # type: ignore[no-untyped-def]
        self.pending = tuple(txs)
        result = super().finalize_block(ctx, txs)
        if not txs:  # an empty block changes nothing: only what CometBFT must add is counted
            self.next_hash = self.app_hash
            return type(result)(self.app_hash, ())
        return result

    def commit(self) -> None:
        super().commit()
        now = time.perf_counter()
        self.commits.append((now, len(self.pending)))
        if self.waiting is not None and self.waiting[0] in self.pending:
            self.done_at, self.done_height = now, self.height
            self.waiting[2].call_soon_threadsafe(self.waiting[1].set)


class Place:
    """Who runs where: the same for every engine."""

    def __init__(self, folder: Path, ports: Sequence[int], genesis_ms: int) -> None:
        self.folder, self.ports = folder, ports
        self.keys = validator_keys(len(ports))
        self.genesis: Genesis = make_genesis(CHAIN_ID, [address_of(key) for key in self.keys], b"", genesis_ms)
        self.public_keys = {address_of(key): public_key_of(key) for key in self.keys}

    def comet_peers(self, me: int) -> list[CometPeer]:
        return [
            CometPeer(node_id(key), "127.0.0.1", p)
            for key, p in zip(self.keys, self.ports, strict=True)
            if key != self.keys[me]
        ]

    def setup(self, me: int, app: TimedChain) -> NodeSetup:
        peers = [PeerAddress(address_of(k), "127.0.0.1", p) for k, p in zip(self.keys, self.ports, strict=True)]
        others = [peer for peer in peers if peer.address != address_of(self.keys[me])]
        listen = ("127.0.0.1", self.ports[me])
        return NodeSetup(
            self.genesis, self.keys[me], app, self.folder / f"node{me}", listen, others, self.comet_peers(me),
            self.public_keys, **TIMING,
        )  # fmt: skip


async def submit_and_wait(engine: Engine, app: TimedChain, tx_bytes: int) -> float:
    """Milliseconds from submission to the commit of the transaction here."""
    tx = os.urandom(tx_bytes)
    event = asyncio.Event()
    app.waiting = tx, event, asyncio.get_running_loop()
    start = time.perf_counter()
    await engine.submit(tx)
    async with asyncio.timeout(WAIT_S):
        await event.wait()
    if isinstance(engine, CometEngine):
        await engine.wait_height(app.done_height + 1, WAIT_S)  # its empty block is not the next transaction's delay
    return 1000 * (app.done_at - start)


async def node(name: str, place: Place, me: int, seconds: float, tx_bytes: int) -> None:
    """One node; number 0 submits and prints its figures as JSON. The others end with their input."""
    app = TimedChain()
    folder = place.folder / f"node{me}"
    folder.mkdir(parents=True, exist_ok=True)
    provision(name, place.genesis, folder)
    engine = make_engine(name, place.setup(me, app))
    await engine.start()
    if me:
        await asyncio.to_thread(sys.stdin.read)
        await engine.stop()
        return
    await engine.wait_height(1, WAIT_S)
    await first_transaction(engine, app, tx_bytes)
    for _ in range(WARM_UP):
        await submit_and_wait(engine, app, tx_bytes)
    latencies: list[float] = []
    start = time.perf_counter()
    while time.perf_counter() < start + seconds:
        latencies.append(await submit_and_wait(engine, app, tx_bytes))
    end = time.perf_counter()
    commits = [at for at, _ in app.commits if start <= at <= end]
    wanted = [at for at, txs in app.commits if start <= at <= end and txs]
    print(json.dumps(figures(latencies, len(wanted), len(commits), end - start)))
    await engine.stop()


async def first_transaction(engine: Engine, app: TimedChain, tx_bytes: int) -> None:
    """The first may be refused while the nodes still find each other."""
    async with asyncio.timeout(WAIT_S):
        while True:
            with contextlib.suppress(TxRefused):
                await submit_and_wait(engine, app, tx_bytes)
                return
            await asyncio.sleep(0.05)


async def noop_node(name: str, place: Place, me: int, seconds: float, tx_bytes: int) -> None:
    """CometBFT with its built-in empty application; a transaction is committed when the node's height has passed."""
    home = place.folder / f"node{me}" / "cometbft"
    initialise_home(home, place.genesis)
    with tempfile.TemporaryDirectory() as sockets:
        rpc_socket = Path(sockets) / "rpc"
        values = settings(
            Path(sockets) / "none", rpc_socket, ("127.0.0.1", place.ports[me]), place.comet_peers(me), Timing(**TIMING)
        )
        values |= {"proxy_app": "noop", "consensus.create_empty_blocks": False}
        write_node_files(home, place.genesis, place.public_keys, place.keys[me], values)
        process = CometProcess(find_binary(), home)
        await process.start()
        rpc = Rpc(rpc_socket)
        try:
            if me:
                await asyncio.to_thread(sys.stdin.read)
                return
            height = await noop_height(rpc, 1)
            latencies: list[float] = []
            begin = first = 0.0
            while not begin or time.perf_counter() < begin + seconds:
                start = time.perf_counter()
                await rpc.submit(os.urandom(tx_bytes))
                height = await noop_height(rpc, height + 1)
                latencies.append(1000 * (time.perf_counter() - start))
                if len(latencies) == WARM_UP and not begin:
                    begin, first, latencies = time.perf_counter(), height, []
            print(json.dumps(figures(latencies, len(latencies), height - int(first), time.perf_counter() - begin)))
        finally:
            rpc.close()
            await process.stop()


async def noop_height(rpc: Rpc, at_least: int) -> int:
    """Wait until the node has committed a height; return it."""
    async with asyncio.timeout(WAIT_S):
        while True:
            with contextlib.suppress(RpcUnavailable, RpcError):
                height = int((await rpc.call("status"))["sync_info"]["latest_block_height"])
                if height >= at_least:
                    return height
            await asyncio.sleep(NOOP_POLL_S)


def figures(latencies: list[float], wanted: int, commits: int, seconds: float) -> dict[str, float]:
    ordered = sorted(latencies)
    if len(ordered) < 2:
        raise SystemExit("bench_ppdl_engines: fewer than two transactions were committed; give --seconds a larger number")
    return {
        "p50_ms": ordered[len(ordered) // 2],
        "p99_ms": ordered[int(len(ordered) * 0.99)],
        "transactions": len(ordered),
        "tx_blocks_per_second": wanted / seconds,
        "all_blocks_per_second": commits / seconds,
    }


async def one_run(name: str, n: int, seconds: float, tx_bytes: int) -> dict[str, float]:
    """Start n processes; figures of node 0."""
    ports = free_ports(n)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        fsync = fsync_ms(Path(directory))
        place = json.dumps({"folder": directory, "ports": ports, "genesis_ms": time.time_ns() // 1_000_000})
        processes = []
        for me in range(n):
            arguments = ["--child", name, str(me), place, str(seconds), str(tx_bytes)]
            pipes: dict[str, Any] = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
            processes.append(await asyncio.create_subprocess_exec(sys.executable, __file__, *arguments, **pipes))
        stdout = processes[0].stdout
        assert stdout is not None
        said = await stdout.readline()
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        codes = await asyncio.gather(*(process.wait() for process in processes))
    if any(codes) or not said:
        raise SystemExit(f"bench_ppdl_engines: a {name} process failed; its error stands above")
    return json.loads(said) | {"fsync_ms": fsync}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog="example: python benchmarks/bench_ppdl_engines.py --nodes 4 --seconds 10 --rounds 3",
    )
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--tx-bytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", default=",".join(ENGINES), help=f"some of {','.join(ENGINES)}")
    parser.add_argument("--json", action="store_true", help="print the report instead of the table")
    options = parser.parse_args()
    names = options.engines.split(",")
    try:
        program = str(find_binary().name) if any(name != "pbft" for name in names) else None
    except BinaryError as error:
        raise SystemExit(f"bench_ppdl_engines: {error}") from None
    show = print if not options.json else (lambda *line: print(*line, file=sys.stderr))
    show(f"{'engine':>14} {'p50 ms':>8} {'p99 ms':>8} {'tx blocks/s':>12} {'all blocks/s':>13} {'fsync ms':>9}")
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            run = asyncio.run(one_run(name, options.nodes, options.seconds, options.tx_bytes))
            runs[name].append(run)
            show(row(name, run))
    median = {name: {key: statistics.median(run[key] for run in made) for key in made[0]} for name, made in runs.items()}
    show(f"median of {options.rounds} with n={options.nodes}, {options.tx_bytes} bytes:")
    for name in names:
        show(row(name, median[name]))
    machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "machine": platform.machine(), "cometbft": program}
    report = {"bench": "ppdl_engines", "options": vars(options), "machine": machine, "runs": runs, "median": median}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")
    if options.json:
        print(json.dumps(report))


def row(name: str, run: dict[str, float]) -> str:
    rates = f"{run['tx_blocks_per_second']:12.1f} {run['all_blocks_per_second']:13.1f}"
    return f"{name:>14} {run['p50_ms']:8.1f} {run['p99_ms']:8.1f} {rates} {run['fsync_ms']:9.2f}"


def child(name: str, me: int, where: str, seconds: float, tx_bytes: int) -> None:
    said = json.loads(where)
    place = Place(Path(said["folder"]), said["ports"], said["genesis_ms"])
    if name.startswith("cometbft-noop"):
        asyncio.run(noop_node(name, place, me, seconds, tx_bytes))
    else:
        asyncio.run(node(name, place, me, seconds, tx_bytes))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], int(sys.argv[3]), sys.argv[4], float(sys.argv[5]), int(sys.argv[6]))
    else:
        main()
