"""How fast one peer may speak, and how many strangers may stand at the door. Pure: time is passed in, nothing waits here.

A peer pays for each frame and byte from two buckets; who is out of tokens is not read until they have flowed in, so it slows
itself, through TCP, and nobody else. Frames that turn out malformed, invalid or refused cost more (`transport.BLAME_FRAMES`).
A stranger (a connection that has not proved a validator's key yet) holds one of few places for a short time.
"""

from __future__ import annotations

from collections import OrderedDict

FRAMES_PER_S = 600
"""At 180 blocks a second, three times what durable votes allow on loopback, an honest peer sends 450 frames."""
FRAMES_BURST = 4 * FRAMES_PER_S
"""A peer that was cut off sends at once what waited in its queue of 1,024 frames, and its transactions."""
BYTES_PER_S = 8 * 1024 * 1024
"""Two answers of block sync of the largest size a second; 7 MB of transactions a second, many times what homes send."""
BYTES_BURST = 16 * 1024 * 1024
"""Four frames of the largest size at once."""
MAX_DEBT_S = 5
"""Blame never silences a peer for longer: one that was repaired must get in again."""

MAX_STRANGERS = 64
"""As many as there may be validators: all of them may come back in one moment."""
MAX_STRANGERS_OF_ONE_HOST = 32
"""One machine takes at most half of the places."""
STRANGERS_PER_S = 16
STRANGERS_BURST = 128
"""New connections of one host: each costs a TLS handshake, about a millisecond. 64 validators may restart twice together."""
MAX_HOSTS = 1024
"""Hosts whose connections are counted; the one that was silent for longest is forgotten."""


class TokenBucket:
    """Tokens that flow in at `rate` a second, up to `burst`; taking more than there are leaves a debt."""

    __slots__ = ("rate", "burst", "_tokens", "_at_s")

    def __init__(self, rate: float, burst: float, now_s: float) -> None:
        self.rate, self.burst = rate, burst
        self._tokens, self._at_s = burst, now_s

    def level(self, now_s: float) -> float:
        """Tokens there are; negative while in debt."""
        self._tokens = min(self.burst, self._tokens + max(0.0, now_s - self._at_s) * self.rate)
        self._at_s = now_s
        return self._tokens

    def take(self, count: float, now_s: float) -> float:
        """Take tokens; return for how many seconds the taker has to wait for them."""
        self._tokens = max(self.level(now_s) - count, -max(count, MAX_DEBT_S * self.rate))
        return max(0.0, -self._tokens / self.rate)


class PeerAllowance:
    """What one authenticated peer may send; outlives its connections, so that dialing again gives no fresh tokens."""

    __slots__ = ("_frames", "_bytes")

    def __init__(self, now_s: float) -> None:
        self._frames = TokenBucket(FRAMES_PER_S, FRAMES_BURST, now_s)
        self._bytes = TokenBucket(BYTES_PER_S, BYTES_BURST, now_s)

    def pay(self, size: int, now_s: float) -> float:
        """Pay for a frame of `size` bytes; return the seconds for which the peer is not to be read."""
        return max(self._frames.take(1, now_s), self._bytes.take(size, now_s))

    def blame(self, frames: int, now_s: float) -> None:
        """Pay for so many frames more."""
        self._frames.take(frames, now_s)


class Door:
    """Places for strangers: bounded together, for each host, and in how fast one host may take them."""

    def __init__(self) -> None:
        self.inside = 0
        self._of_host: dict[str, int] = {}
        self._rates: OrderedDict[str, TokenBucket] = OrderedDict()

    def enter(self, host: str, now_s: float) -> str | None:
        """Take a place; return None, or why there is none for this host."""
        if self.inside >= MAX_STRANGERS:
            return "too many connections are in their hello"
        if self._of_host.get(host, 0) >= MAX_STRANGERS_OF_ONE_HOST:
            return "too many connections of one host are in their hello"
        rate = self._rates.setdefault(host, TokenBucket(STRANGERS_PER_S, STRANGERS_BURST, now_s))
        self._rates.move_to_end(host)
        if len(self._rates) > MAX_HOSTS:
            self._rates.popitem(last=False)
        if rate.level(now_s) < 1:
            return "one host connects too often"
        rate.take(1, now_s)
        self.inside += 1
        self._of_host[host] = self._of_host.get(host, 0) + 1
        return None

    def leave(self, host: str) -> None:
        """Give the place back; once for each `enter` that returned None."""
        self.inside -= 1
        self._of_host[host] -= 1
        if not self._of_host[host]:
            del self._of_host[host]
