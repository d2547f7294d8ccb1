"""How often somebody may ask: token buckets and the day's allowance, in integers, without a clock.

Theory of operation. A bucket holds up to `per_minute` calls and refills evenly, so a quiet caller may ask a minute's worth
at once and never more than two minutes' worth within any minute. Its level is counted in thousandths of a millisecond's
share: a full call is CALL units, a millisecond brings `per_minute` of them, which makes every division exact.
Rules: the caller brings the time in milliseconds of any clock that does not run backwards; one that does brings nothing.
Bounds: MAX_BUCKETS buckets are kept, the one that was idle longest goes first; a bucket that is gone begins full, so who
wants a fresh one must first crowd out all others.
Not here: who is asking (`keys`), clocks, what an answer costs (`ledger`).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

MS_PER_MINUTE = 60_000
MS_PER_SECOND = 1_000
CALL = MS_PER_MINUTE
"""Units of one call: a millisecond brings `per_minute` units."""
MAX_PER_MINUTE = 60_000
MAX_BUCKETS = 4_096
SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Bucket:
    """Level in units and the time at which it was right."""

    level: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Rate:
    """Calls a minute. ValueError for a number outside 1..MAX_PER_MINUTE."""

    per_minute: int

    def __post_init__(self) -> None:
        if not 1 <= self.per_minute <= MAX_PER_MINUTE:
            raise ValueError(f"quota: {self.per_minute} calls a minute; give 1 to {MAX_PER_MINUTE}")

    @property
    def full(self) -> int:
        return self.per_minute * CALL

    def start(self, now_ms: int) -> Bucket:
        """A bucket of somebody who has not asked yet."""
        return Bucket(self.full, now_ms)

    def take(self, bucket: Bucket, now_ms: int) -> tuple[Bucket, int]:
        """One call: the bucket after it, and 0, or the unchanged level and the milliseconds until one is allowed."""
        passed = max(0, now_ms - bucket.at_ms)
        level = min(self.full, bucket.level + passed * self.per_minute)
        at_ms = max(now_ms, bucket.at_ms)
        if level >= CALL:
            return Bucket(level - CALL, at_ms), 0
        return Bucket(level, at_ms), -(-(CALL - level) // self.per_minute)


class Buckets:
    """Buckets by name, at most `most` of them. Not for several threads at once."""

    def __init__(self, most: int = MAX_BUCKETS) -> None:
        self._most = most
        self._known: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def take(self, name: str, rate: Rate, now_ms: int) -> int:
        """Whole seconds until `name` may ask, rounded up; 0 when this call is allowed."""
        bucket, wait_ms = rate.take(self._known.get(name) or rate.start(now_ms), now_ms)
        self._known[name] = bucket
        self._known.move_to_end(name)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return -(-wait_ms // MS_PER_SECOND)


def day_of(unix_seconds: int) -> int:
    """Days since 1970-01-01 (UTC): a day's allowance and an invoice line are of such a day."""
    return unix_seconds // SECONDS_PER_DAY


def until_tomorrow_s(unix_seconds: int) -> int:
    """Seconds until the next day's allowance begins, at least 1."""
    return SECONDS_PER_DAY - unix_seconds % SECONDS_PER_DAY
