"""Networks of any engine with the counter application, and what they proved: used by every conformance test.

python engine_nets.py '{"engine": "solo", ...}'   runs one in a process of its own, for the tests that kill it
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine_app import CounterApp

from hub.ppdl.application import Application, BlockResult
from hub.ppdl.consensus.certs import Domain, verify_qc
from hub.ppdl.consensus.header import Header
from hub.ppdl.consensus.messages import QuorumCert
from hub.ppdl.consensus.quorum import ValidatorSet
from hub.ppdl.engines.base import CertificateScheme, DecidedBlock, Engine
from hub.ppdl.engines.cometbft.bridge import chain_name
from hub.ppdl.engines.cometbft.commit import verify_commit
from hub.ppdl.engines.cometbft.home import CometPeer, node_id, public_key_of
from hub.ppdl.engines.registry import SCHEMES, NodeSetup, make_engine, provision
from hub.ppdl.genesis import Genesis, make_genesis
from hub.ppdl.net.transport import PeerAddress
from hub.ppdl.sim.keys import validator_keys
from hub.ppdl.store import SignedHeader
from openmg.signing import address_of

CHAIN_ID = 777
TIMING = {"block_interval_s": 0.0, "heartbeat_s": 0.4, "view_timeout_s": 1.0}
WAIT_S = 30.0


@dataclass(frozen=True)
class Fact:
    """A header that was verified."""

    height: int
    hash: bytes
    parent: bytes
    timestamp_ms: int
    proposer: bytes
    app_hash: bytes


class Net:
    """`n` validators, and `spare` nodes that follow without a vote."""

    def __init__(
        self,
        name: str,
        folder: Path,
        n: int,
        free_port: Callable[[], int],
        spare: int = 0,
        genesis_ms: int | None = None,
        app_state: bytes = b"test",
        chain_id: int = CHAIN_ID,
        make_app: Callable[[int], Application] | None = None,
        crash_at: int = 0,
    ) -> None:
        self.name, self.folder, self.n = name, folder, n
        self.keys = validator_keys(n + spare)
        self.members = tuple(sorted(address_of(key) for key in self.keys[:n]))
        now = time.time_ns() // 1_000_000 - 1000
        self.genesis = make_genesis(chain_id, self.members, app_state, genesis_ms or now)
        self.ports = [free_port() for _ in self.keys]
        self.public_keys = {address_of(key): public_key_of(key) for key in self.keys}
        self._make_app = make_app or (lambda i: CounterApp(folder / f"app{i}.json", crash_at if i == 0 else 0))
        self.apps: list[Application] = []
        self.engines: list[Engine] = []
        self.decided: list[list[tuple[DecidedBlock, BlockResult]]] = []
        for i in range(n + spare):
            provision(name, self.genesis, self._place(i))
            self._add(i)

    def _add(self, i: int) -> None:
        self.apps.append(self._make_app(i))
        self.decided.append([])
        self.engines.append(self._make(i))

    def become(self, name: str, key: bytes, port: int) -> None:
        """After `stop`: another engine on the same storage, with one node more."""
        self.name, self.keys = name, (*self.keys, key)
        self.ports.append(port)
        provision(name, self.genesis, self._place(len(self.keys) - 1))
        self.apps, self.engines, self.decided = [], [], []
        for i in range(len(self.keys)):
            self._add(i)

    def _place(self, i: int) -> Path:
        return self.folder / f"node{i}"

    def setup(self, i: int) -> NodeSetup:
        others = [j for j in range(len(self.keys)) if j != i]
        return NodeSetup(
            self.genesis, self.keys[i], self.apps[i], self._place(i), ("127.0.0.1", self.ports[i]),
            [PeerAddress(address_of(self.keys[j]), "127.0.0.1", self.ports[j]) for j in others],
            [CometPeer(node_id(self.keys[j]), "127.0.0.1", self.ports[j]) for j in others],
            self.public_keys, **TIMING,
        )  # fmt: skip

    def _make(self, i: int) -> Engine:
        engine = make_engine(self.name, self.setup(i))
        told = self.decided[i]
        engine.on_decided(lambda block, result: told.append((block, result)))
        return engine

    def app(self, i: int = 0) -> CounterApp:
        found = self.apps[i]
        assert isinstance(found, CounterApp)
        return found

    async def start(self) -> None:
        await asyncio.gather(*(engine.start() for engine in self.engines))

    async def stop(self) -> None:
        await asyncio.gather(*(engine.stop() for engine in self.engines))

    async def again(self) -> None:
        """Every node with a new life: engine and application read their files."""
        await self.stop()
        for i in range(len(self.engines)):
            self.apps[i] = self._make_app(i)
            self.decided[i].clear()
            self.engines[i] = self._make(i)
        await self.start()

    async def until(self, met: Callable[[], bool], nodes: Sequence[int] = (0,)) -> None:
        """Wait from block to block until the condition holds."""
        async with asyncio.timeout(WAIT_S):
            while not met():
                heights = [self.engines[i].status().height for i in nodes]
                waits = [self.engines[i].wait_height(h + 1) for i, h in zip(nodes, heights, strict=True)]
                waiting = [asyncio.create_task(wait) for wait in waits]
                done, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in rest:
                    task.cancel()
                await asyncio.gather(*rest, return_exceptions=True)
                for task in done:
                    task.result()

    async def executed(self, txs: Sequence[bytes], nodes: Sequence[int] = (0,)) -> None:
        """Wait until every transaction is in a block of every node given."""
        await self.until(lambda: all(set(txs) <= set(self.app(i).txs()) for i in nodes), nodes)

    def verified(self, i: int, height: int, members: Sequence[bytes] | None = None) -> Fact:
        """The header of one height after its certificate was checked against the set that should have decided it."""
        (signed,) = self.engines[i].headers_after(height - 1, 1)
        return verify(self.name, self.genesis, signed, members or self.members, self.public_keys)


def verify(
    name: str, genesis: Genesis, signed: SignedHeader, members: Sequence[bytes], public_keys: dict[bytes, bytes]
) -> Fact:
    """Raises CertError."""
    if SCHEMES[name] is CertificateScheme.COMET:
        comet = verify_commit(signed, chain_name(genesis), {a: public_keys[a] for a in members})
        place = comet.height, comet.hash, comet.last_block.hash
        return Fact(*place, comet.timestamp_ms, comet.proposer, comet.app_hash)
    header, validators = Header.decode(signed.header_bytes), ValidatorSet(tuple(sorted(members)))
    verify_qc(Domain(genesis.chain_id, genesis.hash), validators, header, QuorumCert(signed.view, signed.seals))
    assert header.validators_hash == validators.hash
    place = header.height, header.hash, header.parent_hash
    return Fact(*place, header.timestamp_ms, header.proposer, header.app_hash)


async def _serve(config: dict[str, str]) -> None:
    """Submit transactions one after the other until the input ends; say each height."""
    ports = iter(json.loads(config["ports"]))
    net = Net(
        config["engine"], Path(config["folder"]), int(config["n"]), lambda: int(next(ports)),
        genesis_ms=int(config["genesis_ms"]), crash_at=int(config["crash_at"]),
    )  # fmt: skip
    await net.start()
    parent = asyncio.create_task(asyncio.to_thread(sys.stdin.read))  # ends when the parent does
    number = 0
    while not parent.done():
        number += 1
        tx = f"inc:{config['life']}-{number}".encode()
        await net.engines[0].submit(tx)
        await net.executed([tx])
        print(json.dumps({"height": net.engines[0].status().height}), flush=True)
    await net.stop()


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1])))
