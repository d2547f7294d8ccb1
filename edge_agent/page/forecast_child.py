"""A short-lived process that makes the home's forecast and prints it as JSON: numpy's memory goes with it.

Rules: it opens what it reads read-only, gives way to the agent (nice), and ends with 0 also when there is no forecast: the
answer says why. Not here: the forecast (`outlook`), who starts it (`forecasts`).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from zoneinfo import ZoneInfo

NICENESS = 10


def main(arguments: list[str]) -> int:
    """Arguments: the store's file, the state folder, the time zone, the simulated second."""
    store, folder, zone, now = arguments
    with contextlib.suppress(OSError):  # a service may be kept from it; its unit gives way then
        os.nice(NICENESS)
    from edge_agent.memory import use_few_arenas
    from edge_agent.page.history import History
    from edge_agent.page.outlook import outlook, without
    from edge_agent.page.reasons import Unknown
    from edge_agent.store import StoreError

    use_few_arenas()
    try:
        with History(Path(store)) as history:
            answer = outlook(history, Path(folder), ZoneInfo(zone), float(now))
    except StoreError:
        answer = without(Unknown("no_store"))
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
