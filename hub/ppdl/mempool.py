"""Transactions that wait for a block: bounded in number, bytes and share per origin, first come first served.

Bytes in, bytes out: validity is the application's word, given before `add`. Recently committed transactions
are remembered (bounded), so that late gossip does not bring them back; lasting replay protection is the
application's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hub.ppdl.consensus.block import MAX_TX_BYTES
from openmg.hashing import keccak256

MEMPOOL_MAX_TXS = 4096
MEMPOOL_MAX_BYTES = 32 * 1024 * 1024
MEMPOOL_SHARE_OF_ONE_ORIGIN = 2  # one origin fills at most 1/2 of either bound: a flooder cannot shut the others out
COMMITTED_REMEMBERED = 8192


class TxRefused(ValueError):
    """A transaction may not wait here; the text says why.

    `malformed`: it never may, anywhere.
    """

    def __init__(self, reason: str, malformed: bool = False) -> None:
        super().__init__(reason)
        self.malformed = malformed


@dataclass(frozen=True, slots=True)
class _Waiting:
    tx: bytes
    origin: bytes
    subject: bytes


class Mempool:
    """Waiting transactions by hash, in order of arrival."""

    def __init__(self) -> None:
        self._txs: dict[bytes, _Waiting] = {}
        self._bytes = 0
        self._origins: dict[bytes, tuple[int, int]] = {}
        self._subjects: set[bytes] = set()  # of the waiting ones
        self._committed: dict[bytes, None] = {}
        self.revision = 0  # grows with every addition

    def __len__(self) -> int:
        return len(self._txs)

    @property
    def bytes_waiting(self) -> int:
        """Sum of the lengths of the waiting transactions."""
        return self._bytes

    def knows(self, tx_hash: bytes) -> bool:
        """Whether the transaction waits here or was committed lately."""
        return tx_hash in self._txs or tx_hash in self._committed

    def waits(self, tx_hash: bytes) -> bool:
        """Whether the transaction waits here."""
        return tx_hash in self._txs

    def check_size(self, tx: bytes, origin: bytes) -> None:
        """Raises TxRefused when the transaction does not fit."""
        if not 1 <= len(tx) <= MAX_TX_BYTES:
            raise TxRefused(f"transaction has {len(tx)} bytes: send 1 to {MAX_TX_BYTES}", malformed=True)
        count, size = self._origins.get(origin, (0, 0))
        if len(self._txs) >= MEMPOOL_MAX_TXS or self._bytes + len(tx) > MEMPOOL_MAX_BYTES:
            raise TxRefused("mempool is full: try again after the next block")
        share = MEMPOOL_SHARE_OF_ONE_ORIGIN
        if count >= MEMPOOL_MAX_TXS // share or size + len(tx) > MEMPOOL_MAX_BYTES // share:
            raise TxRefused("this sender's share of the mempool is full: try again after the next block")

    def add(self, tx: bytes, origin: bytes, subject: bytes = b"") -> bytes:
        """Let a checked transaction wait; return its hash. A known one is left as it is.

        Raises TxRefused, also when another one of the same subject (`TxVerdict.subject`) waits.
        """
        tx_hash = keccak256(tx)
        if self.knows(tx_hash):
            return tx_hash
        self.check_size(tx, origin)
        if subject in self._subjects:
            raise TxRefused("another transaction about the same waits already: one block admits only one of them")
        if subject:
            self._subjects.add(subject)
        self._txs[tx_hash] = _Waiting(tx, origin, subject)
        self._account(origin, 1, len(tx))
        self.revision += 1
        return tx_hash

    def _account(self, origin: bytes, count: int, size: int) -> None:
        had_count, had_size = self._origins.get(origin, (0, 0))
        self._bytes += size
        if had_count + count == 0:
            del self._origins[origin]
        else:
            self._origins[origin] = (had_count + count, had_size + size)

    def oldest(self, max_bytes: int, max_txs: int) -> list[bytes]:
        """The oldest transactions that fit together within the bounds."""
        chosen: list[bytes] = []
        for waiting in self._txs.values():
            if len(chosen) >= max_txs:
                break
            if len(waiting.tx) <= max_bytes:
                max_bytes -= len(waiting.tx)
                chosen.append(waiting.tx)
        return chosen

    def drop(self, tx_hashes: Iterable[bytes]) -> None:
        """Forget transactions (they became invalid)."""
        for tx_hash in tx_hashes:
            waiting = self._txs.pop(tx_hash, None)
            if waiting is not None:
                self._account(waiting.origin, -1, -len(waiting.tx))
                self._subjects.discard(waiting.subject)

    def committed(self, tx_hashes: Iterable[bytes]) -> None:
        """Forget transactions that a block has carried, and remember that it did."""
        hashes = list(tx_hashes)
        self.drop(hashes)
        for tx_hash in hashes:
            self._committed[tx_hash] = None
        while len(self._committed) > COMMITTED_REMEMBERED:
            del self._committed[next(iter(self._committed))]
