"""PBFT blocks per second: n validators, each a process of its own, loopback TCP, SQLite with synchronous=FULL.

Every validator keeps its mempool filled; no block interval. Counted at validator 0 between the first block
after warm-up and the last; latency is the time from one committed block to the next. Prints a table and
writes `benchmarks/results/pbft.json` beside it.

    python benchmarks/bench_pbft.py [--validators 4] [--seconds 8] [--tx-bytes 1000] [--runs 3]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hub.ppdl.application import AppInfo, BlockCtx, BlockResult, InitResult, QueryResult, TxResult, TxVerdict, Verdict
from hub.ppdl.engine import PbftEngine
from hub.ppdl.genesis import Genesis, make_genesis
from hub.ppdl.mempool import TxRefused
from hub.ppdl.net.transport import PeerAddress
from hub.ppdl.sim.world import validator_keys
from hub.ppdl.store import initialise_store
from openmg.hashing import keccak256
from openmg.signing import address_of

RESULTS = Path(__file__).with_name("results") / "pbft.json"
WARM_UP_BLOCKS = 10
CHAIN_ID = 31


class HashChain:
    """The smallest application.

    Its state is the hash of all transactions. In memory, so that only consensus is measured.
    """

    def __init__(self) -> None:
        self.height, self.app_hash, self.next_hash = 0, bytes(32), bytes(32)

    def info(self) -> AppInfo:
        return AppInfo(self.height, self.app_hash)

    def init_chain(self, genesis: Genesis) -> InitResult:
        return InitResult(self.app_hash)

    def check_tx(self, tx: bytes) -> TxVerdict:
        return TxVerdict(True)

    def prepare_proposal(self, ctx: BlockCtx, txs: Sequence[bytes], max_bytes: int) -> list[bytes]:
        return list(txs[:1])

    def process_proposal(self, ctx: BlockCtx, txs: Sequence[bytes]) -> Verdict:
        return Verdict.ACCEPT

    def finalize_block(self, ctx: BlockCtx, txs: Sequence[bytes]) -> BlockResult:
        self.next_hash = keccak256(self.app_hash + b"".join(txs))
        return BlockResult(self.next_hash, tuple(TxResult(True) for _ in txs))

    def commit(self) -> None:
        self.height, self.app_hash = self.height + 1, self.next_hash

    def query(self, path: str, data: bytes) -> QueryResult:
        return QueryResult(True, self.app_hash, self.height)


async def validator(me: int, n: int, directory: Path, ports: list[int], seconds: float, tx_bytes: int) -> None:
    """Run one validator; number 0 prints its block times as JSON."""
    keys = validator_keys(n)
    genesis = make_genesis(CHAIN_ID, [address_of(k) for k in keys], b"", 1)
    peers = [PeerAddress(address_of(k), "127.0.0.1", p) for k, p in zip(keys, ports, strict=True)]
    store = directory / f"chain{me}.sqlite"
    initialise_store(store, genesis)
    engine = PbftEngine(
        genesis, keys[me], HashChain(), store, ("127.0.0.1", ports[me]), peers,
        block_interval_s=0.0, heartbeat_s=1.0, view_timeout_s=2.0,
    )  # fmt: skip
    times: list[float] = []
    engine.on_decided(lambda block, result: times.append(time.perf_counter()))
    await engine.start()
    await engine.wait_height(1, 60)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        if engine.status().mempool < 8:
            with contextlib.suppress(TxRefused):
                await engine.submit(os.urandom(tx_bytes))
        await asyncio.sleep(0.01)
    if me == 0:
        print(json.dumps({"times": times, "view_changes": engine.status().view_changes}))
    await asyncio.sleep(1.0)  # the others measure to the end as well
    await engine.stop()


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


async def one_run(n: int, seconds: float, tx_bytes: int) -> dict[str, float]:
    """Start n processes; figures of validator 0."""
    ports = free_ports(n)
    with tempfile.TemporaryDirectory() as directory:
        processes = []
        for me in range(n):
            arguments = ["--child", str(me), directory, ",".join(map(str, ports)), str(seconds), str(tx_bytes)]
            command = [sys.executable, __file__, *arguments]
            processes.append(await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE))
        outputs = await asyncio.gather(*(p.communicate() for p in processes))
    if any(process.returncode for process in processes):
        raise SystemExit("bench_pbft: a validator process failed; its error stands above")
    said = json.loads(outputs[0][0])
    times = said["times"][WARM_UP_BLOCKS:]
    if len(times) < 2:
        raise SystemExit(f"bench_pbft: fewer than {WARM_UP_BLOCKS + 2} blocks in {seconds} s; give --seconds a larger number")
    gaps = sorted(1000 * (b - a) for a, b in zip(times, times[1:], strict=False))
    return {
        "blocks_per_second": (len(times) - 1) / (times[-1] - times[0]),
        "p50_ms": gaps[len(gaps) // 2],
        "p99_ms": gaps[int(len(gaps) * 0.99)],
        "view_changes": said["view_changes"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--validators", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--tx-bytes", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    runs = []
    print(f"{'run':>4} {'blocks/s':>9} {'p50 ms':>8} {'p99 ms':>8} {'view changes':>13}")
    for number in range(options.runs):
        run = asyncio.run(one_run(options.validators, options.seconds, options.tx_bytes))
        runs.append(run)
        row = f"{run['blocks_per_second']:9.1f} {run['p50_ms']:8.1f} {run['p99_ms']:8.1f} {run['view_changes']:13.0f}"
        print(f"{number + 1:4} {row}")
    median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    rate = f"{median['blocks_per_second']:.1f} blocks/s with n={options.validators}"
    print(f"median of {len(runs)}: {rate}, fsync per vote")
    machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "machine": platform.machine()}
    report = {"bench": "pbft", "options": vars(options), "machine": machine, "runs": runs, "median": median}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _, _, number, where, port_list, duration, size = sys.argv
        ports_given = [int(port) for port in port_list.split(",")]
        child = validator(int(number), len(ports_given), Path(where), ports_given, float(duration), int(size))
        asyncio.run(child)
    else:
        main()
