"""Shared by the PBFT tests.

A small durable application, keys, engines on free ports, a program that runs one engine in a process of its
own.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hub.ppdl.application import (
    AppInfo,
    BlockCtx,
    BlockResult,
    InitResult,
    QueryResult,
    TxResult,
    TxVerdict,
    ValidatorUpdate,
    Verdict,
)
from hub.ppdl.engine import PbftEngine
from hub.ppdl.genesis import Genesis, make_genesis
from hub.ppdl.net.transport import PeerAddress
from hub.ppdl.sim.world import validator_keys
from hub.ppdl.store import initialise_store
from openmg.hashing import keccak256
from openmg.signing import address_of

CHAIN_ID = 4242


class LedgerApp:
    """Keeps every transaction in order in one file; app hash = hash chain. `bad*` is refused by check_tx, `garbled*` is
    malformed to it, `explode*` makes it raise; `veto*` is refused by process_proposal, `+`/`-` followed by an address
    changes the validator set. State survives a crash at any point.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.height, self.app_hash = 0, bytes(32)
        self.log: list[tuple[int, str]] = []
        self.pending: tuple[int, bytes, list[tuple[int, str]]] | None = None
        if path is not None and path.exists():
            saved = json.loads(path.read_text())
            self.height, self.app_hash = saved["height"], bytes.fromhex(saved["app_hash"])
            self.log = [(h, tx) for h, tx in saved["log"]]

    def info(self) -> AppInfo:
        return AppInfo(self.height, self.app_hash)

    def init_chain(self, genesis: Genesis) -> InitResult:
        self.app_hash = keccak256(genesis.app_state)
        return InitResult(self.app_hash)

    def check_tx(self, tx: bytes) -> TxVerdict:
        if tx.startswith(b"explode"):
            raise ZeroDivisionError("the application has a bug")
        if tx.startswith(b"garbled"):
            return TxVerdict(False, "no transaction", malformed=True)
        if tx.startswith(b"bad"):
            return TxVerdict(False, "bad transaction")
        return TxVerdict(tx.hex() not in {known for _, known in self.log}, "seen before")

    def prepare_proposal(self, ctx: BlockCtx, txs: Sequence[bytes], max_bytes: int) -> list[bytes]:
        return list(txs)

    def process_proposal(self, ctx: BlockCtx, txs: Sequence[bytes]) -> Verdict:
        return Verdict.REJECT if any(tx.startswith(b"veto") for tx in txs) else Verdict.ACCEPT

    def finalize_block(self, ctx: BlockCtx, txs: Sequence[bytes]) -> BlockResult:
        assert ctx.height == self.height + 1
        app_hash = keccak256(self.app_hash + b"".join(map(keccak256, txs)) + str(ctx.timestamp_ms).encode())
        self.pending = (ctx.height, app_hash, [(ctx.height, tx.hex()) for tx in txs])
        updates = tuple(ValidatorUpdate(tx[1:21], tx[:1] == b"+") for tx in txs if tx[:1] in (b"+", b"-"))
        return BlockResult(app_hash, tuple(TxResult(True) for _ in txs), updates)

    def commit(self) -> None:
        assert self.pending is not None
        self.height, self.app_hash, new = self.pending
        self.log += new
        if self.path is not None:
            part = self.path.with_suffix(".part")
            saved = {"height": self.height, "app_hash": self.app_hash.hex(), "log": self.log}
            part.write_text(json.dumps(saved))
            part.replace(self.path)

    def query(self, path: str, data: bytes) -> QueryResult:
        return QueryResult(True, json.dumps(self.log).encode(), self.height)

    def txs(self) -> list[bytes]:
        """Committed transactions in order."""
        return [bytes.fromhex(tx) for _, tx in self.log]


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def genesis_of(keys: Sequence[bytes], time_ms: int | None = None) -> Genesis:
    """Genesis of a test chain."""
    now = time.time_ns() // 1_000_000 if time_ms is None else time_ms
    return make_genesis(CHAIN_ID, [address_of(key) for key in keys], b"test", now - 1000)


def peer_list(keys: Sequence[bytes], ports: Sequence[int]) -> tuple[PeerAddress, ...]:
    """Where each key's engine listens."""
    return tuple(PeerAddress(address_of(k), "127.0.0.1", p) for k, p in zip(keys, ports, strict=True))


class Cluster:
    """Engines over TCP in this process, with real stores."""

    def __init__(self, directory: Path, n: int, spare: int = 0, **timing: float) -> None:
        self.keys = validator_keys(n + spare)
        self.genesis = genesis_of(self.keys[:n])
        self.peers = peer_list(self.keys, free_ports(n + spare))
        self.directory = directory
        self.timing = {"block_interval_s": 0.02, "heartbeat_s": 0.2, "view_timeout_s": 0.6} | timing
        self.apps: list[LedgerApp] = []
        self.engines: list[PbftEngine] = []
        for i in range(n + spare):
            initialise_store(self.store_path(i), self.genesis)
            self.apps.append(LedgerApp(directory / f"app{i}.json"))
            self.engines.append(self.make(i))

    def store_path(self, i: int) -> Path:
        return self.directory / f"chain{i}.sqlite"

    def make(self, i: int) -> PbftEngine:
        listen = self.peers[i].host, self.peers[i].port
        return PbftEngine(self.genesis, self.keys[i], self.apps[i], self.store_path(i), listen, self.peers, **self.timing)

    async def __aenter__(self) -> Cluster:
        await asyncio.gather(*(engine.start() for engine in self.engines))
        return self

    async def __aexit__(self, *error: object) -> None:
        await asyncio.gather(*(engine.stop() for engine in self.engines))

    async def reach(self, height: int, nodes: Sequence[int] | None = None, timeout_s: float = 30.0) -> None:
        chosen = range(len(self.engines)) if nodes is None else nodes
        await asyncio.gather(*(self.engines[i].wait_height(height, timeout_s) for i in chosen))

    def same_chain(self, nodes: Sequence[int], height: int) -> bool:
        """Whether the stored headers of the nodes agree up to `height`."""
        chains = [[h.header_bytes for h in self.engines[i].headers_after(0, height)] for i in nodes]
        return all(len(chain) == height and chain == chains[0] for chain in chains)


async def _serve(config: dict[str, object]) -> None:
    """One engine in its own process.

    A transaction every few blocks, progress as JSON lines, quiescence on demand.
    """
    directory, me, n = Path(str(config["directory"])), int(str(config["me"])), int(str(config["n"]))
    keys = validator_keys(n)
    genesis = genesis_of(keys, int(str(config["genesis_ms"])))
    peers = peer_list(keys, [int(p) for p in config["ports"]])  # type: ignore[attr-defined]
    timing = {k: float(v) for k, v in config["timing"].items()}  # type: ignore[attr-defined]
    app = LedgerApp(directory / f"app{me}.json")
    listen = peers[me].host, peers[me].port
    engine = PbftEngine(genesis, keys[me], app, directory / f"chain{me}.sqlite", listen, peers, **timing)
    await engine.start()
    parent = asyncio.create_task(asyncio.to_thread(sys.stdin.read))  # ends when the parent does
    counter = 0
    while not parent.done():
        counter += 1
        await engine.submit(f"{me}-{config['life']}-{counter}".encode())
        status = engine.status()
        view_changes, height = status.view_changes, status.height
        print(json.dumps({"height": height, "view_changes": view_changes, "app": app.app_hash.hex()}), flush=True)
        await asyncio.wait({parent}, timeout=0.1)
    await engine.stop()


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1])))
