"""When the wallet sends envelopes, to which relays, and what is in them: traffic that says nothing.

Theory of operation. At the first question about a slot, ENVELOPES_PER_SLOT places are drawn: a time in the slot's second
to fourth fifth and a relay each, the relays dealt as evenly as they go. Only then are places filled: when a place's time
has come, a content that waits is taken at random, or a dummy when none does. So an observer of times, relays, sizes and
counts sees draws that no content had a part in. A content does not go twice to the same relay when there is another: it
waits for a place of another one. A slot that passed unseen is not made up for, since a burst would tell.

The owner of the schedule (`service`) does three things: asks `due(slot, part)` at the part that `next_part(slot)` names
and publishes what it gets, all on one topic with one QoS; hands each message of the receipt topic to `on_receipt`; and
puts a content again, under the same key, as long as it sees no effect of it on chain, newly proved after `valid_until`.
Relays submit at the end of a slot, so `valid_until` should be at least MIN_VALID_SLOTS slots ahead.

Rules: no clock, no socket, nothing stored: what must survive a restart is put again by its owner. Every envelope takes the
same draws and the same work. Not here: sealing (`openmg.envelope`), what to send (`trader`, `notes`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from openmg.envelope import (
    ENVELOPES_PER_SLOT,
    REFERENCE_BYTES,
    Action,
    Content,
    Envelope,
    Receipt,
    SealedReceipt,
    padded,
    receipt_number,
    seal,
    unseal_receipt,
)
from openmg.messages.base import decode

SLOT_PARTS = 1_000
"""Parts of a slot; times within it are counted in them."""
FIRST_PART, LAST_PART = 200, 800
"""Places lie in [FIRST_PART, LAST_PART): the first fifth is for the news of the last slot, the last for the way to relays."""
MIN_VALID_SLOTS = 2
"""A content put late in a slot may be sent in the next one and is submitted at its end."""
MAX_QUEUED = 32
"""Contents that wait for a place: eight slots of them; more means that something is wrong with their owner."""
MAX_KEYS = 256
"""Keys whose last relay is remembered; the longest unsent is forgotten."""
MAX_UNANSWERED = 64
"""Envelopes whose receipts are awaited: sixteen slots of them; the oldest is forgotten."""
_PICKS = 2**32
"""Range of the number that picks one of the waiting contents; the bias, MAX_QUEUED in 2^32, harms nothing."""


class QueueFull(Exception):
    """More than MAX_QUEUED contents wait; try again when `waiting` is smaller."""


@dataclass(frozen=True)
class _Waiting:
    actions: tuple[Action, ...]
    valid_until: int
    avoid: frozenset[bytes]


@dataclass(frozen=True)
class _Place:
    """One envelope of the slot: when, to which relay, and the number that picks its content."""

    part: int
    relay: bytes
    pick: int


class EnvelopeSchedule:
    """Places and waiting contents of one wallet.

    `relays`: their X25519 keys, at least one; `draw(n)`: a number in [0, n), in production `secrets.randbelow`.
    """

    def __init__(self, relays: Sequence[bytes], draw: Callable[[int], int]) -> None:
        self._relays = tuple(dict.fromkeys(relays))
        if not self._relays:
            raise ValueError("envelopes need a relay")
        self._draw = draw
        self._slot = -1
        self._places: list[_Place] = []
        self._sent_now: set[str] = set()  # keys sent in the slot under way
        self._queue: dict[str, _Waiting] = {}
        self._last_relay: OrderedDict[str, bytes] = OrderedDict()
        self._unanswered: OrderedDict[bytes, tuple[str | None, bytes]] = OrderedDict()  # number -> key, reference

    # What is to be sent

    def put(self, key: str, actions: Iterable[Action], valid_until: int, *, avoid: frozenset[bytes] = frozenset()) -> None:
        """Queue a content for the next free place, in place of one that waits under the same key.

        It goes to none of `avoid` nor to the relay that the key went to last, as long as there are others. Raises
        QueueFull, and ValueError when there is nothing to send or it does not fit an envelope.
        """
        waiting = _Waiting(tuple(actions), valid_until, avoid)
        if not waiting.actions:
            raise ValueError("a content has at least one action; dummies are made here")
        padded(Content(bytes(REFERENCE_BYTES), valid_until, waiting.actions))
        if key not in self._queue and len(self._queue) >= MAX_QUEUED:
            raise QueueFull(f"{MAX_QUEUED} contents wait to be sent; {key} has to wait outside")
        self._queue[key] = waiting

    def drop(self, key: str) -> None:
        """What waits under the key is no longer to be sent; nothing happens when nothing waits."""
        self._queue.pop(key, None)

    @property
    def waiting(self) -> tuple[str, ...]:
        """Keys that wait for a place, oldest first."""
        return tuple(self._queue)

    def last_relay(self, key: str) -> bytes | None:
        """Where the key's content was sent last, or None when it was not (or too long ago)."""
        return self._last_relay.get(key)

    # Sending

    def due(self, slot: int, part: int) -> list[Envelope]:
        """The envelopes to publish now, `part` thousandths into the slot; each is given out once.

        A slot before one that was asked about has none: the clock was set back, and its places were used.
        """
        if slot > self._slot:
            self._begin(slot)
        if slot < self._slot:
            return []
        envelopes = []
        while self._places and self._places[0].part <= part:
            envelopes.append(self._fill(self._places.pop(0)))
        return envelopes

    def next_part(self, slot: int) -> int:
        """The part of the slot at which to ask again; SLOT_PARTS when its envelopes are sent, or for a slot that was."""
        if slot > self._slot:
            self._begin(slot)
        return self._places[0].part if self._places and slot == self._slot else SLOT_PARTS

    def _begin(self, slot: int) -> None:
        """Draw the slot's places; those that are left of the last one are forgotten."""
        self._slot = slot
        self._sent_now.clear()
        relays = self._deal()
        parts = sorted(FIRST_PART + self._draw(LAST_PART - FIRST_PART) for _ in range(ENVELOPES_PER_SLOT))
        self._places = [_Place(part, relay, self._draw(_PICKS)) for part, relay in zip(parts, relays, strict=True)]

    def _deal(self) -> list[bytes]:
        """A relay for each place: every one as often as any other, give or take one, in random order."""
        order = self._shuffled(self._relays)
        return self._shuffled([order[i % len(order)] for i in range(ENVELOPES_PER_SLOT)])

    def _shuffled(self, items: Sequence[bytes]) -> list[bytes]:
        """Fisher-Yates (Durstenfeld 1964), with this schedule's draws."""
        shuffled = list(items)
        for i in range(len(shuffled) - 1, 0, -1):
            j = self._draw(i + 1)
            shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
        return shuffled

    def _fill(self, place: _Place) -> Envelope:
        reference = self._draw(2 ** (8 * REFERENCE_BYTES)).to_bytes(REFERENCE_BYTES, "big")
        key = self._pick(place)
        if key is None:
            content = Content(reference, 0, ())
        else:
            waiting = self._queue.pop(key)
            content = Content(reference, waiting.valid_until, waiting.actions)
            self._sent_now.add(key)
            self._last_relay[key] = place.relay
            self._last_relay.move_to_end(key)
        _trim(self._last_relay, MAX_KEYS)
        self._unanswered[receipt_number(reference)] = (key, reference)
        _trim(self._unanswered, MAX_UNANSWERED)
        return seal(place.relay, content)

    def _pick(self, place: _Place) -> str | None:
        """One of the contents that may take the place, or None for a dummy."""
        fitting = [key for key, waiting in self._queue.items() if self._fits(key, waiting, place.relay)]
        return fitting[place.pick % len(fitting)] if fitting else None

    def _fits(self, key: str, waiting: _Waiting, relay: bytes) -> bool:
        if key in self._sent_now:
            return False
        last = {self._last_relay[key]} if key in self._last_relay else set()
        for refused in (waiting.avoid | last, last):
            if not refused.issuperset(self._relays):
                return relay not in refused
        return True  # there is but one relay

    # Answers

    def on_receipt(self, payload: bytes) -> tuple[str, Receipt] | None:
        """The key of a content and its relay's receipt; None for a dummy's, and for one that nothing waits for (any more).

        Raises InvalidMessage for what is no receipt, or was not sealed by the relay.
        """
        sealed = decode(SealedReceipt, payload)
        if sealed.number not in self._unanswered:
            return None
        key, reference = self._unanswered[sealed.number]
        receipt = unseal_receipt(reference, sealed)
        del self._unanswered[sealed.number]
        return None if key is None else (key, receipt)


def _trim(remembered: OrderedDict[Any, Any], bound: int) -> None:
    while len(remembered) > bound:
        remembered.popitem(last=False)
