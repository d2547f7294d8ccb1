"""Envelopes between a home and another hub's relay: one hub carries them, another opens and submits them.

The carrier knows from which meter an envelope comes, but cannot open it; the relay can open it, but learns only a random
token in place of the meter. They speak over the validators' gossip, because that is how hubs are connected.
Bounds: MAX_TOKENS envelopes wait for a receipt; the oldest is forgotten (its meter sends again).
Not here: what is submitted (`hub.relay.envelope`).
"""

from __future__ import annotations

import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from openmg.envelope import Envelope, Receipt
from openmg.messages import base, topics

log = logging.getLogger(__name__)

ENVELOPE_GOSSIP = "envelope"
RECEIPT_GOSSIP = "receipt"
TOKEN_BYTES = 16
MAX_TOKENS = 4096

Gossip = Callable[[str, bytes], None]


@dataclass(frozen=True)
class Carried:
    """An envelope under the carrier's token."""

    PURPOSE: ClassVar[str] = "carried"
    token: bytes
    envelope: Envelope


@dataclass(frozen=True)
class Returned:
    """A relay's receipt for a token."""

    PURPOSE: ClassVar[str] = "returned"
    token: bytes
    receipt: Receipt


class Carrier:
    """Carries envelopes of this hub's meters to the relays of other hubs."""

    def __init__(self, relays: tuple[bytes, ...], gossip: Gossip, publish: Callable[[str, bytes], bool]) -> None:
        self._relays = frozenset(relays)
        self._gossip = gossip
        self._publish = publish
        self._tokens: OrderedDict[bytes, str] = OrderedDict()
        self.carried = self.returned = 0

    def on_envelope(self, device: str, envelope: Envelope) -> None:
        """An envelope of a meter; raises InvalidMessage when it is for an unknown relay."""
        if envelope.relay not in self._relays:
            raise base.InvalidMessage("the envelope is for a relay that this hub does not know")
        token = secrets.token_bytes(TOKEN_BYTES)
        self._tokens[token] = device
        while len(self._tokens) > MAX_TOKENS:
            self._tokens.popitem(last=False)
        self.carried += 1
        self._gossip(ENVELOPE_GOSSIP, base.encode(Carried(token, envelope)))

    def on_returned(self, payload: bytes) -> None:
        """A relay's receipt; goes to the meter whose token it names."""
        returned = base.decode(Returned, payload)
        device = self._tokens.pop(returned.token, None)
        if device is not None:
            self.returned += 1
            self._publish(topics.receipt(device), base.encode(returned.receipt))
