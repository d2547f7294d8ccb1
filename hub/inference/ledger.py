"""What was asked with each key, and what it costs: calls by endpoint and day (UTC), fees in wei.

Rules: a call counts when it is let in, before it is answered, in the same transaction that looks at the day's allowance, so
many at once cannot pass it. Only an answered call of an endpoint with a fee is charged. Fees are integers, calls times the
key's fee. Days older than KEEP_DAYS go.
Not here: keys (`keys`), payment: an invoice is settled outside.
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.inference.keys import ApiKey, KeyStore
from hub.inference.quota import day_of

KEEP_DAYS = 800
"""Two years and some weeks, so that a year's invoices can be checked in the next."""
MAX_LINES = 10_000


@dataclass(frozen=True)
class UsageLine:
    """Calls of one key to one endpoint on one day (days since 1970-01-01), and what the charged ones cost."""

    key_id: str
    name: str
    day: int
    endpoint: str
    calls: int
    charged: int
    fee_wei_per_call: int

    @property
    def fee_wei(self) -> int:
        return self.charged * self.fee_wei_per_call


class Ledger:
    """The calls of all keys of a store. Calls may come from any thread. Raises InferenceStoreError."""

    def __init__(self, keys: KeyStore) -> None:
        self._keys = keys
        self._db = keys.db

    def admit(self, key: ApiKey, endpoint: str, now_s: int) -> bool:
        """Count one call; False when the day's allowance is used up, and then nothing is counted."""
        day = day_of(now_s)
        with self._db.transaction() as db:
            sql = "SELECT coalesce(sum(calls), 0) FROM calls WHERE key_id = ? AND day = ?"
            if db.execute(sql, (key.id, day)).fetchone()[0] >= key.daily:
                return False
            db.execute(
                "INSERT INTO calls VALUES (?, ?, ?, 1, 0) ON CONFLICT (key_id, day, endpoint) DO UPDATE SET calls = calls + 1",
                (key.id, day, endpoint),
            )
            db.execute("DELETE FROM calls WHERE key_id = ? AND day < ?", (key.id, day - KEEP_DAYS))
        return True

    def charge(self, key: ApiKey, endpoint: str, admitted_s: int) -> None:
        """An admitted call was answered and costs its fee."""
        with self._db.transaction() as db:
            db.execute(
                "UPDATE calls SET charged = charged + 1 WHERE key_id = ? AND day = ? AND endpoint = ? AND charged < calls",
                (key.id, day_of(admitted_s), endpoint),
            )

    def calls_on(self, key: ApiKey, day: int) -> int:
        """Calls of that day so far."""
        rows = self._db.rows("SELECT coalesce(sum(calls), 0) FROM calls WHERE key_id = ? AND day = ?", (key.id, day))
        return int(str(rows[0][0]))

    def lines(self, first_day: int, last_day: int, key_id: str | None = None) -> list[UsageLine]:
        """Lines of these days, by day, key and endpoint; at most MAX_LINES, the latest."""
        known = {key.id: key for key in self._keys.list()}
        sql = (
            "SELECT key_id, day, endpoint, calls, charged FROM calls WHERE day BETWEEN ? AND ? AND (? IS NULL OR key_id = ?)"
            " ORDER BY day DESC, key_id, endpoint LIMIT ?"
        )
        lines = []
        for owner, day, endpoint, calls, charged in self._db.rows(sql, (first_day, last_day, key_id, key_id, MAX_LINES)):
            key = known[str(owner)]
            numbers = (int(str(calls)), int(str(charged)))
            lines.append(UsageLine(key.id, key.name, int(str(day)), str(endpoint), *numbers, key.fee_wei))
        return sorted(lines, key=lambda line: (line.day, line.name, line.endpoint))
