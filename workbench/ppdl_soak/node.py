"""One validator of the soak in a process of its own, on a disk that loses what was not synced.

Argument: a `NodeConfig` as JSON. It submits a transaction every SUBMIT_S and prints a JSON line for each block that is
committed here: height, hash, and those of its own transactions that the block carried. What was printed is a promise: no
later crash may take it back. It stops when its standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from hub.ppdl.application import BlockResult
from hub.ppdl.consensus.block import Block
from hub.ppdl.engine import PbftEngine
from hub.ppdl.genesis import Genesis, make_genesis
from hub.ppdl.mempool import TxRefused
from hub.ppdl.net.transport import PeerAddress
from openmg.hashing import keccak256, word
from openmg.signing import address_of
from workbench.ppdl_soak.disk import LossyDisk
from workbench.ppdl_soak.ledger import Ledger

CHAIN_ID = 4243
SUBMIT_S = 0.15
TX_PADDING_BYTES = 600
"""So that a snapshot has several chunks after a minute."""
STATUS_S = 0.25


@dataclass(frozen=True)
class NodeConfig:
    """A validator: where its files lie, which of `ports` is its own, the chain's start, its timing, which life this is."""

    directory: str
    me: int
    ports: tuple[int, ...]
    genesis_ms: int
    life: int
    block_interval_s: float = 0.05
    heartbeat_s: float = 0.3
    view_timeout_s: float = 0.8
    snapshot_interval: int = 32
    snapshot_lag: int = 64

    def encode(self) -> str:
        """The argument of the process."""
        return json.dumps(dataclasses.asdict(self))


def soak_keys(count: int) -> list[bytes]:
    """Keys of the soak's validators, in ascending order of their addresses."""
    return sorted((keccak256(b"openmg.soak.validator" + word(i)) for i in range(count)), key=address_of)


def soak_genesis(count: int, genesis_ms: int) -> Genesis:
    """Genesis of the soak's chain."""
    return make_genesis(CHAIN_ID, [address_of(key) for key in soak_keys(count)], b"soak", genesis_ms)


def store_path(directory: Path) -> Path:
    """Where a validator's store lies."""
    return directory / "chain.sqlite"


def ledger_path(directory: Path) -> Path:
    """Where a validator's ledger lies."""
    return directory / "ledger.sqlite"


def _say(**fields: object) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(fields), flush=True)


async def _serve(config: NodeConfig) -> None:
    directory, count = Path(config.directory), len(config.ports)
    keys = soak_keys(count)
    peers = [PeerAddress(address_of(k), "127.0.0.1", p) for k, p in zip(keys, config.ports, strict=True)]
    ledger = Ledger(ledger_path(directory), config.snapshot_interval)
    engine = PbftEngine(
        soak_genesis(count, config.genesis_ms), keys[config.me], ledger, store_path(directory),
        ("127.0.0.1", config.ports[config.me]), peers, block_interval_s=config.block_interval_s,
        heartbeat_s=config.heartbeat_s, view_timeout_s=config.view_timeout_s, snapshot_lag=config.snapshot_lag,
    )  # fmt: skip
    mine: set[bytes] = set()

    def decided(block: Block, result: BlockResult) -> None:
        pairs = zip(block.txs, result.tx_results, strict=True)
        committed = [tx[:40].hex() for tx, outcome in pairs if outcome.ok and tx in mine]
        _say(height=block.height, hash=block.hash.hex(), committed=committed)

    engine.on_decided(decided)
    await engine.start()
    parent = asyncio.create_task(asyncio.to_thread(sys.stdin.read))  # ends when the parent does
    reporting = asyncio.create_task(_report(engine))
    counter = 0
    while not parent.done():
        counter += 1
        name = f"{config.me}-{config.life}-{counter}".encode()
        tx = name.ljust(40) + keccak256(name) * (TX_PADDING_BYTES // 32)
        mine.add(tx)
        with contextlib.suppress(TxRefused):
            await engine.submit(tx)
        await asyncio.wait({parent}, timeout=SUBMIT_S)
    reporting.cancel()
    await engine.stop()
    ledger.close()


async def _report(engine: PbftEngine) -> None:
    while True:
        status = engine.status()
        _say(
            at=status.height, voting=status.voting, failure=status.failure, snapshots=status.snapshots_installed,
            dropped=status.snapshot_peers_dropped, equivocations=status.equivocations, set_aside=status.stores_set_aside,
        )  # fmt: skip
        await asyncio.sleep(STATUS_S)


def main() -> None:
    """Entry point of the process."""
    LossyDisk().install()
    fields = json.loads(sys.argv[1])
    asyncio.run(_serve(NodeConfig(**fields | {"ports": tuple(fields["ports"])})))


if __name__ == "__main__":
    main()
