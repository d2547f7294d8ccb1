"""The toy application of a world: its state is a hash chain, its transactions are marked good or bad.

`execute` is a pure function of (tip, block), kept for all nodes of the world together, since all must get the same. The
ledger also remembers which transactions were ever offered, for the validity oracle.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from itertools import count

from hub.ppdl.application import Verdict
from hub.ppdl.consensus.block import Block
from hub.ppdl.consensus.effects import Tip

GOOD, BAD = b"\x01", b"\x00"
"""First byte of a transaction: one that the application accepts, one that it must reject."""

SetRule = Callable[[int], tuple[tuple[bytes, bool], ...]]
"""Validator changes (address, active) that executing a height causes."""


class Ledger:
    """Executes and judges blocks; `set_rule` changes the validator set two heights on."""

    def __init__(self, set_rule: SetRule | None = None) -> None:
        self._set_rule = set_rule
        self._outcomes: dict[tuple[bytes, bytes], Tip] = {}
        self._offered: set[bytes] = set()

    def offer(self, node: int, now: int, good: bool = True) -> tuple[bytes, ...]:
        """The transactions of a fresh block, never the same twice."""
        tag = (GOOD if good else BAD) + b"%d/%d/" % (node, now)
        number = next(i for i in count() if tag + b"%d" % i not in self._offered)
        tx = tag + b"%d" % number
        self._offered.add(tx)
        return (tx,)

    def judge(self, block: Block) -> Verdict:
        """What the application says of a proposal."""
        return Verdict.ACCEPT if all([tx.startswith(GOOD) for tx in block.txs]) else Verdict.REJECT

    def was_offered(self, tx: bytes) -> bool:
        """Whether some application of this world made the transaction."""
        return tx in self._offered

    def execute(self, tip: Tip, block: Block) -> Tip:
        """The tip after the block."""
        place = tip.app_hash, block.hash
        known = self._outcomes.get(place)
        if known is not None:
            return known
        following = tip.next_validators
        if self._set_rule is not None:
            following = following.updated(self._set_rule(block.height))
        app_hash = sha256(tip.app_hash + block.hash).digest()
        time_ms = block.header.timestamp_ms
        outcome = Tip(block.height, block.hash, time_ms, app_hash, tip.next_validators, following)
        self._outcomes[place] = outcome
        return outcome
