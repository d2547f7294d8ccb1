"""The network: who hears whom, when, and how often.

Rules: a message that both ends can see arrives after its delay; without `reorder` a link keeps one delay, so that nothing
is overtaken on it; partitions cut every link between two sides. A script may put a `filter` in front, which lets a message
through, loses it or holds it back until `release`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

from hub.ppdl.consensus.effects import Received
from hub.ppdl.consensus.messages import Message
from hub.ppdl.sim.clock import Clock
from hub.ppdl.sim.faults import Faults

MAX_HELD = 10_000
"""Messages that a script may hold back at once."""


HEALED_DELAY_MS = 60
"""The synchrony that progress is promised under: far below the view timeout, as between hubs of one country."""


class Fate(enum.Enum):
    """What a filter decides of one message."""

    PASS = 1
    LOSE = 2
    HOLD = 3


class Port(Protocol):
    """One end of the network."""

    number: int
    address: bytes

    def deliver(self, parcel: Received) -> None:
        """A message arrives."""
        ...


Filter = Callable[[int, int, Message], Fate]
"""Fate of a message by (sender's number, receiver's number, message)."""


class Network:
    """Links between all nodes of a world."""

    def __init__(self, clock: Clock, random: Random, faults: Faults, count: int) -> None:
        self._clock, self._random, self._faults = clock, random, faults
        self.sides = [0] * count
        self.filter: Filter | None = None
        self.healed = faults.until_ms <= 0
        self.lost = 0
        self._held: list[tuple[int, Port, Received]] = []
        low, high = faults.delay_ms
        self._low, self._span = low, high - low + 1
        self._fixed = [[low + int(random.random() * self._span) for _ in range(count)] for _ in range(count)]

    def send(self, sender: Port, peers: Sequence[Port], message: Message) -> None:
        """Put one message on the link to each peer."""
        parcel = Received(sender.address, message)  # one for all peers: it is immutable
        after, delays, number = self._clock.after, self._fixed[sender.number], sender.number
        if self.healed and self.filter is None:
            for peer in peers:
                after(delays[peer.number], peer.deliver, parcel)
            return
        for peer in peers:
            fate = Fate.PASS if self.filter is None else self.filter(number, peer.number, message)
            if fate is Fate.HOLD:
                assert len(self._held) < MAX_HELD
                self._held.append((number, peer, parcel))
            elif fate is Fate.LOSE or not self._visible(number, peer.number):
                self.lost += 1
            else:
                self._carry(peer, parcel, delays[peer.number])

    def _visible(self, sender: int, peer: int) -> bool:
        return self.healed or self.sides[sender] == self.sides[peer]

    def _carry(self, peer: Port, parcel: Received, delay: int) -> None:
        faults, random = self._faults, self._random
        copies = 1
        if not self.healed:
            if faults.drop_percent and random.random() * 100 < faults.drop_percent:
                self.lost += 1
                return
            if faults.duplicate_percent and random.random() * 100 < faults.duplicate_percent:
                copies = 2
        for copy in range(copies):
            if copy or (faults.reorder and not self.healed):
                delay = self._low + int(random.random() * self._span)
            self._clock.after(delay, peer.deliver, parcel)

    def heal(self) -> None:
        """From now on every message arrives, on every link after a delay of its own of at most HEALED_DELAY_MS."""
        self.healed = True
        high = min(self._faults.delay_ms[1], HEALED_DELAY_MS)
        self._fixed = [[1 + int(self._random.random() * high) for _ in self.sides] for _ in self.sides]

    def release(self) -> None:
        """Deliver what a script held back, in the order in which it was sent."""
        held, self._held = self._held, []
        for number, peer, parcel in held:
            if self._visible(number, peer.number):
                self._clock.after(1, peer.deliver, parcel)

    def drop_held(self) -> None:
        """Lose what a script held back."""
        self.lost += len(self._held)
        self._held.clear()
