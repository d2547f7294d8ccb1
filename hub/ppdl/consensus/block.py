"""A block: header and transactions, with its canonical encoding.

`decode` checks form and bounds and that the transactions are those of `header.tx_root`; nothing here knows
the chain's state. The header stands first, so that it can be read before anything is done for the transactions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from hub.ppdl.consensus.header import HEADER_BYTES, Header, HeaderError
from openmg import codec
from openmg.hashing import merkle_root

MAX_TX_BYTES = 256 * 1024
MAX_BLOCK_TXS = 4096
MAX_BLOCK_TX_BYTES = 2 * 1024 * 1024  # with certificates a NEW-VIEW still fits one 4 MiB frame
MAX_BLOCK_BYTES = MAX_BLOCK_TX_BYTES + MAX_BLOCK_TXS * 5 + 1024
MAX_BLOCK_ITEMS = MAX_BLOCK_TXS + 3  # the transactions, their list, the header, the list of both
_BEFORE_HEADER = codec.encode([bytes(HEADER_BYTES), []])[: -HEADER_BYTES - 1]  # how every block begins
MIN_BLOCK_BYTES = len(_BEFORE_HEADER) + HEADER_BYTES + 1  # no other field of a message has as many


class BlockError(ValueError):
    """Bytes that are not a block, or a block over a bound."""


@lru_cache(maxsize=1)  # whoever makes a block asks twice: for its header, and when header and transactions are joined
def tx_root(txs: tuple[bytes, ...]) -> bytes:
    """What the header of these transactions must name."""
    return merkle_root(txs)


@dataclass(frozen=True)
class Block:
    """A header and the transactions under its `tx_root`, in order.

    Raises BlockError when they do not belong together.
    """

    header: Header
    txs: tuple[bytes, ...]
    height: int = field(init=False, repr=False, compare=False)
    hash: bytes = field(init=False, repr=False, compare=False)
    """The header's; read at every vote, and so kept here."""

    def __post_init__(self) -> None:
        if len(self.txs) > MAX_BLOCK_TXS or sum(map(len, self.txs)) > MAX_BLOCK_TX_BYTES:
            raise BlockError("block has too many transactions or bytes")
        if any(len(tx) > MAX_TX_BYTES for tx in self.txs):
            raise BlockError("block has an oversized transaction")
        if len(set(self.txs)) != len(self.txs):
            raise BlockError("block has a transaction twice")
        if tx_root(self.txs) != self.header.tx_root:
            raise BlockError("block transactions are not those of its header")
        object.__setattr__(self, "height", self.header.height)
        object.__setattr__(self, "hash", self.header.hash)

    @cached_property
    def encoded(self) -> bytes:
        """Canonical bytes: [header, [tx, ...]]."""
        return codec.encode([self.header.encoded, list(self.txs)])

    @cached_property
    def size(self) -> int:
        """Bytes of `encoded`, without making it."""
        head = len(_BEFORE_HEADER) + HEADER_BYTES + codec.head_bytes(len(self.txs))
        return head + sum(len(tx) + codec.head_bytes(len(tx)) for tx in self.txs)

    @staticmethod
    def decode_header(data: bytes | memoryview) -> Header:
        """The header of an encoded block; nothing else of it is looked at. Raises BlockError."""
        before, end = len(_BEFORE_HEADER), len(_BEFORE_HEADER) + HEADER_BYTES
        if data[:before] != _BEFORE_HEADER:
            raise BlockError("block does not begin with a header")
        try:
            return Header.decode(bytes(data[before:end]))
        except HeaderError as error:
            raise BlockError(str(error)) from error

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Block:
        """Exact inverse of `encoded`. Raises BlockError."""
        try:
            fields = codec.decode(data, max_bytes=MAX_BLOCK_BYTES, max_items=MAX_BLOCK_ITEMS)
        except codec.DecodeError as error:
            raise BlockError(f"block is malformed: {error}") from error
        if not isinstance(fields, list) or len(fields) != 2:
            raise BlockError("block is not [header, transactions]")
        header, txs = fields
        if not isinstance(header, bytes) or not isinstance(txs, list) or not all(type(t) is bytes for t in txs):
            raise BlockError("block field has a wrong type")
        try:
            return cls(Header.decode(header), tuple(txs))
        except HeaderError as error:
            raise BlockError(str(error)) from error
