"""What validators promised, and whether it was kept: the oracle of the soak.

A validator that prints a block has committed it: nobody may ever print, or store, another block at that height, and in the
end every validator has every transaction that any of them called committed.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hub.ppdl.consensus.header import Header
from hub.ppdl.genesis import Genesis
from hub.ppdl.store import PpdlStore
from workbench.ppdl_soak.node import ledger_path, store_path

TX_NAME_BYTES = 40


@dataclass(frozen=True)
class Promises:
    """The highest block that was printed, and the transactions that were called committed."""

    last: int
    committed: frozenset[str]


@dataclass
class Record:
    """Promises so far. `forks` counts heights with two blocks."""

    hashes: dict[int, str] = field(default_factory=dict)
    committed: set[str] = field(default_factory=set)
    forked: set[int] = field(default_factory=set)

    def hear(self, me: int, said: dict[str, Any]) -> None:
        """One line of a validator."""
        if "hash" in said:
            self._block(said["height"], said["hash"])
            self.committed.update(said["committed"])

    def _block(self, height: int, digest: str) -> None:
        if self.hashes.setdefault(height, digest) != digest:
            self.forked.add(height)

    def promises(self) -> Promises:
        """What was promised until now; everybody has it on disk once everybody is past its last block."""
        return Promises(max(self.hashes, default=0), frozenset(self.committed))

    def lost(self, promises: Promises, directories: Sequence[Path], genesis: Genesis) -> tuple[int, int]:
        """Read the files of all stopped validators: (blocks lost, transactions lost), over all of them.

        A block under the snapshot that a chain begins after is part of the state and not lost.
        """
        blocks = txs = 0
        for directory in directories:
            chain = _chain_of(directory, genesis)
            for height, digest in chain.items():
                self._block(height, digest)
            first = min(chain, default=1)
            blocks += sum(height not in chain for height in self.hashes if first <= height <= promises.last)
            txs += len(promises.committed - _txs_of(directory))
        return blocks, txs


def _chain_of(directory: Path, genesis: Genesis) -> dict[int, str]:
    store = PpdlStore(store_path(directory), genesis)
    try:
        found: dict[int, str] = {}
        height = store.base_height()
        while headers := store.headers_after(height, 512):
            for signed in headers:
                header = Header.decode(signed.header_bytes)
                found[header.height] = header.hash.hex()
            height += len(headers)
        return found
    finally:
        store.close()


def _txs_of(directory: Path) -> set[str]:
    """Names of the transactions on a ledger, read without the program that wrote it."""
    with contextlib.closing(sqlite3.connect(ledger_path(directory))) as db:
        return {bytes(tx)[:TX_NAME_BYTES].hex() for (tx,) in db.execute("SELECT tx FROM tx")}
