"""The envelope relay on the validators' gossip: envelopes for this hub come in, receipts go back under the carrier's token."""

from __future__ import annotations

import asyncio
import logging

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hub.carrier import ENVELOPE_GOSSIP, RECEIPT_GOSSIP, Carried, Gossip, Returned
from hub.chain.client import Contract, EvmClient
from hub.relay.envelope import EnvelopeRelay
from openmg.messages import base

log = logging.getLogger(__name__)


class EnvelopeDesk:
    """Hears of envelopes, hands them to the relay, and returns receipts."""

    def __init__(self, client: EvmClient, private_key: X25519PrivateKey, confidential: Contract, gossip: Gossip) -> None:
        self.relay = EnvelopeRelay(client, private_key, confidential)
        self._gossip = gossip
        self._handling: set[asyncio.Task[None]] = set()
        self.malformed = 0

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
            if self.malformed == 1:
                log.warning("malformed envelope from hub 0x%s dropped: %s", sender.hex(), error)
            return
        if carried.envelope.relay == self.relay.public_key:
            task = asyncio.get_running_loop().create_task(self._handle(carried))
            self._handling.add(task)
            task.add_done_callback(self._handling.discard)

    async def _handle(self, carried: Carried) -> None:
        receipt = await self.relay.handle(carried.envelope)
        self._gossip(RECEIPT_GOSSIP, base.encode(Returned(carried.token, receipt)))
