"""How far a chain was read, and whether it still is the chain that was read.

Theory of operation. A reader of events goes through spans of blocks. A block that was read is remembered by its hash, which
stands for everything before it; the hash is asked again before the next span is read and after it was read, so that a
span never mixes two histories. What was read of blocks that vanished cannot be taken back one by one: ChainRewritten says
so, and the reader starts over. With a confirmation depth, blocks nearer to the head than that are not read yet; a
rewriting that is not deeper then goes unnoticed and does no harm.
Not here: what the events mean.
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.chain.client import BlockInfo, EvmClient
from hub.chain.errors import ChainError

MAX_BLOCKS_PER_SPAN = 500


class ChainRewritten(ChainError):
    """Blocks that were read are no longer on the chain."""


@dataclass(frozen=True)
class Span:
    """Blocks to read, from `first` to `last` inclusive; `is_newest` when nothing is left after them."""

    first: int
    last: BlockInfo
    is_newest: bool


class BlockCursor:
    """The place of one reader; its methods block on the chain. `confirmations`: blocks over one that is read."""

    def __init__(self, client: EvmClient, confirmations: int = 0) -> None:
        if confirmations < 0:
            raise ValueError(f"confirmations is {confirmations}; it must be 0 or more")
        self._client = client
        self._confirmations = confirmations
        self._read: BlockInfo | None = None

    def ahead(self) -> Span | None:
        """The next blocks to read; None when there is nothing new. ChainRewritten, ChainError."""
        head = self._client.block_number()
        self._require(self._read, head)
        first = self._read.number + 1 if self._read else 0
        newest = head - self._confirmations
        if newest < first:
            return None
        last = min(newest, first + MAX_BLOCKS_PER_SPAN - 1)
        return Span(first, self._client.block(last), last == newest)

    def advance(self, span: Span) -> None:
        """The span was read; ChainRewritten when the chain was rewritten meanwhile, and then nothing of it counts."""
        head = self._client.block_number()
        self._require(self._read, head)
        self._require(span.last, head)
        self._read = span.last

    def restart(self) -> None:
        """The next span begins at block 0."""
        self._read = None

    def _require(self, block: BlockInfo | None, head: int) -> None:
        if block is not None and (head < block.number or self._client.block(block.number).hash != block.hash):
            raise ChainRewritten(f"block {block.number} of {self._client.url} was read and is no longer on the chain")
