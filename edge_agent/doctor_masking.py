"""What `openmg-agent doctor` says of the questions that this home did not answer its hub.

Rules: reads only, beside a running agent. A question that would have opened more than a sum of a whole group is a fault of the
hub's, or worse, and stays one: the counts are of the whole life of `masking.sqlite`. The others cost openings, not secrecy.
Not here: what is refused, and why (`openmg.masking`, `edge_agent.masking.openings`).
"""

from __future__ import annotations

import contextlib
import sqlite3

from edge_agent.config import AgentConfig
from edge_agent.doctor_finding import CheckFailed

ATTEMPTS = {
    "second": "asked for one slot with two different sets of homes, whose difference is one home's energy",
    "small": "asked for a set that is too small to hide in",
    "feeder": "asked for a set that leaves one to four homes to the feeder, which is read in clear",
    "stranger": "named somebody who is not in the roster",
}
HARMLESS = {
    "absent": "left this home out although it had reported; when that goes on, look at the connection and the clock",
    "roster": "named a roster that this home no longer has or did not report under",
    "unreported": "asked for a slot that this home does not remember, as after masking.sqlite was lost",
}


async def refusals(config: AgentConfig) -> str:
    """How often the hub was refused, by reason; CheckFailed when it tried to open what it must not."""
    if config.home.role == "feeder":
        return "a feeder reports in clear and has nothing to refuse"
    counts = _counts(config)
    attempts = [f"{counts[kind]} times it {what} ({kind})" for kind, what in ATTEMPTS.items() if counts.get(kind)]
    others = [f"{count} times it {HARMLESS.get(kind, kind)} ({kind})" for kind, count in counts.items() if kind not in ATTEMPTS]
    if attempts:
        raise CheckFailed(
            f"the hub was refused, so nothing was given away: {'; '.join(attempts + others)}; ask the operator why, and tell"
            " the utility if there is no answer"
        )
    return f"nothing was given away; the hub was not answered: {'; '.join(others)}" if others else "the hub was refused nothing"


def _counts(config: AgentConfig) -> dict[str, int]:
    """None before the first start of the agent."""
    path = config.promises_path
    if not path.exists():
        return {}
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=5.0)) as db:
            db.execute("PRAGMA query_only=ON")
            return dict(db.execute("SELECT kind, count FROM refusals ORDER BY kind").fetchall())
    except sqlite3.Error as error:
        raise CheckFailed(f"{path} cannot be read ({error}); start the agent, which sets a damaged one aside") from error
