"""How long a bus or a unit that failed is left alone, and whether that was said.

Rules: pure. The first failure may be repeated at once, since one lost answer means little; each further one doubles the
wait up to a bound; an answer ends it. Not here: what counts as a failure (`link`).
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_BACK_OFF_S = 0.25
LAST_BACK_OFF_S = 15.0
MAX_FAILURES = 16
"""Where counting ends: the wait is at its bound long before."""


@dataclass
class Patience:
    """The failures in a row of one thing, and from when on it may be tried again (monotonic seconds)."""

    failures: int = 0
    retry_at: float = 0.0
    failed_at: float = -1.0
    problem: str = ""
    said: bool = False

    def failed(self, now: float, problem: str) -> bool:
        """Notes a failure; True when it is the first since an answer, and so is to be said."""
        wait_s = min(FIRST_BACK_OFF_S * 2 ** (self.failures - 1), LAST_BACK_OFF_S) if self.failures else 0.0
        self.failures = min(self.failures + 1, MAX_FAILURES)
        self.failed_at, self.retry_at, self.problem = now, now + wait_s, problem
        news, self.said = not self.said, True
        return news

    def recovered(self) -> bool:
        """Notes a success; True when a failure had been said."""
        self.failures, self.retry_at, self.failed_at, self.problem = 0, 0.0, -1.0, ""
        news, self.said = self.said, False
        return news

    def wait_s(self, now: float) -> float:
        """Seconds until the next try; 0 when it may be now."""
        return max(0.0, self.retry_at - now)
