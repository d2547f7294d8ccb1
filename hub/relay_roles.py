"""The envelope relay on the validators' gossip: envelopes for this hub come in, receipts go back under the carrier's token.

Rules: at most MAX_HANDLING envelopes are in work; what comes beyond that is counted and dropped (its meter sends again).
Malformed gossip is counted, and logged once a sender; senders are the validators, so they are few.
Not here: opening and submitting (`hub.relay.envelope`), carrying (`hub.carrier`).
"""

from __future__ import annotations

import asyncio
import logging

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hub.carrier import ENVELOPE_GOSSIP, RECEIPT_GOSSIP, Carried, Gossip, Returned
from hub.chain.client import Contract, EvmClient
from hub.relay.envelope import EnvelopeRelay
from openmg.messages import base

log = logging.getLogger(__name__)

MAX_HANDLING = 4_096
"""Envelopes taken and not answered yet: those collected, those being submitted, and repetitions of both."""


class EnvelopeDesk:
    """Hears of envelopes, hands them to the relay, and returns receipts."""

    def __init__(self, client: EvmClient, private_key: X25519PrivateKey, confidential: Contract, gossip: Gossip) -> None:
        self.relay = EnvelopeRelay(client, private_key, confidential)
        self._gossip = gossip
        self._handling: set[asyncio.Task[None]] = set()
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
            if len(self._handling) >= MAX_HANDLING:
                self.dropped += 1
                return
            task = asyncio.get_running_loop().create_task(self._handle(carried))
            self._handling.add(task)
            task.add_done_callback(self._handling.discard)

    async def _handle(self, carried: Carried) -> None:
        receipt = await self.relay.handle(carried.envelope)
        self._gossip(RECEIPT_GOSSIP, base.encode(Returned(carried.token, receipt)))
