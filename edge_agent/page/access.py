"""Who is logged in, to which meter, and who may try a code when: pure, the caller brings the time.

Rules: a session is a random token of which only the hash is kept, in memory; it is for the meter of the code that opened it,
and no request changes that. It ends after its life whatever is done with it, at logout, and with the process. A meter has at
most MAX_SESSIONS; one more ends its oldest, and none of another meter. After a wrong code its address waits, twice as long each
time; addresses together have WRONG_IN_WINDOW wrong codes in WINDOW_SECONDS, then all wait: 60 bits cannot be guessed so, nor
one of the codes of many meters. A right code ends its address's waiting. Wrong codes are counted for as long as the process
runs. Not here: codes (`codes`), cookies (`pages`).
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict, deque
from dataclasses import dataclass

MAX_SESSIONS = 8
"""Of one meter."""
MAX_ADDRESSES = 64
"""That gave wrong codes; the one that did longest ago is forgotten."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1, 300
WINDOW_SECONDS = 600
WRONG_IN_WINDOW = 30


@dataclass(frozen=True)
class WrongCodes:
    """How many wrong codes were tried, the wall second of the last, and its address; None before there was one."""

    count: int
    last: int | None
    address: str | None


class Sessions:
    """The sessions of one process; times in seconds of one clock that never goes back."""

    def __init__(self, life_seconds: int) -> None:
        self._life = life_seconds
        self._open: dict[str, OrderedDict[bytes, float]] = {}
        """By meter: when the session of each token's hash ends, the oldest first."""

    def open(self, meter: str, now: float) -> str:
        """A new session's token. Secret."""
        self._drop(now)
        ends = self._open.setdefault(meter, OrderedDict())
        while len(ends) >= MAX_SESSIONS:
            ends.popitem(last=False)
        token = secrets.token_urlsafe(32)
        ends[_hash(token)] = now + self._life
        return token

    def meter_of(self, token: str, now: float) -> str | None:
        """The meter that the token's session is for; None when it is open for none."""
        self._drop(now)
        key = _hash(token)
        return next((meter for meter, ends in self._open.items() if key in ends), None)

    def close(self, token: str) -> None:
        for ends in self._open.values():
            ends.pop(_hash(token), None)

    def count(self, now: float) -> int:
        self._drop(now)
        return sum(map(len, self._open.values()))

    def _drop(self, now: float) -> None:
        for meter, ends in list(self._open.items()):
            for key in [key for key, end in ends.items() if end <= now]:
                del ends[key]
            if not ends:
                del self._open[meter]


class Attempts:
    """Wrong codes, and how long whoever gave them has to wait."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """By address: wrong codes in a row, and until when it waits."""
        self._recent: deque[float] = deque(maxlen=WRONG_IN_WINDOW)
        self.wrong = WrongCodes(0, None, None)

    def wait_seconds(self, address: str, now: float) -> float:
        """How long until this address may try a code; 0 when it may now."""
        own = self._wrong[address][1] - now if address in self._wrong else 0.0
        full = len(self._recent) == WRONG_IN_WINDOW
        return max(0.0, own, self._recent[0] + WINDOW_SECONDS - now if full else 0.0)

    def note_wrong(self, address: str, now: float, wall: float) -> None:
        """A wrong code from this address."""
        row = self._wrong.pop(address, (0, 0.0))[0] + 1
        wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS << min(row - 1, 16))
        while len(self._wrong) >= MAX_ADDRESSES:
            self._wrong.popitem(last=False)
        self._wrong[address] = (row, now + wait)
        self._recent.append(now)
        self.wrong = WrongCodes(self.wrong.count + 1, int(wall), address)

    def note_right(self, address: str) -> None:
        self._wrong.pop(address, None)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
