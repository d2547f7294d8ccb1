"""The envelope relay on the validators' gossip: envelopes for this hub come in, receipts go back under the carrier's token.

Rules: at most MAX_HANDLING envelopes are in work, and MAX_HANDLING_OF_ONE from one hub, so that no hub keeps the others'
out; what comes beyond that is counted and dropped (its meter sends again). Malformed gossip is counted, and logged once a
sender; senders are the validators, so they are few.
Not here: opening and submitting (`hub.relay.envelope`), carrying (`hub.carrier`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hub.carrier import ENVELOPE_GOSSIP, RECEIPT_GOSSIP, Carried, Gossip, Returned
from hub.chain.client import EvmClient
from hub.relay.envelope import MAX_WAITING, EnvelopeRelay
from openmg.clock import VirtualClock
from openmg.messages import base

log = logging.getLogger(__name__)

MAX_HANDLING = 2 * MAX_WAITING
"""Envelopes taken and not answered yet: those collected, and those being submitted."""
MAX_HANDLING_OF_ONE = MAX_HANDLING // 2
"""Of them from one hub: all homes of a large one."""


class EnvelopeDesk:
    """Hears of envelopes, hands them to the relay, and returns receipts; arguments as those of EnvelopeRelay."""

    def __init__(
        self,
        client: EvmClient,
        private_key: X25519PrivateKey,
        allowed: Mapping[bytes, frozenset[bytes]],
        gossip: Gossip,
        clock: VirtualClock,
    ) -> None:
        self.relay = EnvelopeRelay(client, private_key, allowed, clock)
        self._gossip = gossip
        self._handling: set[asyncio.Task[None]] = set()
        self._of_sender: Counter[bytes] = Counter()
        self._complained: set[bytes] = set()
        self.malformed = self.dropped = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Submit collected envelopes until `stop` is set."""
        await self.relay.run(stop)
        for task in self._handling:
            task.cancel()

    def on_gossip(self, kind: str, payload: bytes, sender: bytes) -> None:
        """An envelope that another hub carries; those for other relays are not ours to open."""
        if kind != ENVELOPE_GOSSIP:
            return
        try:
            carried = base.decode(Carried, payload)
        except base.InvalidMessage as error:
            self.malformed += 1
            if sender not in self._complained:
                self._complained.add(sender)
                log.warning("malformed envelope from hub 0x%s dropped: %s", sender.hex(), error)
            return
        if carried.envelope.relay == self.relay.public_key:
            self._take(carried, sender)

    def _take(self, carried: Carried, sender: bytes) -> None:
        if len(self._handling) >= MAX_HANDLING or self._of_sender[sender] >= MAX_HANDLING_OF_ONE:
            self.dropped += 1
            return
        self._of_sender[sender] += 1
        task = asyncio.get_running_loop().create_task(self._handle(carried))
        self._handling.add(task)
        task.add_done_callback(lambda done: self._finish(done, sender))

    def _finish(self, task: asyncio.Task[None], sender: bytes) -> None:
        self._handling.discard(task)
        self._of_sender[sender] -= 1

    async def _handle(self, carried: Carried) -> None:
        receipt = await self.relay.handle(carried.envelope)
        if receipt is not None:
            self._gossip(RECEIPT_GOSSIP, base.encode(Returned(carried.token, receipt)))
