"""One attendant for each model of the chain, each with a store of blobs and an exchange of its own.

Rules: rounds of different models share nothing but the hub's loop and its connections. What one hub may keep and send is the
same however many models there are: store and sending are divided evenly among them.
Not here: what an attendant does (`attendant`), which models there are (the genesis).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from hub.learning import exchange
from hub.learning.attendant import LearningAttendant
from hub.learning.blobs import MAX_STORE_BYTES, BlobStore
from hub.learning.exchange import BlobExchange
from hub.ppdl.app.round_answers import Duties
from hub.ppdl.application import BlockResult
from hub.ppdl.consensus.block import Block


class Wires(Protocol):
    """What is needed of the engine: gossip to all, to one, and a way for transactions."""

    def gossip(self, kind: str, payload: bytes) -> None: ...

    def gossip_to(self, peer: bytes, kind: str, payload: bytes) -> None: ...

    def submit(self, tx: bytes) -> Awaitable[bytes]: ...


class LearningAttendants:
    """All of one validator; in the hub's loop.

    names: the models' short names in the order of the plans. duties: `PpdlApplication.duties`. folder: for the stores.
    key: the validator's private key. attend: how an attendant is made. Raises BlobStoreError when the folder cannot be used.
    """

    def __init__(
        self,
        names: Sequence[bytes],
        duties: Callable[[int], Duties | None],
        engine: Wires,
        chain_id: int,
        key: bytes,
        folder: Path,
        attend: Callable[..., LearningAttendant] = LearningAttendant,
    ) -> None:
        self._of: dict[bytes, LearningAttendant] = {}
        sent = max(1, exchange.SENT_PER_STEP // len(names))
        for place, name in enumerate(names):
            store = BlobStore(folder / f"blobs-{name.hex()}.sqlite", MAX_STORE_BYTES // len(names))
            blobs = BlobExchange(store, engine.gossip, engine.gossip_to, partial(self._wake, name), sent)
            self._of[name] = attend(partial(duties, place), blobs, engine.submit, chain_id, key)

    def __getitem__(self, name: bytes) -> LearningAttendant:
        """The attendant of the model with this short name."""
        return self._of[name]

    def _wake(self, name: bytes) -> None:
        self._of[name].wake()

    def wake(self) -> None:
        """Something changed: every attendant looks again soon."""
        for attendant in self._of.values():
            attendant.wake()

    def on_block(self, block: Block, result: BlockResult) -> None:
        """A block was committed."""
        self.wake()

    def on_gossip(self, kind: str, payload: bytes, sender: bytes) -> None:
        """Another hub's want or part of a blob; whose commitments are in it takes it."""
        for attendant in self._of.values():
            attendant.exchange.on_gossip(kind, payload, sender)

    def on_reveal(self, device: bytes, name: bytes, round_number: int, blob: bytes) -> None:
        """A meter showed its blob to this hub; of a model that the chain does not have it is ignored."""
        if name in self._of:
            self._of[name].on_reveal(device, round_number, blob)

    async def run(self, stop: asyncio.Event) -> None:
        """Attend until `stop` is set; an aggregate of one model keeps no other waiting."""
        await asyncio.gather(*(attendant.run(stop) for attendant in self._of.values()))

    def close(self) -> None:
        """Close the stores, once nobody attends any more."""
        for attendant in self._of.values():
            attendant.exchange.store.close()
