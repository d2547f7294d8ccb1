"""A small durable application that shows what an engine does to it: counters, events, failures, set changes, a trace.

A transaction is a word, a colon and an argument. `inc:KEY` counts up and is an event; `fail:` passes every check and
fails when executed; `late:` is refused; `garbled:` is malformed; `explode:` makes check_tx raise; `veto:` is refused by
process_proposal; `+` or `-` and an address changes the validator set. A transaction executed once is refused then.
"""

from __future__ import annotations

import json
import os
import signal
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
from hub.ppdl.genesis import Genesis
from openmg.hashing import keccak256


class CounterApp:
    """State in one JSON file, replaced at commit; every finalize_block and commit is a line of a second file.

    crash_at: this process kills itself (SIGKILL) when it is asked to commit that height.
    """

    def __init__(self, path: Path, crash_at: int = 0) -> None:
        self.path, self.trace_path, self.crash_at = path, path.with_suffix(".trace"), crash_at
        self.height, self.app_hash = 0, bytes(32)
        self.counts: dict[str, int] = {}
        self.blocks: list[tuple[int, int, str, str, list[str]]] = []  # height, time, proposer, app hash, transactions
        self.next: tuple[dict[str, int], tuple[int, int, str, str, list[str]]] | None = None
        if path.exists():
            saved = json.loads(path.read_text())
            self.counts, self.blocks = saved["counts"], [tuple(block) for block in saved["blocks"]]
            self.height, self.app_hash = self.blocks[-1][0], bytes.fromhex(self.blocks[-1][3])

    def trace(self) -> list[str]:
        """What was called, in every life of the application."""
        return self.trace_path.read_text().splitlines() if self.trace_path.exists() else []

    def txs(self) -> list[bytes]:
        """Committed transactions in order."""
        return [bytes.fromhex(tx) for block in self.blocks for tx in block[4]]

    def _note(self, what: str) -> None:
        with self.trace_path.open("a") as file:
            file.write(what + "\n")

    def info(self) -> AppInfo:
        return AppInfo(self.height, self.app_hash)

    def init_chain(self, genesis: Genesis) -> InitResult:
        self.app_hash = keccak256(genesis.app_state)
        return InitResult(self.app_hash)

    def check_tx(self, tx: bytes) -> TxVerdict:
        match tx.split(b":")[0]:
            case b"explode":
                raise ZeroDivisionError("the application has a bug")
            case b"garbled":
                return TxVerdict(False, "this is no transaction", malformed=True)
            case b"late":
                return TxVerdict(False, "too late")
            case b"one-of":
                return TxVerdict(True, subject=tx.split(b":")[1])
        return TxVerdict(tx not in self.txs(), "executed before")

    def prepare_proposal(self, ctx: BlockCtx, txs: Sequence[bytes], max_bytes: int) -> list[bytes]:
        return list(txs)

    def process_proposal(self, ctx: BlockCtx, txs: Sequence[bytes]) -> Verdict:
        return Verdict.REJECT if any(tx.startswith(b"veto:") for tx in txs) else Verdict.ACCEPT

    def finalize_block(self, ctx: BlockCtx, txs: Sequence[bytes]) -> BlockResult:
        assert ctx.height == self.height + 1
        self._note(f"finalize {ctx.height}")
        counts, results, events = dict(self.counts), [], []
        updates: list[ValidatorUpdate] = []
        for tx in txs:
            word, _, argument = tx.partition(b":")
            if word == b"fail":
                results.append(TxResult(False, "it failed", b"\x01"))
                continue
            if word == b"inc":
                counts[argument.decode()] = counts.get(argument.decode(), 0) + 1
                events.append(argument)
            if tx[:1] in (b"+", b"-"):
                updates.append(ValidatorUpdate(tx[1:21], tx[:1] == b"+"))
            results.append(TxResult(True, data=str(len(counts)).encode()))
        place = f"{ctx.height} {ctx.timestamp_ms} {ctx.proposer.hex()}".encode()
        changed = self.app_hash if not txs else keccak256(self.app_hash + place + b"".join(map(keccak256, txs)))
        block = (ctx.height, ctx.timestamp_ms, ctx.proposer.hex(), changed.hex(), [tx.hex() for tx in txs])
        self.next = counts, block
        return BlockResult(changed, tuple(results), tuple(updates), tuple(events))

    def commit(self) -> None:
        assert self.next is not None
        counts, block = self.next
        if block[0] == self.crash_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.counts, self.height, self.app_hash, self.next = counts, block[0], bytes.fromhex(block[3]), None
        self.blocks.append(block)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps({"counts": self.counts, "blocks": self.blocks}))
        part.replace(self.path)
        self._note(f"commit {self.height}")

    def query(self, path: str, data: bytes) -> QueryResult:
        if path != "count":
            return QueryResult(False, reason=f"no such path {path!r}", height=self.height)
        return QueryResult(True, str(self.counts.get(data.decode(), 0)).encode(), self.height)
