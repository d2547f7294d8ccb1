"""PBFT blocks per second: n validators, each a process of its own, loopback TCP, SQLite with synchronous=FULL.

Every validator keeps its mempool filled; no block interval. Counted at validator 0 between the first block
after warm-up and the last; latency is the time from one committed block to the next. A row is a number of
validators, over plain TCP or over mutual TLS as operators have it. The disk's own fsync time and the load that the
machine had before each run stand beside the figures. Prints a table and writes `benchmarks/results/pbft.json`.

With `--pause-ms` one validator after the other is stopped for that long, one each second, as by a busy machine or a
slow disk: the others must not lose more time than it did.

    python benchmarks/bench_pbft.py [--validators 4,7,16] [--tls 4] [--seconds 8] [--tx-bytes 1000] [--runs 3]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import signal
import socket
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hub.keys import HubKeys
from hub.operators.folder import HubFolder, load_card
from hub.operators.identity import Place, init_identity, times
from hub.operators.network import keep_card
from hub.ppdl.application import AppInfo, BlockCtx, BlockResult, InitResult, QueryResult, TxResult, TxVerdict, Verdict
from hub.ppdl.engine import PbftEngine
from hub.ppdl.genesis import Genesis, load_genesis, make_genesis
from hub.ppdl.mempool import TxRefused
from hub.ppdl.net.tcp import TcpTransport
from hub.ppdl.net.tls import TlsIdentity
from hub.ppdl.net.transport import PeerAddress
from hub.ppdl.sim.keys import validator_keys
from hub.ppdl.store import initialise_store
from openmg.hashing import keccak256
from openmg.signing import address_of

RESULTS = Path(__file__).with_name("results") / "pbft.json"
WARM_UP_BLOCKS = 10
CHAIN_ID = 31
FSYNCS = 100
PAUSE_EVERY_S = 1.0
TIMING: dict[str, Any] = {"block_interval_s": 0.0, "heartbeat_s": 1.0, "view_timeout_s": 2.0}


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


@dataclass(frozen=True)
class Row:
    """One kind of network, and how it is loaded."""

    validators: int
    tls: bool
    seconds: float
    tx_bytes: int
    pause_ms: float

    @property
    def name(self) -> str:
        return f"n={self.validators}" + (" TLS" if self.tls else "")


def provision(root: Path, row: Row) -> list[int]:
    """Folders of all validators: genesis, stores, and with TLS identities and the cards of the others. Returns the ports."""
    ports, now_s = free_ports(row.validators), int(time.time())
    folders = [HubFolder(root / f"hub-{i}") for i in range(row.validators)]
    addresses = [address_of(key) for key in validator_keys(row.validators)]
    cards = []
    if row.tls:
        places = [Place(f"hub-{i}", "127.0.0.1", port) for i, port in enumerate(ports)]
        made = zip(folders, places, strict=True)
        cards = [init_identity(folder, CHAIN_ID, None, place, times(now_s, 30)) for folder, place in made]
        addresses = [card.address for card in cards]
    genesis = make_genesis(CHAIN_ID, addresses, b"", 1)
    (root / "genesis.cbor").write_bytes(genesis.encode())
    for i, folder in enumerate(folders):
        initialise_store(folder.store, genesis)
        for card in cards[:i] + cards[i + 1 :]:
            keep_card(folder, card, candidate=False)
    return ports


def make_engine(root: Path, me: int, ports: list[int], tls: bool) -> PbftEngine:
    """Validator `me` of a provisioned network."""
    genesis, folder = load_genesis(root / "genesis.cbor"), HubFolder(root / f"hub-{me}")
    listen, app = ("127.0.0.1", ports[me]), HashChain()
    if tls:
        key = HubKeys.load(folder.hub_key).validator_key
        identity = TlsIdentity(folder.root, genesis, address_of(key))
        transport = TcpTransport(genesis, key, "127.0.0.1", load_card(folder.own_card).port, tls=identity)
        return PbftEngine(genesis, key, app, folder.store, listen, [], transport=transport, **TIMING)
    keys = validator_keys(len(ports))
    peers = [PeerAddress(address_of(key), "127.0.0.1", port) for key, port in zip(keys, ports, strict=True)]
    return PbftEngine(genesis, keys[me], app, folder.store, listen, peers, **TIMING)


async def validator(me: int, engine: PbftEngine, seconds: float, tx_bytes: int) -> None:
    """Run one validator; number 0 prints its block times as JSON."""
    times_s: list[float] = []
    engine.on_decided(lambda block, result: times_s.append(time.perf_counter()))
    await engine.start()
    await engine.wait_height(1, 60)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        if engine.status().mempool < 8:
            with contextlib.suppress(TxRefused):
                await engine.submit(os.urandom(tx_bytes))
        await asyncio.sleep(0.01)
    if me == 0:
        print(json.dumps({"times": times_s, "view_changes": engine.status().view_changes}))
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


def fsync_ms(folder: Path) -> float:
    """Median time of an fsync after a small write, where the validators keep their stores."""
    taken = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(FSYNCS):
            file.write(bytes(1000))
            start = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken)


async def pause_in_turn(processes: list[Process], pause_ms: float) -> None:
    """Stop one validator each second for a while; not number 0, which measures."""
    turn = 0
    while True:
        await asyncio.sleep(PAUSE_EVERY_S)
        chosen = processes[1 + turn % (len(processes) - 1)]
        turn += 1
        if chosen.returncode is None:
            chosen.send_signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(pause_ms / 1000)
            finally:
                chosen.send_signal(signal.SIGCONT)


async def one_run(row: Row) -> dict[str, float]:
    """Start the processes; figures of validator 0."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as directory:
        fsync = fsync_ms(Path(directory))
        ports = provision(Path(directory), row)
        processes = []
        for me in range(row.validators):
            arguments = ["--child", str(me), directory, json.dumps(ports), json.dumps(asdict(row))]
            command = [sys.executable, __file__, *arguments]
            processes.append(await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE))
        pausing = asyncio.create_task(pause_in_turn(processes, row.pause_ms)) if row.pause_ms else None
        outputs = await asyncio.gather(*(process.communicate() for process in processes))
        if pausing is not None:
            pausing.cancel()
    if any(process.returncode for process in processes):
        raise SystemExit("bench_pbft: a validator process failed; its error stands above")
    said = json.loads(outputs[0][0])
    return figures(said["times"][WARM_UP_BLOCKS:], row) | {
        "view_changes": said["view_changes"],
        "fsync_ms": fsync,
        "load": load,
    }


def figures(times_s: Sequence[float], row: Row) -> dict[str, float]:
    """Rate and latencies of a run."""
    if len(times_s) < 2:
        few = f"fewer than {WARM_UP_BLOCKS + 2} blocks in {row.seconds} s"
        raise SystemExit(f"bench_pbft: {row.name}: {few}; give --seconds a larger number")
    gaps = sorted(1000 * (b - a) for a, b in zip(times_s, times_s[1:], strict=False))
    return {
        "blocks_per_second": (len(times_s) - 1) / (times_s[-1] - times_s[0]),
        "p50_ms": gaps[len(gaps) // 2],
        "p99_ms": gaps[int(len(gaps) * 0.99)],
        "max_ms": gaps[-1],
    }


COLUMNS = (
    ("blocks/s", "blocks_per_second", 9, 1), ("p50 ms", "p50_ms", 8, 1), ("p99 ms", "p99_ms", 8, 1),
    ("max ms", "max_ms", 8, 1), ("view changes", "view_changes", 13, 0), ("fsync ms", "fsync_ms", 9, 2), ("load", "load", 6, 1),
)  # fmt: skip


def line(name: str, values: dict[str, float] | None = None) -> str:
    """One line of the table; its head without values."""
    cells = (title.rjust(w) if values is None else f"{values[key]:{w}.{digits}f}" for title, key, w, digits in COLUMNS)
    return f"{name:>18} " + " ".join(cells)


def counts(text: str) -> list[int]:
    """Numbers of validators from `4,7,16`."""
    return [int(number) for number in text.split(",") if number]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog="example: python benchmarks/bench_pbft.py --validators 4 --tls 4 --seconds 8",
    )
    parser.add_argument("--validators", type=counts, default=[4, 7, 16], help="rows over plain TCP (4,7,16)")
    parser.add_argument("--tls", type=counts, nargs="?", const=[4], default=[4], help="rows over mutual TLS (4)")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long a run measures")
    parser.add_argument("--tx-bytes", type=int, default=1000, help="size of a transaction, one in each block")
    parser.add_argument("--runs", type=int, default=3, help="runs of each row; medians count")
    parser.add_argument("--pause-ms", type=float, default=0.0, help="stop one validator each second for so long")
    parser.add_argument("--json", action="store_true", help="print the report instead of the table")
    options = parser.parse_args()
    show = print if not options.json else (lambda *text: print(*text, file=sys.stderr))
    load = options.seconds, options.tx_bytes, options.pause_ms
    rows = [Row(n, False, *load) for n in options.validators] + [Row(n, True, *load) for n in options.tls]
    show(line(""))
    report = []
    for row in rows:
        runs = []
        for number in range(options.runs):
            runs.append(asyncio.run(one_run(row)))
            show(line(f"{row.name} run {number + 1}", runs[-1]))
        median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        show(line(f"{row.name} median", median))
        report.append({"row": asdict(row), "runs": runs, "median": median})
    machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "machine": platform.machine()}
    written = {"bench": "pbft", "machine": machine, "rows": report}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(written, indent=1) + "\n")
    if options.json:
        print(json.dumps(written))


def child(me: int, root: Path, ports: list[int], row: Row) -> None:
    """A validator's process."""

    async def run() -> None:
        await validator(me, make_engine(root, me, ports, row.tls), row.seconds, row.tx_bytes)

    asyncio.run(run())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _, _, number, where, port_list, fields = sys.argv
        child(int(number), Path(where), json.loads(port_list), Row(**json.loads(fields)))
    else:
        main()
