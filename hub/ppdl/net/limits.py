"""How fast one peer may speak, and how many strangers may stand at the door. Pure: time is passed in, nothing waits here.

A peer pays for each frame and byte from two buckets; who is out of tokens is not read until they have flowed in, so it slows
itself, through TCP, and nobody else. Frames that turn out malformed, invalid or refused cost more (`transport.BLAME_FRAMES`).
How much is honest depends on how fast blocks come and how large they are, and so does what a flood may take: each block that is
decided here gives every peer FRAMES_PER_BLOCK and as many bytes as it has; time alone gives what has little to do with blocks.
A stranger (a connection that has not proved a validator's key yet) holds one of few places for a short time.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

FRAMES_PER_BLOCK = 3
"""In each block an honest validator says PREPARE and COMMIT, and of n blocks it proposes one: 2.25 frames of four validators,
2.06 of sixteen. The rest is for a transaction that is in it."""
FRAMES_PER_S = 100
"""Transactions, gossip, state transfer, and what is said again at a tick (8 a second). While this hub does not get on, as at
the start of catching up, it hears of 44 blocks a second from the others without a wait; votes that come later are of no use."""
FRAMES_BURST = 2048
"""A peer that was cut off sends at once what waited in its queue of 1,024 frames, and as many transactions."""
BYTES_PER_S = 2 * 1024 * 1024
"""Many times what homes send. A decided block pays for itself, if this peer proposed it, and for its share of the transactions:
of four validators half of what it gives. Large frames of validators cost less (`hub/ppdl/gate.py`)."""
BYTES_BURST = 10 * 1024 * 1024
"""Two answers of the largest size at once, or the largest message that is sent unasked at four times its bytes
(`UNSEASONED_PRICE` of `hub/ppdl/gate.py`): who had the whole burst is heard without a pause."""
MAX_DEBT_S = 5
"""Blame never silences a peer for longer: one that was repaired must get in again."""

MAX_STRANGERS = 64
"""As many as there may be validators: all of them may come back in one moment."""
MAX_STRANGERS_OF_ONE_HOST = 32
"""One machine takes at most half of the places."""
STRANGERS_PER_S = 1
STRANGERS_BURST = 128
"""New connections of one host: each costs TLS, two signatures and its end, some four milliseconds. 64 validators may restart
twice together; of fifteen on one host that cannot get in, one after the other has its turn."""
MAX_HOSTS = 1024
"""Hosts whose connections are counted; the one that was silent for longest is forgotten."""


class Progress(NamedTuple):
    """Blocks that this hub has decided since it started, and their bytes."""

    blocks: int = 0
    size: int = 0


NO_PROGRESS = Progress()


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

    def add(self, count: float, now_s: float) -> None:
        """Tokens beside those that flow in; what is over `burst` is lost."""
        self._tokens = min(self.burst, self.level(now_s) + count)

    def take(self, count: float, now_s: float) -> float:
        """Take tokens; return for how many seconds the taker has to wait for them."""
        self._tokens = max(self.level(now_s) - count, -max(count, MAX_DEBT_S * self.rate))
        return max(0.0, -self._tokens / self.rate)


class PeerAllowance:
    """What one authenticated peer may send; outlives its connections, so that dialing again gives no fresh tokens."""

    __slots__ = ("_frames", "_bytes", "_seen")

    def __init__(self, now_s: float) -> None:
        self._seen = NO_PROGRESS
        self._frames = TokenBucket(FRAMES_PER_S, FRAMES_BURST, now_s)
        self._bytes = TokenBucket(BYTES_PER_S, BYTES_BURST, now_s)

    def pay(self, size: int, now_s: float, progress: Progress = NO_PROGRESS) -> float:
        """Pay for a frame of `size` bytes, after what was decided since the last one has flowed in; return for how many seconds
        the peer is not to be read.
        """
        if progress != self._seen:
            self._frames.add((progress.blocks - self._seen.blocks) * FRAMES_PER_BLOCK, now_s)
            self._bytes.add(progress.size - self._seen.size, now_s)
            self._seen = progress
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
