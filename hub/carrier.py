"""Envelopes between a home and another hub's relay: one hub carries them, another opens and submits them.

The carrier knows from which meter an envelope comes, but can open neither it nor its receipt; the relay can open it, but
learns only a random token in place of the meter. They speak over the validators' gossip, because that is how hubs are
connected. What a carrier could still do, drop or delay or repeat, is in docs/ENVELOPES.md.
Bounds: MAX_TOKENS envelopes wait for a receipt, MAX_TOKENS_OF_ONE of one meter; the oldest is forgotten (its meter sends
again). So a meter that floods its hub loses its own receipts and nobody else's.
Not here: what is submitted (`hub.relay.envelope`).
"""

from __future__ import annotations

import secrets
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from openmg.envelope import ENVELOPES_PER_SLOT, Envelope, SealedReceipt
from openmg.messages import base, topics

ENVELOPE_GOSSIP = "envelope"
RECEIPT_GOSSIP = "receipt"
TOKEN_BYTES = 16
MAX_TOKENS_OF_ONE = 4 * ENVELOPES_PER_SLOT
"""Receipts come after the slot's end, so those of two slots wait in an orderly world."""
MAX_TOKENS = 1_024 * MAX_TOKENS_OF_ONE
"""A hub of a thousand meters, each at its bound; 2 MiB."""

Gossip = Callable[[str, bytes], None]


@dataclass(frozen=True)
class Carried:
    """An envelope under the carrier's token."""

    PURPOSE: ClassVar[str] = "carried"
    token: bytes
    envelope: Envelope

    def __post_init__(self) -> None:
        _require_token(self.token)


@dataclass(frozen=True)
class Returned:
    """A relay's receipt for a token."""

    PURPOSE: ClassVar[str] = "returned"
    token: bytes
    receipt: SealedReceipt

    def __post_init__(self) -> None:
        _require_token(self.token)


def _require_token(token: bytes) -> None:
    if len(token) != TOKEN_BYTES:
        raise ValueError(f"a token has {TOKEN_BYTES} bytes")


class Carrier:
    """Carries envelopes of this hub's meters to the relays of other hubs."""

    def __init__(self, relays: tuple[bytes, ...], gossip: Gossip, publish: Callable[[str, bytes], bool]) -> None:
        self._relays = frozenset(relays)
        self._gossip = gossip
        self._publish = publish
        self._tokens: OrderedDict[bytes, str] = OrderedDict()
        self._of_device: dict[str, deque[bytes]] = {}  # tokens of each meter that waits, oldest first
        self.carried = self.returned = 0

    def on_envelope(self, device: str, envelope: Envelope) -> None:
        """An envelope of a meter; raises InvalidMessage when it is for an unknown relay."""
        if envelope.relay not in self._relays:
            raise base.InvalidMessage("the envelope is for a relay that this hub does not know")
        self.carried += 1
        self._gossip(ENVELOPE_GOSSIP, base.encode(Carried(self._new_token(device), envelope)))

    def on_returned(self, payload: bytes) -> None:
        """A relay's receipt; goes to the meter whose token it names."""
        returned = base.decode(Returned, payload)
        device = self._forget(returned.token)
        if device is not None:
            self.returned += 1
            self._publish(topics.receipt(device), base.encode(returned.receipt))

    def _new_token(self, device: str) -> bytes:
        if len(self._of_device.get(device, ())) >= MAX_TOKENS_OF_ONE:
            self._forget(self._of_device[device][0])
        elif len(self._tokens) >= MAX_TOKENS:
            self._forget(next(iter(self._tokens)))
        token = secrets.token_bytes(TOKEN_BYTES)
        self._tokens[token] = device
        self._of_device.setdefault(device, deque()).append(token)
        return token

    def _forget(self, token: bytes) -> str | None:
        """The meter that waited under the token, if any."""
        device = self._tokens.pop(token, None)
        if device is not None:
            waiting = self._of_device[device]
            waiting.remove(token)
            if not waiting:
                del self._of_device[device]
        return device
